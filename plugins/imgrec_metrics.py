"""The usual distances between vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import imgrec
from imgrec import Doubles, Form, Number, Vectors


@dataclass
class Euclidean(imgrec.Metric):
    """Euclidean distance: the square root of the sum of squared differences."""

    form: ClassVar[Form] = Form.SAME

    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        """See `Metric.distances`."""
        found: Doubles = np.linalg.norm(vectors - query, axis=1)
        return found


@dataclass
class Cosine(imgrec.Metric):
    """1 - cosine similarity, from 0 to 2; 1 where one of the vectors is zero, 0 where both are."""

    form: ClassVar[Form] = Form.UNIT

    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        """See `Metric.distances`."""
        # Half the squared distance between unit vectors is exactly zero for equal ones, unlike 1 - cosine.
        # The query's norm is taken as a row's: for a single vector NumPy uses BLAS, which may round differently.
        lengths, length = np.linalg.norm(vectors, axis=1), np.linalg.norm(query[None], axis=1)[0]
        differences = vectors / np.where(lengths > 0, lengths, 1)[:, None] - query / (length or 1)
        distances = np.square(differences).sum(axis=1) / 2
        return np.where((lengths > 0) == (length > 0), distances, 1.0)

    def least(self, apart: Number) -> Number:
        """Half the squared distance."""
        return apart * apart / 2


@dataclass
class Manhattan(imgrec.Metric):
    """The sum of absolute differences."""

    scans_in_float32: ClassVar[bool] = True

    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        """See `Metric.distances`."""
        differences = vectors - query
        found: Doubles = np.abs(differences, out=differences).sum(axis=1)
        return found


def _check_shares(vectors: Vectors, metric: str) -> None:
    if vectors.size and vectors.min() < 0:
        raise imgrec.UsageError(
            f"metric={metric} compares shares, and these vectors have negative values: "
            "take metric=euclidean or metric=cosine"
        )


@dataclass
class Hellinger(imgrec.Metric):
    """Hellinger distance of distributions, 0 to 1: Euclidean between square roots of shares, over root 2."""

    form: ClassVar[Form] = Form.OWN

    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        """See `Metric.distances`."""

        def roots(some: Doubles) -> Doubles:
            totals = some.sum(axis=1, keepdims=True)
            result: Doubles = np.sqrt(some / np.where(totals > 0, totals, 1))
            return result

        found: Doubles = np.linalg.norm(roots(vectors) - roots(query[None]), axis=1) / np.sqrt(2)
        return found

    def as_euclidean(self, vectors: Vectors) -> Vectors:
        """Square roots of halved shares, whose Euclidean distance is the Hellinger distance."""
        totals = vectors.sum(axis=1, keepdims=True)
        halved: Vectors = np.divide(vectors, np.where(totals > 0, 2 * totals, 1), dtype=np.float32)
        return np.sqrt(halved)

    def check(self, vectors: Vectors) -> None:
        """Reject negative values, which have no shares."""
        _check_shares(vectors, self.name)


@dataclass
class Chi2(imgrec.Metric):
    """The chi-squared distance of histograms: half the sum of squared differences over sums, value by value."""

    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        """See `Metric.distances`."""
        sums, differences = vectors + query, vectors - query
        found: Doubles = (differences**2 / np.where(sums > 0, sums, 1)).sum(axis=1) / 2
        return found

    def check(self, vectors: Vectors) -> None:
        """Reject negative values, whose sums may be negative."""
        _check_shares(vectors, self.name)


@dataclass
class Hamming(imgrec.Metric):
    """Hamming distance: how many bits differ, of vectors of 0 and 1 such as those of `phash`."""

    form: ClassVar[Form] = Form.SAME

    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        """See `Metric.distances`."""
        found: Doubles = np.square(vectors - query).sum(
            axis=1
        )  # a difference of bits is 0 or 1, and its square too
        return found

    def least(self, apart: Number) -> Number:
        """The squared distance."""
        return apart * apart

    def check(self, vectors: Vectors) -> None:
        """Reject what is not a bit."""
        if not ((vectors == 0) | (vectors == 1)).all():
            raise imgrec.UsageError(
                "metric=hamming compares bits, and these vectors have values other than 0 and 1: "
                "take metric=euclidean or metric=cosine, or extractor=phash"
            )


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Metric]]:
    """This plugin's components."""
    return [Euclidean, Cosine, Manhattan, Hellinger, Chi2, Hamming]
