"""The exact nearest neighbours of queries: fast scans bound all distances, and few are computed in float64.

A scan gives each row a lower bound of its distance. The rows with the smallest bounds are measured; the k-th of
their distances is a limit, and no row whose bound is above it can be among the k nearest. All others go through
the next, finer scan, or are measured when they are few. So results are exact; loose bounds cost time only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec.kinds import Doubles, Metric, Vectors
from imgrec.kinds.extractor import are_equal
from imgrec.search import bounds
from imgrec.search.bounds import EPS, FLOAT, Scan, Some
from imgrec.search.pruning import Floats, PruningIndex, Rows

Mask = npt.NDArray[np.bool_]

Found = tuple[Rows, Doubles]
"""Rows and their distances, nearest first."""

FIRST_LOOK = 32
"""Rows that are measured to find a limit for all others, at least."""

GROUP = 64
"""Bounds of which only the least is looked at, unless it is small enough."""

NARROW = 8
"""Of so many images one may be found: then the others are not scanned, as gathering those that may pays."""

AT_ONCE = 256
"""Queries whose dot products with all vectors are computed together, which is faster than one by one."""

AT_ONCE_BYTES = 2**28
"""The memory that these products may take."""


@dataclass(frozen=True)
class VectorField:
    """Vectors compared by a metric. The weighted distances of several fields of the same images are added."""

    vectors: Vectors
    """`float32 (n, dim)`."""

    metric: Metric

    weight: float = 1.0
    """The factor of its distances, above 0."""

    rows: Rows | None = None
    """`(m,)`: the row of each image; None if image i is in row i."""

    known: PruningIndex | None = None
    """The vectors' own: results are the same, but faster."""

    def __len__(self) -> int:
        """How many images."""
        return len(self.vectors if self.rows is None else self.rows)

    def of(self, images: Rows) -> Vectors:
        """The vectors of images, row-aligned."""
        return self.vectors[images if self.rows is None else self.rows[images]]

    @functools.cached_property
    def scans(self) -> Sequence[Scan]:
        """The scans of its vectors, coarsest first.

        Raises:
            UsageError: vectors that the metric does not allow.
        """
        self.metric.check(self.vectors)
        return bounds.scans(self.vectors, self.metric, self.known)


def nearest(
    fields: Sequence[VectorField], queries: Sequence[Vectors], k: int, usable: Mask | None = None
) -> list[Found]:
    """The images nearest to each query, exactly, including all ties with the k-th.

    Distances are computed directly in float64, without the cancellation of the expanded square.

    Args:
        fields: of the same images; their weighted distances are added.
        queries: for each field the queries' vectors, `float32 (m, dim)`.
        k: how many images at least, if there are as many.
        usable: `bool (images,)`: those that may be found; None for all.

    Raises:
        UsageError: vectors that the metric does not allow.

    >>> import imgrec
    >>> eye = np.eye(3, dtype=np.float32)
    >>> fields = [VectorField(eye, imgrec.build("metric", name)) for name in ("euclidean", "cosine")]
    >>> [(rows, distances)] = nearest(fields, [eye[:1], eye[:1]], 1)
    >>> rows[0], distances[0]
    (np.int64(0), np.float64(0.0))
    """
    steps, usable = _prepared(fields, queries, usable)
    if (len(fields[0]) if usable is None else np.count_nonzero(usable)) <= 2 * _first_look(k):
        rows = _rows(fields, usable)
        return [measured(fields, query, rows) for query in zip(*queries, strict=True)]
    some = _narrowed(fields, usable)
    found = []
    for query, lower in _first_bounds(fields, queries, steps, usable, some):
        found.append(_settled(fields, query, k, steps, lower, some))
    return found


def within(
    fields: Sequence[VectorField], queries: Sequence[Vectors], distance: float, usable: Mask | None = None
) -> list[Found]:
    """All images within a distance of each query, exactly.

    Args:
        fields: of the same images; their weighted distances are added.
        queries: for each field the queries' vectors, `float32 (m, dim)`.
        distance: at least 0; images at just this distance are included.
        usable: `bool (images,)`: those that may be found; None for all.

    Raises:
        UsageError: vectors that the metric does not allow.

    >>> import imgrec
    >>> points = np.array([[0], [2], [5]], np.float32)
    >>> field = VectorField(points, imgrec.build("metric", "euclidean"))
    >>> [rows.tolist() for rows, _ in within([field], [points[:1]], 2)]
    [[0, 1]]
    """
    steps, usable = _prepared(fields, queries, usable)
    some = _narrowed(fields, usable)
    found = []
    for query, lower in _first_bounds(fields, queries, steps, usable, some):
        near = np.flatnonzero(lower <= steps[0].limit(distance))
        found.append(_near(fields, query, near if some is None else some[near], steps[1:], distance))
    return found


def pairs(
    fields: Sequence[VectorField], distance: float, usable: Mask | None = None
) -> Iterator[tuple[int, Rows, Doubles]]:
    """All pairs of images within a distance of each other, exactly; memory does not grow with their number.

    Args:
        fields: of the same images; their weighted distances are added.
        distance: at least 0; pairs at just this distance are included.
        usable: `bool (images,)`: those that count; None for all.

    Yields:
        Each image that counts, in turn, with the later ones near it and their distances, nearest first.

    Raises:
        UsageError: vectors that the metric does not allow.

    >>> import imgrec
    >>> points = np.array([[0], [5], [2], [1]], np.float32)
    >>> field = VectorField(points, imgrec.build("metric", "euclidean"))
    >>> [(image, rows.tolist()) for image, rows, _ in pairs([field], 1)]
    [(0, [3]), (1, []), (2, [3]), (3, [])]
    """
    steps, count = _steps(fields), len(fields[0])
    limit, size = steps[0].limit(distance), _at_once(fields)
    for start in range(0, count, size):
        block = np.arange(start, min(start + size, count))
        queries = [field.of(block) for field in fields]
        by_query = zip(zip(*queries, strict=True), steps[0].bounds(queries, slice(start, None)), strict=True)
        for image, (query, lower) in enumerate(by_query, start):
            if usable is not None and not usable[image]:
                continue
            rows = image + 1 + np.flatnonzero(lower[image + 1 - start :] <= limit)
            if usable is not None:
                rows = rows[usable[rows]]
            yield image, *_near(fields, query, rows, steps[1:], distance)


def _near(
    fields: Sequence[VectorField],
    query: Sequence[Vectors],
    rows: Rows,
    steps: Sequence[_Step],
    distance: float,
) -> Found:
    """Those of some images that are within a distance of a query, by finer scans and then measured."""
    for step in steps:
        if len(rows) <= FIRST_LOOK:
            break
        (finer,) = step.bounds([target[None] for target in query], rows)
        rows = rows[finer <= step.limit(distance)]
    rows, distances = measured(fields, query, rows)
    near = distances <= distance
    return rows[near], distances[near]


def _at_once(fields: Sequence[VectorField]) -> int:
    """How many queries are scanned for together."""
    return max(1, min(AT_ONCE, AT_ONCE_BYTES // (4 * max(1, len(fields[0])) * len(fields))))


def rankings(fields: Sequence[VectorField], queries: Sequence[Vectors], usable: Mask | None = None) -> list[Found]:
    """All images that may be found, in the exact order of their distances from each query.

    For metrics with a Euclidean form, distances come from dot products in float64, with bounds of their error;
    images whose bounds overlap are measured. So the order is that of distances computed directly, for less work;
    the distances returned are right but for rounding.

    Args:
        fields: of the same images; their weighted distances are added.
        queries: for each field the queries' vectors, `float32 (m, dim)`.
        usable: `bool (images,)`: those that may be ranked; None for all.

    Raises:
        UsageError: vectors that the metric does not allow.

    >>> import imgrec
    >>> points = np.array([[3], [2], [5]], np.float32)
    >>> field = VectorField(points, imgrec.build("metric", "euclidean"))
    >>> [rows.tolist() for rows, _ in rankings([field], [points[:1]])]
    [[0, 1, 2]]
    """
    _, usable = _prepared(fields, queries, usable)
    rows = _rows(fields, usable)
    low, high = (np.zeros((len(queries[0]), len(rows))) for _ in range(2))
    for field, targets in zip(fields, queries, strict=True):
        least, most = bounds.between(targets, field.of(rows), field.metric)
        low += field.weight * least
        high += field.weight * most
    found = []
    for i, query in enumerate(zip(*queries, strict=True)):
        found.append(_ordered(fields, query, rows, low[i], high[i]))
    return found


def _ordered(
    fields: Sequence[VectorField], query: Sequence[Vectors], rows: Rows, low: Doubles, high: Doubles
) -> Found:
    """Rows in the order of their distances, given bounds; those that the bounds do not order are measured."""
    order = np.argsort(low, kind="stable")
    rows, low, high = rows[order], low[order], high[order]
    reached = np.maximum.accumulate(high)
    is_first = np.ones(len(rows), np.bool_)  # of a group whose bounds overlap
    is_first[1:] = low[1:] > reached[:-1]
    group = np.cumsum(is_first) - 1
    unsettled = np.bincount(group, minlength=1)[group] > 1
    distances = (low + high) / 2
    if unsettled.any():
        distances[unsettled] = _distances(fields, query, rows[unsettled])
        order = np.lexsort((rows, distances, group))
        rows, distances = rows[order], distances[order]
    return rows, distances


def _prepared(
    fields: Sequence[VectorField], queries: Sequence[Vectors], usable: Mask | None
) -> tuple[list[_Step], Mask | None]:
    """The steps of a search, and the mask if it leaves anything out."""
    for field, targets in zip(fields, queries, strict=True):
        field.metric.check(targets)
    return _steps(fields), None if usable is not None and usable.all() else usable


def _rows(fields: Sequence[VectorField], usable: Mask | None) -> Rows:
    """The images that may be found."""
    return np.arange(len(fields[0])) if usable is None else np.flatnonzero(usable)


def _narrowed(fields: Sequence[VectorField], usable: Mask | None) -> Rows | None:
    """The images that may be found, where these are so few that no others are scanned."""
    if usable is None or NARROW * np.count_nonzero(usable) > len(fields[0]):
        return None
    return _rows(fields, usable)


def _first_look(k: int) -> int:
    """How many images are measured to find a limit for all others."""
    return max(FIRST_LOOK, 4 * k)


def _first_bounds(
    fields: Sequence[VectorField],
    queries: Sequence[Vectors],
    steps: Sequence[_Step],
    usable: Mask | None,
    rows: Rows | None,
) -> Iterator[tuple[Sequence[Vectors], Floats]]:
    """Each query with the first step's bounds of some images, or of all, infinite for unusable ones."""
    at_once = _at_once(fields)
    for start in range(0, len(queries[0]), at_once):
        some = [targets[start : start + at_once] for targets in queries]
        for query, lower in zip(zip(*some, strict=True), steps[0].bounds(some, rows), strict=True):
            if usable is not None and rows is None:
                lower[~usable] = np.inf
            yield query, lower


def _settled(
    fields: Sequence[VectorField],
    query: Sequence[Vectors],
    k: int,
    steps: Sequence[_Step],
    lower: Floats,
    rows: Rows | None,
) -> Found:
    """The images nearest to one query, given the first step's bounds of some, or of all."""
    first = _first_look(k)
    for i, step in enumerate(steps):
        if i:
            (lower,) = step.bounds([target[None] for target in query], rows)
        least = _least(lower)
        best = _smallest(lower, least, first)
        looked_at, distances = measured(fields, query, best if rows is None else rows[best])
        left = _at_most(lower, least, step.limit(distances[k - 1]))
        rows = left if rows is None else rows[left]
        if len(rows) <= 4 * first:
            break
    assert rows is not None
    others = rows[~np.isin(rows, looked_at, assume_unique=True)]
    rows = np.concatenate([looked_at, others])
    distances = np.concatenate([distances, _distances(fields, query, others)])
    order = np.lexsort((rows, distances))
    return rows[order], distances[order]


def _least(values: Floats) -> Floats:
    """The least of each group of `GROUP` values: those that lie as many apart as there are groups."""
    count = len(values) // GROUP
    least: Floats = values[: GROUP * count].reshape(GROUP, count).min(axis=0)
    return least


def _at_most(values: Floats, least: Floats, limit: np.floating[Any]) -> Rows:
    """The positions of values up to a limit, found in the groups whose least value is."""
    count, groups = len(least), np.flatnonzero(least <= limit)
    if 4 * len(groups) >= count:
        return np.flatnonzero(values <= limit)
    member, group = np.nonzero(values[: GROUP * count].reshape(GROUP, count)[:, groups] <= limit)
    rest = np.flatnonzero(values[GROUP * count :] <= limit) + GROUP * count
    return np.sort(np.concatenate([member * count + groups[group], rest]))


def _smallest(values: Floats, least: Floats, count: int) -> Rows:
    """The positions of the smallest `count` of more values, in any order."""
    if len(least) <= count:
        return np.argpartition(values, count)[:count]
    # At least so many are up to the count-th of the groups' least.
    some = _at_most(values, least, np.partition(least, count - 1)[count - 1])
    return some[np.argpartition(values[some], count - 1)[:count]]


def measured(fields: Sequence[VectorField], query: Sequence[Vectors], rows: Rows) -> Found:
    """Images with their distances in float64, nearest first."""
    distances = _distances(fields, query, rows)
    order = np.argsort(distances, kind="stable")
    return rows[order], distances[order]


def _distances(fields: Sequence[VectorField], query: Sequence[Vectors], rows: Rows) -> Doubles:
    """The weighted distances of some images from one query, in float64."""
    distances = np.zeros(len(rows))
    for field, distance in zip(fields, measured_by(fields, query, rows), strict=True):
        distances += field.weight * distance
    return distances


def measured_by(fields: Sequence[VectorField], query: Sequence[Vectors], rows: Rows) -> Iterator[Doubles]:
    """For each field the distances of some images from one query, `float64 (images,)`, not yet weighted."""
    for field, vector in zip(fields, query, strict=True):
        target, size = vector.astype(np.float64), bounds.block_size(len(vector))
        blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
        found = [bounds.distances(field.metric, target, field.of(block).astype(np.float64)) for block in blocks]
        yield np.concatenate(found) if found else np.empty(0)


def usual_distance(vectors: Vectors, metric: Metric) -> float:
    """The median distance among vectors `float32 (n, dim)`, those of equal ones left out; 1 if all are equal.

    Equal is what `are_equal` says: where most of a gallery are copies, rounding errors would become the usual
    distance.

    >>> import imgrec
    >>> usual_distance(np.array([[0], [0], [1], [3]], np.float32), imgrec.build("metric", "euclidean"))
    2.0
    """
    points = vectors.astype(np.float64)
    found = [
        bounds.distances(metric, points[i], points[i + 1 :])[~are_equal(points[i + 1 :], points[i])]
        for i in range(len(points))
    ]
    positive = np.concatenate(found) if found else np.empty(0)
    positive = positive[positive > 0]
    return float(np.median(positive)) if len(positive) else 1.0


# --- the scans of all fields together -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One scan of each field, and their bounds combined."""

    fields: Sequence[VectorField]
    scans: Sequence[Scan]

    def bounds(self, queries: Sequence[Vectors], rows: Some = None) -> Iterator[Floats]:
        """For each query, bounds of its distances from all images or some; of one field, those of its scan."""
        by_field = [
            _bounds_of_images(field, scan, targets, rows)
            for field, scan, targets in zip(self.fields, self.scans, queries, strict=True)
        ]
        return by_field[0] if len(by_field) == 1 else map(self._sum, zip(*by_field, strict=True))

    @np.errstate(over="ignore")
    def _sum(self, lowers: Sequence[Floats]) -> Floats:
        total = np.zeros(len(lowers[0]), np.float32)
        for field, lower in zip(self.fields, lowers, strict=True):
            total += bounds.as_distances(lower, field.metric) * np.float32(min(field.weight, float(FLOAT.max)))
        total *= np.float32(1 - 4 * (len(lowers) + 4) * EPS)
        return np.minimum(total, FLOAT.max, out=total)

    def limit(self, distance: float) -> np.float32:
        """The limit of `bounds` for a distance, rounded up so that ties are found."""
        if len(self.fields) == 1:
            # The bounds of a single field are those of its scan, without the weight.
            (field,) = self.fields
            distance = bounds.limit(distance / field.weight * (1 + 4 * EPS), field.metric)
        return np.nextafter(np.float32(min(distance, float(FLOAT.max))), FLOAT.max)  # type: ignore[no-any-return]


def _bounds_of_images(field: VectorField, scan: Scan, queries: Vectors, rows: Some) -> Iterator[Floats]:
    if field.rows is None:
        return scan.bounds(queries, rows)
    if rows is None:
        return (lower[field.rows] for lower in scan.bounds(queries))
    return scan.bounds(queries, field.rows[rows])


def _steps(fields: Sequence[VectorField]) -> list[_Step]:
    """Coarsest first; the last one sees whole vectors. A field with fewer scans repeats its last one."""
    most = max(len(field.scans) for field in fields)
    return [_Step(fields, [field.scans[min(i, len(field.scans) - 1)] for field in fields]) for i in range(most)]
