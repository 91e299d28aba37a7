"""The exact neighbours of queries among vectors: quick scans bound all distances, few are computed in float64.

A scan gives each row a bound from below of its distance. The rows with the smallest bounds are measured; the k-th
of their distances is a limit, and no row whose bound lies beyond it can be among the k nearest. All others go
through the next, finer scan, or are measured when they are few. So a result is exact whatever the scans see, and
what they do not see costs time only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from imgrec.kinds import Vectors, as_euclidean
from imgrec.kinds.reducer import check_shares

Doubles = npt.NDArray[np.float64]

FLOAT = np.finfo(np.float32)
EPS = float(FLOAT.eps)
"""Twice the largest relative error of rounding to float32."""

SHORTEST = 1e-15
"""Vectors up to this length have too few digits left in float32 for their direction to be bounded."""

METRICS = ("euclidean", "cosine", "manhattan", "hellinger")
"""Euclidean; cosine: 1 - cosine similarity, and 1 where a vector is zero; manhattan: sum of absolute differences;
hellinger: Euclidean distance of the square roots of shares, over the square root of 2."""


Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]


# --- what is known of vectors before a query comes ----------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """What some principal axes see of vectors, and how much they do not: bounds of distances for less work.

    With `columns` c and axes A, a vector is x = A c + r. Then x.q = c.(A'q) + r.q, and r.q is at most
    |r||q - A A'q|, but for what rounding lets r keep of the axes, `leak`.
    """

    axes: Vectors
    """`float32 (dim, p)`."""

    columns: Vectors
    """`float32 (n, p)`."""

    rests: Floats
    """`(n,)`: the length of r, rounded up."""

    leak: float
    """The length of A'r is at most this share of that of x."""


@dataclass(frozen=True)
class Compressed:
    """What is computed of vectors once, for all searches among them."""

    squares: Floats
    """`(n,)`: the squared length of each vector; infinite where it overflows."""

    levels: Sequence[Level] = ()
    """The coarsest first."""

    @functools.cached_property
    def lengths(self) -> Floats:
        """`(n,)`: the length of each vector, where its square neither under- nor overflows."""
        return np.sqrt(self.squares)


LEVELS = (32, 128)
"""Axes of each level: few that are quickly scanned, more for what these leave in question."""


def compress(vectors: Vectors, sizes: Sequence[int] = LEVELS, sample: int = 20_000, seed: int = 0) -> Compressed:
    """Vectors on the principal axes of a sample of them; without levels where their squares overflow.

    Args:
        vectors: `float32 (n, dim)`, finite.
        sizes: how many axes each level has, fewest first; those that are not fewer than `dim` are passed over.
        sample: how many vectors the axes are found from. Others make the bounds looser, never wrong.
        seed: of the sample.
    """
    count, dim = vectors.shape
    squares = np.empty(count, np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, count, 128):
            block = vectors[start : start + 128].astype(np.float64)
            squares[start : start + 128] = np.einsum("ij,ij->i", block, block)
    sizes = [size for size in sizes if size < dim]
    if not sizes or not np.isfinite(squares).all():
        return Compressed(squares)
    chosen = np.arange(count)
    if count > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(count, sample, replace=False))
    some = vectors[chosen].astype(np.float64)
    # Not centred: dot products are bounded, and the mean is a direction as any other.
    _, directions = np.linalg.eigh(some.T @ some)
    best_first = directions[:, ::-1].astype(np.float32)
    return Compressed(squares, [_level(vectors, best_first[:, :size]) for size in sizes])


def _level(vectors: Vectors, axes: Vectors) -> Level:
    axes, exact, count = np.ascontiguousarray(axes), axes.astype(np.float64), len(vectors)
    columns, rests, leak = np.empty((count, axes.shape[1]), np.float32), np.empty(count, np.float32), 0.0
    for start in range(0, count, 1024):
        rows = slice(start, start + 1024)
        block = vectors[rows].astype(np.float64)
        columns[rows] = block @ exact
        left = block - columns[rows] @ exact.T
        lengths = np.linalg.norm(block, axis=1)
        rests[rows] = np.nextafter(np.linalg.norm(left, axis=1).astype(np.float32), np.float32(np.inf))
        kept = np.linalg.norm(left @ exact, axis=1)
        leak = max(leak, float(np.max(kept / np.where(lengths > 0, lengths, 1), initial=0)))
    return Level(axes, columns, rests, leak)


# --- the search ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """Vectors that are compared by a metric. Several fields that describe the same images make up one distance."""

    vectors: Vectors
    """`float32 (n, dim)`."""

    metric: str
    """One of `METRICS`."""

    weight: float = 1.0
    """What its distances are multiplied by before those of all fields are added; above 0."""

    rows: Rows | None = None
    """`(m,)`: the row of each image; None where image i is in row i, for all of them."""

    compressed: Compressed | None = None
    """The same vectors compressed: the result is the same, sooner."""

    def __len__(self) -> int:
        """How many images."""
        return len(self.vectors if self.rows is None else self.rows)

    def of(self, images: Rows) -> Vectors:
        """The vectors of images, row by row."""
        return self.vectors[images if self.rows is None else self.rows[images]]


def nearest(
    vectors: Vectors,
    query: Vectors,
    k: int,
    metric: str,
    usable: npt.NDArray[np.bool_] | None = None,
    *,
    compressed: Compressed | None = None,
) -> tuple[Rows, Doubles]:
    """The rows nearest to a query and their distances, exactly; all that tie with the k-th are among them.

    Distances are computed directly in float64, so that the expanded square's cancellation never shows.

    Args:
        vectors: `float32 (n, dim)`.
        query: `float32 (dim,)`.
        k: how many rows at least, where there are as many.
        metric: one of `METRICS`.
        usable: `bool (n,)`: rows that may be found; None for all.
        compressed: the same vectors compressed: the result is the same, sooner.

    Returns:
        Rows and distances, nearest first.

    >>> rows, distances = nearest(np.eye(3, dtype=np.float32), np.array([1, 0, 0], np.float32), 1, "euclidean")
    >>> rows[0], distances[0]
    (np.int64(0), np.float64(0.0))
    """
    (found,) = nearest_of_many(vectors, query[None], k, metric, usable, compressed=compressed)
    return found


def nearest_of_many(
    vectors: Vectors,
    queries: Vectors,
    k: int,
    metric: str,
    usable: npt.NDArray[np.bool_] | None = None,
    *,
    compressed: Compressed | None = None,
) -> list[tuple[Rows, Doubles]]:
    """As `nearest`, for queries `float32 (m, dim)` at once, each vector read once for many of them.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> [int(rows[0]) for rows, _ in nearest_of_many(eye, eye[1:], 1, "cosine")]
    [1, 2]
    """
    return nearest_by([Field(vectors, metric, compressed=compressed)], [queries], k, usable)


def nearest_by(
    fields: Sequence[Field], queries: Sequence[Vectors], k: int, usable: npt.NDArray[np.bool_] | None = None
) -> list[tuple[Rows, Doubles]]:
    """As `nearest_of_many`, by one field or by the weighted sum of the distances in several.

    Args:
        fields: of the same images.
        queries: for each field the queries' vectors, `float32 (m, dim)`.
        k: how many images at least, where there are as many.
        usable: `bool (images,)`: those that may be found; None for all.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> fields = [Field(eye, "euclidean"), Field(eye[::-1], "cosine")]
    >>> [(rows, distances)] = nearest_by(fields, [eye[:1], eye[:1]], 1)
    >>> rows[0], distances[0]
    (np.int64(0), np.float64(1.0))
    """
    steps = _steps(fields)
    for field, targets in zip(fields, queries, strict=True):
        if field.metric == "hellinger":
            check_shares(field.vectors)
            check_shares(targets)
    first, count = max(FIRST_LOOK, 8 * k), len(fields[0])
    if usable is not None and usable.all():
        usable = None
    rows = np.arange(count) if usable is None else np.flatnonzero(usable)
    if len(rows) <= 2 * first:
        return [_measured(fields, query, rows) for query in zip(*queries, strict=True)]
    found = []
    at_once = max(1, min(AT_ONCE, AT_ONCE_BYTES // (4 * count * len(fields))))
    for start in range(0, len(queries[0]), at_once):
        some = [targets[start : start + at_once] for targets in queries]
        for query, lower in zip(zip(*some, strict=True), steps[0].bounds(some), strict=True):
            if usable is not None:
                lower[~usable] = np.inf
            found.append(_settled(fields, query, k, steps, lower))
    return found


FIRST_LOOK = 64
"""Rows whose distances are computed to find a limit for all others; more where k is large."""

AT_ONCE = 256
"""Queries whose dot products with all vectors are computed together, which is quicker than one by one."""

AT_ONCE_BYTES = 2**28
"""What these products may take at the most."""


def _settled(
    fields: Sequence[Field], query: Sequence[Vectors], k: int, steps: Sequence[_Step], lower: Floats
) -> tuple[Rows, Doubles]:
    """The images nearest to one query, given the first step's bounds of all, infinite for unusable ones."""
    first, rows = max(FIRST_LOOK, 8 * k), None
    for step in steps:
        if rows is not None:
            (lower,) = step.bounds([target[None] for target in query], rows)
        best = np.argpartition(lower, first)[:first]
        _, distances = _measured(fields, query, best if rows is None else rows[best])
        left = np.flatnonzero(lower <= step.limit(distances[k - 1]))
        rows = left if rows is None else rows[left]
        if len(rows) <= 4 * first:
            break
    assert rows is not None
    return _measured(fields, query, rows)


def _measured(fields: Sequence[Field], query: Sequence[Vectors], rows: Rows) -> tuple[Rows, Doubles]:
    """Images by their distances in float64, nearest first."""
    distances = np.zeros(len(rows))
    for field, distance in zip(fields, measured_by(fields, query, rows), strict=True):
        distances += field.weight * distance
    order = np.argsort(distances, kind="stable")
    return rows[order], distances[order]


def measured_by(fields: Sequence[Field], query: Sequence[Vectors], rows: Rows) -> Iterator[Doubles]:
    """For each field the distances of some images from one query, `float64 (images,)`, not yet weighted."""
    for field, vector in zip(fields, query, strict=True):
        measure, target = _DISTANCES[field.metric], vector.astype(np.float64)
        size = max(1, 2**17 // len(vector))  # a block of 1 MB stays in the cache
        blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
        found = [measure(field.of(block).astype(np.float64), target) for block in blocks]
        yield np.concatenate(found) if found else np.empty(0)


def distances(fields: Sequence[Field], queries: Sequence[Vectors]) -> Doubles:
    """All distances, `float64 (m, images)`, of queries: for rankings of everything.

    By scikit-learn, in float64.

    Args:
        fields: of the same images; their weighted distances are added.
        queries: for each field the queries' vectors, `float32 (m, dim)`.

    >>> field = Field(np.eye(2, dtype=np.float32), "euclidean", weight=10)
    >>> distances([field], [np.array([[1, 0]], np.float32)]).round(3).tolist()
    [[0.0, 14.142]]
    """
    total = np.zeros((len(queries[0]), len(fields[0])))
    for field, targets in zip(fields, queries, strict=True):
        for start in range(0, len(field), 8192):
            block = np.arange(start, min(start + 8192, len(field)))
            total[:, block] += field.weight * between(targets, field.of(block), field.metric)
    return total


def between(vectors: Vectors, others: Vectors, metric: str) -> Doubles:
    """The distances of `(m, dim)` from `(n, dim)` by a metric, `float64 (m, n)`; by scikit-learn."""
    from sklearn.metrics import pairwise_distances

    def prepared(some: Vectors) -> Doubles:
        return (as_euclidean(some, metric) if metric == "hellinger" else some).astype(np.float64)

    name = "euclidean" if metric == "hellinger" else metric
    found: Doubles = pairwise_distances(prepared(vectors), prepared(others), metric=name)
    return found


def usual_distance(vectors: Vectors, metric: str) -> float:
    """The median distance among vectors `float32 (n, dim)`, equal ones left aside; 1 where there is no other.

    >>> usual_distance(np.array([[0], [0], [1], [3]], np.float32), "euclidean")
    2.0
    """
    everything = np.arange(len(vectors))
    found = [
        distance
        for i in everything
        for distance in measured_by([Field(vectors, metric)], [vectors[i]], everything[i + 1 :])
    ]
    positive = np.concatenate(found) if found else np.empty(0)
    positive = positive[positive > 0]
    return float(np.median(positive)) if len(positive) else 1.0


# --- scans: bounds of distances from below ------------------------------------------------------------------


class _Scan(Protocol):
    def bounds(self, queries: Vectors, rows: Rows | None = None) -> Iterator[Floats]:
        """For each query, `float32 (n,)`: what its distances from all rows, or from some, are at least.

        Squared where the metric is Euclidean or Hellinger's; -inf where nothing is known.
        """


SQUARED = ("euclidean", "hellinger")
"""Metrics of which scans bound the square."""


@dataclass(frozen=True)
class _Step:
    """One scan of each field, and what they say together."""

    fields: Sequence[Field]
    scans: Sequence[_Scan]

    def bounds(self, queries: Sequence[Vectors], rows: Rows | None = None) -> Iterator[Floats]:
        """For each query, bounds of its distances from all images or some; of one field as its scan has them."""
        by_field = [
            _bounds_of_images(field, scan, targets, rows)
            for field, scan, targets in zip(self.fields, self.scans, queries, strict=True)
        ]
        return by_field[0] if len(by_field) == 1 else map(self._sum, zip(*by_field, strict=True))

    @np.errstate(over="ignore")
    def _sum(self, lowers: Sequence[Floats]) -> Floats:
        total = np.zeros(len(lowers[0]), np.float32)
        for field, lower in zip(self.fields, lowers, strict=True):
            bound = np.maximum(lower, 0)
            if field.metric in SQUARED:
                np.sqrt(bound, out=bound)
            total += bound * np.float32(min(field.weight, float(FLOAT.max)))
        total *= np.float32(1 - 4 * (len(lowers) + 2) * EPS)
        return np.minimum(total, FLOAT.max, out=total)

    def limit(self, distance: float) -> np.float32:
        """A distance as `bounds` has them, and not below it: what ties with it is found."""
        if len(self.fields) == 1 and self.fields[0].metric in SQUARED:
            distance = distance**2
        return np.nextafter(np.float32(min(distance, float(FLOAT.max))), FLOAT.max)  # type: ignore[no-any-return]


def _bounds_of_images(field: Field, scan: _Scan, queries: Vectors, rows: Rows | None) -> Iterator[Floats]:
    if field.rows is None:
        return scan.bounds(queries, rows)
    if rows is None:
        return (lower[field.rows] for lower in scan.bounds(queries))
    return scan.bounds(queries, field.rows[rows])


def _steps(fields: Sequence[Field]) -> list[_Step]:
    """The coarsest first; the last one sees whole vectors. A field with few scans stays at its last one."""
    by_field = [_scans(field.vectors, field.metric, field.compressed) for field in fields]
    most = max(map(len, by_field))
    return [_Step(fields, [scans[min(i, len(scans) - 1)] for scans in by_field]) for i in range(most)]


def _scans(vectors: Vectors, metric: str, compressed: Compressed | None) -> Sequence[_Scan]:
    """The coarsest first; the last one sees whole vectors."""
    if metric == "manhattan":
        return [_Differences(vectors)]
    if metric == "hellinger":
        return [_Roots(vectors)]
    known = compressed or compress(vectors, ())
    by_levels = [_Products(level.columns, known, metric, level) for level in known.levels]
    return [*by_levels, _Products(vectors, known, metric)]


@dataclass(frozen=True)
class _Products:
    """Bounds from dot products, of vectors or of what a level sees of them: |x|^2 - 2 x.q + |q|^2."""

    points: Vectors
    known: Compressed
    metric: str
    level: Level | None = None

    def bounds(self, queries: Vectors, rows: Rows | None = None) -> Iterator[Floats]:
        """See `_Scan`."""
        seen = targets = queries.astype(np.float64)
        lengths = np.linalg.norm(targets, axis=1)
        # A dot product of n terms, summed in any order, is off by at most n eps / 2 |x||q| (Higham, Accuracy and
        # Stability of Numerical Algorithms, 3.1); here the terms' own rounding is added, and all of it doubled.
        slack, unseen = (self.points.shape[1] + 20) * EPS * lengths, np.zeros(len(targets))
        if self.level:
            axes = self.level.axes.astype(np.float64)
            seen = targets @ axes
            unseen = np.linalg.norm(targets - seen @ axes.T, axis=1) * (1 + 1e-6)
            slack += 2 * self.level.leak * np.linalg.norm(seen, axis=1)
        # So many rows that to gather them costs more than to scan all?
        are_most = rows is not None and 4 * len(rows) > len(self.points)
        among = None if are_most else rows
        products = self._products(seen, among)
        for product, *query in zip(products, lengths, slack, unseen, strict=True):
            lower = self._bounds_of_one(product, among, *query)
            yield lower[rows] if are_most else lower

    @np.errstate(over="ignore", invalid="ignore")
    def _products(self, seen: Doubles, rows: Rows | None) -> Vectors:
        points, targets = self.points if rows is None else self.points[rows], seen.astype(np.float32)
        return targets @ points.T if len(targets) > 1 else (points @ targets[0])[None]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _bounds_of_one(
        self, product: Floats, rows: Rows | None, length: float, slack: float, unseen: float
    ) -> Floats:
        def of(values: Floats) -> Floats:
            return values if rows is None else values[rows]

        lengths, most = of(self.known.lengths), product  # overwritten: the dot products are at most this
        most += lengths * np.float32(slack)
        if self.level:
            most += of(self.level.rests) * np.float32(unseen)
        if self.metric == "cosine":
            most /= lengths
            most /= np.float32(length)
            lower = np.subtract(np.float32(1 - 16 * EPS), most, out=most)
            lower[(lengths <= SHORTEST) | (lengths == np.inf)] = -np.inf
            if not SHORTEST < length < FLOAT.max:
                lower[:] = -np.inf
        else:
            most *= -2
            most += of(self.known.squares) * np.float32(1 - 16 * EPS)
            underflow = 8 * self.points.shape[1] * float(FLOAT.tiny)
            most += np.float32(length**2 * (1 - 16 * EPS) - underflow)
            lower = most
        return _sound(lower)


@dataclass(frozen=True)
class _Roots:
    """Bounds by the Hellinger distance: from the dot products of square roots of shares."""

    points: Vectors

    def bounds(self, queries: Vectors, rows: Rows | None = None) -> Iterator[Floats]:
        """See `_Scan`."""
        points, targets = self.points if rows is None else self.points[rows], as_euclidean(queries, "hellinger")
        lower = np.empty((len(queries), len(points)), np.float32)
        for start in range(0, len(points), 2**15):  # roots of all would take new memory, which is what takes time
            roots = as_euclidean(points[start : start + 2**15], "hellinger")
            scan = _Products(roots, compress(roots, ()), "euclidean")
            lower[:, start : start + 2**15] = list(scan.bounds(targets))
        return iter(lower)


@dataclass(frozen=True)
class _Differences:
    """Bounds from sums of absolute differences."""

    points: Vectors

    def bounds(self, queries: Vectors, rows: Rows | None = None) -> Iterator[Floats]:
        """See `_Scan`."""
        points = self.points if rows is None else self.points[rows]
        return (self._bounds_of_one(points, query) for query in queries)

    @np.errstate(over="ignore", invalid="ignore")
    def _bounds_of_one(self, points: Vectors, query: Vectors) -> Floats:
        lower = np.empty(len(points), np.float32)
        for start in range(0, len(points), 1024):  # the differences of 1,024 rows stay in the cache
            lower[start : start + 1024] = np.abs(points[start : start + 1024] - query).sum(axis=1)
        lower *= np.float32(1 - (len(query) + 8) * EPS)
        lower -= np.float32((len(query) + 8) * float(FLOAT.tiny))
        return _sound(lower)


def _sound(lower: Floats) -> Floats:
    """Bounds, where values that overflowed bound nothing."""
    if not np.isfinite(lower).all():
        lower[~np.isfinite(lower)] = -np.inf
    return lower


# --- distances ----------------------------------------------------------------------------------------------


def _euclidean(points: Doubles, query: Doubles) -> Doubles:
    result: Doubles = np.linalg.norm(points - query, axis=1)
    return result


def _cosine(points: Doubles, query: Doubles) -> Doubles:
    # Half the square of the distance of unit vectors: exactly zero for equal ones, where 1 - cosine is not.
    # The query is a row as well: NumPy leaves the length of a single vector to BLAS, which may round otherwise.
    lengths, length = np.linalg.norm(points, axis=1), np.linalg.norm(query[None], axis=1)[0]
    differences = points / np.where(lengths > 0, lengths, 1)[:, None] - query / (length or 1)
    distances = np.square(differences).sum(axis=1) / 2
    return np.where((lengths > 0) & (length > 0), distances, 1.0)


def _manhattan(points: Doubles, query: Doubles) -> Doubles:
    result: Doubles = np.abs(points - query).sum(axis=1)
    return result


def _hellinger(points: Doubles, query: Doubles) -> Doubles:
    def roots(vectors: Doubles) -> Doubles:
        totals = vectors.sum(axis=-1, keepdims=True)
        result: Doubles = np.sqrt(vectors / np.where(totals > 0, totals, 1))
        return result

    return _euclidean(roots(points), roots(query)) / np.float64(np.sqrt(2))


_DISTANCES: dict[str, Callable[[Doubles, Doubles], Doubles]] = {
    "euclidean": _euclidean,
    "cosine": _cosine,
    "manhattan": _manhattan,
    "hellinger": _hellinger,
}
