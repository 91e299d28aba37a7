"""Principal component analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import LinearReducer, Vectors, as_euclidean, option

FAINT = 1e-4
"""The least deviation of a component that is scaled to unit variance, as a share of the vectors' length: below it,
rounding errors, or the small differences between equal pictures, would become as large as anything else."""


@dataclass
class PCA(LinearReducer):
    """Principal components: the linear map that keeps most of the variance. Instant, and exact for new images.

    By scikit-learn; the sign of each component is fixed, so that maps do not flip.
    """

    whiten: bool = option(
        False, help="scale every component to unit variance, and leave out those that hardly vary"
    )

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn the components.

        Raises:
            UsageError: fewer vectors or values than components.
        """
        from sklearn.decomposition import PCA as Model

        self._check_size(vectors)
        with np.errstate(invalid="ignore"):  # shares of zero variance if all vectors are equal
            model = Model(self.n_components, random_state=self.seed).fit(as_euclidean(vectors, self.metric))
        if not self.whiten:
            return self._learned(model.mean_, model.components_)
        deviations = np.sqrt(model.explained_variance_)[:, None]
        varies = deviations > 0
        return self._learned(
            model.mean_,
            np.divide(model.components_, deviations, out=np.zeros_like(model.components_), where=varies),
        )

    def _learned(self, mean: npt.NDArray[Any], components: npt.NDArray[Any], **report: float) -> Self:
        """See `LinearReducer._learned`; whitened components that hardly vary become zero, also restored ones."""
        if self.whiten:
            lengths = np.linalg.norm(components.astype(np.float64), axis=1)
            deviations = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
            length = np.sqrt(np.square(mean, dtype=np.float64).sum() + np.square(deviations).sum())
            components = np.where((deviations > FAINT * length)[:, None], components, 0)
        return super()._learned(mean, components, **report)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [PCA]
