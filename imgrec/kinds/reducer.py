"""Reducers map vectors to fewer dimensions: 2 for a map, more before a search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy.typing as npt

from imgrec.errors import UsageError
from imgrec.kinds.component import Component, Group, Progress, no_progress
from imgrec.kinds.extractor import Vectors
from imgrec.kinds.metric import names_with_form
from imgrec.options import option


def check_labels(labels: Sequence[str] | None, count: int, reducer: Reducer) -> list[str]:
    """Check the labels that a supervised reducer learns from, one for each of `count` vectors.

    Raises:
        UsageError: not one label a vector, fewer than two labels, or fewer than three images of one.
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


PROJECTING = ("fit", "transform", "state", "restore")
"""The methods that a reducer needs to place new vectors, and so to be a projection."""

DRAWS_ONLY = "draws maps only, since it cannot place new vectors: take another reducer as a projection"


def _no_projection(cls: type[Component]) -> str | None:
    """Why a reducer class cannot be a projection, or would be refused at 128 dimensions; None if it can."""
    if not issubclass(cls, Reducer):
        return None
    if cls.draws_only():
        return f"{cls.name} {DRAWS_ONLY}"
    most = cls.__dataclass_fields__["n_components"].metadata["maximum"]
    if most is not None and most <= 2:
        return f"{cls.name} draws maps only, of {most} dimensions at most: take another reducer as a projection"
    return None


@dataclass
class Reducer(Component):
    """Maps vectors to fewer dimensions: 2 for a map, more before a search.

    Seeded: the same vectors and options give the same result. One with `fit_transform` alone makes maps only and
    cannot be a projection. In a `supervised` one `fit` requires labels, and validates them with `check_labels`.

    >>> import numpy as np, imgrec
    >>> vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    >>> imgrec.build("reducer", "pca", n_components=3).fit_transform(vectors).shape
    (50, 3)
    """

    kind: ClassVar[str] = "reducer"
    groups: ClassVar[tuple[Group, ...]] = (
        Group("reducer"),
        Group("projection", none="none", defaults={"n_components": 128}, refuses=_no_projection),
    )

    is_quick: ClassVar[bool] = False
    """Whether `transform` places a new vector at once: then pages place queries by it, else by neighbours."""

    n_components: int = option(2, minimum=1, help="dimensions of the result")
    metric: str = option("cosine", choices=names_with_form, help="what makes two vectors neighbours")
    seed: int = option(0, minimum=0, maximum=2**32 - 1, help="of everything random")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress: Progress = no_progress
        """Set by callers that show the progress of long work; `imgrec.run.progress` does so on stderr."""

    @classmethod
    def draws_only(cls) -> bool:
        """Whether it makes maps only: it has `fit_transform` but cannot place new vectors."""
        return cls.transform is Reducer.transform

    @classmethod
    def problem(cls) -> str | None:
        """A reducer has `fit_transform` alone, or all methods that place new vectors."""
        lacking = [name for name in PROJECTING if getattr(cls, name) is getattr(Reducer, name)]
        if len(lacking) == len(PROJECTING) and cls.fit_transform is not Reducer.fit_transform:
            return None
        whole = f"a reducer has {', '.join(PROJECTING)}, or fit_transform alone"
        return f"{cls.__name__} lacks {', '.join(lacking)}: {whole}" if lacking else None

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn from vectors `float32 (n, dim)` and, in a supervised reducer, from their labels.

        Raises:
            UsageError: too few vectors for the options, or the reducer makes maps only.
        """
        raise UsageError(f"{self.name} {DRAWS_ONLY}")

    def transform(self, vectors: Vectors) -> Vectors:
        """Reduce new vectors of the space that was fitted, to `float32 (n, n_components)`.

        Raises:
            UsageError: the reducer makes maps only.
        """
        raise UsageError(f"{self.name} {DRAWS_ONLY}")

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        """Fit vectors and reduce them, to `float32 (n, n_components)`."""
        return self.fit(vectors, labels).transform(vectors)

    def report(self) -> dict[str, float]:
        """Figures of the fit by name, for a run's record: `{"accuracy": 0.82}`. By default none."""
        return {}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The fitted state as plain arrays, to be stored with `numpy.savez`.

        Raises:
            UsageError: the reducer makes maps only.
        """
        raise UsageError(f"{self.name} {DRAWS_ONLY}")

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore a `state`, given the same options; `report` is restored as well.

        Raises:
            UsageError: the reducer makes maps only.
        """
        raise UsageError(f"{self.name} {DRAWS_ONLY}")
