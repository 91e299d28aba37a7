"""Principal component analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec.contracts import Vectors, as_euclidean
from imgrec.options import option


@dataclass
class PCA(imgrec.Reducer):
    """Principal components: the linear map that keeps most of the variance. Instant, and exact for new images.

    By scikit-learn; the sign of each component is fixed, so that maps do not flip.
    """

    whiten: bool = option(False, help="scale every component to unit variance")

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn the components.

        Raises:
            UsageError: fewer vectors or values than components.
        """
        from sklearn.decomposition import PCA as Model

        if self.n_components > min(vectors.shape):
            raise imgrec.UsageError(
                f"pca to {self.n_components} dimensions needs as many images and values; "
                f"there are {vectors.shape[0]} images of {vectors.shape[1]} values"
            )
        with np.errstate(invalid="ignore"):  # shares of no variance, where all images are alike
            model = Model(self.n_components, random_state=self.seed).fit(as_euclidean(vectors, self.metric))
        scale = np.sqrt(model.explained_variance_) if self.whiten else np.ones(self.n_components)
        self._mean = model.mean_.astype(np.float32)
        self._components = (model.components_ / np.where(scale > 0, scale, 1)[:, None]).astype(np.float32)
        return self

    def transform(self, vectors: Vectors) -> Vectors:
        """`float32 (n, n_components)`."""
        reduced: Vectors = (as_euclidean(vectors, self.metric) - self._mean) @ self._components.T
        return reduced

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`mean (dim,)` and `components (n_components, dim)`."""
        return {"mean": self._mean, "components": self._components}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Take over a `state`."""
        self._mean, self._components = state["mean"], state["components"]
        return self


@imgrec.hookimpl
def imgrec_reducers() -> list[type[imgrec.Reducer]]:
    """This plugin's reducers."""
    return [PCA]
