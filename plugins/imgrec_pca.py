"""Principal component analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

import imgrec
from imgrec import LinearReducer, Vectors, as_euclidean, option


@dataclass
class PCA(LinearReducer):
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

        self._check_size(vectors)
        with np.errstate(invalid="ignore"):  # shares of zero variance if all vectors are equal
            model = Model(self.n_components, random_state=self.seed).fit(as_euclidean(vectors, self.metric))
        scale = np.sqrt(model.explained_variance_) if self.whiten else np.ones(self.n_components)
        return self._learned(model.mean_, model.components_ / np.where(scale > 0, scale, 1)[:, None])


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [PCA]
