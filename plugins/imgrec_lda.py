"""Linear discriminant analysis: a projection learned from labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

import imgrec
from imgrec import LinearReducer, Vectors, as_euclidean, check_labels, option

SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9)

REST = 0.1
"""The relative scale of directions that carry no label information; they order images within a label. Found by
cross-validation on clothes: at 1, 128 dimensions find a sixth less than 9 do; at 0.1, as much."""


@dataclass
class LDA(LinearReducer):
    """Linear discriminants (Fisher 1936): the linear map that separates labels best. Learned from labels.

    By scikit-learn. Distances are in standard deviations within a label. With c labels, the first c - 1 dimensions
    are Fisher's discriminants; further ones are the principal components of the residual, scaled to a tenth. The
    covariance within labels is shrunk towards a multiple of the identity, by an amount chosen by cross-validation
    on the fitted vectors. `report` has the `shrinkage` and the cross-validated `accuracy`, from 0 to 1.
    """

    supervised: ClassVar[bool] = True

    shrinkage: float | None = option(
        None, minimum=0.001, maximum=1, help="of the covariance within labels; null: by cross-validation"
    )

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn the discriminants.

        Raises:
            UsageError: fewer than two labels, or a label with fewer than three images; fewer vectors or values
                than components; all vectors of each label are equal.
        """
        from sklearn.decomposition import PCA
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.model_selection import GridSearchCV, StratifiedKFold

        labels = check_labels(labels, len(vectors), self)
        self._check_size(vectors)
        given = as_euclidean(vectors, self.metric).astype(np.float64)
        groups = (given[np.equal(labels, label)] for label in set(labels))
        if not any(np.ptp(group, axis=0).any() for group in groups):
            raise imgrec.UsageError("lda needs images of one label that differ: all have the same vector")
        turned = PCA(random_state=self.seed)  # lossless, and leaves no more values than images
        given = turned.fit_transform(given)
        folds = min(5, *Counter(labels).values())
        search = GridSearchCV(
            LinearDiscriminantAnalysis(solver="eigen"),
            {"shrinkage": SHRINKAGES if self.shrinkage is None else (self.shrinkage,)},
            cv=StratifiedKFold(folds, shuffle=True, random_state=self.seed),
            error_score="raise",
        )
        directions = search.fit(given, labels).best_estimator_.scalings_  # best discriminants first
        count = min(len(set(labels)) - 1, self.n_components)
        discriminants, rest = directions[:, :count], directions[:, count:]
        if more := self.n_components - count:
            rest = rest @ PCA(more, random_state=self.seed).fit(given @ rest).components_.T
            discriminants = np.hstack([discriminants, REST * rest])
        found = {"accuracy": float(search.best_score_), **search.best_params_}
        return self._learned(turned.mean_, discriminants.T @ turned.components_, **found)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [LDA]
