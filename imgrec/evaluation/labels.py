"""Labels of images, from folder names or a CSV file."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery.results import label_of

COLUMNS = ("path", "label")
"""Required columns of a CSV file of labels; others are ignored."""

BESIDE = (".txt", ".cls", ".json")
"""The suffixes of files beside images that have their labels, as in WebDataset's shards."""


def labels_of(paths: Sequence[str], how: str, *, without: str | None = None) -> list[str] | None:
    """The label of each image, or None if images are not labelled.

    Args:
        paths: the gallery's images, as absolute paths.
        how: `folder`, the name of each image's folder; `none`; `auto`, which is `folder` if that gives two labels
            or more, one of them to two images or more, else `none`; `.txt`, `.cls` or `.json`, the content of the
            file of this suffix beside each image, of a JSON file the value of `label`, or of `class` by
            `.json:class`; or a CSV file with the columns `path` and `label`. Its relative paths start at its own
            folder; paths not in the gallery are ignored.
        without: the label of images that the file has none for; None: there is none without.

    Raises:
        UsageError: the file cannot be read, lacks a column, has no image of the gallery, has two labels for one,
            or has none for an image of the gallery, which would count as a mistake wherever it is found.

    >>> labels_of(["/photos/hat/1.jpg", "/photos/hat/2.jpg", "/photos/shoe/1.jpg"], "auto")
    ['hat', 'hat', 'shoe']
    >>> labels_of(["/photos/1.jpg", "/photos/2.jpg"], "auto") is None
    True
    """
    if how == "none":
        return None
    if how in ("folder", "auto"):
        labels = [label_of(path) for path in paths]
        counts = Counter(labels)
        is_usable = len(counts) >= 2 and max(counts.values()) >= 2
        return labels if how == "folder" or is_usable else None
    label_at = dict(_beside(paths, how)) if how.startswith(BESIDE) else _read_labels(how)
    unlabelled = [path for path in paths if not label_at.get(path)]
    if len(unlabelled) == len(paths):
        if how.startswith(BESIDE):
            raise UsageError(f"labels: no image of the gallery has a {how} with a label beside it")
        raise UsageError(f"labels: {how} has no image of the gallery; its relative paths start at its own folder")
    if unlabelled and without is None:
        raise UsageError(
            f"labels: {how} has no label for {len(unlabelled):,} of {len(paths):,} images, the first is "
            f"{unlabelled[0]}: add them, or evaluate a gallery of the labelled ones"
        )
    return [label_at.get(path) or without or "" for path in paths]


def is_file(how: str) -> bool:
    """Whether labels are those of a CSV file."""
    return how not in ("none", "folder", "auto") and not how.startswith(BESIDE)


def digest_of(file: str) -> str:
    """SHA-256 of a file of labels, for a run's record.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except FileNotFoundError:
        raise UsageError(f"labels is folder, none, auto or a CSV file, and there is no file {file!r}") from None
    except OSError as error:
        raise UsageError(f"labels: {file} cannot be read: {error.strerror}") from None


def _beside(paths: Sequence[str], how: str) -> Iterator[tuple[str, str]]:
    """The labels of images that have a file of theirs beside them."""
    suffix, _, key = how.partition(":")

    def label(path: str) -> str:
        folder, name = os.path.split(path)
        # WebDataset's names end at their first dot, others at the last.
        for stem in dict.fromkeys((os.path.splitext(name)[0], name.partition(".")[0])):
            with contextlib.suppress(images.UnreadableImageError):
                text = images.read(os.path.join(folder, stem + suffix))[0].decode("utf-8-sig", "replace").strip()
                return _of_json(text, key or "label") if suffix == ".json" else text
        return ""

    return zip(paths, images.each(label, paths), strict=True)


def _of_json(text: str, key: str) -> str:
    try:
        found = json.loads(text)
        return str(found.get(key) or "") if isinstance(found, dict) else ""
    except ValueError:
        return ""


def _read_labels(file: str) -> dict[str, str]:
    """The labels of a CSV file by absolute path."""
    if not os.path.exists(file):
        raise UsageError(f"labels is folder, none, auto or a CSV file, and there is no file {file!r}")
    folder = Path(file).parent
    label_at: dict[str, str] = {}
    try:
        with Path(file).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            rows = csv.DictReader(lines)
            header = rows.fieldnames or []
            absent = [column for column in COLUMNS if column not in header]
            if absent:
                raise UsageError(
                    f"labels: {file} lacks the column {absent[0]}; it has {', '.join(header) or 'none'}"
                )
            for row in rows:
                path = os.path.abspath(folder / (row["path"] or ""))  # None in a short row
                label = row["label"] or ""
                if label_at.setdefault(path, label) != label:
                    raise UsageError(f"labels: {file} has two labels for {path}: {label_at[path]!r} and {label!r}")
    except (OSError, csv.Error) as error:
        raise UsageError(f"labels: {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return label_at
