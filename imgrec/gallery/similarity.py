"""Similarities: what images are compared by, one space or a weighted sum of several."""

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
from imgrec.kinds import Extractor, Metric, Progress, Recorded, Reducer, Space, Store
from imgrec.kinds.metric import metric_of
from imgrec.options import check_option_names

log = logging.getLogger(__name__)

EUCLIDEAN = "euclidean"


@dataclass(frozen=True)
class Term:
    """One of the spaces in which images are compared, and the distance in it."""

    space: Space
    """As the store holds it, before projection."""

    metric: Metric

    name: str = ""
    """Empty outside a fusion."""

    weight: float = 1.0

    extractor: Extractor | Recorded = Recorded()
    """Extracts queries into the space."""

    projection: Reducer | None = None
    projected_from: int = 0
    """With fewer images, copies not counted, vectors are not projected."""

    @property
    def is_scaled(self) -> bool:
        """Whether its distance is divided by the usual one between images, as in a fusion."""
        return bool(self.name)

    def ready_extractor(self) -> Extractor:
        """The extractor of queries, built if it is a recorded one.

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
    """The fusion's name, `fusion-` and a digest; None: it is known by the space of its only term."""

    fusion_spec: Mapping[str, Any] | None = None
    """What a store records of a fusion; None for a single term."""

    @property
    def metric(self) -> str | None:
        """The name of the metric that all terms share; None if they have different ones."""
        names = {term.metric.name for term in self.terms}
        return names.pop() if len(names) == 1 else None

    @property
    def stored_key(self) -> str:
        """Its key in the store: that of the fusion, or of the only term's space before projection."""
        return self.key or self.terms[0].space.key

    @property
    def names(self) -> list[str]:
        """The names of a fusion's terms; otherwise empty."""
        return [term.name for term in self.terms if term.name]

    def show_progress(self, progress: Progress) -> None:
        """Show the progress of projections that are fitted."""
        for term in self.terms:
            if term.projection is not None:
                term.projection.progress = progress

    def sources(self) -> tuple[list[Space], dict[str, Any]]:
        """What it uses of a store: spaces, before projection, and the metadata of a fusion."""
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
    """Choose a similarity of a store: by key or prefix, by extractor, or the only one.

    Extractors that were ingested together, as a fusion, are compared together.

    Args:
        store: the store, open.
        wanted: the key of a space or of a fusion, a prefix of one, or the name of an extractor.
        extractor: an extractor, matched by identity; or changes to the one that is recorded.
        projection: a reducer to fit on the gallery, or fitted on it before; for one space only.
        metric: the name of the metric of all terms; None: their own, else Euclidean.

    Raises:
        UsageError: none matches, or several do; the message lists them. Or the options to change are not the
            extractor's, or would make another space. Or a projection is given for a fusion, or the extractor is
            not of the space wanted.
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
"""The options of a recorded fusion that can be changed."""


def _recorded(store: Store, wanted: str | None, changes: Mapping[str, Any], metric: str | None) -> Similarity:
    """Choose among the similarities that a store records."""
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
    """A recorded fusion, with weights, metrics and options of its parts changed."""
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
            raise UsageError(f"{key}.parts.{name} takes options of the recorded extractor, not {values!r}")
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
    """Changes by the names of terms: `hc: {parts: {hog: ...}}` and `hc: {hog: ...}` become `hc.hog`."""
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


# --- titles, and the extractors of an ingest ----------------------------------------------------------------


def title(similarity: Similarity, longest: int = 70, *, with_metric: bool = True) -> str:
    """A similarity as the title of a picture: extractors, options that are not defaults, the metric.

    Paths and options of several values are left out: they would be wider than the picture.

    Args:
        similarity: the one to describe.
        longest: characters; a longer title is cut off with an ellipsis.
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
    """The extractors of an ingest: the chosen one, else those that filled the gallery, else a default.

    Recorded ones that cannot be built any more are left out with a warning, unless all are.

    Args:
        store: closed; it need not exist yet.
        chosen: an extractor, or changes to the recorded ones or the default.
        default: for a gallery that has no space yet.

    Raises:
        UsageError: the changes are not options of the extractor, or no recorded one can be built.
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
        log.warning("not updated: %s", reason)
    return found
