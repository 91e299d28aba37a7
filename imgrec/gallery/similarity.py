"""Similarities: what images are compared by, one space or several that are weighed against each other."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from imgrec import registry
from imgrec.errors import NoStoreError, UsageError
from imgrec.fusion import check_weights
from imgrec.gallery.recorded import (
    changed_options,
    check_overrides,
    choose_space,
    describe,
    describe_fusion,
    extractor_of,
    fusion_key,
    fusion_specs,
)
from imgrec.kinds import Extractor, Metric, Recorded, Reducer, Space, Store
from imgrec.kinds.metric import metric_of
from imgrec.options import check_option_names

log = logging.getLogger(__name__)

EUCLIDEAN = "euclidean"


@dataclass(frozen=True)
class Term:
    """One of the spaces that images are compared in, and the distance in it."""

    space: Space
    """As the store holds it, not yet projected."""

    metric: Metric

    name: str = ""
    """In a fusion."""

    weight: float = 1.0

    extractor: Extractor | Recorded = Recorded()
    """What extracts into it."""

    projection: Reducer | None = None
    projected_from: int = 0
    """Of fewer images, copies not counted, they are compared as they are."""

    @property
    def is_scaled(self) -> bool:
        """Whether its distance counts in units of the usual one between images, as in a fusion it does."""
        return bool(self.name)

    def ready_extractor(self) -> Extractor:
        """What extracts a query into the space.

        Raises:
            UsageError: as `extractor_of`.
        """
        if isinstance(self.extractor, Recorded):
            return extractor_of(self.space, self.extractor.changes)
        return self.extractor


@dataclass(frozen=True)
class Similarity:
    """What images are compared by: a distance that is the weighted sum of terms."""

    terms: tuple[Term, ...]

    key: str | None = None
    """What it is called, `fusion-` and a digest; None: as the space of its only term."""

    fusion_spec: Mapping[str, Any] | None = None
    """What a store keeps of it; None where the spaces that it keeps say it all."""

    @property
    def metric(self) -> str | None:
        """The name of the metric of all terms; None where they have different ones."""
        names = {term.metric.name for term in self.terms}
        return names.pop() if len(names) == 1 else None

    @property
    def stored_key(self) -> str:
        """The key of what the store holds of it: its own, or that of the space of its only term, not projected."""
        return self.key or self.terms[0].space.key

    @property
    def names(self) -> list[str]:
        """Of the terms; none where the only one has none."""
        return [term.name for term in self.terms if term.name]

    def sources(self) -> tuple[list[Space], dict[str, Any]]:
        """What it takes of a store: spaces, not yet projected, and what it keeps of a fusion."""
        metadata = {self.key: dict(self.fusion_spec)} if self.key and self.fusion_spec else {}
        return list({term.space.key: term.space for term in self.terms}.values()), metadata


def of(space: Space, metric: str = EUCLIDEAN, projection: Reducer | None = None) -> Similarity:
    """The similarity of one space.

    Raises:
        UsageError: there is no such metric.
    """
    return Similarity((Term(space, metric_of(metric), projection=projection),))


# --- which similarity -------------------------------------------------------------------------------------------


def choose(
    store: Store,
    wanted: str | None = None,
    extractor: Extractor | Recorded | Mapping[str, Any] | None = None,
    projection: Reducer | None = None,
    metric: str | None = None,
) -> Similarity:
    """The similarity of a store that is meant: by key or its beginning, by extractor, or the only one.

    Where several extractors were ingested together it is that of all, and not of one of them.

    Args:
        store: the store, open.
        wanted: the key of a space or of a fusion, the beginning of one, or the name of an extractor.
        extractor: as configured, matched by identity; or changes to the one that is recorded.
        projection: a reducer to fit on the gallery, or fitted on it before; of one space.
        metric: the name of the distance in all terms; None: their own, else Euclidean.

    Raises:
        UsageError: there is none, it is not there, or several could be meant; the line lists them. Or the options
            to change are none of the extractor's, or would make another space. Or several terms are to be
            projected by one projection, or an extractor is not that of the space wanted.
    """
    if metric is not None:
        metric_of(metric)
    if isinstance(extractor, Extractor):
        chosen = _of_extractor(store, extractor, metric)
        if wanted is not None and not chosen.stored_key.startswith(wanted):
            raise UsageError(
                f"space={wanted} and extractor= are not of one space, {chosen.stored_key}: leave one out"
            )
    else:
        changes = extractor.changes if isinstance(extractor, Recorded) else extractor or {}
        chosen = _recorded(store, wanted, changes, metric)
    if projection is None:
        return chosen
    if chosen.names:
        keys = ", ".join(term.space.key for term in chosen.terms)
        raise UsageError(
            f"projection= is for one extractor, and this is a fusion: choose a part with space= ({keys}), or give "
            f"each part its own when it is ingested, extractor.projections.NAME=pca"
        )
    return replace(chosen, terms=(replace(chosen.terms[0], projection=projection),))


def _of_extractor(store: Store, extractor: Extractor, metric: str | None) -> Similarity:
    terms = tuple(
        Term(
            choose_space(store, extractor=spec.extractor),
            metric_of(metric or spec.metric or EUCLIDEAN),
            name,
            spec.weight,
            spec.extractor,
            spec.projection,
            spec.projected_from,
        )
        for name, spec in extractor.terms().items()
        if spec.weight
    )
    fusion_spec = extractor.fusion_spec()
    return Similarity(terms, fusion_key(fusion_spec) if fusion_spec else None, fusion_spec)


CHANGEABLE = ("weights", "metrics", "parts")
"""What can be changed of a recorded fusion."""


def _recorded(store: Store, wanted: str | None, changes: Mapping[str, Any], metric: str | None) -> Similarity:
    """The similarity that is meant, of those that a store records."""
    spaces, fusions = {space.key: space for space in store.spaces()}, fusion_specs(store)
    fusions = {name: spec for name, spec in fusions.items() if spaces.keys() >= set(spec["spaces"].values())}
    parts = {key for spec in fusions.values() for key in spec["spaces"].values()}
    if wanted is None:
        known = [*fusions, *(key for key in spaces if key not in parts)]
    else:
        known = [key for key in (*fusions, *spaces) if key == wanted]
        known = known or [key for key in (*fusions, *spaces) if key.startswith(wanted)]
        known = known or list({spec["spaces"][wanted] for spec in fusions.values() if wanted in spec["spaces"]})
    if len(known) == 1 and known[0] in fusions:
        return _fused(known[0], fusions[known[0]], spaces, changes, metric)
    if fusions and len(known) != 1:
        message = "several spaces, choose one with space=:" if known else f"no space {wanted!r}; it has"
        listed = "; ".join([*map(describe_fusion, fusions, fusions.values()), *map(describe, spaces.values())])
        raise UsageError(f"the gallery {store.location} has {message} {listed}")
    space = choose_space(store, known[0] if len(known) == 1 else wanted, changes)
    return Similarity((Term(space, metric_of(metric or EUCLIDEAN), extractor=Recorded(changes)),))


def _fused(
    key: str,
    fusion_spec: Mapping[str, Any],
    spaces: Mapping[str, Space],
    changes: Mapping[str, Any],
    metric: str | None,
) -> Similarity:
    """A recorded fusion, with other weights and metrics where they are given, and options of parts changed."""
    check_option_names(key, CHANGEABLE, changes)
    given = {
        what: _by_term(f"{key}.{what}", what, changes.get(what, {}), fusion_spec["spaces"]) for what in CHANGEABLE
    }
    if metric is not None and given["metrics"]:
        raise UsageError(f"metric={metric} is of all parts of {key}: leave it or extractor.metrics out")
    options, metrics = given["parts"], {**fusion_spec["metrics"], **given["metrics"]}
    weights = {**fusion_spec["weights"], **given["weights"]}
    check_weights(weights)
    for name, values in options.items():
        if not isinstance(values, Mapping):
            raise UsageError(f"{key}.parts.{name} is recorded, so that options of it are given, not {values!r}")
    least = fusion_spec["projected_from"]
    terms = []
    for name, weight in weights.items():
        if not weight:
            continue
        space, projection = spaces[fusion_spec["spaces"][name]], fusion_spec["projections"].get(name)
        if options.get(name):
            check_overrides(space, options[name])
        terms.append(
            Term(
                space,
                metric_of(metric or metrics.get(name, EUCLIDEAN)),
                name,
                weight / sum(weights.values()),
                Recorded(options.get(name, {})),
                registry.build("reducer", projection[0], **projection[1]) if projection else None,
                least.get(name, 0) if isinstance(least, Mapping) else least,
            )
        )
    return Similarity(tuple(terms), key, {**fusion_spec, "weights": weights, "metrics": metrics})


def _by_term(owner: str, what: str, values: Any, terms: Iterable[str]) -> dict[str, Any]:
    """Changes by the names of terms: `hc: {parts: {hog: ...}}` and `hc: {hog: ...}` are of `hc.hog`."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{owner} holds values by the names of parts, not {values!r}")
    known, found = list(terms), {}
    for name, value in values.items():
        inside = [term.removeprefix(f"{name}.") for term in known if term.startswith(f"{name}.")]
        if name in known or not inside or not isinstance(value, Mapping):
            found[str(name)] = value
            continue
        inner = value[what] if value.keys() == {what} else value
        found |= {
            f"{name}.{each}": change for each, change in _by_term(f"{owner}.{name}", what, inner, inside).items()
        }
    check_option_names(owner, known, found)
    return found


# --- which space, and what extracts into it -----------------------------------------------------------------


def title(similarity: Similarity, longest: int = 70, *, with_metric: bool = True) -> str:
    """A similarity for a picture's margin: extractors, options that set one apart, the metric.

    Files are left out, and options of several values: their text would be longer than the picture is wide.

    Args:
        similarity: what is compared by.
        longest: characters; what is longer ends with an ellipsis.
        with_metric: whether metrics are named.

    >>> title(of(Space.of(registry.build("extractor", "colour", bins=4)), "cosine"))
    'colour, bins=4, cosine'
    """
    terms, metric = similarity.terms, similarity.metric if with_metric else None
    if similarity.names:
        apart = with_metric and metric is None
        own = {each.name: f" ({each.metric.name})" if apart else "" for each in terms}
        heaviest_first = sorted(terms, key=lambda term: -term.weight)
        words = [" + ".join(f"{each.weight:.2g} {each.name}{own[each.name]}" for each in heaviest_first)]
    else:
        (term,) = terms
        plugin = registry.available("extractor").get(term.space.extractor)
        hidden = {spec.name for spec in fields(plugin.cls) if spec.metadata.get("path")} if plugin else set()
        hidden |= {name for name, value in term.space.options.items() if isinstance(value, Mapping | list)}
        changed = (each for each in changed_options(term.space) if each.partition("=")[0] not in hidden)
        words = [term.space.extractor, *changed]
        if term.projection is not None:
            words.append(f"{term.projection.name} to {term.projection.n_components}")
    text = ", ".join([*words, metric] if metric else words)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def extractors_to_ingest(store: Store, chosen: Extractor | Recorded, default: Extractor) -> list[Extractor]:
    """What an ingest extracts by: what was chosen, else what filled the gallery's spaces, else a default.

    Of recorded ones, one whose plugin or weights are gone is left out with a warning, if there are others.

    Args:
        store: not open; it may not be there yet.
        chosen: an extractor, or changes to what is recorded, or to the default.
        default: for a gallery that has no space yet.

    Raises:
        UsageError: the changes are none of the extractor's, or none of the recorded ones can be built.
    """
    if isinstance(chosen, Extractor):
        return [chosen]
    recorded: list[Space] = []
    with contextlib.suppress(NoStoreError), store:
        recorded = store.spaces()
        if fusion_specs(store) and not chosen.changes.keys().isdisjoint(CHANGEABLE):
            if set(chosen.changes) != {"parts"}:
                raise UsageError(
                    f"an ingest keeps the weights and metrics that {store.location} records: change them when you "
                    "ask, recommend extractor.weights.NAME=, or ingest with extractor="
                )
            return [term.ready_extractor() for term in _recorded(store, None, chosen.changes, None).terms]
    if not recorded:
        return [registry.changed(default, chosen.changes)]
    found: list[Extractor] = []
    errors: list[UsageError] = []
    for space in recorded:
        try:
            found.append(extractor_of(space, chosen.changes))
        except UsageError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    for reason in errors:
        log.warning("left as it is: %s", reason)
    return found
