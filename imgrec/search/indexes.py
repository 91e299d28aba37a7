"""The files of indexes, which find candidates for a search: built, updated when the store has changed, checked.

They are cached in the store's `cache_folder`, by space, revision of the store, index with its options, and
metric. They may be deleted at any time, and are then built again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from imgrec import registry
from imgrec.errors import ImgrecError, PluginFailedError
from imgrec.kinds import Index, Metric, Store, Vectors
from imgrec.options import option_names
from imgrec.search import files
from imgrec.search.pruning import Rows
from imgrec.search.tables import Source, VectorTable

log = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = 2
"""The version of the cached files."""

ABOUT, DIGESTS, RECALL = "imgrec.json", "imgrec-digests.npy", "imgrec-recall.json"
"""The core's own files: how it was made; the content of each row, empty where it is gone; what was measured."""

SAMPLE = 65_536
"""Vectors that an index is trained on at most, chosen at random."""

SAMPLE_BYTES = 2**28
"""The memory that these may take."""

BLOCK = 8_192
"""Vectors that an index is given at a time."""


@dataclass(frozen=True)
class TermIndex:
    """The index of one term, open."""

    index: Index
    count: int
    """How many rows it has."""

    rows: Rows | None
    """`(count,)`: the row in the table of each row, -1 if it is gone; None if they are the same."""

    name: str
    """Identifies what it is of: space, metric, and the options that it was built with."""

    folder: Path | None
    """Where it is cached; None if it is not."""


@dataclass(frozen=True)
class Recall:
    """What a search finds of the nearest, and the effort that it takes."""

    nearest: int
    """How many each image looked for."""

    effort: list[int] | None
    """Of each index; None if no effort is sure to find enough."""

    candidates: int
    """How many each index is asked for."""

    recall: float
    """The share of the nearest that was found; with no effort, that of the greatest."""

    at_least: float
    """Its lower bound."""

    images: int
    """How many were asked for."""

    of: int
    """How many the gallery had."""

    changed: int = 0
    """How many have changed since."""

    @classmethod
    def read(cls, data: Any) -> Self:
        """What was written as JSON.

        Raises:
            TypeError, ValueError: it was changed.
        """
        found = cls(**data)
        efforts = [] if found.effort is None else found.effort
        numbers = [*efforts, found.nearest, found.candidates, found.images, found.of, found.changed]
        if not all(type(each) is int for each in numbers):
            raise ValueError("a number is none")
        return dataclasses.replace(found, recall=float(found.recall), at_least=float(found.at_least))


def load(index: Index, source: Source, table: VectorTable, metric: Metric, *, is_kept: bool = True) -> TermIndex:
    """The index of a table's vectors, from the cache, or updated or built now.

    Args:
        index: not open yet.
        source: where the vectors come from.
        table: the vectors, at least one.
        metric: of the term; it has a Euclidean form.
        is_kept: whether to cache it for other runs.

    Raises:
        ImgrecError: it cannot be built or opened.
    """
    kept = _folder(index, source, metric) if is_kept else None
    if kept is not None and kept.exists():
        try:
            return _opened(index, source, table, kept)
        except Exception as error:  # libraries raise anything on damaged files
            log.warning("the index in %s is built again: %s: %s", kept, type(error).__name__, error)
            shutil.rmtree(kept, ignore_errors=True)
    if kept is not None and _is_made(index, source, table, metric, kept):
        try:
            return named(index, lambda: _opened(index, source, table, kept))
        except ImgrecError:
            shutil.rmtree(kept, ignore_errors=True)
            raise
    with tempfile.TemporaryDirectory(prefix="imgrec-index-", ignore_cleanup_errors=True) as folder:
        log.warning("index=%s is built of %s vectors, for this run", index.name, f"{len(table.digests):,}")
        _build(index, table, metric, Path(folder))
        made = named(index, lambda: _opened(index, source, table, Path(folder)))
        return dataclasses.replace(made, folder=None)


def _is_made(index: Index, source: Source, table: VectorTable, metric: Metric, kept: Path) -> bool:
    """Make an index in the cache, and remove those of older revisions; False if nothing can be written there."""
    try:
        if not _is_updated(index, source, table, metric, kept):
            with files.put_in_place(kept, beside=kept.parent.parent) as aside:
                log.warning("index=%s is built of %s vectors, once", index.name, f"{len(table.digests):,}")
                _build(index, table, metric, aside)
        files.clear_others(kept.parent)
    except OSError:  # the disk is full or read-only, or a file is in the way
        return False
    except ImgrecError as error:
        if isinstance(error.__cause__, OSError):  # raised by the index
            return False
        raise
    return True


def named(index: Index, work: Callable[[], T]) -> T:
    """Call into an index; whatever it raises becomes an ImgrecError that names it and its distribution."""
    try:
        return work()
    except ImgrecError:
        raise
    except (Exception, SystemExit) as error:
        origin = registry.origin_of(index)
        raise PluginFailedError(
            f"index {index.name} of {origin} failed: {type(error).__name__}: {error}"
        ) from error


def _folder(index: Index, source: Source, metric: Metric) -> Path | None:
    """Where an index is cached; None if the store has no cache folder, or no revisions."""
    cache, revision = source.store.cache_folder, source.store.revision(source.space)
    if cache is None or revision is None:
        return None
    return cache / "indexes" / source.key / revision / _name(index, metric)


def _name(index: Index, metric: Metric) -> str:
    """Of an index's folder: options that all indexes have are of searches, and leave its files as they are."""
    options = {name: value for name, value in index.plain_options().items() if name not in option_names(Index)}
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
    return f"{index.name}-{digest}-{metric.name}"


def _build(index: Index, table: VectorTable, metric: Metric, folder: Path) -> None:
    count = len(table.digests)
    chosen, most = np.arange(count), min(SAMPLE, SAMPLE_BYTES // (4 * max(1, table.vectors.shape[1])))
    if count > most:
        chosen = np.sort(np.random.default_rng(0).choice(count, most, replace=False))
    sample = np.ascontiguousarray(metric.as_euclidean(table.vectors[chosen]))
    fresh = registry.changed(index, {})
    named(index, lambda: fresh.build(_blocks(table.vectors, metric), count, sample, folder))
    _describe(index, metric, table.digests, folder, changed=0)


def _describe(
    index: Index, metric: Metric, digests: npt.NDArray[np.bytes_], folder: Path, *, changed: int
) -> None:
    """Write the core's own files of an index."""
    np.save(folder / DIGESTS, digests)
    about = {
        "format": FORMAT,
        "index": index.name,
        "options": index.plain_options(),
        "metric": metric.name,
        "changed": changed,
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _blocks(vectors: Vectors, metric: Metric, rows: Rows | None = None) -> Iterator[Vectors]:
    for start in range(0, len(vectors if rows is None else rows), BLOCK):
        block = slice(start, start + BLOCK)
        yield np.ascontiguousarray(metric.as_euclidean(vectors[block if rows is None else rows[block]]))


def _opened(index: Index, source: Source, table: VectorTable, folder: Path) -> TermIndex:
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    digests = np.load(folder / DIGESTS, allow_pickle=False)
    rows = _rows_in(table.digests, digests)
    if about["format"] != FORMAT or len(table.digests) != (len(digests) if rows is None else (rows >= 0).sum()):
        raise ValueError("it is an index of other vectors")
    fresh = registry.changed(index, {})
    if fresh.open(folder) is not fresh:
        raise TypeError("open returns the index itself, and this is something else")
    return TermIndex(fresh, len(digests), rows, f"{source.key}/{folder.name}", folder)


def _rows_in(table: npt.NDArray[np.bytes_], digests: npt.NDArray[np.bytes_]) -> Rows | None:
    """The row in a table of each of an index's contents, -1 if it has none; None if they are the same."""
    if np.array_equal(digests, table):
        return None
    rows, left = np.full(len(digests), -1), np.flatnonzero(digests != b"")
    if np.array_equal(digests[left], table):  # as most stores have them
        rows[left] = np.arange(len(table))
        return rows
    row_of = {digest: row for row, digest in enumerate(table.tolist())}
    rows[left] = [row_of.get(digest, -1) for digest in digests[left].tolist()]
    return rows


# --- following the store ------------------------------------------------------------------------------------


def _is_updated(index: Index, source: Source, table: VectorTable, metric: Metric, kept: Path) -> bool:
    """Make an index from that of an older revision, if there is one that has changed little and can be updated.

    Raises:
        OSError: nothing can be written in the cache.
    """
    for older in sorted(kept.parent.parent.glob(f"[!.]*/{kept.name}")):
        try:
            changes = source.changes(older.parent.name)
            about = json.loads((older / ABOUT).read_text(encoding="utf-8"))
            is_known, changed = about["format"] == FORMAT, int(about["changed"])
            digests = np.load(older / DIGESTS, allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if changes is None or not is_known:
            continue
        gone, new = _differences(digests, table.digests, {digest.encode() for digest in changes[0]})
        changed += len(gone) + len(new)
        if changed > files.CHANGED * len(digests):
            continue
        with contextlib.suppress(ImgrecError), files.put_in_place(kept, beside=kept.parent.parent) as aside:
            blocks, fresh = _blocks(table.vectors, metric, new), registry.changed(index, {})
            if not named(index, lambda: fresh.update(older, gone, blocks, aside)):  # noqa: B023 - called at once
                raise _NotUpdatedError
            digests[gone] = b""
            together = np.concatenate([digests, table.digests[new]])
            _describe(index, metric, together, aside, changed=changed)
            _keep_recalls(older, aside, len(gone) + len(new))
            log.warning("index=%s follows the store: %d vectors gone, %d new", index.name, len(gone), len(new))
            return True
    return False


class _NotUpdatedError(ImgrecError):
    """The index cannot be updated."""


def _differences(
    older: npt.NDArray[np.bytes_], table: npt.NDArray[np.bytes_], removed: set[bytes]
) -> tuple[Rows, Rows]:
    """The rows of an older index whose content is gone or has another vector now, and those of a table to add."""
    names, now = older.tolist(), table.tolist()
    left = set(names).intersection(now) - removed
    gone = [row for row, digest in enumerate(names) if digest and digest not in left]
    return np.array(gone, np.int64), np.array(
        [row for row, digest in enumerate(now) if digest not in left], np.int64
    )


# --- what was measured --------------------------------------------------------------------------------------


def recalls(folder: Path) -> dict[str, Recall]:
    """What was measured with a cached index, by a name for each way of searching; empty if it cannot be read."""
    try:
        found = json.loads((folder / RECALL).read_text(encoding="utf-8"))
        return {name: Recall.read(each) for name, each in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def keep_recall(folder: Path, name: str, measured: Recall) -> None:
    """Keep what was measured, if anything can be written."""
    found = {**recalls(folder), name: measured}
    with contextlib.suppress(OSError):
        aside = folder / f".{RECALL}"
        aside.write_text(json.dumps({key: dataclasses.asdict(each) for key, each in found.items()}))
        aside.replace(folder / RECALL)


def _keep_recalls(older: Path, newer: Path, changed: int) -> None:
    """What was measured stays, with how many images have changed since."""
    for name, measured in recalls(older).items():
        keep_recall(newer, name, dataclasses.replace(measured, changed=measured.changed + changed))


def kept(store: Store) -> Iterator[dict[str, Any]]:
    """The cached indexes of a store, and what was measured with them; JSON data."""
    if store.cache_folder is None:
        return
    now = {store.revision(space) for space in store.spaces()}
    for folder in sorted(store.cache_folder.glob("indexes/*/*/[!.]*/")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            key, revision = folder.parent.parent.name, folder.parent.name
            yield {
                "space": key,
                "metric": about["metric"],
                "index": about["index"],
                **about["options"],
                "is_current": revision in now,
                "bytes": sum(file.stat().st_size for file in folder.iterdir()),
                "measured": [dataclasses.asdict(each) for each in recalls(folder).values()],
            }


def check(store: Store) -> Iterator[tuple[Path, str | None]]:
    """Each cached folder of a store's indexes, and what is wrong with it, if anything, as far as opening it shows.

    Those whose plugin is not installed are skipped with a warning.
    """
    if store.cache_folder is None:
        return
    for folder in sorted(store.cache_folder.glob("indexes/*/*/[!.]*/")):
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            index: Index = registry.build(Index.kind, about["index"], **about["options"])
        except ImgrecError as error:
            log.warning("the index in %s is not checked: %s", folder, error)
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield folder, str(error) or type(error).__name__
            continue
        try:
            np.load(folder / DIGESTS, allow_pickle=False)
            index.open(folder)
        except Exception as error:  # libraries raise anything on damaged files
            yield folder, f"{type(error).__name__}: {error}"
        else:
            yield folder, None
