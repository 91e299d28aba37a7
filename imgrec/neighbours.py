"""The nearest neighbours of all vectors among themselves, cached for reducers that map neighbourhoods."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from imgrec.kinds import Progress, Reducer, Vectors, as_euclidean, no_progress
from imgrec.kinds.extractor import NOISE
from imgrec.options import option

SHARED = 90
"""The least number of neighbours to compute: t-SNE's default need, so that other reducers can share them."""

AT_ONCE = 8_192
"""Rows that are searched between two steps of a progress bar."""


class Neighbours(NamedTuple):
    """For each row its k nearest rows by Euclidean distance, nearest first."""

    rows: npt.NDArray[np.int32]
    """`(n, k)`: their indices."""

    distances: Vectors
    """`float32 (n, k)`."""


_last: dict[tuple[bytes, tuple[int, ...]], Neighbours] = {}
"""A cache of the last result, by digest and shape of the vectors."""


def among(vectors: Vectors, k: int, progress: Progress = no_progress) -> Neighbours:
    """The k nearest neighbours of every vector among the others: exact, by scikit-learn.

    The last result is cached, for the next reducer of a sweep. Time is quadratic in the number of vectors.

    Args:
        vectors: `float32 (n, dim)`, n above k.
        k: how many, the vector itself not counted.
        progress: makes the progress bar.

    >>> among(np.array([[0], [1], [5]], np.float32), 1).rows.tolist()
    [[1], [0], [1]]
    """
    key = hashlib.blake2b(np.ascontiguousarray(vectors).data).digest(), vectors.shape
    found = _last.get(key)
    if found is None or found.rows.shape[1] < k:
        found = _found(vectors, min(max(k, SHARED), len(vectors) - 1), progress)
        _last.clear()
        _last[key] = found
    return Neighbours(found.rows[:, :k].copy(), found.distances[:, :k].copy())


def _found(vectors: Vectors, k: int, progress: Progress) -> Neighbours:
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(vectors)
    found = Neighbours(np.empty((len(vectors), k), np.int32), np.empty((len(vectors), k), np.float32))
    with progress("neighbours", len(vectors)) as advance:
        for start in range(0, len(vectors), AT_ONCE):
            part = slice(start, min(start + AT_ONCE, len(vectors)))
            distances, rows = finder.kneighbors(vectors[part])
            is_other = rows != np.arange(part.start, part.stop)[:, None]
            is_other[is_other.all(axis=1), -1] = False  # among many duplicates a row may miss itself
            found.rows[part] = rows[is_other].reshape(-1, k)
            found.distances[part] = distances[is_other].reshape(-1, k)
            advance(part.stop - part.start)
    return found


def of_new(new: Vectors, vectors: Vectors, k: int) -> Neighbours:
    """The k nearest neighbours of new vectors `float32 (m, dim)` among `vectors`, exact."""
    from sklearn.neighbors import NearestNeighbors

    distances, rows = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(vectors).kneighbors(new)
    return Neighbours(rows.astype(np.int32), distances.astype(np.float32))


def principal_axes(vectors: Vectors, count: int) -> Vectors:
    """The directions of most variance, `float32 (count, dim)`, of unit length; by scikit-learn's PCA."""
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # if all vectors are equal, variance ratios are 0 / 0
        axes: Vectors = PCA(count, svd_solver="covariance_eigh").fit(vectors).components_.astype(np.float32)
    return axes


@dataclass
class NeighbourReducer(Reducer):
    """A reducer that works from nearest neighbours, found among the principal components of long vectors.

    A subclass's `fit` calls `_prepare` first and `_embedded` last, and its `_placed` places new vectors. Equal
    vectors come to one place, whatever the reducer does with them.
    """

    pca: int | None = option(50, minimum=1, help="principal components of longer vectors come first; null: not")

    def _prepare(self, vectors: Vectors) -> None:
        """Set `_vectors`, among which neighbours are found, `float32 (n, dim)` or `(n, pca)`."""
        prepared = as_euclidean(vectors, self.metric)
        self._axes: Vectors | None = None
        if self.pca is not None and self.pca < min(prepared.shape):
            self._axes = principal_axes(prepared, self.pca)
        self._vectors: Vectors = prepared if self._axes is None else prepared @ self._axes.T
        self._model: Any = None

    def _prepared(self, new: Vectors) -> Vectors:
        """New vectors, prepared as `_vectors` were."""
        prepared = as_euclidean(new, self.metric)
        return prepared if self._axes is None else prepared @ self._axes.T

    def _neighbours(self, k: int) -> Neighbours:
        return among(self._vectors, k, self.progress)

    def _embedded(self, embedding: Any) -> Self:
        """Set what `fit` found, `(n, n_components)`, but several equal vectors at the place of the first."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        count = len(self._vectors)
        rows, distances = self._neighbours(min(SHARED, count - 1))
        equal = distances <= NOISE * np.linalg.norm(self._vectors, axis=1, keepdims=True)
        pairs = np.nonzero(equal)[0], rows[equal]
        graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(count, count))
        _, group = connected_components(graph, directed=False)
        _, first = np.unique(group, return_index=True)
        self._embedding: Vectors = np.asarray(embedding, dtype=np.float32)[first[group]]
        return self

    @abstractmethod
    def _placed(self, prepared: Vectors) -> Any:
        """Place new points, prepared as the fitted ones are, on the unchanged map: `(n, n_components)`."""

    def transform(self, vectors: Vectors) -> Vectors:
        """Place new points on the map, `float32 (n, n_components)`: those that it has are where it has them."""
        prepared = self._prepared(vectors)
        placed: Vectors = np.array(self._placed(prepared), dtype=np.float32)
        nearest, distances = (each[:, 0] for each in of_new(prepared, self._vectors, 1))
        known = distances <= NOISE * np.linalg.norm(prepared, axis=1)
        placed[known] = self._embedding[nearest[known]]
        return placed

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        """The map of these vectors, `float32 (n, n_components)`."""
        self.fit(vectors, labels)
        return self._embedding

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`vectors (n, dim)`, their `embedding (n, n_components)`, and `axes (pca, dim)` if any."""
        kept = {"vectors": self._vectors, "embedding": self._embedding}
        return kept if self._axes is None else {**kept, "axes": self._axes}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore a `state`; the model is rebuilt lazily, for new points."""
        self._vectors, self._embedding, self._axes = state["vectors"], state["embedding"], state.get("axes")
        self._model = None
        return self
