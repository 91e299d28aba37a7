"""Logistic regression: a projection learned from labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

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
        from sklearn.model_selection import GridSearchCV, StratifiedKFold

        labels = check_labels(labels, len(vectors), self)
        self._check_size(vectors)
        given = as_euclidean(vectors, self.metric).astype(np.float64)
        if not np.ptp(given, axis=0).any():
            raise imgrec.UsageError("logistic needs images that differ: all have the same vector")
        mean = given.mean(axis=0)
        given -= mean
        length = np.sqrt((given**2).sum(axis=1).mean())
        turned = PCA(random_state=self.seed)  # lossless, and leaves no more values than images
        given = turned.fit_transform(given / length)
        penalties = PENALTIES if self.penalty is None else (self.penalty,)
        folds = min(5, *Counter(labels).values())
        search = GridSearchCV(
            LogisticRegression(max_iter=10_000),
            {"C": [1 / penalty for penalty in penalties]},
            cv=StratifiedKFold(folds, shuffle=True, random_state=self.seed),
        )
        weights = search.fit(given, labels).best_estimator_.coef_
        _, strengths, directions = np.linalg.svd(weights)
        squares = np.zeros(len(directions))
        squares[: len(strengths)] = strengths**2
        stretched = np.sqrt(squares + REST**2 * (strengths**2).mean())[:, None] * directions
        kept = PCA(self.n_components, random_state=self.seed).fit(given @ stretched.T).components_
        found = {"accuracy": float(search.best_score_), "penalty": 1 / search.best_params_["C"]}
        return self._learned(mean, kept @ stretched @ turned.components_ / length, **found)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [Logistic]
