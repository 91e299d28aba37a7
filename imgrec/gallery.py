"""A gallery: one store seen through one view, and the neighbours of a query in it."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec import index, projections, search, views
from imgrec.errors import UsageError
from imgrec.index import Index
from imgrec.kinds import Record, Reranker, Space, Store, Vectors, as_euclidean
from imgrec.projections import Projection
from imgrec.search import Field
from imgrec.views import View

log = logging.getLogger(__name__)

SAMPLE = 256
"""Images between which the usual distance in a space is found."""


@dataclass(frozen=True)
class Match:
    """One neighbour of a query."""

    rank: int
    """From 1, the nearest."""

    path: str
    distance: float
    """By the metric asked for, computed in float64; of a fusion in usual distances, weighed and added."""

    label: str
    """The name of the folder that the image lies in."""

    shares: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    """In a fusion each part's share of the distance, from 0 to 1."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; `shares` only where there are parts."""
        data = {"rank": self.rank, "path": self.path, "distance": self.distance, "label": self.label}
        return {**data, "shares": dict(self.shares)} if self.shares else data


def label_of(path: str) -> str:
    """The label of an image: the name of its folder.

    >>> label_of("/photos/hat/1.jpg")
    'hat'
    """
    return Path(path).parent.name


class Gallery:
    """The images of one store in one view, ready to be searched; the store stays open while it is used.

    Copies of an image share a vector: a row is a content, which any number of files may have. Files that were
    missing at the last ingest are left out, and those that lack a vector in a part of a fusion.

    Args:
        store: open.
        view: what images are compared by; a projection in it is fitted or taken as it was kept.

    Raises:
        UsageError: a projection cannot be fitted on this gallery.
    """

    def __init__(self, store: Store, view: View | Space) -> None:
        self.view = views.of(view) if isinstance(view, Space) else view
        self._store = store
        self.projections: dict[str, Projection] = {}
        """Fitted, by the names of parts; the only part has none."""

        self._indexes = [self._load(part) for part in self.view.parts]
        self._rows = _aligned([each.digests for each in self._indexes])
        first = self._rows[0]
        self._digests = self._indexes[0].digests if first is None else self._indexes[0].digests[first]
        self._usable = np.logical_and.reduce(
            [each.usable if rows is None else each.usable[rows] for each, rows in self._by_part()]
        )
        self._tell_of_incomplete()
        self._images = self._count()
        self._fields: dict[str, list[Field]] = {}

    def _load(self, part: views.Part) -> Index:
        if part.projection is None:
            return index.load(self._store, part.space)
        projection, loaded = projections.load(
            self._store, part.space, part.projection, self._labels_of, part.projected_from
        )
        if projection is not None:
            self.projections[part.name] = projection
        return loaded

    def _by_part(self) -> list[tuple[Index, search.Rows | None]]:
        return list(zip(self._indexes, self._rows, strict=True))

    def _labels_of(self, digests: Sequence[str]) -> list[str]:
        """Of copies in several folders the first path counts."""
        paths: dict[str, str] = {}
        for record in self._store.records(digests=digests):
            paths[record.digest] = min(paths.get(record.digest, record.path), record.path)
        return [label_of(paths[digest]) for digest in digests]

    def _tell_of_incomplete(self) -> None:
        most = max(len(each.digests) for each in self._indexes)
        if lacking := most - len(self._digests):
            log.warning(
                "%s of %s images lack a vector in a part of the fusion, and are not found: ingest again",
                f"{lacking:,}",
                f"{most:,}",
            )

    def __len__(self) -> int:
        """How many images, copies counted."""
        return self._images

    def _count(self) -> int:
        if all(rows is None for rows in self._rows):
            return self._indexes[0].images
        usable = self._digests[self._usable].tolist()
        files = Counter(record.digest for record in self._store.records() if not record.missing)
        return sum(files[digest.decode()] for digest in usable)

    @property
    def fingerprint(self) -> str:
        """What tells whether another gallery has the same contents; see `index.fingerprint`."""
        if all(rows is None for rows in self._rows):
            return self._indexes[0].fingerprint
        return index.fingerprint(self._digests[self._usable])

    @property
    def spaces(self) -> list[Space]:
        """The space of each part, projected where it is."""
        found = [self.projections.get(part.name) for part in self.view.parts]
        return [each.space if each else part.space for each, part in zip(found, self.view.parts, strict=True)]

    @property
    def key(self) -> str:
        """What results name: the key of the only space, projected where it is, or of the fusion."""
        return self.view.key if self.view.is_fused else self.spaces[0].key

    @property
    def vectors(self) -> Vectors:
        """`float32 (contents, dim)`: those of the only part."""
        (only,) = self._indexes
        return only.vectors

    def about(self, metric: str) -> dict[str, Any]:
        """What a run records of a view: its projections, and of a fusion its parts; JSON data.

        Args:
            metric: of the parts that have none of their own.
        """
        told: dict[str, Any] = {}
        if self.view.is_fused:
            told["parts"] = {
                part.name: {
                    "space": space.key,
                    "weight": part.weight,
                    "metric": field.metric,
                    "usual_distance": part.weight / field.weight,
                }
                for part, space, field in zip(self.view.parts, self.spaces, self.fields(metric), strict=True)
            }
        if self.projections:
            about = {name: each.about() for name, each in self.projections.items()}
            told["projection"] = about if self.view.is_fused else next(iter(about.values()))
        return told

    # --- all of it ------------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """All images, in the order of their paths."""
        held = set(self._digests.tolist())
        found = (r for r in self._store.records() if not r.missing and r.digest.encode() in held)
        return sorted(found, key=lambda record: record.path)

    def rows(self, records: Sequence[Record]) -> list[Vectors]:
        """For each part the vectors of records, row by row."""
        row_of = {digest: row for row, digest in enumerate(self._digests.tolist())}
        chosen = np.array([row_of[record.digest.encode()] for record in records], dtype=np.intp)
        return [each.vectors[chosen if rows is None else rows[chosen]] for each, rows in self._by_part()]

    def points(self, records: Sequence[Record], metric: str = "euclidean") -> Vectors:
        """The vectors of records as one matrix: those of a fusion side by side, by weight and usual distance."""
        if not self.view.is_fused:
            return self.rows(records)[0]
        scaled = [
            as_euclidean(vectors, field.metric) * np.float32(field.weight)
            for vectors, field in zip(self.rows(records), self.fields(metric), strict=True)
        ]
        return np.hstack(scaled)

    # --- neighbours -----------------------------------------------------------------------------------------

    def fields(self, metric: str) -> list[Field]:
        """What is searched: one field a part, distances of a fusion's weighed in units of the usual one.

        That is the median of the distances among the images with the first digests, which is as good as chance.

        Args:
            metric: of the parts that have none of their own.

        Raises:
            UsageError: a metric that there is not.
        """
        if metric not in self._fields:
            self._fields[metric] = [
                Field(each.vectors, part.metric or metric, 1.0, rows, each.compressed)
                for part, (each, rows) in zip(self.view.parts, self._by_part(), strict=True)
            ]
            for field in self._fields[metric]:
                if field.metric not in search.METRICS:
                    raise UsageError(f"metric is one of {', '.join(search.METRICS)}, not {field.metric!r}")
            if self.view.is_fused:
                weights = [part.weight for part in self.view.parts]
                self._fields[metric] = weighed(self._fields[metric], weights, self._digests)
        return self._fields[metric]

    def neighbours(
        self,
        query: Sequence[Vectors],
        k: int,
        metric: str = "euclidean",
        *,
        content: str | None = None,
        leave_out: str | None = None,
        rerank: Reranker | None = None,
    ) -> list[Match]:
        """The k images nearest to a query, exactly: nearest first, equal distances in the order of paths.

        Args:
            query: for each part a vector `float32 (dim,)` of its space, not yet projected.
            k: how many; fewer where the gallery has fewer.
            metric: one of `search.METRICS`.
            content: the digest of the query's own content, where it has one: an equal one is at distance 0.
            leave_out: the digest of a content not to be found: mostly the query itself.
            rerank: asks a second time with a better query.

        Raises:
            UsageError: k below 1, or a metric that there is not or that these vectors do not allow.
        """
        queries = [vector[None] for vector in query]
        (found,) = self.neighbours_of_many(
            queries, k, metric, contents=[content], leave_out=[leave_out], rerank=rerank
        )
        return found

    def neighbours_of_many(
        self,
        queries: Sequence[Vectors],
        k: int,
        metric: str = "euclidean",
        *,
        contents: Sequence[str | None] | None = None,
        leave_out: Sequence[str | None] | None = None,
        rerank: Reranker | None = None,
    ) -> list[list[Match]]:
        """As `neighbours`, for many queries at once: the same matches in less time.

        Args:
            queries: for each part `float32 (m, dim)`.
            k: how many for each.
            metric: one of `search.METRICS`.
            contents: for each query the digest of its own content, or None where it has none.
            leave_out: for each query the digest of a content that it shall not find, or None.
            rerank: asks a second time with better queries.

        Raises:
            UsageError: as `neighbours`.
        """
        if k < 1:
            raise UsageError(f"k is at least 1, not {k}")
        fields, targets = self.fields(metric), self._projected(queries, contents or [None] * len(queries[0]))
        left_out = list(leave_out) if leave_out is not None else [None] * len(targets[0])
        usable = np.array(self._usable)
        if rerank is not None:
            nearest = self._nearest(fields, targets, rerank.neighbours, left_out, usable)
            rows = [found[: rerank.neighbours] for found, _ in nearest]
            targets = expanded(rerank, fields, targets, rows)
        while True:
            nearest = self._nearest(fields, targets, k, left_out, usable)
            records = self._records_of({row for found, _ in nearest for row in found.tolist()})
            gone = [row for found, _ in nearest for row in found.tolist() if row not in records]
            if not gone:
                break
            usable[gone] = False  # forgotten since the index was loaded
        queried = zip(*targets, strict=True)
        return [
            self._matches(fields, query, found, distances, records, k)
            for query, (found, distances) in zip(queried, nearest, strict=True)
        ]

    def _projected(self, queries: Sequence[Vectors], contents: Sequence[str | None]) -> list[Vectors]:
        targets = []
        for part, each, some in zip(self.view.parts, self._indexes, queries, strict=True):
            projection = self.projections.get(part.name)
            if projection:
                known = contents, each.digests, each.vectors
                targets.append(projections.project_queries(projection.reducer, some, *known))
            else:
                targets.append(some)
            if each.vectors.size and targets[-1].shape[1:] != each.vectors.shape[1:]:
                raise UsageError(
                    f"the query has {targets[-1].shape[1:]} values, and the gallery's vectors "
                    f"{each.vectors.shape[1:]}"
                )
        return targets

    def _nearest(
        self,
        fields: Sequence[Field],
        queries: Sequence[Vectors],
        k: int,
        left_out: Sequence[str | None],
        usable: npt.NDArray[np.bool_],
    ) -> list[tuple[search.Rows, search.Doubles]]:
        # What is left out may be found as well.
        found = search.nearest_by(fields, queries, k + 1 if any(left_out) else k, usable)
        return [self._without(*each, digest, k) for each, digest in zip(found, left_out, strict=True)]

    def _without(
        self, rows: search.Rows, distances: search.Doubles, digest: str | None, k: int
    ) -> tuple[search.Rows, search.Doubles]:
        """The k nearest rows that do not have a content, and all that tie with the k-th."""
        if digest is not None:
            others = self._digests[rows] != digest.encode()
            rows, distances = rows[others], distances[others]
        near = distances <= distances[k - 1] if len(rows) > k else slice(None)
        return rows[near], distances[near]

    def _records_of(self, rows: Collection[int]) -> dict[int, list[Record]]:
        """The files of each row that has any."""
        row_of = {self._digests[row].decode(): row for row in rows}
        found: dict[int, list[Record]] = {}
        for record in self._store.records(digests=list(row_of)):
            if not record.missing:
                found.setdefault(row_of[record.digest], []).append(record)
        return found

    def _matches(
        self,
        fields: Sequence[Field],
        query: Sequence[Vectors],
        rows: search.Rows,
        distances: search.Doubles,
        records: Mapping[int, Sequence[Record]],
        k: int,
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
        if not self.view.is_fused:
            return matches
        found = np.array([row for _, _, row in nearest], dtype=np.intp)
        by_part = np.array(list(search.measured_by(fields, query, found)))
        by_part *= np.array([field.weight for field in fields])[:, None]
        shares = by_part / np.maximum(by_part.sum(axis=0), np.finfo(np.float64).tiny)
        names = [part.name for part in self.view.parts]
        return [
            replace(match, shares=dict(zip(names, each.tolist(), strict=True)))
            for match, each in zip(matches, shares.T, strict=True)
        ]


def _aligned(digests: Sequence[npt.NDArray[np.bytes_]]) -> list[search.Rows | None]:
    """For each part the rows of what all of them have, in the order of the first; None where all are alike."""
    first = digests[0]
    if all(np.array_equal(each, first) for each in digests[1:]):
        return [None] * len(digests)
    common = functools.reduce(np.intersect1d, digests)
    rows = []
    for each in digests:
        order = np.argsort(each)
        rows.append(order[np.searchsorted(each, common, sorter=order)])
    order = np.argsort(rows[0])
    return [each[order] for each in rows]


def weighed(fields: Sequence[Field], weights: Sequence[float], digests: npt.NDArray[np.bytes_]) -> list[Field]:
    """Fields whose distances are in units of the usual one, times a weight.

    Args:
        fields: one a part, of the same images.
        weights: of the parts.
        digests: the content of each image: those with the first ones are looked at.
    """
    chosen = np.argsort(digests, kind="stable")[:SAMPLE]
    return [
        replace(field, weight=weight / search.usual_distance(field.of(chosen), field.metric))
        for field, weight in zip(fields, weights, strict=True)
    ]


def expanded(
    reranker: Reranker, fields: Sequence[Field], queries: Sequence[Vectors], rows: Sequence[search.Rows]
) -> list[Vectors]:
    """The queries of a second search, part by part.

    Args:
        reranker: what makes them.
        fields: what was searched.
        queries: for each part `float32 (m, dim)`.
        rows: for each query the rows of its first answer, nearest first.
    """
    return [
        np.stack([_expanded(reranker, field, *each) for each in zip(targets, rows, strict=True)])
        for field, targets in zip(fields, queries, strict=True)
    ]


def _expanded(reranker: Reranker, field: Field, query: Vectors, rows: search.Rows) -> Vectors:
    nearest = field.of(rows)
    if not len(nearest):
        return query
    if field.metric == "cosine":
        query, nearest = as_euclidean(query[None], "cosine")[0], as_euclidean(nearest, "cosine")
    return reranker.expand(query, nearest)
