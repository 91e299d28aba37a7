"""Approximate search: indexes find candidates for each term, which are measured in float64 as in an exact search.

Indexes are cached in the store's `cache_folder`, by space, revision of the store, index with its options, and
metric. They may be deleted at any time, and are then built again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from imgrec import registry
from imgrec.errors import ImgrecError, PluginFailedError
from imgrec.kinds import Form, Index, Metric, Store, Vectors
from imgrec.search import exact, files
from imgrec.search.bounds import Rows, pruning_index
from imgrec.search.exact import Found, Mask, VectorField
from imgrec.search.files import Source, VectorTable

log = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = 1
"""The version of the cached files."""

SAMPLE = 20_000
"""Vectors that an index is trained on at most, chosen at random."""

BLOCK = 8_192
"""Vectors that an index is given at a time."""


@dataclass(frozen=True)
class TermIndex:
    """The index of one term, open."""

    index: Index
    count: int
    """How many rows it has."""

    @property
    def effort(self) -> int:
        """The search effort: the highest that it offers."""
        return self.index.efforts()[-1]


def load(
    index: Index, source: Source, table: VectorTable, metric: Metric, *, is_kept: bool = True
) -> TermIndex | None:
    """The index of a table's vectors, from the cache or built now; None if the metric has no Euclidean form.

    Args:
        index: not open yet.
        source: where the vectors come from.
        table: the vectors.
        metric: of the term.
        is_kept: whether to cache it for other runs.

    Raises:
        ImgrecError: it cannot be built or opened.
    """
    if metric.form is Form.NONE or not len(table.digests):
        return None
    kept = _folder(index, source, metric) if is_kept else None
    if kept is not None and kept.exists():
        try:
            return _opened(index, table, kept)
        except Exception as error:  # libraries raise anything on damaged files
            log.warning("the index in %s is built again: %s: %s", kept, type(error).__name__, error)
            shutil.rmtree(kept, ignore_errors=True)
    if kept is not None and _is_built(index, table, metric, kept):
        try:
            return _named(index, lambda: _opened(index, table, kept))
        except ImgrecError:
            shutil.rmtree(kept, ignore_errors=True)
            raise
    with tempfile.TemporaryDirectory(prefix="imgrec-index-", ignore_cleanup_errors=True) as folder:
        log.warning("index=%s is built of %s vectors, for this run", index.name, f"{len(table.digests):,}")
        _build(index, table, metric, Path(folder))
        return _named(index, lambda: _opened(index, table, Path(folder)))


def _is_built(index: Index, table: VectorTable, metric: Metric, kept: Path) -> bool:
    """Build an index in the cache, and remove those of older revisions; False if nothing can be written there."""
    try:
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


def _named(index: Index, work: Callable[[], T]) -> T:
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
    options = json.dumps(index.plain_options(), sort_keys=True)
    digest = hashlib.sha256(options.encode()).hexdigest()[:12]
    return cache / "indexes" / source.key / revision / f"{index.name}-{digest}-{metric.name}"


def _build(index: Index, table: VectorTable, metric: Metric, folder: Path) -> None:
    count = len(table.digests)
    chosen = np.arange(count)
    if count > SAMPLE:
        chosen = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
    sample = metric.as_euclidean(table.vectors[chosen])
    fresh = registry.changed(index, {})
    _named(index, lambda: fresh.build(_blocks(table.vectors, metric), count, sample, folder))
    np.save(folder / "imgrec-digests.npy", table.digests)
    about = {"format": FORMAT, "index": index.name, "options": index.plain_options(), "metric": metric.name}
    (folder / "imgrec.json").write_text(json.dumps(about), encoding="utf-8")


def _blocks(vectors: Vectors, metric: Metric) -> Iterator[Vectors]:
    for start in range(0, len(vectors), BLOCK):
        yield np.ascontiguousarray(metric.as_euclidean(vectors[start : start + BLOCK]))


def _opened(index: Index, table: VectorTable, folder: Path) -> TermIndex:
    about = json.loads((folder / "imgrec.json").read_text(encoding="utf-8"))
    digests = np.load(folder / "imgrec-digests.npy", allow_pickle=False)
    if about["format"] != FORMAT or not np.array_equal(digests, table.digests):
        raise ValueError("it is an index of other vectors")
    fresh = registry.changed(index, {})
    if fresh.open(folder) is not fresh:
        raise TypeError("open returns the index itself, and this is something else")
    return TermIndex(fresh, len(digests))


def check(store: Store) -> Iterator[tuple[Path, str | None]]:
    """Each cached folder of a store's indexes, and what is wrong with it, if anything, as far as opening it shows.

    Those whose plugin is not installed are skipped with a warning.
    """
    if store.cache_folder is None:
        return
    for folder in sorted(store.cache_folder.glob("indexes/*/*/[!.]*/")):
        try:
            about = json.loads((folder / "imgrec.json").read_text(encoding="utf-8"))
            index: Index = registry.build(Index.kind, about["index"], **about["options"])
        except ImgrecError as error:
            log.warning("the index in %s is not checked: %s", folder, error)
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield folder, str(error) or type(error).__name__
            continue
        try:
            np.load(folder / "imgrec-digests.npy", allow_pickle=False)
            index.open(folder)
        except Exception as error:  # libraries raise anything on damaged files
            yield folder, f"{type(error).__name__}: {error}"
        else:
            yield folder, None


# --- the search ---------------------------------------------------------------------------------------------


def nearest(
    fields: Sequence[VectorField],
    indexes: Sequence[TermIndex],
    queries: Sequence[Vectors],
    k: int,
    usable: Mask,
) -> list[Found]:
    """The images nearest to each query among the candidates of all indexes, as `exact.nearest` returns them.

    A query is searched exactly if it has fewer than k candidates although there are more images.

    Args:
        fields: of the same images; their weighted distances are added.
        indexes: one a field.
        queries: for each field the queries' vectors, `float32 (m, dim)`.
        k: how many images at least, if there are as many.
        usable: `bool (images,)`: those that may be found.

    Raises:
        ImgrecError: an index failed.
    """
    enough, count = min(k, int(usable.sum())), max(exact.FIRST_LOOK, 8 * k)
    by_field = [
        _candidates(field, index, targets, count, usable)
        for field, index, targets in zip(fields, indexes, queries, strict=True)
    ]
    named = [np.unique(np.concatenate(each)) for each in zip(*by_field, strict=True)]
    short = [i for i, images in enumerate(named) if len(images) < enough]
    exactly = iter(exact.nearest(fields, [targets[short] for targets in queries], k, usable) if short else ())
    return [
        next(exactly) if len(images) < enough else exact.measured(fields, query, images)
        for images, query in zip(named, zip(*queries, strict=True), strict=True)
    ]


def _candidates(field: VectorField, index: TermIndex, queries: Vectors, count: int, usable: Mask) -> list[Rows]:
    """For each query the images that an index finds, without those that must not be found."""
    field.metric.check(queries)
    allowed = usable
    if field.rows is not None:
        allowed = np.zeros(index.count, np.bool_)
        allowed[field.rows[usable]] = True
    zeros = np.empty(0, np.intp)
    if field.metric.form is Form.UNIT:
        # The form of a zero vector is nearer to all others than its distance of 1 says, and would push out what is
        # nearer: so the index is not asked for zero vectors, and some of them are candidates anyway.
        squares = (field.known or pruning_index(field.vectors, ())).squares
        zeros = np.flatnonzero(allowed & (squares == 0))
        if len(zeros):
            allowed = allowed & (squares > 0)
    mask = None if allowed.all() else allowed
    forms = np.ascontiguousarray(field.metric.as_euclidean(queries))
    named = _named(index.index, lambda: index.index.candidates(forms, count, index.effort, mask))
    if not (isinstance(named, list) and len(named) == len(queries)):
        raise _broken(index.index, f"{type(named).__name__} for {len(queries)} queries, not a list of as many")
    rows = [_checked(index, each) for each in named]
    rows = [np.concatenate([each[allowed[each]], zeros[:count]]) for each in rows]
    if field.rows is None:
        return rows
    image_of = np.full(index.count, -1)
    image_of[field.rows] = np.arange(len(field.rows))
    return [image_of[each] for each in rows]


def _checked(index: TermIndex, rows: object) -> Rows:
    """Check the rows that an index returned for a query against its contract."""
    if not (isinstance(rows, np.ndarray) and rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer)):
        seen = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise _broken(index.index, f"{seen} of a query, not int64 (some,)")
    if len(rows) and not (rows.min() >= 0 and rows.max() < index.count):
        raise _broken(index.index, f"rows {rows.min()} to {rows.max()} of {index.count}")
    return rows.astype(np.intp)


def _broken(index: Index, seen: str) -> ImgrecError:
    return ImgrecError(f"index {index.name} of {registry.origin_of(index)} returned {seen}")
