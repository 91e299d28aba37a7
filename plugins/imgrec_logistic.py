"""Logistic regression: a projection learned from labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

import imgrec
from imgrec import LinearReducer, Vectors, as_euclidean, check_labels, option

PENALTIES = (1.0, 0.1, 0.01, 0.001)

REST = 0.1
"""The relative scale of directions that carry no label information; they order images within a label."""


@dataclass
class Logistic(LinearReducer):
    """Logistic regression's weights as a linear map: what a classifier looks at. Learned from labels.

    A multinomial model by scikit-learn. Distances are those between the classifier's logits plus all other
    differences scaled to a tenth; of this space the principal components are kept. The penalty on the weights is
    chosen by cross-validation on the fitted vectors. `report` has the `penalty` and the cross-validated
    `accuracy`, from 0 to 1.
    """

    supervised: ClassVar[bool] = True

    penalty: float | None = option(
        None,
        minimum=1e-6,
        maximum=1e6,
        help="on squared weights, for vectors of length 1; null: by cross-validation",
    )

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn the weights.

        Raises:
            UsageError: fewer than two labels, or a label with fewer than three images; fewer vectors or values
                than components; all vectors are equal.
        """
        from sklearn.decomposition import PCA
        from sklearn.linear_model import LogisticRegression

        labels = check_labels(labels, len(vectors), self)
        self._check_size(vectors)
        given = as_euclidean(vectors, self.metric).astype(np.float64)
        if not np.ptp(given, axis=0).any():
            raise imgrec.UsageError("logistic needs images that differ: all have the same vector")
        mean = given.mean(axis=0)
        given -= mean
        length = np.sqrt((given**2).sum(axis=1).mean())
        _, axes, given = self._coordinates(given / length)

        def model_of(penalty: float) -> LogisticRegression:
            return LogisticRegression(C=1 / penalty, max_iter=10_000)

        def told(penalties: Sequence[float], *parts: Any) -> Iterator[float]:
            given, labels, new, truth = parts
            return (model_of(penalty).fit(given, labels).score(new, truth) for penalty in penalties)

        penalties = PENALTIES if self.penalty is None else (self.penalty,)
        penalty, accuracy = self._best(penalties, told, given, labels)
        weights = model_of(penalty).fit(given, labels).coef_
        _, strengths, directions = np.linalg.svd(weights)
        squares = np.zeros(len(directions))
        squares[: len(strengths)] = strengths**2
        stretched = np.sqrt(squares + REST**2 * (strengths**2).mean())[:, None] * directions
        kept = PCA(self.n_components, random_state=self.seed).fit(given @ stretched.T).components_
        components = kept @ stretched @ axes / length
        return self._learned(mean, components, accuracy=accuracy, penalty=penalty)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [Logistic]
