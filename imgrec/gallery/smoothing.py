"""Smoothing: the vectors of a gallery moved towards their own neighbours, before any search.

This is database-side feature augmentation: P. Turcot and D. Lowe, Better matching with fewer features, ICCV
Workshops 2009; R. Arandjelović and A. Zisserman, Three things everyone should know to improve object retrieval,
CVPR 2012, section 5. A `Reranker` says how a vector moves. Queries stay where they are, those of the gallery's own
pictures too, so that a picture has the same answers in whatever file it comes; it is then not at distance 0 from
itself.

Smoothed vectors are cached in the store's `cache_folder` as those of any space, with the neighbours that they were
made of: when the gallery changes, only those are made anew whose neighbours have changed.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgrec import registry
from imgrec.errors import ImgrecError
from imgrec.kinds import Doubles, Form, Metric, Reranker, Space, Vectors
from imgrec.kinds.metric import metric_of
from imgrec.search import bounds, exact, files
from imgrec.search.exact import Mask, VectorField
from imgrec.search.pruning import Rows, pruning_index
from imgrec.search.tables import Block, Source, VectorTable

log = logging.getLogger(__name__)

NONE = -1
"""In place of a neighbour where a gallery has too few."""


@dataclass(frozen=True, kw_only=True)
class Smoothed(Source):
    """Where the smoothed vectors of a space come from."""

    base: VectorTable
    """The vectors as they are."""

    smoothing: Reranker
    metric: Metric
    """By which neighbours are the nearest."""

    @classmethod
    def of(cls, source: Source, base: VectorTable, smoothing: Reranker, metric: Metric) -> Smoothed:
        """The source of a table's smoothed vectors, given where the table comes from."""
        key = f"{source.key}{suffix(smoothing, metric)}"
        return cls(source.store, source.space, key, source.project, base=base, smoothing=smoothing, metric=metric)

    def about(self) -> dict[str, Any]:
        """What `check` reads."""
        return {"smoothing": about(self.smoothing), "metric": self.metric.name}

    def vectors(self, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Row-aligned digests and vectors, made anew: all, or those of the given digests."""
        rows = np.arange(len(self.base.digests))
        if digests is not None:
            rows = np.flatnonzero(np.isin(self.base.digests, [digest.encode() for digest in digests]))
        vectors, usable = np.array(self.base.vectors[rows]), self.base.usable
        moved = [some.vectors for some in _moved(self, usable, rows[usable[rows]])]
        if moved:
            vectors[usable[rows]] = np.concatenate(moved)
        return [digest.decode() for digest in self.base.digests[rows].tolist()], vectors

    def blocks(self, digests: Sequence[str] | None = None) -> Generator[Block, None, None]:
        """What `vectors` returns, as one block."""
        yield self.vectors(digests)

    def changes(self, since: str) -> None:
        """Unknown: any vector may move when others change."""

    @functools.cached_property
    def field(self) -> VectorField:
        """The vectors as they are, to be searched."""
        known = self.base.pruning
        if not known.levels and files.is_large(self, self.base):
            known = pruning_index(self.base.vectors)
        return VectorField(self.base.vectors, self.metric, known=known)


def about(smoothing: Reranker) -> dict[str, Any]:
    """For a run's record: the reranker's name and options."""
    return {"reranker": smoothing.name, **smoothing.plain_options()}


def suffix(smoothing: Reranker, metric: Metric) -> str:
    """What is appended to the key of a space when its vectors are smoothed."""
    options = json.dumps({**about(smoothing), "metric": metric.name}, sort_keys=True)
    return f"+smoothing-{hashlib.sha256(options.encode()).hexdigest()[:12]}"


def space_of(space: Space, smoothing: Reranker, metric: Metric) -> Space:
    """The space of smoothed vectors."""
    identity = {**space.identity, "smoothing": {**about(smoothing), "metric": metric.name}}
    return Space(f"{space.key}{suffix(smoothing, metric)}", space.extractor, space.options, identity)


def load(source: Smoothed) -> VectorTable:
    """The smoothed table, from the cache; or updated from one of an older revision, or made anew, and cached."""
    kept = source.folder
    if kept is not None and (found := files.mapped(kept, source)) is not None:
        return found
    known = _outdated(source, kept) if kept else None
    made = smoothed(source) if known is None else _updated(source, *known)
    return files.keep(source, made, kept.name) if kept else made


def smoothed(source: Smoothed, usable: Mask | None = None, among: Mask | None = None) -> VectorTable:
    """A table with all vectors made anew.

    Args:
        source: of the vectors.
        usable: `bool (n,)`: the rows that are smoothed; None: the table's own. Others stay as they are.
        among: `bool (n,)`: those that may be neighbours; None: the same.
    """
    usable = source.base.usable if usable is None else usable
    rows, count = np.flatnonzero(usable), source.smoothing.neighbours
    log.info("%s images are moved towards the %d nearest of each", f"{len(rows):,}", count)
    return _with(
        source, source.base.vectors, _nothing(len(usable), count), rows, usable if among is None else among
    )


def _with(source: Smoothed, vectors: Vectors, made_of: dict[str, Any], rows: Rows, among: Mask) -> VectorTable:
    """The table of some vectors, of which those of some rows are made anew."""
    vectors = np.array(vectors)
    with source.smoothing.progress("smoothing", len(rows)) as advance:
        for some in _moved(source, among, rows):
            vectors[some.rows] = some.vectors
            made_of["neighbours"][some.rows], made_of["reach"][some.rows] = some.neighbours, some.reach
            advance(len(some.rows))
    return replace(source.base, vectors=vectors, pruning=pruning_index(vectors, ()), made_of=made_of)


# --- neighbours -------------------------------------------------------------------------------------------------


class _Moved(NamedTuple):
    """Smoothed vectors of some rows, and what they were made of."""

    rows: Rows
    vectors: Vectors
    neighbours: Rows
    """`(rows, k)`: nearest first, ties in the order of digests; `NONE` where there are fewer."""

    reach: Doubles
    """`(rows,)`: the distance of the last neighbour; infinite where there are fewer than k."""


def _nothing(rows: int, count: int) -> dict[str, Any]:
    return {"neighbours": np.full((rows, count), NONE, np.intp), "reach": np.full(rows, np.inf)}


def _moved(source: Smoothed, among: Mask, rows: Rows) -> Iterator[_Moved]:
    """Rows moved towards their nearest neighbours, some at a time, which bounds the memory needed."""
    count, field, digests = source.smoothing.neighbours, source.field, source.base.digests
    for start in range(0, len(rows), exact.AT_ONCE):
        some = rows[start : start + exact.AT_ONCE]
        asked = np.array(field.vectors[some])
        made = _Moved(some, np.empty_like(asked), **_nothing(len(some), count))
        for i, (nearest, distances) in enumerate(exact.nearest([field], [asked], count + 1, among)):
            others = nearest != some[i]
            order = np.lexsort((digests[nearest[others]], distances[others]))[:count]
            own = nearest[others][order]
            made.neighbours[i, : len(own)] = own
            made.vectors[i] = expanded(source.smoothing, field, asked[i], own)
            if len(own) == count:
                made.reach[i] = distances[others][order[-1]]
        yield made


def expanded(reranker: Reranker, field: VectorField, query: Vectors, rows: Rows) -> Vectors:
    """A vector moved by a reranker towards some rows of a field; at unit length where the metric compares these.

    Raises:
        ImgrecError: what the reranker returned is no such vector.
    """
    nearest = field.of(rows)
    if not len(nearest):
        return query
    if field.metric.form is Form.UNIT:
        query, nearest = field.metric.as_euclidean(query[None])[0], field.metric.as_euclidean(nearest)
    made: object = reranker.expand(query, nearest)
    if not (isinstance(made, np.ndarray) and made.shape == query.shape and np.isfinite(made).all()):
        raise ImgrecError(
            f"reranker {reranker.name} of {registry.origin_of(reranker)} returned no finite vector "
            f"of {len(query)} values"
        )
    return made.astype(np.float32, copy=False)


# --- a gallery that has changed ---------------------------------------------------------------------------------


def _outdated(source: Smoothed, kept: Path) -> tuple[VectorTable, set[str]] | None:
    """The table of an older revision, and the contents whose vectors have changed since; None if there is none."""
    for folder in sorted(kept.parent.glob("[!.]*/")):
        if (changes := source.store.changes(source.space, folder.name)) is None:
            continue
        try:
            table = files.read(folder)
            if _is_whole(table, source):
                return table, set.union(*changes)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            log.info("the smoothed vectors in %s are made anew: %s", folder, error)
    return None


def _is_whole(table: VectorTable, source: Smoothed) -> bool:
    """Whether a table from the cache has what it was made of, in the types and shapes that it should have."""
    neighbours, reach, count = table.made_of["neighbours"], table.made_of["reach"], len(table.digests)
    are_shaped = neighbours.shape == (count, source.smoothing.neighbours) and reach.shape == (count,)
    are_typed = neighbours.dtype == np.intp and reach.dtype == np.float64
    return bool(
        files.is_well_formed(table)
        and table.vectors.shape[1] == source.base.vectors.shape[1]
        and are_shaped
        and are_typed
        and ((neighbours >= NONE) & (neighbours < count)).all()
        and (reach >= 0).all()
    )


def _updated(source: Smoothed, known: VectorTable, changed: set[str]) -> VectorTable:
    """A smoothed table, of which only those vectors are made anew whose neighbours have changed.

    Args:
        source: of the vectors.
        known: the table of an older revision.
        changed: the contents whose vectors have come or gone since.
    """
    base, changed_digests = source.base, [digest.encode() for digest in changed]
    row_of = {digest: row for row, digest in enumerate(base.digests.tolist())}
    now = np.array([row_of.get(digest, NONE) for digest in known.digests.tolist()], np.intp)  # of each known row
    stays = known.usable & (now != NONE) & ~np.isin(known.digests, changed_digests)
    stays[stays] = base.usable[now[stays]]
    now[~stays] = NONE
    rows, before = now[stays], np.array(known.made_of["neighbours"])[stays]
    after = np.where(before == NONE, NONE, now[before])
    made_of = _nothing(len(base.digests), source.smoothing.neighbours)
    made_of["neighbours"][rows], made_of["reach"][rows] = after, known.made_of["reach"][stays]
    come = np.array(base.usable)
    come[rows] = False
    anew = come | (_reached(source.field, made_of["reach"], np.flatnonzero(come)) & base.usable)
    anew[rows] |= ((before != NONE) & (after == NONE)).any(axis=1)  # a neighbour is gone
    vectors = np.array(base.vectors)
    vectors[rows] = known.vectors[stays]
    return _with(source, vectors, made_of, np.flatnonzero(anew), base.usable)


def _reached(field: VectorField, reach: Doubles, come: Rows) -> Mask:
    """Which rows may have one of those that have come among their neighbours; by lower bounds of distances."""
    found, limits = np.zeros(len(reach), np.bool_), (reach * (1 + 1e-5)).astype(np.float32)  # none is missed
    for start in range(0, len(come), exact.AT_ONCE):
        asked = np.ascontiguousarray(field.vectors[come[start : start + exact.AT_ONCE]])
        for lower in field.scans[-1].bounds(asked):
            found |= bounds.as_distances(lower, field.metric) <= limits
    return found


# --- checking -----------------------------------------------------------------------------------------------


def check(source: Source) -> Iterator[tuple[Path, str | None]]:
    """Each folder of a source's smoothed vectors of today, and what is wrong with it, if anything.

    Those whose plugin is not installed are skipped with a warning.
    """
    revision, cache = source.store.revision(source.space), source.store.cache_folder
    if revision is None or cache is None:
        return
    for folder in sorted(cache.glob(f"{glob.escape(source.key)}+smoothing-*/{revision}/")):
        try:
            told = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            options = dict(told["smoothing"])
            smoothing = registry.build(Reranker.kind, options.pop("reranker"), **options)
            metric = metric_of(told["metric"])
        except ImgrecError as error:
            log.warning("the smoothed vectors in %s are not checked: %s", folder, error)
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield folder, str(error) or type(error).__name__
        else:
            smooth = Smoothed.of(source, files.load_from(source), smoothing, metric)
            for _, problem in files.check(smooth):
                yield folder, problem or _problem(smooth, folder)


def _problem(source: Smoothed, folder: Path) -> str | None:
    """What is wrong with what sound vectors are kept to be made of; None if nothing is."""
    table, field = files.read(folder), source.field
    if "neighbours" not in table.made_of or "reach" not in table.made_of or not _is_whole(table, source):
        return "its lists of neighbours were changed"
    for row in np.flatnonzero(table.usable):
        own = table.made_of["neighbours"][row]
        own = own[own != NONE]
        (distances,) = exact.measured_by([field], [field.vectors[row]], own)
        reach = distances[-1] if len(own) == source.smoothing.neighbours else np.inf
        moved = expanded(source.smoothing, field, field.vectors[row], own)
        if not (
            np.allclose(moved, table.vectors[row], 1e-4, 1e-6) and np.isclose(reach, table.made_of["reach"][row])
        ):
            return "its lists of neighbours are not those that its vectors were made of"
    return None
