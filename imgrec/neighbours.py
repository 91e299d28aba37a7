"""The nearest neighbours of all vectors among themselves, cached for reducers that map neighbourhoods."""

from __future__ import annotations

import hashlib
import itertools
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from imgrec.kinds import Progress, Reducer, Vectors, as_euclidean, no_progress
from imgrec.kinds.extractor import NOISE
from imgrec.options import option

log = logging.getLogger(__name__)

SHARED = 90
"""The least number of neighbours to compute: t-SNE's default need, so that other reducers can share them."""

AT_ONCE = 8_192
"""Rows that are searched between two steps of a progress bar."""

MANY, LANDMARKS = 100_000, 50_000
"""A map of more images than this is by default computed of so many of them."""

PLACED_AMONG = 15
"""How many of the nearest landmarks say where another image is."""

STEEPNESS = 8
"""The power of nearness by which they do; with 4 and less, and with all alike, maps keep fewer neighbours."""


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


def _spacing(places: Vectors) -> npt.NDArray[np.float64]:
    """The distance from each place to the nearest other one, `(n,)`; 0 if there is no other."""
    from scipy.spatial import KDTree

    distances = KDTree(np.unique(places, axis=0)).query(places, 2)[0][:, 1]
    return np.where(np.isfinite(distances), distances, 0)


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
    vectors come to one place, whatever the reducer does with them. Of many vectors `fit_transform` fits a sample,
    the landmarks, and places the others among these.
    """

    pca: int | None = option(50, minimum=1, help="principal components of longer vectors come first; null: not")
    landmarks: int | None = option(
        None,
        minimum=PLACED_AMONG,
        help=f"compute a map of so many images, chosen at random, and place the others among their {PLACED_AMONG} "
        f"nearest of these; null: {LANDMARKS:,} of more than {MANY:,}, else all",
    )

    def _prepare(self, vectors: Vectors) -> None:
        """Set `_vectors`, among which neighbours are found, `float32 (n, dim)` or `(n, pca)`."""
        prepared = as_euclidean(vectors, self.metric)
        self._axes: Vectors | None = None
        if self.pca is not None and self.pca < min(prepared.shape):
            self._axes = principal_axes(prepared, self.pca)
        self._vectors: Vectors = prepared if self._axes is None else prepared @ self._axes.T
        self._model: Any = None
        self._others = 0

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
        """The map of these vectors, `float32 (n, n_components)`; see the option `landmarks`."""
        count, most = len(vectors), self.landmarks
        if most is None:
            most = LANDMARKS if count > MANY else count
        if count <= most:
            self.fit(vectors, labels)
            return self._embedding
        log.warning(
            "%s of %s of %s images; the others are placed among their %d nearest of these",
            self.name,
            f"{most:,}",
            f"{count:,}",
            PLACED_AMONG,
        )
        is_landmark = np.zeros(count, np.bool_)
        is_landmark[np.random.default_rng(self.seed).choice(count, most, replace=False)] = True
        self.fit(vectors[is_landmark], labels and list(itertools.compress(labels, is_landmark)))
        places = np.empty((count, self.n_components), np.float32)
        places[is_landmark] = self._embedding
        spacing, others = _spacing(self._embedding), np.flatnonzero(~is_landmark)
        with self.progress("placing", len(others)) as advance:
            for start in range(0, len(others), AT_ONCE):
                some = others[start : start + AT_ONCE]
                places[some] = self._among_landmarks(self._prepared(vectors[some]), spacing)
                advance(len(some))
        self._others = len(others)
        return places

    def _among_landmarks(self, prepared: Vectors, spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Places for vectors beside the landmarks, prepared as these are, `(n, n_components)`.

        Each is at its nearest landmark, drawn towards its other nearest ones, the nearer the more, by at most the
        distance to the next landmark on the map. Medians and means of their places, and openTSNE's own placing,
        are between landmarks that are far apart on the map, and so far from all: they keep fewer neighbours.

        Args:
            prepared: `float32 (n, dim)`.
            spacing: `(landmarks,)`: the distance from each to the next one on the map.
        """
        rows, distances = of_new(prepared, self._vectors, PLACED_AMONG)
        distances = np.maximum(distances, np.finfo(np.float32).tiny)
        nearness = (distances[:, :1] / distances) ** STEEPNESS
        places = self._embedding[rows].astype(np.float64)
        towards = places - places[:, :1]
        apart = np.linalg.norm(towards, axis=2, keepdims=True)
        towards /= np.where(apart > 0, apart, 1)
        pull = np.einsum("ij,ijk->ik", nearness, towards) / nearness.sum(axis=1, keepdims=True)
        placed: npt.NDArray[np.float64] = places[:, 0] + pull * spacing[rows[:, 0], None]
        return placed

    def report(self) -> dict[str, float]:
        """How many `landmarks`, if others were placed among them."""
        return {"landmarks": len(self._vectors)} if self._others else {}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`vectors (n, dim)`, their `embedding (n, n_components)`, and `axes (pca, dim)` if any.

        Of landmarks, if there are any, and then with how many `others` were placed among them.
        """
        kept = {"vectors": self._vectors, "embedding": self._embedding, "others": np.array(self._others)}
        return kept if self._axes is None else {**kept, "axes": self._axes}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore a `state`; the model is rebuilt lazily, for new points."""
        self._vectors, self._embedding, self._axes = state["vectors"], state["embedding"], state.get("axes")
        self._others = int(state.get("others", 0))
        self._model = None
        return self
