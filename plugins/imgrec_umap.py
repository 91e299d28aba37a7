"""UMAP, by umap-learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec.contracts import Vectors, as_euclidean
from imgrec.options import option


@dataclass
class UMAP(imgrec.Reducer):
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
        self._vectors = as_euclidean(vectors, self.metric)
        # The spectral start needs more points than dimensions by a margin.
        start = "spectral" if len(vectors) > 2 * self.n_components + 2 else "random"
        self._model = self._fitted(n_epochs=self.n_epochs, init=start)
        self._embedding: Vectors = np.asarray(self._model.embedding_, dtype=np.float32)
        return self

    def _fitted(self, **options: Any) -> Any:
        import umap

        model = umap.UMAP(
            n_components=self.n_components,
            n_neighbors=min(self.n_neighbors, len(self._vectors) - 1),
            min_dist=self.min_dist,
            random_state=self.seed,
            n_jobs=1,  # what a seed makes of it anyway, without the warning
            **options,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numba's and scikit-learn's deprecations, not ours to mend
            return model.fit(self._vectors)

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        """The map of these vectors, `float32 (n, n_components)`."""
        return self.fit(vectors, labels)._embedding

    def transform(self, vectors: Vectors) -> Vectors:
        """New points on the map, `float32 (n, n_components)`."""
        if self._model is None:
            # No steps from the saved map: the neighbour graph again, and the map, which UMAP rescales, as it was.
            self._model = self._fitted(n_epochs=0, init=self._embedding)
            self._model.embedding_ = self._embedding.copy()
            self._model.n_epochs = self.n_epochs  # new points take as many steps as ever
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(self._model.transform(as_euclidean(vectors, self.metric)), dtype=np.float32)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`vectors (n, dim)` and their `embedding (n, n_components)`."""
        return {"vectors": self._vectors, "embedding": self._embedding}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Take over a `state`; the neighbour graph is built again when new points come."""
        self._vectors, self._embedding, self._model = state["vectors"], state["embedding"], None
        return self


@imgrec.hookimpl
def imgrec_reducers() -> list[type[imgrec.Reducer]]:
    """This plugin's reducers."""
    return [UMAP]
