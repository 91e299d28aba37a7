"""Reducers that are linear maps: a mean and components, which apply to new vectors exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError
from imgrec.kinds import Doubles, Reducer, Vectors, as_euclidean
from imgrec.kinds.extractor import are_equal

MOST_COORDINATES = 2048
"""Principal components in which a reducer learns from labels: time grows with the third power of their number."""

MEAN, COMPONENTS = "mean", "components"


Scores = Callable[[Sequence[float], Doubles, npt.NDArray[Any], Doubles, npt.NDArray[Any]], Iterable[float]]
"""For each strength of regularisation the share of labels that is told: learned from the first vectors and labels,
tried on the second."""


@dataclass
class LinearReducer(Reducer):
    """A reducer that subtracts a mean and multiplies by components.

    A subclass's `fit` calls `_check_size` first and `_learned` last.
    """

    is_quick: ClassVar[bool] = True

    def _check_size(self, vectors: Vectors) -> None:
        """Raise a UsageError if there are more components than vectors or values."""
        if self.n_components > min(vectors.shape):
            raise UsageError(
                f"{self.name} to {self.n_components} dimensions needs as many images and values; "
                f"there are {vectors.shape[0]} images of {vectors.shape[1]} values: choose a smaller n_components"
            )

    def _coordinates(self, vectors: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """The mean `(dim,)` of vectors, axes `(m, dim)`, and their coordinates `(n, m)`, to learn from instead.

        Nothing is lost up to `MOST_COORDINATES`; there are no more than vectors, as more say no more.
        """
        from sklearn.decomposition import PCA

        count, dim = vectors.shape
        kept = min(count, dim, max(MOST_COORDINATES, self.n_components))
        if kept == dim:
            mean = vectors.mean(axis=0)
            return mean, np.eye(dim), vectors - mean
        model = PCA(kept, random_state=self.seed)
        coordinates = model.fit_transform(vectors)
        return model.mean_, model.components_, coordinates

    def _best(
        self, strengths: Sequence[float], scores: Scores, given: Doubles, labels: list[str]
    ) -> tuple[float, float]:
        """The strength of regularisation that tells labels of left-out vectors best, and the share told.

        Args:
            strengths: from which to choose; of equally good ones the first.
            scores: what each of them tells.
            given: `(n, coordinates)`.
            labels: of each, at least two of every label.
        """
        from sklearn.model_selection import StratifiedKFold

        folds = StratifiedKFold(min(5, *Counter(labels).values()), shuffle=True, random_state=self.seed)
        truth, told = np.array(labels), np.zeros((folds.n_splits, len(strengths)))
        with self.progress(self.name, told.size) as advance:
            for fold, (train, test) in enumerate(folds.split(given, truth)):
                for i, score in enumerate(scores(strengths, given[train], truth[train], given[test], truth[test])):
                    told[fold, i] = score
                    advance(1)
        best = int(told.mean(axis=0).argmax())
        return strengths[best], float(told[:, best].mean())

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
