"""Reducers that are linear maps: a mean and components, which apply to new vectors exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError
from imgrec.kinds import Reducer, Vectors, as_euclidean
from imgrec.kinds.extractor import are_equal

MEAN, COMPONENTS = "mean", "components"


@dataclass
class LinearReducer(Reducer):
    """A reducer that subtracts a mean and multiplies by components.

    A subclass's `fit` calls `_check_size` first and `_learned` last.
    """

    def _check_size(self, vectors: Vectors) -> None:
        """Raise a UsageError if there are more components than vectors or values."""
        if self.n_components > min(vectors.shape):
            raise UsageError(
                f"{self.name} to {self.n_components} dimensions needs as many images and values; "
                f"there are {vectors.shape[0]} images of {vectors.shape[1]} values: choose a smaller n_components"
            )

    def _learned(self, mean: npt.NDArray[Any], components: npt.NDArray[Any], **report: float) -> Self:
        """Set what `fit` found: mean `(dim,)`, components `(n_components, dim)`, and the figures of `report`."""
        self._mean: Vectors = np.asarray(mean, dtype=np.float32)
        self._components: Vectors = np.asarray(components, dtype=np.float32)
        self._report = report
        return self

    def transform(self, vectors: Vectors) -> Vectors:
        """Reduce vectors to `float32 (n, n_components)`; those that equal the mean but for rounding become zero.

        What is left of them has no direction but that of rounding errors, by which a cosine would compare them.
        """
        given = as_euclidean(vectors, self.metric)
        reduced: Vectors = np.matmul(given - self._mean, self._components.T)
        reduced[are_equal(given, self._mean)] = 0
        return reduced

    def report(self) -> dict[str, float]:
        """Figures of the fit; see the class."""
        return dict(self._report)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`mean (dim,)`, `components (n_components, dim)` and the figures of `report`."""
        report: dict[str, npt.NDArray[Any]] = {name: np.array(value) for name, value in self._report.items()}
        return {MEAN: self._mean, COMPONENTS: self._components, **report}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore a `state`."""
        report = {name: float(value) for name, value in state.items() if name not in (MEAN, COMPONENTS)}
        return self._learned(state[MEAN], state[COMPONENTS], **report)
