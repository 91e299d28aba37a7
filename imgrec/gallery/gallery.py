"""A gallery: one store seen through one similarity, searched by queries."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.gallery import colours, fitted, recorded, similarity, typicality
from imgrec.gallery.narrowing import Where, filter_of
from imgrec.gallery.own_images import OwnImages
from imgrec.gallery.query import Query, Resolved, as_queries
from imgrec.gallery.resolving import resolve
from imgrec.gallery.results import Filter, Match, Matches, label_of
from imgrec.gallery.selection import ALPHA, AUTO, POOL, Selected, Selection, collapsed
from imgrec.gallery.smoothing import expanded
from imgrec.gallery.targets import Targets, cut, least
from imgrec.gallery.typicality import Typical
from imgrec.kinds import Doubles, Extractor, Index, Record, Recorded, Reducer, Reranker, Store, Vectors
from imgrec.kinds.component import check_component
from imgrec.search import exact
from imgrec.search.exact import Found, Mask
from imgrec.search.pruning import Rows

RANKED_AT_ONCE = 64
"""Queries whose full rankings are in memory at a time."""


class Gallery(OwnImages):
    """The images of one store under one similarity, ready to be searched; the store must stay open.

    A row is a content, which any number of files may share. Files that were missing at the last ingest are left
    out, and those that lack a vector for a term of a fusion.

    Args:
        store: open.
        similarity: what images are compared by; its projections are fitted, or taken from the cache.
        where: the files that the gallery consists of, also for projections and usual distances; None for all.
            With such a filter, projections are fitted lazily, on these files, and not cached.
        index: finds candidates approximately; None: every search is exact.

    Raises:
        UsageError: a projection cannot be fitted on this gallery.
    """

    def search(
        self,
        queries: Iterable[Any],
        k: int = 5,
        among: Filter | Mapping[str, Any] | None = None,
        *,
        copies: bool = False,
        rerank: Reranker | None = None,
        threshold: float | str | None = None,
        alpha: float = ALPHA,
        collapse: float | str | None = None,
        diversity: float = 0.0,
    ) -> list[Matches]:
        """The k images nearest to each query, nearest first, ties in the order of paths.

        The search is exact, unless there is an index: then these are the nearest of its candidates.

        Args:
            queries: each a `Query`, resolved or not, or what `Query.of` takes.
            k: how many; fewer if the gallery has fewer.
            among: the files that may be found, a function of a record or options, `{"label": "hat"}`; None: all.
                Nothing that is fitted depends on it.
            copies: whether files of one content take a rank each; otherwise they share one.
            rerank: makes better queries for a second search.
            threshold: the largest distance of a match; `auto`: matches are refused that are farther than images of
                the gallery are from their own nearest ones, see `typicality`; None: none is.
            alpha: for `auto`, the share of good queries that may be refused, between 0 and 1.
            collapse: folds images up to this distance from a match into it; `auto`: up to `nearness`; None: none.
            diversity: from 0 to 1, how much matches should differ: above 0 they are chosen from the nearest
                `selection.POOL` by `selection.varied`, and in its order.

        Raises:
            UsageError: k below 1, a query that cannot be resolved, vectors that the metric does not allow, or an
                option out of its range.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise UsageError(f"k is at least 1, not {k!r}")
        check_component(rerank, Reranker, "rerank")
        among = filter_of(among, "among")
        how = Selection(threshold=threshold, alpha=alpha, collapse=collapse, diversity=diversity)
        if copies and (how.collapse is not None or how.diversity):
            raise UsageError(
                "copies=true gives equal files a rank each: leave it out, or collapse= and diversity="
            )
        if not (asked := self._asked(queries)):
            return []
        if how.threshold == AUTO and not all(query.is_of_pictures for query in asked):
            raise UsageError(
                "threshold=auto goes by distances between pictures, and words and colours are farther from these: "
                "take a distance"
            )
        if how.threshold == AUTO and any(query.variants for query in asked):
            raise UsageError(
                "threshold=auto goes by pictures as they are, and the nearest variant is nearer: take a distance"
            )
        typical = typicality.typical(self, rerank, how.alpha) if how.threshold == AUTO else None
        targets = self._targets(asked) if rerank is None else self._reranked(asked, rerank, among)

        def find(some: Targets, usable: Mask) -> list[Selected]:
            return self._selected(some, k, usable, among, how, typical)

        found = self._answers(targets, among, find, k, copies=copies, typical=typical)
        return self._with_queries(asked, found)

    def within(
        self, queries: Iterable[Any], distance: float, among: Filter | Mapping[str, Any] | None = None
    ) -> list[Matches]:
        """All images within a distance of each query, exactly; in the order of `search`.

        Args:
            queries: each a `Query`, or what `Query.of` takes.
            distance: at least 0; images at just this distance are included.
            among: the files that may be found; None for all.

        Raises:
            UsageError: distance below 0, a query that cannot be resolved, or vectors that the metric does not
                allow.
        """
        if not isinstance(distance, float | int | np.number) or not distance >= 0:
            raise UsageError(f"distance is at least 0, not {distance!r}")
        among = filter_of(among, "among")
        if not (asked := self._asked(queries)):
            return []

        def found(targets: Targets, usable: Mask) -> list[Selected]:
            every = exact.within(self.fields, targets.vectors, distance, usable)
            return [Selected(*self._merged(some, digests)) for some, digests in targets.by_query(every)]

        return self._with_queries(asked, self._answers(self._targets(asked), among, found, None, copies=True))

    def rankings(
        self, queries: Iterable[Any], rerank: Reranker | None = None, by_index: int = 0
    ) -> Iterator[Rows]:
        """For each query the indices of all `records`, nearest first, as `search` orders them.

        Args:
            queries: each a `Query`, or what `Query.of` takes.
            rerank: makes better queries for a second search.
            by_index: if there is an index, so many are first that it finds; the others follow, nearest first.
        """
        rows = self._rows_of(self.records)
        files_of_row = np.argsort(rows, kind="stable")  # files of one row in the order of paths
        starts = np.searchsorted(rows[files_of_row], np.arange(len(self._digests) + 1))
        counts = np.diff(starts)
        for some in chunks(as_queries(queries) if len(self.records) else (), RANKED_AT_ONCE):
            asked = self._asked(some)
            targets = self._targets(asked) if rerank is None else self._reranked(asked, rerank, None)
            if max(targets.counts, default=1) > 1:  # merging variants needs distances exact to the last bit
                every = exact.nearest(self.fields, targets.vectors, len(self._digests), self._usable)
            else:
                every = exact.rankings(self.fields, targets.vectors, self._usable)
            heads: Iterable[Rows] = itertools.repeat(np.empty(0, np.intp))
            if by_index and self.approximate is not None:
                heads = [rows for rows, _ in self._nearest(targets, by_index, self._usable)]
            for head, (found, digests) in zip(heads, targets.by_query(every), strict=False):
                ranked, distances = self._merged(found, digests)
                is_later = ~np.isin(ranked, head)
                files_here = counts[ranked]
                ends = np.cumsum(files_here)
                within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - files_here, files_here)
                numbers = files_of_row[np.repeat(starts[ranked], files_here) + within]
                keys = numbers, np.repeat(distances, files_here), np.repeat(is_later, files_here)
                yield numbers[np.lexsort(keys)]

    # --- from queries to rows -------------------------------------------------------------------------------

    def resolve(self, query: Any) -> Resolved:
        """A query's vectors, contents and picture in this gallery.

        Raises:
            UsageError: it cannot be resolved.
        """
        return resolve(query if isinstance(query, Query) else Query.of(query), self._store, self.similarity)

    def _asked(self, queries: Iterable[Any]) -> list[Resolved]:
        return [each if isinstance(each, Resolved) else self.resolve(each) for each in as_queries(queries)]

    def targets(self, queries: Iterable[Any]) -> list[Vectors]:
        """For each term the queries' vectors as they are compared, `float32 (variants of all queries, dim)`."""
        return list(self._targets(self._asked(queries)).vectors)

    def _targets(self, asked: Sequence[Resolved]) -> Targets:
        """The vectors of all variants of all queries, projected."""
        contents = [content for query in asked for content in query.contents]
        vectors = []
        for term, (table, projection, *_) in zip(self.similarity.terms, self._loaded, strict=True):
            rows = [query.vectors[term.name] for query in asked]
            if len({each.shape[1] for each in rows}) > 1:
                raise UsageError("the queries' vectors have different numbers of values")
            given = np.concatenate(rows)
            if projection is not None:
                # Where the gallery's vectors were moved, queries still stay where they are.
                known = contents if term.smoothing is None else [None] * len(contents)
                rows_of = table.digests, table.vectors
                given = fitted.project_queries(projection.reducer, given, known, *rows_of)
            if table.vectors.size and given.shape[1:] != table.vectors.shape[1:]:
                raise UsageError(
                    f"the query has {given.shape[1:]} values, and the gallery's vectors {table.vectors.shape[1:]}"
                )
            vectors.append(given)
        counts = [len(query.contents) for query in asked]
        return Targets(vectors, counts, [query.left_out for query in asked], [query.variants for query in asked])

    def _reranked(self, asked: Sequence[Resolved], rerank: Reranker, among: Filter | None) -> Targets:
        """The vectors of the second search, each made from that of the first and its results."""
        targets = self._targets(asked)
        alone = replace(
            targets,
            counts=[1] * sum(targets.counts),
            digests=[
                each
                for digests, count in zip(targets.digests, targets.counts, strict=True)
                for each in itertools.repeat(digests, count)
            ],
        )
        nearest = self._nearest(alone, rerank.neighbours, self._allowed(among))
        rows = [found[: rerank.neighbours] for found, _ in nearest]
        vectors = [
            np.stack([expanded(rerank, field, *each) for each in zip(some, rows, strict=True)])
            for field, some in zip(self.fields, targets.vectors, strict=True)
        ]
        return replace(targets, vectors=vectors)

    def _nearest(self, targets: Targets, k: int, usable: Mask) -> list[Found]:
        """For each query the k nearest rows, and all that tie with the last."""
        most = max((len(digests) for digests in targets.digests), default=0)  # to be left out of what is found
        if self.approximate is None:
            every = exact.nearest(self.fields, targets.vectors, k + most, usable)
        else:
            every = self.approximate.nearest(targets.vectors, k + most, usable)
        return [cut(self._merged(some, digests), k) for some, digests in targets.by_query(every)]

    def _merged(self, found: Sequence[Found], left_out: frozenset[str]) -> Found:
        """Merge what the variants of a query found, each row once at its least distance, without some contents."""
        rows, distances = found[0] if len(found) == 1 else least(found)
        if left_out:
            others = ~np.isin(self._digests[rows], [digest.encode() for digest in left_out])
            rows, distances = rows[others], distances[others]
        return rows, distances

    # --- which of the nearest are the answer ----------------------------------------------------------------

    def _selected(
        self,
        targets: Targets,
        k: int,
        usable: Mask,
        among: Filter | None,
        how: Selection,
        typical: Typical | None,
    ) -> list[Selected]:
        count = max(k, POOL) if how.diversity else k
        if how.collapse is None:
            found = [Selected(*each) for each in self._nearest(targets, count, usable)]
        else:
            found = [self._collapsed(each, count, usable, among, how.collapse) for each in targets.each()]
        if typical is not None:
            found = [each.of(typical.of(each.distances) >= how.alpha) for each in found]
        elif how.threshold is not None:
            found = [each.of(each.distances <= how.threshold) for each in found]
        if how.diversity:
            found = [
                self._varied(self._in_order(each, among).of(slice(count)), k, how.diversity) for each in found
            ]
        return found

    def _collapsed(
        self, target: Targets, count: int, usable: Mask, among: Filter | None, distance: float | str
    ) -> Selected:
        apart = self.nearness[0] if distance == AUTO else float(distance)
        allowed = usable & ~np.isin(self._digests, [digest.encode() for digest in target.digests[0]])

        def nearest(number: int, gone: Rows) -> Selected:
            left = np.array(allowed)
            left[gone] = False
            return self._in_order(Selected(*self._nearest(target, number, left)[0]), among)

        return collapsed(nearest, lambda rows: self.near(rows, apart, allowed), count)

    # --- from rows to files ---------------------------------------------------------------------------------

    def _answers(
        self,
        targets: Targets,
        among: Filter | None,
        find: Callable[[Targets, Mask], list[Selected]],
        k: int | None,
        *,
        copies: bool,
        typical: Typical | None = None,
    ) -> list[list[Match]]:
        usable = self._allowed(among)
        while True:
            found = find(targets, usable)
            rows = {row for each in found for row in each.all_rows()}
            records = self._records_of(rows, among)
            if not (gone := rows - records.keys()):
                break
            usable[list(gone)] = False  # their records were removed after the vectors were loaded
        return [
            self._matches(target, each, records, k, copies=copies, typical=typical)
            for target, each in zip(targets.each(), found, strict=True)
        ]

    def _with_queries(self, asked: Sequence[Resolved], found: Sequence[list[Match]]) -> list[Matches]:
        pairs = zip(found, asked, strict=True)
        return [Matches.of(matches, query.pictures, query.unlike, self.similarity) for matches, query in pairs]

    def _matches(
        self,
        asked: Targets,
        found: Selected,
        records: Mapping[int, Sequence[Record]],
        k: int | None,
        *,
        copies: bool,
        typical: Typical | None,
    ) -> list[Match]:
        """The k nearest files of some rows, or contents, to one query, ties in the order of paths."""
        nearest: list[tuple[float, str, int, tuple[str, ...]]] = []
        paths_of = {row: sorted(record.path for record in some) for row, some in records.items()}
        for row, distance in zip(found.rows.tolist(), found.distances.tolist(), strict=True):
            paths = paths_of[row]
            if copies:
                nearest += [(distance, path, row, ()) for path in paths]
            else:
                nearest.append((distance, paths[0], row, tuple(paths[1:])))
        nearest = (nearest if found.is_ordered else sorted(nearest))[:k]
        matches = [
            Match(
                rank,
                path,
                distance,
                label_of(path),
                copies=others,
                near_copies=found.near_copies(row, paths_of),
                typicality=None if typical is None else float(typical.of(np.array(distance))),
                digest=records[row][0].digest,
            )
            for rank, (distance, path, row, others) in enumerate(nearest, start=1)
        ]
        names = self.similarity.names
        (variants,) = asked.names
        if not (names or variants):
            return matches
        shares, nearest_of = self._shares(
            asked.vectors, np.array([row for _, _, row, _ in nearest], dtype=np.intp)
        )
        return [
            replace(
                match,
                shares=dict(zip(names, each.tolist(), strict=True)) if names else {},
                variant=variants[i] if variants else None,
            )
            for match, each, i in zip(matches, shares, nearest_of.tolist(), strict=True)
        ]

    def _shares(self, query: Sequence[Vectors], rows: Rows) -> tuple[Doubles, Rows]:
        """Each term's share of the distance of rows from a query's nearest variant, and which that is.

        Returns:
            `float64 (rows, terms)` and `(rows,)`.
        """
        weights = np.array([field.weight for field in self.fields])[:, None]
        by_variant = [
            np.array(list(exact.measured_by(self.fields, variant, rows))) * weights
            for variant in zip(*query, strict=True)
        ]
        nearest = np.argmin([each.sum(axis=0) for each in by_variant], axis=0)
        by_term = np.array(by_variant)[nearest, :, np.arange(len(rows))]
        shares: Doubles = by_term / np.maximum(by_term.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return shares, nearest


@contextlib.contextmanager
def opened(
    store: Store,
    metric: str | None = None,
    *,
    where: Filter | Mapping[str, Any] | None = None,
    space: str | None = None,
    extractor: Extractor | Recorded | Mapping[str, Any] | None = None,
    projection: Reducer | None = None,
    smoothing: Reranker | None = None,
    index: Index | None = None,
    colour_weight: float | None = None,
    made_as: type[Gallery] = Gallery,
) -> Iterator[Gallery]:
    """Open a store, and a gallery on a snapshot of it; `imgrec.open` is this for many questions.

    Args:
        store: filled by `ingest`.
        metric: the name of one, such as `euclidean` or `cosine`; None: those of a fusion's parts, else Euclidean.
        where: the files that the gallery consists of, also for projections and usual distances: a function of a
            record, or options, `{"label": "hat"}`; None for all.
        space: which space or fusion, if the store has several: its key or a prefix of it.
        extractor: chooses the space by identity, and extracts queries; for several, a `Fusion`.
        projection: a reducer, fitted on the gallery: vectors are projected before the search.
        smoothing: moves the gallery's vectors towards their own neighbours, and no queries.
        index: finds candidates approximately; None: every search is exact.
        colour_weight: how much colours count beside pictures, `Query.of("img.jpg", colours="red")`: 0.5 as much, 1
            alone. None: queries have no colours, or the gallery compares nothing else.
        made_as: the class of the gallery.

    Raises:
        UsageError: there is no such store, space or metric, or the space is ambiguous.
    """
    if isinstance(store, str | os.PathLike):
        check_component(store, Store, "store")  # a path has a meaning to imgrec.open alone
    if not isinstance(store, Store):
        raise UsageError(
            f"imgrec.open takes a store, imgrec.build('store', NAME, ...), or its path, not {store!r}"
        )
    check_component(projection, Reducer, "projection")
    check_component(smoothing, Reranker, "smoothing")
    check_component(index, Index, "index")
    where = filter_of(where)
    with store, store.snapshot():
        chosen = similarity.choose(store, space, extractor, projection, metric, smoothing)
        if colour_weight is not None:
            chosen = colours.asked_of(chosen, store, metric, colour_weight)
        recorded.warn_of_older_decoding(store, [term.space.key for term in chosen.terms])
        yield _made(made_as, store, chosen, where, index)


def _made(
    made_as: type[Gallery], store: Store, chosen: similarity.Similarity, where: Filter | None, index: Index | None
) -> Gallery:
    gallery = made_as(store, chosen, where, index)
    if isinstance(where, Where) and not gallery.records:
        raise where.refusal(record for record in store.records() if not record.missing)
    return gallery
