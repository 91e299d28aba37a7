"""The exact neighbours of a query among vectors: bounds by a quick scan, distances in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec.contracts import Vectors, as_euclidean

Doubles = npt.NDArray[np.float64]

FLOAT = np.finfo(np.float32)

METRICS = ("euclidean", "cosine", "manhattan", "hellinger")
"""Euclidean; cosine: 1 - cosine similarity, and 1 where a vector is zero; manhattan: sum of absolute differences;
hellinger: Euclidean distance of the square roots of shares, over the square root of 2."""


Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Compressed:
    """What the principal axes see of vectors, and how much they do not: bounds of distances for less work.

    With `columns` c and axes A, a vector is x = A c + r. Then x.q = c.(A'q) + r.q, and r.q is at most
    |r||q - A A'q|, but for what rounding lets r keep of the axes, `leak`.
    """

    axes: Vectors
    """`float32 (dim, p)`."""

    columns: Vectors
    """`float32 (n, p)`."""

    rests: npt.NDArray[np.float32]
    """`(n,)`: the length of r, rounded up."""

    squares: npt.NDArray[np.float32]
    """`(n,)`: the squared length of x."""

    leak: float
    """The length of A'r is at most this share of that of x."""


def compress(vectors: Vectors, size: int = 128, sample: int = 20_000, seed: int = 0) -> Compressed | None:
    """Vectors on the principal axes of a sample of them; None where values are so large that squares overflow.

    Args:
        vectors: `float32 (n, dim)`, finite.
        size: how many axes; all of them at most.
        sample: how many vectors the axes are found from. Others make the bounds looser, never wrong.
        seed: of the sample.
    """
    count, dim = vectors.shape
    size = min(size, dim)
    chosen = np.arange(count)
    if count > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(count, sample, replace=False))
    some = vectors[chosen].astype(np.float64)
    # Not centred: dot products are bounded, and the mean is a direction as any other.
    _, directions = np.linalg.eigh(some.T @ some)
    axes = np.ascontiguousarray(directions[:, : -size - 1 : -1], dtype=np.float32)
    columns = np.empty((count, size), np.float32)
    rests, squares, leak = np.empty(count, np.float32), np.empty(count, np.float32), 0.0
    exact = axes.astype(np.float64)
    for start in range(0, count, 8192):
        rows = slice(start, start + 8192)
        block = vectors[rows].astype(np.float64)
        columns[rows] = block @ exact
        left = block - columns[rows] @ exact.T
        lengths = np.linalg.norm(block, axis=1)
        with np.errstate(over="ignore"):
            squares[rows] = lengths**2
        rests[rows] = np.nextafter(np.linalg.norm(left, axis=1).astype(np.float32), np.float32(np.inf))
        kept = np.linalg.norm(left @ exact, axis=1)
        leak = max(leak, float(np.max(kept / np.where(lengths > 0, lengths, 1), initial=0)))
    return Compressed(axes, columns, rests, squares, leak) if np.isfinite(squares).all() else None


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

    A scan in float32 finds candidates: every row that its rounding errors leave in question. Their distances are
    then computed directly in float64, so that the expanded square's cancellation never shows.

    Args:
        vectors: `float32 (n, dim)`.
        query: `float32 (dim,)`.
        k: how many rows at least, where there are as many.
        metric: one of `METRICS`.
        usable: `bool (n,)`: rows that may be found; None for all.
        compressed: the same vectors compressed, which are scanned first; the result is the same.

    Returns:
        Rows and distances, nearest first.

    >>> rows, distances = nearest(np.eye(3, dtype=np.float32), np.array([1, 0, 0], np.float32), 1, "euclidean")
    >>> rows.tolist(), distances.tolist()
    ([0], [0.0])
    """
    if compressed is not None and metric in ("euclidean", "cosine"):
        found = _proved(vectors, query, k, metric, usable, compressed)
        if found is not None:
            return found
    if metric != "manhattan":
        (found,) = nearest_of_many(vectors, query[None], k, metric, usable, compressed=compressed)
        return found
    with np.errstate(over="ignore", invalid="ignore"):
        bounds = _scan_manhattan(vectors, query)
    return _measured(vectors, query, metric, _in_question(*bounds, k, usable))


AT_ONCE = 64
"""Queries whose dot products with all vectors are computed together, which is quicker than one by one."""


def nearest_of_many(
    vectors: Vectors,
    queries: Vectors,
    k: int,
    metric: str,
    usable: npt.NDArray[np.bool_] | None = None,
    *,
    compressed: Compressed | None = None,
) -> list[tuple[Rows, Doubles]]:
    """As `nearest`, for queries `float32 (m, dim)` at once, each vector read once for all of them.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> [rows.tolist() for rows, _ in nearest_of_many(eye, eye[1:], 1, "cosine")]
    [[1], [2]]
    """
    if metric == "manhattan":
        return [nearest(vectors, query, k, metric, usable) for query in queries]
    points, targets, squares = vectors, queries, compressed.squares if compressed else None
    if metric == "hellinger":
        points, targets, squares = as_euclidean(vectors, metric), as_euclidean(queries, metric), None
    if squares is None:
        with np.errstate(over="ignore"):
            squares = np.einsum("ij,ij->i", points, points)
    found = []
    for start in range(0, len(queries), AT_ONCE):
        some = targets[start : start + AT_ONCE]
        with np.errstate(over="ignore", invalid="ignore"):
            products = some @ points.T if len(some) > 1 else (points @ some[0])[None]
        for product, target, query in zip(products, some, queries[start : start + AT_ONCE], strict=True):
            with np.errstate(over="ignore", invalid="ignore"):
                bounds = _bounds(product, squares, target, metric)
            found.append(_measured(vectors, query, metric, _in_question(*bounds, k, usable)))
    return found


def _in_question(
    lower: npt.NDArray[Any], upper: npt.NDArray[Any], k: int, usable: npt.NDArray[np.bool_] | None
) -> Rows:
    """The rows of which, by their bounds, any may be among the k nearest."""
    candidates = np.arange(len(lower)) if usable is None else np.flatnonzero(usable)
    if usable is not None:
        lower, upper = lower[candidates], upper[candidates]
    # Values whose squares overflow leave no bounds: then every row is a candidate.
    if k < len(candidates) and np.isfinite(upper).all():
        limit = np.partition(upper, k - 1)[k - 1]
        candidates = candidates[lower <= limit]
    return candidates


def _measured(vectors: Vectors, query: Vectors, metric: str, rows: Rows) -> tuple[Rows, Doubles]:
    """Rows by their distances in float64, nearest first."""
    if not len(rows):
        return rows, np.empty(0)
    measure, target = _DISTANCES[metric], query.astype(np.float64)
    blocks = [rows[start : start + 8192] for start in range(0, len(rows), 8192)]
    distances = np.concatenate([measure(vectors[block].astype(np.float64), target) for block in blocks])
    order = np.argsort(distances, kind="stable")
    return rows[order], distances[order]


FIRST_LOOK = 64
"""Rows whose distances are computed before it is known whether they are enough."""


def _proved(
    vectors: Vectors,
    query: Vectors,
    k: int,
    metric: str,
    usable: npt.NDArray[np.bool_] | None,
    compressed: Compressed,
) -> tuple[Rows, Doubles] | None:
    """The nearest rows by the compressed scan, or None where it leaves too many in question to be quicker.

    The rows that are best by their lower bounds are measured. When the k-th of them is nearer than every other
    row's bound they are the nearest; else all rows are measured whose bounds are not beyond it.
    """
    count, first = len(vectors), max(FIRST_LOOK, 8 * k)
    if count <= 4 * first:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        lower, square = _lower_bounds(compressed, query, metric)
    if usable is not None:
        lower[~usable] = np.inf
    best = np.argpartition(lower, first)[: first + 1]
    beyond = float(lower[best[first]])
    if not np.isfinite(lower[best]).all():  # overflow, or not as many usable rows
        return None
    rows, distances = _measured(vectors, query, metric, best[:first])
    limit = distances[k - 1]
    if metric == "euclidean":
        limit = limit**2 * (1 + 1e-12) - square
    if limit >= beyond:
        rows = np.flatnonzero(lower <= limit)
        if len(rows) > count // 8:
            return None
        few, distances = nearest(vectors[rows], query, k, metric)
        rows = rows[few]
    return rows, distances


def _lower_bounds(compressed: Compressed, query: Vectors, metric: str) -> tuple[npt.NDArray[np.float32], float]:
    """Bounds from below, `float32 (n,)`: of |x|^2 - 2 x.q, or of the cosine distance; and |q|^2."""
    target = query.astype(np.float64)
    axes = compressed.axes.astype(np.float64)
    seen = axes.T @ target
    unseen = float(np.linalg.norm(target - axes @ seen)) * (1 + 1e-6)
    square, length = float(target @ target), float(np.linalg.norm(seen))
    eps = float(FLOAT.eps)
    # What rounding may have done to the dot products, as a share of |x|; see `_bounds`.
    slack = 2 * (compressed.leak + (len(seen) + 16) * eps) * length
    lengths = np.sqrt(compressed.squares)
    most = compressed.columns @ seen.astype(np.float32)
    most += compressed.rests * np.float32(unseen)
    most += lengths * np.float32(slack)
    if metric == "cosine":
        if square < 1e-30:  # no direction
            return np.full(len(most), -np.inf, np.float32), square
        most /= np.maximum(lengths, np.float32(FLOAT.tiny)) * np.float32(np.sqrt(square))
        lower = np.float32(1 - 16 * eps) - most
        lower[lengths <= 1e-15] = -1  # no direction: anywhere
        return lower, square
    most *= -2
    most += compressed.squares * np.float32(1 - 16 * eps)
    most -= np.float32(16 * eps * square + 8 * len(target) * float(FLOAT.tiny))  # tiny: where products underflow
    return most, square


def _bounds(
    products: npt.NDArray[Any], squares: npt.NDArray[Any], query: Vectors, metric: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Bounds, from below and above, of what orders rows as their distances do: |x|^2 - 2 x.q."""
    # A dot product of n terms, summed in any order, is off by at most n eps |x||q| (Higham, Accuracy and Stability
    # of Numerical Algorithms, 3.1), and 2|x||q| <= |x|^2 + |q|^2.
    n, square = len(query) + 8, query @ query
    eps, tiny = n * float(FLOAT.eps), n * float(FLOAT.tiny)  # tiny: where squares underflow
    if metric == "cosine":
        least = tiny / eps
        sound = (squares > least) & np.isfinite(squares) & (least < square < np.inf)  # the others may lie anywhere
        scores = 1 - np.divide(
            products, np.sqrt(squares) * np.sqrt(square), out=np.zeros_like(squares), where=sound
        )
        error = np.where(sound, 2 * eps, 2)
        return scores - error, scores + error
    scores = squares - 2 * products
    error = eps * (squares + square) + tiny
    return scores - error, scores + error


def _scan_manhattan(vectors: Vectors, query: Vectors) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    scores = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), 1024):  # the differences of 1,024 rows stay in the cache
        scores[start : start + 1024] = np.abs(vectors[start : start + 1024] - query).sum(axis=1)
    error = (len(query) + 8) * (FLOAT.eps * scores + FLOAT.tiny)
    return scores - error, scores + error


def _euclidean(points: Doubles, query: Doubles) -> Doubles:
    result: Doubles = np.linalg.norm(points - query, axis=1)
    return result


def _cosine(points: Doubles, query: Doubles) -> Doubles:
    # Half the square of the distance of unit vectors: exactly zero for equal ones, where 1 - cosine is not.
    lengths, length = np.linalg.norm(points, axis=1), np.linalg.norm(query)
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
