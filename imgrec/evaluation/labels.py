"""Labels of images, from folder names or a CSV file."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from imgrec.errors import UsageError
from imgrec.gallery.results import label_of

COLUMNS = ("path", "label")
"""Required columns of a CSV file of labels; others are ignored."""


def labels_of(paths: Sequence[str], how: str, *, without: str | None = None) -> list[str] | None:
    """The label of each image, or None if images are not labelled.

    Args:
        paths: the gallery's images, as absolute paths.
        how: `folder`, the name of each image's folder; `none`; `auto`, which is `folder` if that gives two labels
            or more, one of them to two images or more, else `none`; or a CSV file with the columns `path` and
            `label`. Its relative paths start at its own folder; paths not in the gallery are ignored.
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
    label_at = _read_labels(how)
    unlabelled = [path for path in paths if not label_at.get(path)]
    if len(unlabelled) == len(paths):
        raise UsageError(f"labels: {how} has no image of the gallery; its relative paths start at its own folder")
    if unlabelled and without is None:
        raise UsageError(
            f"labels: {how} has no label for {len(unlabelled):,} of {len(paths):,} images, the first is "
            f"{unlabelled[0]}: add them, or evaluate a gallery of the labelled ones"
        )
    return [label_at.get(path) or without or "" for path in paths]


def is_file(how: str) -> bool:
    """Whether labels are those of a CSV file."""
    return how not in ("none", "folder", "auto")


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
