"""Reducers map vectors to fewer dimensions: 2 for a map, more before a search."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError
from imgrec.kinds.component import Component, Group, Progress
from imgrec.kinds.extractor import Vectors
from imgrec.options import option


def as_euclidean(vectors: Vectors, metric: str) -> Vectors:
    """Vectors whose Euclidean distances follow a metric: the same order of neighbours.

    Args:
        vectors: `float32 (n, dim)`.
        metric: `euclidean` (vectors as they are), `cosine` (unit length; a zero vector stays zero) or
            `hellinger` (square roots of shares, over the square root of 2, so that the Euclidean distance is
            the Hellinger distance itself).

    Raises:
        UsageError: `hellinger` of vectors with negative values, which have no shares.

    >>> as_euclidean(np.array([[3, 4]], np.float32), "cosine")
    array([[0.6, 0.8]], dtype=float32)
    """
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = np.divide(vectors, np.where(lengths > 0, lengths, 1), dtype=np.float32)
        return unit
    if metric == "hellinger":
        check_shares(vectors)
        totals = vectors.sum(axis=1, keepdims=True)
        halved_shares: Vectors = np.divide(vectors, np.where(totals > 0, 2 * totals, 1), dtype=np.float32)
        return np.sqrt(halved_shares)
    return vectors


def check_shares(vectors: Vectors) -> None:
    """Refuse vectors with negative values, which have no Hellinger distance.

    Raises:
        UsageError: saying so.
    """
    if vectors.size and vectors.min() < 0:
        raise UsageError(
            "metric=hellinger compares shares, and these vectors have negative values: "
            "take metric=euclidean or metric=cosine"
        )


def check_labels(labels: Sequence[str] | None, count: int, reducer: Reducer) -> list[str]:
    """The labels that a supervised reducer learns from, one for each of `count` vectors.

    Raises:
        UsageError: there are none, fewer than two different ones, or fewer than three images of one.
    """
    if labels is None or len(labels) != count or not count:
        given = 0 if labels is None else len(labels)
        raise UsageError(f"{reducer.name} learns from labels, one an image: there are {given} for {count} images")
    counts = Counter(labels)
    if len(counts) < 2:
        raise UsageError(f"{reducer.name} learns to tell labels apart: all {count} images have {labels[0]!r}")
    rarest = min(counts, key=counts.__getitem__)
    if counts[rarest] < 3:
        raise UsageError(f"{reducer.name} needs 3 images of each label: {rarest!r} has {counts[rarest]}")
    return list(labels)


def no_progress(description: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Tell nothing: what a reducer does unless it is asked."""
    return nullcontext(lambda _: None)


@dataclass
class Reducer(Component):
    """Maps vectors to fewer dimensions: 2 for a map, more before a search.

    Seeded: the same vectors and options give the same result.

    >>> import numpy as np, imgrec
    >>> vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    >>> imgrec.build("reducer", "pca", n_components=3).fit_transform(vectors).shape
    (50, 3)
    """

    kind: ClassVar[str] = "reducer"
    groups: ClassVar[tuple[Group, ...]] = (
        Group("reducer"),
        Group("projection", is_optional=True, defaults={"n_components": 128}),
    )

    supervised: ClassVar[bool] = False
    """Whether `fit` learns from labels and cannot do without; `check_labels` says what is wrong with them."""

    n_components: int = option(2, minimum=1, help="dimensions of the result")
    metric: str = option(
        "cosine", choices=("cosine", "euclidean", "hellinger"), help="what makes two vectors neighbours"
    )
    seed: int = option(0, minimum=0, maximum=2**32 - 1, help="of everything random")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress: Progress = no_progress
        """Set by who wants to be told how far long work is; `imgrec.run.progress` shows it on stderr."""

    @abstractmethod
    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn from vectors `float32 (n, dim)` and, in a supervised reducer, from their labels.

        Raises:
            UsageError: too few vectors for what is asked.
        """

    @abstractmethod
    def transform(self, vectors: Vectors) -> Vectors:
        """`float32 (n, n_components)` for new vectors of the space that was fitted."""

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        """Fit, and `float32 (n, n_components)` for the vectors fitted."""
        return self.fit(vectors, labels).transform(vectors)

    def report(self) -> dict[str, float]:
        """What fitting found, in numbers by name, for a run's record: `{"accuracy": 0.82}`. By default nothing."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """What was fitted, as plain arrays, to be kept with `numpy.savez`."""

    @abstractmethod
    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Become what `state` was taken from, given the same options; `report` says the same as well."""
