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
from imgrec.search.pruning import SHORTEST, Floats, PCALevel, PruningIndex, Rows, pruning_index

FLOAT = np.finfo(np.float32)
EPS = float(FLOAT.eps)
"""Twice the largest relative error of rounding to float32."""

Some = Rows | slice | None
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
    return [*(_Terms(level, known, is_unit) for level in known.levels), _Products(vectors, known, is_unit)]


@dataclass(frozen=True)
class _Terms:
    """Bounds that are one product, of a level's terms with a query's factors: |x|^2 - 2 x.q + |q|^2."""

    level: PCALevel
    known: PruningIndex
    is_unit: bool
    """Whether vectors are compared at unit length."""

    def bounds(self, queries: Vectors, rows: Some = None) -> Iterator[Floats]:
        targets, among = queries.astype(np.float64), _worth_gathering(rows, len(self.level.terms))
        lengths = np.linalg.norm(targets, axis=1)
        products = _products(self.level.terms, self._factors(targets, lengths).astype(np.float32), among)
        for product, length in zip(products, lengths, strict=True):
            lower = self._as_bounds(product, length, among)
            yield lower if among is rows else lower[rows]

    @np.errstate(over="ignore", invalid="ignore")
    def _factors(self, targets: Doubles, lengths: Doubles) -> Doubles:
        """`(m, p + 4)`: for each query what each term of a vector counts."""
        axes, size = self.level.exact_axes, self.level.terms.shape[1]
        seen = targets @ axes
        unseen = np.linalg.norm(targets - seen @ axes.T, axis=1)
        # A sum of n products, in any order, is off by at most n eps / 2 times the sum of their sizes (Higham,
        # Accuracy and Stability of Numerical Algorithms, 3.1). With the rounding of the factors, doubled:
        off = (size + 20) * EPS
        slack = off * lengths + 2 * self.level.leak * np.linalg.norm(seen, axis=1)
        factors = -2 * np.column_stack(
            [seen, slack * (1 + off), unseen * (1 + 1e-6 + off), np.zeros((len(seen), 2))]
        )
        if self.is_unit:
            return factors / np.where(lengths > SHORTEST, lengths, 1)[:, None]
        factors[:, -2] = 1 - off
        factors[:, -1] = lengths**2 * (1 - off) - 8 * size * float(FLOAT.tiny)  # what underflow takes
        return factors

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _as_bounds(self, product: Floats, length: float, rows: Some) -> Floats:
        """A query's product, made bounds in place."""
        if not self.is_unit:
            may_overflow = not (self.known.longest + length) ** 2 < FLOAT.max / 8
            return _sound(product) if may_overflow else product
        return _of_unit_length(product, _of(self.known.lengths, rows), length, self.known)


@dataclass(frozen=True)
class _Products:
    """Bounds from dot products of whole vectors: |x|^2 - 2 x.q + |q|^2."""

    points: Vectors
    known: PruningIndex
    is_unit: bool = False
    """Whether vectors are compared at unit length."""

    def bounds(self, queries: Vectors, rows: Some = None) -> Iterator[Floats]:
        among, lengths = (
            _worth_gathering(rows, len(self.points)),
            np.linalg.norm(queries.astype(np.float64), axis=1),
        )
        for product, length in zip(_products(self.points, queries, among), lengths, strict=True):
            lower = self._bounds_of_one(product, among, length)
            yield lower if among is rows else lower[rows]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _bounds_of_one(self, product: Floats, rows: Some, length: float) -> Floats:
        lengths, dim = _of(self.known.lengths, rows), self.points.shape[1]
        most = product  # becomes, in place, an upper bound of the dot products: see `_Terms._factors`
        most += lengths * np.float32((dim + 20) * EPS * length)
        if self.is_unit:
            most *= np.float32(-2 / length) if length else np.float32(0)
            return _of_unit_length(most, lengths, length, self.known)
        most *= -2
        most += _of(self.known.squares, rows) * np.float32(1 - 16 * EPS)
        most += np.float32(length**2 * (1 - 16 * EPS) - 8 * dim * float(FLOAT.tiny))  # what underflow takes
        return _sound(most)


def _worth_gathering(rows: Some, count: int) -> Some:
    """These rows, or None for all if gathering so many would cost more than scanning all."""
    return None if isinstance(rows, np.ndarray) and 4 * len(rows) > count else rows


def _of(values: Floats, rows: Some) -> Floats:
    return values if rows is None else values[rows]


@np.errstate(over="ignore", invalid="ignore")
def _products(points: Vectors, targets: Vectors, rows: Some) -> Vectors:
    """`(m, n)`: the dot products of all points or some with each target."""
    points = points if rows is None else points[rows]
    return targets @ points.T if len(targets) > 1 else (points @ targets[0])[None]


def _of_unit_length(product: Floats, lengths: Floats, length: float, known: PruningIndex) -> Floats:
    """Bounds for vectors at unit length, in place of -2 x.q / |q|, given the lengths of x and of q."""
    lower = product
    lower /= lengths
    lower += np.float32(2 * (1 - 16 * EPS))
    if not SHORTEST < length < FLOAT.max:
        lower[:] = -np.inf
    elif known.are_some_short or not known.longest < np.inf:
        lower[(lengths <= SHORTEST) | (lengths == np.inf)] = -np.inf
    return _sound(lower) if not known.longest * length < FLOAT.max / 8 else lower


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
