"""Similarities: what images are compared by, one space or a weighted sum of several."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from imgrec import registry
from imgrec.errors import NoStoreError, UsageError
from imgrec.fusion import check_weights
from imgrec.gallery.recorded import (
    check_overrides,
    default_key,
    describe,
    extractor_of,
    fusion_key,
    fusion_specs,
    named,
    space_of,
    whole_fusions,
)
from imgrec.kinds import Extractor, Form, Metric, Progress, Recorded, Reducer, Reranker, Space, Store
from imgrec.kinds.metric import metric_of, names_with_form
from imgrec.options import check_option_names, option_names

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

    is_projected_if_larger: bool = False
    """Whether vectors stay as they are that have no more dimensions than the projection would leave."""

    smoothing: Reranker | None = None
    """Moves the gallery's vectors, after projection, towards their own neighbours."""

    @property
    def is_scaled(self) -> bool:
        """Whether its distance is divided by the usual one between images, as in a fusion."""
        return bool(self.name)

    def ready_extractor(self) -> Extractor:
        """The extractor of queries, built once if it is a recorded one.

        Raises:
            UsageError: as `extractor_of`.
        """
        return self._built if isinstance(self.extractor, Recorded) else self.extractor

    @functools.cached_property
    def _built(self) -> Extractor:
        changes = self.extractor.changes if isinstance(self.extractor, Recorded) else {}
        return extractor_of(self.space, changes)


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
        """Show the progress of projections that are fitted, and of smoothing."""
        for term in self.terms:
            for each in (term.projection, term.smoothing):
                if each is not None:
                    each.progress = progress

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
    smoothing: Reranker | None = None,
    *,
    loosely: bool = True,
) -> Similarity:
    """Choose a similarity of a store: by name, by extractor, or its default.

    Args:
        store: the store, open.
        wanted: the key of a space or fusion or its beginning, the name of an extractor, a part or a preset.
        extractor: an extractor, see `recorded.space_of`; or changes to the one that is recorded.
        projection: a reducer to fit on the gallery, or fitted on it before; of a fusion, one like it is fitted for
            each part that has more dimensions than it leaves.
        metric: the name of the metric of all terms; None: their own, else Euclidean.
        smoothing: moves the gallery's vectors, of each term by its own, towards their neighbours.
        loosely: whether an extractor may stand for the only space of its model.

    Raises:
        UsageError: none matches, or several do; the message lists them. Or the options to change are not the
            extractor's, or would make another space. Or the extractor is not of the space wanted, or a term cannot
            be smoothed.
    """
    if metric is not None:
        metric_of(metric)
    if wanted is not None and not isinstance(wanted, str):
        raise UsageError(f"space takes a key, the beginning of one or an extractor's name, not {wanted!r:.60}")
    if not isinstance(extractor, Extractor | Recorded | Mapping | None):
        raise UsageError(f"extractor takes what imgrec.build('extractor', ...) builds, not {extractor!r:.60}")
    if isinstance(extractor, Extractor):
        chosen = _of_extractor(store, extractor, metric, loosely=loosely)
        if wanted is not None and not chosen.stored_key.startswith(wanted):
            raise UsageError(
                f"space={wanted} and extractor= are not of one space, {chosen.stored_key}: leave one out"
            )
    else:
        changes = extractor.changes if isinstance(extractor, Recorded) else extractor or {}
        chosen = _recorded(store, wanted, changes, metric)
    terms = chosen.terms
    if projection is not None:
        terms = tuple(
            _projected_if_larger(term, projection) if term.name else replace(term, projection=projection)
            for term in terms
        )
    if smoothing is not None:
        terms = tuple(_smoothed(term, smoothing) for term in terms)
    return replace(chosen, terms=terms)


def _smoothed(term: Term, smoothing: Reranker) -> Term:
    if term.metric.form is Form.NONE:
        of_part = f" of {term.name}" if term.name else ""
        raise UsageError(
            f"smoothing= moves vectors to means of them, and metric={term.metric.name}{of_part} has no Euclidean "
            f"form: take one of {', '.join(names_with_form())}"
        )
    return replace(term, smoothing=smoothing)


def _projected_if_larger(term: Term, projection: Reducer) -> Term:
    """A term of a fusion with a projection of its own like the given one."""
    changes, metric = {}, term.metric
    if metric.form is Form.OWN:  # such as Hellinger's, which compares shares: a projection has no shares
        changes, metric = {"metric": metric.name}, metric_of(EUCLIDEAN)
    own = registry.changed(projection, changes)
    return replace(term, metric=metric, projection=own, projected_from=0, is_projected_if_larger=True)


def _of_extractor(store: Store, extractor: Extractor, metric: str | None, *, loosely: bool) -> Similarity:
    terms = []
    for name, spec in extractor.terms().items():
        if not spec.weight:
            continue
        space, is_exact = space_of(store, spec.extractor, loosely=loosely and not name)
        terms.append(
            Term(
                space,
                metric_of(metric or spec.metric or EUCLIDEAN),
                name,
                spec.weight,
                spec.extractor if is_exact else Recorded(),
                spec.projection,
                spec.projected_from,
            )
        )
    fusion_spec = extractor.fusion_spec()
    return Similarity(tuple(terms), fusion_key(fusion_spec) if fusion_spec else None, fusion_spec)


CHANGEABLE = ("weights", "metrics", "parts")
"""The options of a recorded fusion that can be changed."""


def _recorded(store: Store, wanted: str | None, changes: Mapping[str, Any], metric: str | None) -> Similarity:
    """The similarity of a store's default, or of the recorded space or fusion that is named."""
    key = default_key(store) if wanted is None else named(store, wanted)
    spaces, fusions = {space.key: space for space in store.spaces()}, whole_fusions(store)
    if key in fusions:
        return _fused(key, fusions[key], spaces, changes, metric)
    if changes:
        check_overrides(spaces[key], changes)
    return Similarity((Term(spaces[key], metric_of(metric or EUCLIDEAN), extractor=Recorded(changes)),))


def _fused(
    key: str,
    fusion_spec: Mapping[str, Any],
    spaces: Mapping[str, Space],
    changes: Mapping[str, Any],
    metric: str | None,
) -> Similarity:
    """A recorded fusion, with weights, metrics and options of its parts changed."""
    given = {
        what: _by_term(f"{key}.{what}", what, changes.get(what, {}), fusion_spec["spaces"]) for what in CHANGEABLE
    }
    others = {name: value for name, value in changes.items() if name not in CHANGEABLE}
    by_term = {name: spaces[space] for name, space in fusion_spec["spaces"].items()}
    for name, values in _shared_out(key, others, by_term).items():
        given["parts"][name] = {**values, **given["parts"].get(name, {})}
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


def _shared_out(owner: str, changes: Mapping[str, Any], spaces: Mapping[str, Space]) -> dict[str, dict[str, Any]]:
    """Changes of options for those of several extractors that have them, `device=cpu` say, by the names of these.

    Raises:
        UsageError: none has such an option.
    """
    plugins = {name: registry.available("extractor").get(space.extractor) for name, space in spaces.items()}
    known = {name: option_names(plugin.cls) if plugin else list(changes) for name, plugin in plugins.items()}
    check_option_names(owner, dict.fromkeys(itertools.chain(CHANGEABLE, *known.values())), changes)
    return {name: {key: changes[key] for key in changes if key in known[name]} for name in known}


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


# --- what a command chooses, and the extractors of an ingest ----------------------------------------------------


def check_selects(extractor: Extractor | Recorded | Mapping[str, Any] | None) -> None:
    """Refuse options of a recorded extractor where nothing is extracted.

    Raises:
        UsageError: naming one that is not the weights or metrics of a fusion.
    """
    changes = extractor.changes if isinstance(extractor, Recorded) else extractor
    if isinstance(changes, Mapping) and (
        unused := [name for name in changes if name not in ("weights", "metrics")]
    ):
        raise UsageError(
            f"extractor.{unused[0]} has no effect: nothing is extracted for a map, and space= or extractor= says "
            f"what it is of"
        )


def check_default(store: Store, chosen: Extractor | Recorded, default: Extractor) -> None:
    """Refuse a default extractor that a command names and that would not be used.

    Raises:
        UsageError: another one is chosen, or the gallery has another one.
    """
    if isinstance(chosen, Extractor):
        raise UsageError("default_extractor= has no effect beside extractor=: leave one out")
    with contextlib.suppress(NoStoreError), store:
        spaces = store.spaces()
        if spaces and not {Space.of(term.extractor) for term in default.terms().values()} <= set(spaces):
            raise UsageError(
                f"default_extractor= is for a new gallery, and {store.location} has "
                f"{'; '.join(map(describe, spaces))}: extractor= adds another one"
            )


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
    changes = {recorded[0].key: dict(chosen.changes)}
    if len(recorded) > 1:
        changes = _shared_out(store.location, chosen.changes, {space.key: space for space in recorded})
    for space in recorded:
        try:
            found.append(extractor_of(space, changes[space.key]))
        except UsageError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    for reason in errors:
        log.warning("not updated: %s", reason)
    return found
