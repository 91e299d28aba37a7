"""UMAP, by umap-learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import NeighbourReducer, Vectors, neighbours, no_progress, option


@dataclass
class UMAP(NeighbourReducer):
    """UMAP (McInnes, Healy and Melville 2018): neighbourhoods as t-SNE, and more of the large shape."""

    requires: ClassVar[Mapping[str, str]] = {"umap": "pip install 'imgrec[umap]'"}

    n_neighbors: int = option(15, minimum=2, help="how many neighbours make a neighbourhood")
    min_dist: float = option(0.1, minimum=0, maximum=1, help="how close points may lie on the map")
    n_epochs: int | None = option(None, minimum=1, help="steps of the optimisation; null: by the number of images")

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn the map of these vectors; `labels` are not used.

        Raises:
            UsageError: fewer than `n_components` + 2 vectors.
        """
        if len(vectors) < self.n_components + 2:
            raise imgrec.UsageError(
                f"umap needs at least {self.n_components + 2} images, and there are {len(vectors)}"
            )
        self._prepare(vectors)
        # The spectral start needs more points than dimensions by a margin.
        start = "spectral" if len(vectors) > 2 * self.n_components + 2 else "random"
        self._model = self._fitted(n_epochs=self.n_epochs, init=start)
        self._embedding = np.asarray(self._model.embedding_, dtype=np.float32)
        return self

    def _fitted(self, **options: Any) -> Any:
        import umap

        count = min(self.n_neighbors, len(self._vectors) - 1)
        model = umap.UMAP(
            n_components=self.n_components,
            n_neighbors=count,
            precomputed_knn=self._graph(count),
            tqdm_kwds={"desc": "UMAP", "disable": self.progress is no_progress},
            min_dist=self.min_dist,
            random_state=self.seed,
            n_jobs=1,  # what a seed makes of it anyway, without the warning
            **options,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numba's and scikit-learn's deprecations, not ours to mend
            return model.fit(self._vectors)

    def _graph(self, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Any]:
        """Neighbours as UMAP wants them: each vector its own first, and what finds those of new vectors."""
        from pynndescent import NNDescent

        vectors = self._vectors

        class Exact(NNDescent):  # type: ignore[misc] # umap-learn takes nothing else, and pynndescent has no types
            """A finder of neighbours of new vectors, exact, where UMAP wants PyNNDescent's approximate one."""

            _angular_trees = False

            def __init__(self) -> None:
                """Without the search trees."""

            def query(self, query_data: Vectors, k: int = 10, **_: Any) -> neighbours.Neighbours:
                return neighbours.of_new(query_data, vectors, k)

        rows, distances = self._neighbours(count - 1)
        own = np.arange(len(rows), dtype=rows.dtype)[:, None]
        return np.hstack([own, rows]), np.hstack([np.zeros_like(own, np.float32), distances]), Exact()

    def transform(self, vectors: Vectors) -> Vectors:
        """New points on the map, `float32 (n, n_components)`."""
        if self._model is None:
            # No steps from the saved map: the neighbour graph again, and the map, which UMAP rescales, as it was.
            self._model = self._fitted(n_epochs=0, init=self._embedding)
            self._model.embedding_ = self._embedding.copy()
            self._model.n_epochs = self.n_epochs  # new points take as many steps as ever
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(self._model.transform(self._prepared(vectors)), dtype=np.float32)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [UMAP]
