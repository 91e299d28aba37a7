"""Fusions: several extractors at once, whose weighted distances are added."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgrec.errors import UsageError
from imgrec.hookspecs import hookimpl
from imgrec.kinds import Extractor, Image, Reducer, Space, TermSpec, Vectors
from imgrec.kinds.extractor import FusionSpec
from imgrec.kinds.metric import metric_of
from imgrec.options import check_option_names, components, option

log = logging.getLogger(__name__)


@dataclass
class Fusion(Extractor):
    """Several extractors at once, whose distances are scaled by the usual one in each space, weighted and added.

    Raises:
        UsageError: a weight is negative, or none is above 0; a part has no extractor; a projection or a metric
            belongs to no part; there is no such metric.

    >>> import imgrec
    >>> colour, hog = (imgrec.build("extractor", name) for name in ("colour", "hog"))
    >>> Fusion(weights={"colour": 1, "hog": 3}, parts={"colour": colour, "hog": hog}).shares()
    {'colour': 0.25, 'hog': 0.75}
    """

    weights: dict[str, float] = option({}, help="of each part in the distance: {colour: 0.25, mobilenetv1: 0.75}")
    parts: dict[str, Extractor] = components(
        "extractor", named_by="weights", help="each part's extractor, its options extractor.parts.NAME.OPTION"
    )
    projections: dict[str, Reducer] = components(
        "projection", named_by="weights", help="each part's projection: extractor.projections.NAME=pca"
    )
    metrics: dict[str, str] = option({}, help="each part's metric, where it is not the stage's")
    projected_from: int = option(
        0, minimum=0, help="images from which on parts are projected; of fewer they are compared as they are"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, kind in (("weights", None), ("parts", Extractor), ("projections", Reducer), ("metrics", str)):
            _check_by_name(what, getattr(self, what), kind)
        _shares(self.weights)
        if bare := [name for name in self.parts if name not in self.weights]:
            raise UsageError(f"fusion.weights: {bare[0]} has no weight: extractor.weights.{bare[0]}=1")
        for what in ("projections", "metrics"):
            check_option_names(f"fusion.{what}", self.weights, getattr(self, what))
        for metric in self.metrics.values():
            metric_of(metric)
        if self.projected_from and not self.projections:
            log.warning("fusion.projected_from has no effect: no part has a projection")
        if absent := [name for name in self.weights if name not in self.parts]:
            raise UsageError(f"fusion.parts: {absent[0]} has no extractor")

    def extract(self, images: Sequence[Image]) -> Vectors:
        """The vectors of all parts side by side; they are compared part by part, see `terms`."""
        return np.hstack([part.extract(images) for part in self.parts.values()])

    def shares(self) -> dict[str, float]:
        """The weights above 0, scaled to add up to 1."""
        return _shares(self.weights)

    def terms(self) -> dict[str, TermSpec]:
        """The terms of all parts, those of a nested fusion named `PART.NAME`; weights may be 0."""
        total = sum(self.weights.values())
        return {name: replace(term, weight=term.weight / total) for name, term in self._terms().items()}

    def _term(self, name: str, weight: float, inner: TermSpec) -> TermSpec:
        projection = self.projections.get(name)
        return TermSpec(
            inner.extractor,
            weight,
            self.metrics.get(name, inner.metric),
            projection or inner.projection,
            self.projected_from if projection else inner.projected_from,
        )

    def fusion_spec(self) -> FusionSpec:
        """Its terms, as stores record them; the spaces record the extractors."""
        known = self._terms()
        return {
            "weights": {name: term.weight for name, term in known.items()},
            "spaces": {name: Space.of(term.extractor).key for name, term in known.items()},
            "projections": {
                name: [term.projection.name, term.projection.plain_options()]
                for name, term in known.items()
                if term.projection is not None
            },
            "metrics": {name: term.metric for name, term in known.items() if term.metric is not None},
            "projected_from": self._thresholds(known),
        }

    def _thresholds(self, known: Mapping[str, TermSpec]) -> int | dict[str, int]:
        """From how many images on terms are projected; by name if a nested fusion has another number."""
        found = {name: term.projected_from for name, term in known.items() if term.projection is not None}
        return found if set(found.values()) - {self.projected_from} else self.projected_from

    def _terms(self) -> dict[str, TermSpec]:
        """As `terms`, with weights as given."""
        return {
            f"{name}.{inner}" if inner else name: self._term(name, weight * each.weight, each)
            for name, weight in self.weights.items()
            for inner, each in self.parts[name].terms().items()
        }


def _check_by_name(what: str, values: object, kind: type | None) -> None:
    """Refuse what is not a mapping by the names of parts, in which dots are reserved for nested fusions."""
    if not isinstance(values, Mapping):
        raise UsageError(f"fusion.{what} holds values by the names of parts, not {values!r}")
    for name, value in values.items():
        if not isinstance(name, str) or not name or "." in name:
            raise UsageError(f"fusion.{what}: the name of a part is a word without a dot, not {name!r}")
        if kind is not None and not isinstance(value, kind):
            raise UsageError(f"fusion.{what}.{name} is of the type {kind.__name__}, not {value!r}")


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    check_weights(weights)
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if weight}


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that define no distance.

    Raises:
        UsageError: one is negative or no number, none is above 0, or their sum is no number.
    """
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise UsageError(f"fusion.weights: the weight of {name} is a number from 0 on, not {weight!r}")
    if (total := sum(weights.values())) == math.inf:
        raise UsageError(f"fusion.weights: their sum is too large a number: {dict(weights)}")
    if not total:
        raise UsageError("fusion has no parts: extractor.weights={colour: 0.25, hog: 0.75} names and weighs them")


@hookimpl
def imgrec_components() -> list[type[Extractor]]:
    """The fusion, found like any other extractor."""
    return [Fusion]
