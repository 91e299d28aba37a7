"""Linear discriminant analysis: a projection learned from labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import Doubles, LinearReducer, Vectors, as_euclidean, check_labels, option

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

        labels = check_labels(labels, len(vectors), self)
        self._check_size(vectors)
        given = as_euclidean(vectors, self.metric).astype(np.float64)
        groups = (given[np.equal(labels, label)] for label in set(labels))
        if not any(np.ptp(group, axis=0).any() for group in groups):
            raise imgrec.UsageError("lda needs images of one label that differ: all have the same vector")
        mean, axes, given = self._coordinates(given)
        shrinkages = SHRINKAGES if self.shrinkage is None else (self.shrinkage,)
        shrinkage, accuracy = self._best(shrinkages, _told, given, labels)
        model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage).fit(given, labels)
        directions = model.scalings_  # best discriminants first
        count = min(len(set(labels)) - 1, self.n_components)
        discriminants, rest = directions[:, :count], directions[:, count:]
        if more := self.n_components - count:
            rest = rest @ PCA(more, random_state=self.seed).fit(given @ rest).components_.T
            discriminants = np.hstack([discriminants, REST * rest])
        return self._learned(mean, discriminants.T @ axes, accuracy=accuracy, shrinkage=shrinkage)


def _told(
    shrinkages: Sequence[float],
    given: Doubles,
    labels: npt.NDArray[Any],
    new: Doubles,
    truth: npt.NDArray[Any],
) -> Iterator[float]:
    """For each shrinkage the share of new vectors whose label is told.

    As by scikit-learn's `LinearDiscriminantAnalysis`, but the covariance is computed once for all shrinkages, and
    solved for without its eigenvectors.
    """
    from scipy.linalg import solve

    known, index = np.unique(labels, return_inverse=True)
    counts = np.bincount(index)
    means = np.stack([given[index == label].mean(axis=0) for label in range(len(known))])
    within = given - means[index]
    covariance = within.T @ within / len(given)
    usual = np.trace(covariance) / len(covariance)
    for shrinkage in shrinkages:
        shrunk = (1 - shrinkage) * covariance
        shrunk.flat[:: len(shrunk) + 1] += shrinkage * usual
        weights = solve(shrunk, means.T, assume_a="pos")  # (dim, labels)
        scores = new @ weights - (means.T * weights).sum(axis=0) / 2 + np.log(counts / len(given))
        yield float(np.mean(known[scores.argmax(axis=1)] == truth))


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [LDA]
