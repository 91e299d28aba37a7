"""A gallery: one store seen through one similarity, and its answers to queries."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.gallery import fitted, similarity
from imgrec.gallery.fitted import FittedReducer
from imgrec.gallery.query import Query, Resolved, as_queries, resolve
from imgrec.gallery.similarity import Similarity, Term
from imgrec.kinds import (
    Doubles,
    Extractor,
    Form,
    Index,
    Record,
    Recorded,
    Reducer,
    Reranker,
    Space,
    Store,
    Vectors,
)
from imgrec.search import approximate, exact, files
from imgrec.search.approximate import TermIndex
from imgrec.search.bounds import Rows
from imgrec.search.exact import Found, Mask, VectorField
from imgrec.search.files import VectorTable

log = logging.getLogger(__name__)

SAMPLE = 256
"""Images between which the usual distance in a space is found."""

RANKED_AT_ONCE = 64
"""Queries whose whole rankings are in memory together."""

Filter = Callable[[Record], bool]
"""Whether an image file counts."""


@dataclass(frozen=True)
class Match:
    """One neighbour of a query."""

    rank: int
    """From 1, the nearest."""

    path: str
    distance: float
    """By the gallery's metric, computed in float64; of a fusion in usual distances, weighed and added."""

    label: str
    """The name of the folder that the image lies in."""

    shares: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    """In a fusion each term's share of the distance, from 0 to 1."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; `shares` only where there are terms."""
        data = {"rank": self.rank, "path": self.path, "distance": self.distance, "label": self.label}
        return {**data, "shares": dict(self.shares)} if self.shares else data


def label_of(path: str) -> str:
    """The label of an image: the name of its folder.

    >>> label_of("/photos/hat/1.jpg")
    'hat'
    """
    return Path(path).parent.name


class Gallery:
    """The images of one store in one similarity, ready to be searched; the store stays open while it is used.

    Copies of an image share a vector: a row is a content, which any number of files may have. Files that were
    missing at the last ingest are left out, and those that lack a vector in a term of a fusion.

    Args:
        store: open.
        similarity: what images are compared by; a projection in it is fitted, or taken as it was kept.
        where: the files that the gallery consists of, for projections and usual distances as well; None for all.
            A gallery with such a filter fits its projections for itself, when they are needed, and keeps none.
        index: finds candidates approximately; None: every search is exact.

    Raises:
        UsageError: a projection cannot be fitted on this gallery.
    """

    def __init__(
        self, store: Store, similarity: Similarity, where: Filter | None = None, index: Index | None = None
    ) -> None:
        self.similarity, self._index = similarity, index
        self._label_of: Callable[[str], str] = label_of
        self._store, self._where = store, where
        if where is None:
            _ = self.fields  # what a store holds now, not what it holds when it is asked first

    @property
    def label_of(self) -> Callable[[str], str]:
        """The label of a path, for projections that learn from labels; by default the name of its folder.

        Raises:
            UsageError: it is set when such a projection is fitted already.
        """
        return self._label_of

    @label_of.setter
    def label_of(self, label_of: Callable[[str], str]) -> None:
        if "_loaded" in vars(self) and any(each.reducer.supervised for each in self.projections.values()):
            raise UsageError(
                "what learns from labels is fitted already: open the gallery with where=, which waits"
            )
        self._label_of = label_of

    # --- what is compared -----------------------------------------------------------------------------------

    @functools.cached_property
    def _stored(self) -> list[VectorTable]:
        """For each term what the store holds of it, not projected."""
        return [files.load(self._store, term.space) for term in self.similarity.terms]

    @functools.cached_property
    def _loaded(self) -> list[tuple[VectorTable, FittedReducer | None]]:
        """For each term its vectors as they are compared, and what projects them."""
        if self._where is not None:
            return self._fitted_here()
        return [self._load(term) for term in self.similarity.terms]

    def _load(self, term: Term) -> tuple[VectorTable, FittedReducer | None]:
        if term.projection is None:
            return files.load(self._store, term.space), None
        projection, table = fitted.load(
            self._store, term.space, term.projection, self._labels_of, term.projected_from
        )
        return table, projection

    def _fitted_here(self) -> list[tuple[VectorTable, FittedReducer | None]]:
        """Projections fitted on this gallery's own files, for a gallery that is a part of its store."""
        found: list[tuple[VectorTable, FittedReducer | None]] = []
        for term, table in zip(self.similarity.terms, self._stored, strict=True):
            usable = np.isin(table.digests, list(self._scope))
            if term.projection is None or usable.sum() < term.projected_from:
                found.append((table, None))
                continue
            rows = table.digests, table.vectors
            made = fitted.fit(term.projection, term.space, *rows, self._labels_of, usable)
            found.append((fitted.project(made, table), made))
        return found

    @property
    def projections(self) -> dict[str, FittedReducer]:
        """What was fitted, by the names of terms; the only term has none."""
        by_term = zip(self.similarity.terms, self._loaded, strict=True)
        return {term.name: projection for term, (_, projection) in by_term if projection is not None}

    @functools.cached_property
    def _tables(self) -> list[VectorTable]:
        return self._stored if self._where is not None else [table for table, _ in self._loaded]

    @functools.cached_property
    def _alignment(self) -> tuple[npt.NDArray[np.bytes_], list[Rows | None]]:
        by_table = [each.digests for each in self._tables]
        digests, rows = _aligned(by_table)
        most = max(map(len, by_table))
        if lacking := most - len(digests):
            log.warning(
                "%s of %s images lack a vector in a part of the fusion, and are not found: ingest again",
                f"{lacking:,}",
                f"{most:,}",
            )
        return digests, rows

    @property
    def _digests(self) -> npt.NDArray[np.bytes_]:
        """`(rows,)`: the content of each row."""
        return self._alignment[0]

    @functools.cached_property
    def _usable(self) -> Mask:
        by_term = zip(self._tables, self._alignment[1], strict=True)
        there = [table.usable if rows is None else table.usable[rows] for table, rows in by_term]
        if self._where is not None:
            there.append(np.isin(self._digests, list(self._scope)))
        return np.logical_and.reduce(there)  # type: ignore[no-any-return]

    @functools.cached_property
    def _scope(self) -> set[bytes]:
        """The contents of the files that the gallery consists of, as far as a filter says so."""
        where = self._where or (lambda _: True)
        return {r.digest.encode() for r in self._store.records() if not r.missing and where(r)}

    def _labels_of(self, digests: Sequence[str]) -> list[str]:
        """Of copies in several folders the first path counts."""
        paths: dict[str, str] = {}
        for record in self._store.records(digests=digests):
            if self._where is None or self._where(record):
                paths[record.digest] = min(paths.get(record.digest, record.path), record.path)
        return [self._label_of(paths[digest]) for digest in digests]

    @functools.cached_property
    def fields(self) -> list[VectorField]:
        """What is searched: one field a term, distances of a fusion's weighed in units of the usual one.

        That is the median of the distances among the images with the first digests, which is as good as chance.
        """
        by_term = zip(self.similarity.terms, self._loaded, self._alignment[1], strict=True)
        fields = [
            VectorField(table.vectors, term.metric, 1.0, rows, table.pruning) for term, (table, _), rows in by_term
        ]
        if not any(term.is_scaled for term in self.similarity.terms):
            return fields
        counted = np.arange(len(self._digests)) if self._where is None else np.flatnonzero(self._usable)
        chosen = counted[np.argsort(self._digests[counted], kind="stable")[:SAMPLE]]
        for field in fields:
            field.metric.check(field.of(chosen))
        return [
            replace(field, weight=term.weight / exact.usual_distance(field.of(chosen), field.metric))
            if term.is_scaled
            else field
            for field, term in zip(fields, self.similarity.terms, strict=True)
        ]

    @functools.cached_property
    def indexes(self) -> list[TermIndex]:
        """For each term the index that is asked; none where the search is exact."""
        if self._index is None:
            return []
        found = []
        for term, (table, projection) in zip(self.similarity.terms, self._loaded, strict=True):
            source = (
                fitted.source_of(self._store, term.space, projection)
                if projection
                else files.whole(self._store, term.space)
            )
            is_kept = self._where is None
            if (loaded := approximate.load(self._index, source, table, term.metric, is_kept=is_kept)) is None:
                log.warning(
                    "index=%s is not used: metric=%s has no Euclidean form, so the search is exact",
                    self._index.name,
                    term.metric.name,
                )
                return []
            found.append(loaded)
        return found

    # --- what it is -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many images, copies counted."""
        if self._where is None and all(rows is None for rows in self._alignment[1]):
            return self._tables[0].images
        return len(self.records)

    @property
    def fingerprint(self) -> str:
        """What tells whether another gallery has the same contents; see `files.fingerprint`."""
        if self._where is None and all(rows is None for rows in self._alignment[1]):
            return self._tables[0].fingerprint
        return files.fingerprint(self._digests[self._usable])

    @property
    def spaces(self) -> list[Space]:
        """The space of each term, projected where it is."""
        by_term = zip(self.similarity.terms, self._loaded, strict=True)
        return [projection.space if projection else term.space for term, (_, projection) in by_term]

    @property
    def key(self) -> str:
        """What results name: the key of the only space, projected where it is, or of the fusion."""
        return self.similarity.key or self.spaces[0].key

    @property
    def vectors(self) -> Vectors:
        """`float32 (contents, dim)`: those of the only term, as they are compared."""
        ((table, _),) = self._loaded
        return table.vectors

    def about(self) -> dict[str, Any]:
        """What a run records of a similarity: its projections, and of a fusion its terms; JSON data."""
        told: dict[str, Any] = {}
        if self.similarity.names:
            told["parts"] = {
                term.name: {
                    "space": space.key,
                    "weight": term.weight,
                    "metric": term.metric.name,
                    "usual_distance": term.weight / field.weight,
                }
                for term, space, field in zip(self.similarity.terms, self.spaces, self.fields, strict=True)
            }
        if self.projections:
            told["projection"] = self.about_projections()
        if self.indexes and self._index is not None:
            told["index"] = {
                "index": self._index.name,
                **self._index.plain_options(),
                "effort": [each.effort for each in self.indexes],
            }
        return told

    def about_projections(self) -> dict[str, Any] | None:
        """What a run records of projections: by the names of terms, or of the only one; JSON data."""
        about = {name: each.about() for name, each in self.projections.items()}
        return about if self.similarity.names else about.get("")

    # --- all of it ------------------------------------------------------------------------------------------

    @functools.cached_property
    def records(self) -> list[Record]:
        """All images, in the order of their paths."""
        held, where = set(self._digests[self._usable].tolist()), self._where or (lambda _: True)
        found = (r for r in self._store.records() if not r.missing and r.digest.encode() in held and where(r))
        return sorted(found, key=lambda record: record.path)

    @functools.cached_property
    def _row_of(self) -> dict[bytes, int]:
        return {digest: row for row, digest in enumerate(self._digests.tolist())}

    def _rows_of(self, records: Sequence[Record]) -> Rows:
        return np.array([self._row_of[record.digest.encode()] for record in records], dtype=np.intp)

    def stored_vectors(self, records: Sequence[Record]) -> dict[str, Vectors]:
        """By the names of terms the vectors of records, row by row, as the store has them."""
        chosen = self._rows_of(records)
        by_term = zip(self.similarity.terms, self._stored, self._alignment[1], strict=True)
        return {t.name: table.vectors[chosen if rows is None else rows[chosen]] for t, table, rows in by_term}

    def points(self, records: Sequence[Record]) -> Vectors:
        """The vectors of records as one matrix, for a map: of a fusion side by side, by weight and usual distance.

        Raises:
            UsageError: a fusion's term has a metric without a Euclidean form, in which nothing can be drawn.
        """
        chosen = self._rows_of(records)
        by_term = list(zip(self.similarity.terms, self.fields, strict=True))
        for term, _ in by_term:
            if term.is_scaled and term.metric.form is Form.NONE:
                raise UsageError(
                    f"a map of a fusion puts vectors side by side, and metric={term.metric.name} of {term.name} "
                    f"has no Euclidean form: extractor.metrics.{term.name}=euclidean, or space= for one part"
                )
        scaled = [
            field.metric.as_euclidean(field.of(chosen)) * np.float32(field.weight)
            if term.is_scaled
            else field.of(chosen)
            for term, field in by_term
        ]
        return np.hstack(scaled)

    # --- answers --------------------------------------------------------------------------------------------

    def search(
        self,
        queries: Iterable[Any],
        k: int = 5,
        among: Filter | None = None,
        *,
        rerank: Reranker | None = None,
    ) -> list[list[Match]]:
        """The k images nearest to each query: nearest first, equal distances in the order of paths.

        They are so exactly, but with an index: then they are the nearest of those that it names.

        Args:
            queries: each a `Query`, resolved or not, or what `Query.of` takes.
            k: how many; fewer where the gallery has fewer.
            among: the files that may be found; None for all. Nothing that is fitted depends on it.
            rerank: asks a second time with better queries.

        Raises:
            UsageError: k below 1, a query that cannot be resolved, or a metric that these vectors do not allow.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise UsageError(f"k is at least 1, not {k!r}")
        if not (asked := self._asked(queries)):
            return []
        targets = self._targets(asked) if rerank is None else self._reranked(asked, rerank, among)
        return self._answers(targets, among, lambda some, usable: self._nearest(some, k, usable), k)

    def within(self, queries: Iterable[Any], distance: float, among: Filter | None = None) -> list[list[Match]]:
        """All images that are no farther from each query than a distance, exactly; in the order of `search`.

        Args:
            queries: each a `Query`, or what `Query.of` takes.
            distance: from 0 on.
            among: the files that may be found; None for all.

        Raises:
            UsageError: a distance below 0, a query that cannot be resolved, or a metric that these vectors do not
                allow.
        """
        if not isinstance(distance, float | int | np.number) or not distance >= 0:
            raise UsageError(f"distance is at least 0, not {distance!r}")
        if not (asked := self._asked(queries)):
            return []

        def found(targets: _Targets, usable: Mask) -> list[Found]:
            every = exact.within(self.fields, targets.vectors, distance, usable)
            return [self._merged(some, digests) for some, digests in targets.by_query(every)]

        return self._answers(self._targets(asked), among, found, None)

    def rankings(self, queries: Iterable[Any], rerank: Reranker | None = None) -> Iterator[Rows]:
        """For each query the numbers of all `records` from the nearest on, as `search` orders them."""
        rows = self._rows_of(self.records)
        files_of_row = np.argsort(rows, kind="stable")  # of one row in the order of paths
        starts = np.searchsorted(rows[files_of_row], np.arange(len(self._digests) + 1))
        counts = np.diff(starts)
        for some in chunks(as_queries(queries) if len(self.records) else (), RANKED_AT_ONCE):
            asked = self._asked(some)
            targets = self._targets(asked) if rerank is None else self._reranked(asked, rerank, None)
            if max(targets.counts, default=1) > 1:  # to be merged, all distances are wanted to the last bit
                every = exact.nearest(self.fields, targets.vectors, len(self._digests), self._usable)
            else:
                every = exact.rankings(self.fields, targets.vectors, self._usable)
            for found, digests in targets.by_query(every):
                ranked, distances = self._merged(found, digests)
                files_here = counts[ranked]
                ends = np.cumsum(files_here)
                within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - files_here, files_here)
                numbers = files_of_row[np.repeat(starts[ranked], files_here) + within]
                yield numbers[np.lexsort((numbers, np.repeat(distances, files_here)))]

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
        """For each term the vectors of queries as they are compared, `float32 (variants of all, dim)`."""
        return list(self._targets(self._asked(queries)).vectors)

    def _targets(self, asked: Sequence[Resolved]) -> _Targets:
        """The vectors of all variants of all queries, projected."""
        contents = [content for query in asked for content in query.contents]
        vectors = []
        for term, (table, projection) in zip(self.similarity.terms, self._loaded, strict=True):
            rows = [query.vectors[term.name] for query in asked]
            if len({each.shape[1] for each in rows}) > 1:
                raise UsageError("the queries' vectors have different numbers of values")
            given = np.concatenate(rows)
            if projection is not None:
                known = contents, table.digests, table.vectors
                given = fitted.project_queries(projection.reducer, given, *known)
            if table.vectors.size and given.shape[1:] != table.vectors.shape[1:]:
                raise UsageError(
                    f"the query has {given.shape[1:]} values, and the gallery's vectors {table.vectors.shape[1:]}"
                )
            vectors.append(given)
        return _Targets(vectors, [len(query.contents) for query in asked], [query.left_out for query in asked])

    def _reranked(self, asked: Sequence[Resolved], rerank: Reranker, among: Filter | None) -> _Targets:
        """The vectors of the second search: each made of the first one's and of what that found."""
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
            np.stack([_expanded(rerank, field, *each) for each in zip(some, rows, strict=True)])
            for field, some in zip(self.fields, targets.vectors, strict=True)
        ]
        return replace(targets, vectors=vectors)

    def _nearest(self, targets: _Targets, k: int, usable: Mask) -> list[Found]:
        """For each query the k nearest rows, and all that tie with the last."""
        most = max((len(digests) for digests in targets.digests), default=0)  # these may be found as well
        if self.indexes:
            every = approximate.nearest(self.fields, self.indexes, targets.vectors, k + most, usable)
        else:
            every = exact.nearest(self.fields, targets.vectors, k + most, usable)
        return [_cut(self._merged(some, digests), k) for some, digests in targets.by_query(every)]

    def _merged(self, found: Sequence[Found], left_out: frozenset[str]) -> Found:
        """What the variants of one query found, each row once at its least distance, without some contents."""
        rows, distances = found[0] if len(found) == 1 else _least(found)
        if left_out:
            others = ~np.isin(self._digests[rows], [digest.encode() for digest in left_out])
            rows, distances = rows[others], distances[others]
        return rows, distances

    # --- from rows to files ---------------------------------------------------------------------------------

    def _allowed(self, among: Filter | None) -> Mask:
        """The rows that have a file that may be found."""
        if among is None:
            return np.array(self._usable)
        mask = np.zeros(len(self._usable), np.bool_)
        mask[self._rows_of([record for record in self.records if among(record)])] = True
        return mask

    def _answers(
        self,
        targets: _Targets,
        among: Filter | None,
        find: Callable[[_Targets, Mask], list[Found]],
        k: int | None,
    ) -> list[list[Match]]:
        usable = self._allowed(among)
        while True:
            found = find(targets, usable)
            records = self._records_of({row for rows, _ in found for row in rows.tolist()}, among)
            gone = [row for rows, _ in found for row in rows.tolist() if row not in records]
            if not gone:
                break
            usable[gone] = False  # forgotten since the vectors were loaded
        variants = [[each[a:b] for each in targets.vectors] for a, b in itertools.pairwise(targets.ends())]
        return [self._matches(some, *each, records, k) for some, each in zip(variants, found, strict=True)]

    def _records_of(self, rows: Collection[int], among: Filter | None) -> dict[int, list[Record]]:
        """The files of each row that has any."""
        row_of = {self._digests[row].decode(): row for row in rows}
        found: dict[int, list[Record]] = {}
        for record in self._store.records(digests=list(row_of)):
            is_here = not record.missing and (self._where is None or self._where(record))
            if is_here and (among is None or among(record)):
                found.setdefault(row_of[record.digest], []).append(record)
        return found

    def _matches(
        self,
        query: Sequence[Vectors],
        rows: Rows,
        distances: Doubles,
        records: Mapping[int, Sequence[Record]],
        k: int | None,
    ) -> list[Match]:
        """The k nearest files of rows, equal distances in the order of paths."""
        nearest = sorted(
            (distance, record.path, row)
            for row, distance in zip(rows.tolist(), distances.tolist(), strict=True)
            for record in records[row]
        )[:k]
        matches = [
            Match(rank, path, distance, label_of(path))
            for rank, (distance, path, _) in enumerate(nearest, start=1)
        ]
        if not (names := self.similarity.names):
            return matches
        shares = self._shares(query, np.array([row for _, _, row in nearest], dtype=np.intp))
        return [
            replace(match, shares=dict(zip(names, each.tolist(), strict=True)))
            for match, each in zip(matches, shares, strict=True)
        ]

    def _shares(self, query: Sequence[Vectors], rows: Rows) -> Doubles:
        """Each term's share of the distance of rows from a query's nearest variant, `float64 (rows, terms)`."""
        weights = np.array([field.weight for field in self.fields])[:, None]
        by_variant = [
            np.array(list(exact.measured_by(self.fields, variant, rows))) * weights
            for variant in zip(*query, strict=True)
        ]
        nearest = np.argmin([each.sum(axis=0) for each in by_variant], axis=0)
        by_term = np.array(by_variant)[nearest, :, np.arange(len(rows))]
        shares: Doubles = by_term / np.maximum(by_term.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return shares


@contextlib.contextmanager
def opened(
    store: Store,
    metric: str | None = None,
    *,
    where: Filter | None = None,
    space: str | None = None,
    extractor: Extractor | Recorded | Mapping[str, Any] | None = None,
    projection: Reducer | None = None,
    index: Index | None = None,
) -> Iterator[Gallery]:
    """A gallery, of what a store holds at this moment, while the store is open.

    Args:
        store: what `ingest` filled.
        metric: the name of one, such as `euclidean` or `cosine`; None: what parts of a fusion have of their own,
            else Euclidean.
        where: the files that the gallery consists of, for projections and usual distances as well; None for all.
        space: which space or fusion, where the store has several: its key or the beginning of it.
        extractor: the same, by identity; also the extractor that is then used for queries. Or several of them as a
            `Fusion`.
        projection: a reducer, fitted on the gallery: vectors are projected before the search.
        index: finds candidates approximately; None: every search is exact.

    Raises:
        UsageError: no such store; the space is not clear; there is no such metric.

    >>> import imgrec, tempfile
    >>> from imgrec.testing import write_pictures
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_pictures(Path(folder, "photos"))
    ...     store = imgrec.build("store", "sqlite", path=f"{folder}/gallery.sqlite")
    ...     _ = imgrec.ingest(f"{folder}/photos", imgrec.build("extractor", "colour"), store)
    ...     with imgrec.open(store, "cosine", where=lambda record: "/c/" not in record.path) as gallery:
    ...         (matches,) = gallery.search([f"{folder}/photos/a/0.png"], k=2)
    >>> [match.label for match in matches]
    ['a', 'a']
    """
    if not isinstance(store, Store):
        raise UsageError(f"imgrec.open takes a store, imgrec.build('store', 'sqlite', path=...), not {store!r}")
    with store, store.snapshot():
        yield Gallery(store, similarity.choose(store, space, extractor, projection, metric), where, index)


@dataclass(frozen=True)
class _Targets:
    """What is searched for: the vectors of the variants of queries, one query after the other."""

    vectors: Sequence[Vectors]
    """For each term `float32 (variants of all queries, dim)`."""

    counts: Sequence[int]
    """For each query how many variants it has."""

    digests: Sequence[frozenset[str]]
    """For each query the contents that it may not find."""

    def ends(self) -> list[int]:
        """Where each query's variants begin, and the end of all."""
        return [0, *itertools.accumulate(self.counts)]

    def by_query(self, found: Sequence[Found]) -> Iterator[tuple[Sequence[Found], frozenset[str]]]:
        """For each query what its variants found, and what it may not find."""
        for (start, end), digests in zip(itertools.pairwise(self.ends()), self.digests, strict=True):
            yield found[start:end], digests


def _least(found: Sequence[Found]) -> Found:
    """Rows of several answers, each once at its least distance, nearest first."""
    rows, distances = (np.concatenate([each[i] for each in found]) for i in range(2))
    order = np.lexsort((rows, distances))
    rows, distances = rows[order], distances[order]
    _, first = np.unique(rows, return_index=True)
    first.sort()
    return rows[first], distances[first]


def _cut(found: Found, k: int) -> Found:
    """The k nearest rows, and all that tie with the k-th."""
    rows, distances = found
    near = distances <= distances[k - 1] if len(rows) > k else slice(None)
    return rows[near], distances[near]


def _aligned(digests: Sequence[npt.NDArray[np.bytes_]]) -> tuple[npt.NDArray[np.bytes_], list[Rows | None]]:
    """The contents that all terms have, in the order of the first, and each term's rows; None where all agree."""
    first = digests[0]
    if all(np.array_equal(each, first) for each in digests[1:]):
        return first, [None] * len(digests)
    common = functools.reduce(np.intersect1d, digests)
    rows = []
    for each in digests:
        order = np.argsort(each)
        rows.append(order[np.searchsorted(each, common, sorter=order)])
    order = np.argsort(rows[0])
    return first[rows[0][order]], [each[order] for each in rows]


def _expanded(reranker: Reranker, field: VectorField, query: Vectors, rows: Rows) -> Vectors:
    nearest = field.of(rows)
    if not len(nearest):
        return query
    if field.metric.form is Form.UNIT:
        query, nearest = field.metric.as_euclidean(query[None])[0], field.metric.as_euclidean(nearest)
    return reranker.expand(query, nearest)
