"""Metrics are distances between vectors."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError
from imgrec.kinds.component import Component
from imgrec.kinds.extractor import Vectors
from imgrec.options import option_names, suggestion

Doubles = npt.NDArray[np.float64]

Number = TypeVar("Number", float, npt.NDArray[np.floating])


class Form(Enum):
    """How vectors are brought into a metric's Euclidean form; see `Metric.as_euclidean`."""

    NONE = "nothing: it has no such form"
    SAME = "they are it themselves"
    UNIT = "it is the vectors at unit length"
    OWN = "the metric's own `as_euclidean`"


@dataclass
class Metric(Component):
    """A distance between vectors. It has no options, since it is chosen by its name alone: `metric=cosine`.

    >>> import numpy as np, imgrec
    >>> metric = imgrec.build("metric", "manhattan")
    >>> metric.distances(np.array([1.0, 0]), np.array([[1.0, 0], [0, 1]]))
    array([0., 2.])
    """

    kind: ClassVar[str] = "metric"

    form: ClassVar[Form] = Form.NONE
    """Without one, searches measure every vector, and reducers and indexes cannot use the metric."""

    scans_in_float32: ClassVar[bool] = False
    """Whether the rounding error of `distances` in float32 is at most that of a float32 sum of `dim` terms.

    If so, a metric without a form is scanned in float32, which is faster; results are measured in float64.
    """

    @abstractmethod
    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        """The distance of each vector from a query.

        Args:
            query: `float64 (dim,)`.
            vectors: `float64 (n, dim)`.

        Returns:
            `float64 (n,)`, at least 0, exactly 0 for equal vectors, and for each row independent of the others.
        """

    def as_euclidean(self, vectors: Vectors) -> Vectors:
        """Vectors whose Euclidean distances are in the same order as the metric's: `float32 (n, any)`.

        Raises:
            UsageError: the metric has no such form.
        """
        if self.form is Form.SAME:
            return vectors
        if self.form is Form.UNIT:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            unit: Vectors = np.divide(vectors, np.where(lengths > 0, lengths, 1), dtype=np.float32)
            return unit
        raise UsageError(f"metric={self.name} has no Euclidean form: take one of {', '.join(names_with_form())}")

    def least(self, apart: Number) -> Number:
        """The distance, or a lower bound of it, between vectors whose Euclidean forms are `apart`.

        It grows with `apart`, from 0 on. By default it is the same number.
        """
        return apart

    def check(self, vectors: Vectors) -> None:
        """Refuse vectors for which the distance is not defined: by default none.

        Raises:
            UsageError: saying why.
        """

    @classmethod
    def problem(cls) -> str | None:
        """A metric has no options, and overrides `as_euclidean` if, and only if, its form is `OWN`."""
        if options := option_names(cls):
            return f"{cls.__name__} has options, {', '.join(options)}, and a metric is chosen by its name alone"
        has_own = cls.as_euclidean is not Metric.as_euclidean
        if has_own != (cls.form is Form.OWN):
            return f"{cls.__name__}.form is {cls.form.name}, and it has {'an' if has_own else 'no'} as_euclidean"
        return None


METRIC_HELP = "distance between vectors; null: what parts of a fusion have of their own, else euclidean"
"""The help of options that name a metric."""


# --- metrics by name, as options of other components have them ------------------------------------------------


def _all() -> dict[str, type[Metric]]:
    from imgrec import registry

    return registry.classes(Metric)


def names() -> list[str]:
    """The names of all metrics."""
    return list(_all())


def names_with_form() -> list[str]:
    """The names of metrics with a Euclidean form."""
    return [name for name, cls in _all().items() if cls.form is not Form.NONE]


def metric_of(name: str) -> Metric:
    """A metric by its name.

    Raises:
        UsageError: there is none of that name.
    """
    known = _all()
    if not isinstance(name, str) or name not in known:
        raise UsageError(f"metric is one of {', '.join(known)}, not {name!r}{suggestion(name, known)}")
    return known[name]()


def as_euclidean(vectors: Vectors, metric: str) -> Vectors:
    """Vectors whose Euclidean distances are in the same order as a metric's.

    Args:
        vectors: `float32 (n, dim)`.
        metric: the name of one with a Euclidean form: `euclidean` (vectors as they are), `cosine` (unit length; a
            zero vector stays zero), `hellinger` (square roots of shares, over the square root of 2), ...

    Raises:
        UsageError: there is no such metric, it has no such form, or these vectors have none.

    >>> as_euclidean(np.array([[3, 4]], np.float32), "cosine")
    array([[0.6, 0.8]], dtype=float32)
    """
    found = metric_of(metric)
    found.check(vectors)
    return found.as_euclidean(vectors)
