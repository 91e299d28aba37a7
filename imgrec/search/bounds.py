"""Lower bounds of distances, by scans of many vectors in float32 that allow for rounding errors.

For a metric with a Euclidean form, they bound the squared Euclidean distance of the forms; for any other, the
distance itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from imgrec import registry, threads
from imgrec.errors import ImgrecError, PluginFailedError
from imgrec.kinds import Doubles, Form, Metric, Vectors
from imgrec.search.pruning import Floats, PCALevel, PruningIndex, pruning_index

FLOAT = np.finfo(np.float32)
EPS = float(FLOAT.eps)
"""Twice the largest relative error of rounding to float32."""

SHORTEST = 1e-15
"""Vectors up to this length have too few digits in float32 to bound anything by their direction."""

Some = npt.NDArray[np.intp] | slice | None
"""Some rows, or all; a slice copies nothing."""


# --- scans --------------------------------------------------------------------------------------------------


class Scan(Protocol):
    """A pass over all vectors, or some, that bounds their distances."""

    def bounds(self, queries: Vectors, rows: Some = None) -> Iterator[Floats]:
        """For each query, lower bounds of its distances from all rows or some, `float32 (n,)`; -inf if unknown."""


def scans(vectors: Vectors, metric: Metric, known: PruningIndex | None) -> Sequence[Scan]:
    """The scans of vectors, coarsest first; the last one sees whole vectors."""
    if metric.form is Form.NONE:
        return [_Whole(vectors, metric)]
    if metric.form is Form.OWN:
        return [_OwnForm(vectors, metric)]
    known, is_unit = known or pruning_index(vectors, ()), metric.form is Form.UNIT
    by_levels = [_Products(level.columns, known, is_unit, level) for level in known.levels]
    return [*by_levels, _Products(vectors, known, is_unit)]


@dataclass(frozen=True)
class _Products:
    """Bounds from dot products of vectors, or of their columns in a level: |x|^2 - 2 x.q + |q|^2."""

    points: Vectors
    known: PruningIndex
    is_unit: bool = False
    """Whether vectors are compared at unit length."""

    level: PCALevel | None = None

    def bounds(self, queries: Vectors, rows: Some = None) -> Iterator[Floats]:
        seen = targets = queries.astype(np.float64)
        lengths = np.linalg.norm(targets, axis=1)
        # A dot product of n terms, summed in any order, is off by at most n eps / 2 |x||q| (Higham, Accuracy and
        # Stability of Numerical Algorithms, 3.1); the rounding of the terms is added here, and the sum doubled.
        slack, unseen = (self.points.shape[1] + 20) * EPS * lengths, np.zeros(len(targets))
        if self.level:
            axes = self.level.exact_axes
            seen = targets @ axes
            unseen = np.linalg.norm(targets - seen @ axes.T, axis=1) * (1 + 1e-6)
            slack += 2 * self.level.leak * np.linalg.norm(seen, axis=1)
        # Gathering this many rows would cost more than scanning all.
        are_most = isinstance(rows, np.ndarray) and 4 * len(rows) > len(self.points)
        among = None if are_most else rows
        products = self._products(seen, among)
        for product, *query in zip(products, lengths, slack, unseen, strict=True):
            lower = self._bounds_of_one(product, among, *query)
            yield lower[rows] if are_most else lower

    @np.errstate(over="ignore", invalid="ignore")
    def _products(self, seen: Doubles, rows: Some) -> Vectors:
        points, targets = self.points if rows is None else self.points[rows], seen.astype(np.float32)
        return targets @ points.T if len(targets) > 1 else (points @ targets[0])[None]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _bounds_of_one(self, product: Floats, rows: Some, length: float, slack: float, unseen: float) -> Floats:
        def of(values: Floats) -> Floats:
            return values if rows is None else values[rows]

        lengths, most = of(self.known.lengths), product  # becomes, in place, an upper bound of the dot products
        most += lengths * np.float32(slack)
        if self.level:
            most += of(self.level.rests) * np.float32(unseen)
        if self.is_unit:
            most /= lengths
            most *= np.float32(-2 / length) if length else np.float32(0)
            most += np.float32(2 * (1 - 16 * EPS))
            most[(lengths <= SHORTEST) | (lengths == np.inf)] = -np.inf
            if not SHORTEST < length < FLOAT.max:
                most[:] = -np.inf
        else:
            most *= -2
            most += of(self.known.squares) * np.float32(1 - 16 * EPS)
            underflow = 8 * self.points.shape[1] * float(FLOAT.tiny)
            most += np.float32(length**2 * (1 - 16 * EPS) - underflow)
        return _sound(most)


@dataclass(frozen=True)
class _OwnForm:
    """Bounds from dot products of a metric's own forms, which are computed anew for each scan."""

    points: Vectors
    metric: Metric

    def bounds(self, queries: Vectors, rows: Some = None) -> Iterator[Floats]:
        points, targets = self.points if rows is None else self.points[rows], self.metric.as_euclidean(queries)
        lower = np.empty((len(queries), len(points)), np.float32)
        for start in range(0, len(points), 2**15):  # in blocks: allocating the forms of all is slow
            forms = self.metric.as_euclidean(points[start : start + 2**15])
            scan = _Products(forms, pruning_index(forms, ()))
            lower[:, start : start + 2**15] = list(scan.bounds(targets))
        return iter(lower)


@dataclass(frozen=True)
class _Whole:
    """The distances themselves, rounded down, by a metric without a form."""

    points: Vectors
    metric: Metric

    def bounds(self, queries: Vectors, rows: Some = None) -> Iterator[Floats]:
        points = self.points if rows is None else self.points[rows]
        return (self._bounds_of_one(points, query) for query in queries)

    @np.errstate(over="ignore", invalid="ignore")
    def _bounds_of_one(self, points: Vectors, query: Vectors) -> Floats:
        lower = np.empty(len(points), np.float32)
        precision = np.float32 if self.metric.scans_in_float32 else np.float64
        target = query.astype(precision)

        def scan(start: int) -> None:
            rows = slice(start, start + size)
            lower[rows] = distances(self.metric, target, points[rows].astype(precision, copy=False))

        size = 8 * block_size(len(query))  # smaller blocks cost more than the CPU's cache saves
        threads.each(scan, range(0, len(points), size))
        if precision is np.float32:  # the rounding error of a sum, see `_Products`
            lower *= np.float32(1 - (len(query) + 8) * EPS)
            lower -= np.float32((len(query) + 8) * float(FLOAT.tiny))
        return _sound(np.nextafter(lower, np.float32(-np.inf)))


def distances(metric: Metric, query: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> Doubles:
    """The distances of vectors from a query, checked against the metric's contract.

    Raises:
        ImgrecError: the metric failed or broke its contract; the message names it and its distribution.
    """
    try:
        found: object = metric.distances(query, vectors)
    except ImgrecError:
        raise
    except Exception as error:
        raise PluginFailedError(f"{_name(metric)} failed: {type(error).__name__}: {error}") from error
    if not (isinstance(found, np.ndarray) and found.shape == (len(vectors),)):
        seen = str(found.shape) if isinstance(found, np.ndarray) else type(found).__name__
        raise ImgrecError(f"{_name(metric)} returned {seen} for {len(vectors)} vectors, not ({len(vectors)},)")
    if not (found >= 0).all():  # false for NaN as well
        raise ImgrecError(f"{_name(metric)} returned a distance of {found[~(found >= 0)][0]}")
    return found


def _name(metric: Metric) -> str:
    return f"metric {metric.name} of {registry.origin_of(metric)}"


def block_size(dim: int) -> int:
    """How many float64 rows of `dim` values make 1 MB, which stays in the CPU's cache."""
    return max(1, 2**17 // dim)


def _sound(lower: Floats) -> Floats:
    """Bounds, those that overflowed set to -inf in place."""
    if not np.isfinite(lower).all():
        lower[~np.isfinite(lower)] = -np.inf
    return lower


def as_distances(lower: Floats, metric: Metric) -> Floats:
    """Turn a scan's bounds into bounds of the metric's distances, in place; 0 where nothing is known."""
    np.maximum(lower, 0, out=lower)
    if metric.form is Form.NONE:
        return lower
    return metric.least(np.sqrt(lower, out=lower))


def limit(distance: float, metric: Metric) -> float:
    """The largest bound that a scan gives to a vector within a distance."""
    if metric.form is Form.NONE or distance == np.inf:
        return distance
    low, high = 0.0, 1.0
    while metric.least(high) <= distance and high < FLOAT.max:
        high *= 2
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if metric.least(middle) <= distance else (low, middle)
    return high**2


def between(queries: Vectors, vectors: Vectors, metric: Metric) -> tuple[Doubles, Doubles]:
    """Lower and upper bounds of all distances of `(m, dim)` from `(n, dim)`, `float64 (m, n)` each.

    They come from dot products of the metric's forms in float64: |x - q|^2 = |x|^2 - 2 x.q + |q|^2. If there is no
    form, or a vector is zero, they are the distances themselves.
    """
    points, targets = vectors.astype(np.float64), queries.astype(np.float64)
    if metric.form is Form.NONE:
        found = np.array([distances(metric, target, points) for target in targets]).reshape(
            len(targets), len(points)
        )
        return found, found
    if metric.form is Form.UNIT:
        forms, asked = (each / np.maximum(_lengths(each), SHORTEST)[:, None] for each in (points, targets))
    elif metric.form is Form.OWN:
        forms, asked = (metric.as_euclidean(each).astype(np.float64) for each in (vectors, queries))
    else:
        forms, asked = points, targets
    squares, asked_squares = np.einsum("ij,ij->i", forms, forms), np.einsum("ij,ij->i", asked, asked)[:, None]
    apart = squares - 2 * (asked @ forms.T) + asked_squares
    eps = float(np.finfo(np.float64).eps)
    wrong = 4 * (forms.shape[1] + 20) * eps * (squares + asked_squares)  # as in `_Products`, in float64
    rounded: Any = 0.0
    if metric.form is Form.OWN:  # the form itself is rounded to float32
        rounded = 8 * EPS * (np.sqrt(squares) + np.sqrt(asked_squares))
    least = metric.least(np.maximum(np.sqrt(np.maximum(apart - wrong, 0)) - rounded, 0)) * (1 - 8 * eps)
    most = metric.least(np.sqrt(np.maximum(apart + wrong, 0)) + rounded) * (1 + 8 * eps)
    for i in np.flatnonzero(_lengths(targets) <= SHORTEST):
        least[i] = most[i] = distances(metric, targets[i], points)
    for j in np.flatnonzero(_lengths(points) <= SHORTEST):
        least[:, j] = most[:, j] = [distances(metric, target, points[j : j + 1])[0] for target in targets]
    return least, most


def _lengths(vectors: Doubles) -> Doubles:
    lengths: Doubles = np.linalg.norm(vectors, axis=1)
    return lengths
