"""The exact neighbours of a query among vectors: bounds by a quick scan, distances in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec.contracts import Vectors, as_euclidean

Doubles = npt.NDArray[np.float64]

FLOAT = np.finfo(np.float32)

METRICS = ("euclidean", "cosine", "manhattan", "hellinger")
"""Euclidean; cosine: 1 - cosine similarity, and 1 where a vector is zero; manhattan: sum of absolute differences;
hellinger: Euclidean distance of the square roots of shares, over the square root of 2."""


def nearest(
    vectors: Vectors, query: Vectors, k: int, metric: str, usable: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.intp], Doubles]:
    """The rows nearest to a query and their distances, exactly; all that tie with the k-th are among them.

    A scan in float32 finds candidates: every row that its rounding errors leave in question. Their distances are
    then computed directly in float64, so that the expanded square's cancellation never shows.

    Args:
        vectors: `float32 (n, dim)`.
        query: `float32 (dim,)`.
        k: how many rows at least, where there are as many.
        metric: one of `METRICS`.
        usable: `bool (n,)`: rows that may be found; None for all.

    Returns:
        Rows and distances, nearest first.

    >>> rows, distances = nearest(np.eye(3, dtype=np.float32), np.array([1, 0, 0], np.float32), 1, "euclidean")
    >>> rows.tolist(), distances.tolist()
    ([0], [0.0])
    """
    candidates = np.arange(len(vectors)) if usable is None else np.flatnonzero(usable)
    if not len(candidates):
        return candidates, np.empty(0)
    scan = _scan_manhattan if metric == "manhattan" else _scan_squares
    with np.errstate(over="ignore", invalid="ignore"):
        lower, upper = scan(vectors, query, metric)
    if usable is not None:
        lower, upper = lower[candidates], upper[candidates]
    # Values whose squares overflow leave no bounds: then every row is a candidate.
    if k < len(candidates) and np.isfinite(upper).all():
        limit = np.partition(upper, k - 1)[k - 1]
        candidates = candidates[lower <= limit]
    measure, target = _DISTANCES[metric], query.astype(np.float64)
    blocks = [candidates[start : start + 8192] for start in range(0, len(candidates), 8192)]
    distances = np.concatenate([measure(vectors[block].astype(np.float64), target) for block in blocks])
    order = np.argsort(distances, kind="stable")
    return candidates[order], distances[order]


def _scan_squares(vectors: Vectors, query: Vectors, metric: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Bounds, from below and above, of what orders rows as their distances do: |x|^2 - 2 x.q."""
    if metric == "hellinger":
        vectors, query = as_euclidean(vectors, metric), as_euclidean(query[None], metric)[0]
    products = vectors @ query
    squares = np.einsum("ij,ij->i", vectors, vectors)
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


def _scan_manhattan(vectors: Vectors, query: Vectors, _: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
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
