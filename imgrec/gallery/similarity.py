"""Similarities: what images are compared by, one space or several that are weighed against each other."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.kinds import Component, Extractor, Metric, Reducer, Space, Store
from imgrec.kinds.metric import metric_of
from imgrec.options import Options, check_option_names, default_values, option, written

EUCLIDEAN = "euclidean"

NOTE = "fusion-"
"""How the names of a store's notes begin that record fusions."""


@dataclass
class Fusion(Options):
    """Several extractors at once: distances of each, by the usual one in its space, weighed and added.

    Raises:
        UsageError: a weight is negative, or none is above 0; a part has no extractor; a projection or a metric
            is of no part.

    >>> colour, hog = (registry.build("extractor", name) for name in ("colour", "hog"))
    >>> Fusion(weights={"colour": 1, "hog": 3}, parts={"colour": colour, "hog": hog}).shares()
    {'colour': 0.25, 'hog': 0.75}
    """

    name: ClassVar[str] = "fusion"

    weights: dict[str, float] = option({}, help="of each part in the distance: {colour: 0.25, mobilenetv1: 0.75}")
    parts: dict[str, Any] = option({}, help="each part's extractor, its options extractor.parts.NAME.OPTION")
    projections: dict[str, Any] = option({}, help="each part's projection: extractor.projections.NAME=pca")
    metrics: dict[str, str] = option({}, help="each part's metric, where it is not the stage's")
    projected_from: int = option(
        0, minimum=0, help="images from which on parts are projected; of fewer they are compared as they are"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _shares(self.weights)
        for what in ("parts", "projections", "metrics"):
            check_option_names(f"fusion.{what}", self.weights, getattr(self, what))
        if absent := [name for name in self.weights if name not in self.parts]:
            raise UsageError(f"fusion.parts: {absent[0]} has no extractor")

    def components(self) -> dict[str, Component]:
        """The parts' extractors and projections: `{"parts.colour": ..., "projections.colour": ...}`."""
        both = {"parts": self.parts, "projections": self.projections}
        return {f"{what}.{name}": each for what, some in both.items() for name, each in some.items()}

    def shares(self) -> dict[str, float]:
        """The weights of the parts that count, so that they add up to 1."""
        return _shares(self.weights)

    def changed(self, options: Mapping[str, Any]) -> Fusion:
        """The same with other weights or metrics, and options of parts changed.

        Raises:
            UsageError: it has no such option or part.
        """
        _check_changes(self.name, options, self.parts)
        parts = {
            name: registry.build(
                "extractor", each.name, **{**each.options(), **options.get("parts", {}).get(name, {})}
            )
            for name, each in self.parts.items()
        }
        return Fusion(
            weights={**self.weights, **options.get("weights", {})},
            parts=parts,
            projections=self.projections,
            metrics={**self.metrics, **options.get("metrics", {})},
            projected_from=self.projected_from,
        )

    def recipe(self) -> dict[str, Any]:
        """What a store notes, to compare by the same parts when none are named; JSON data."""
        return {
            "weights": dict(self.weights),
            "spaces": {name: Space.of(self.parts[name]).key for name in self.weights},
            "projections": {name: [each.name, each.plain_options()] for name, each in self.projections.items()},
            "metrics": dict(self.metrics),
            "projected_from": self.projected_from,
        }


def _check_changes(owner: str, changes: Mapping[str, Any], parts: Iterable[str]) -> None:
    """Refuse what cannot be changed of a fusion whose parts are known."""
    check_option_names(owner, ("weights", "metrics", "parts"), changes)
    for what, values in changes.items():
        check_option_names(f"{owner}.{what}", parts, values)


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise UsageError(f"fusion.weights: the weight of {name} is a number from 0 on, not {weight!r}")
    total = sum(weights.values())
    if not total:
        raise UsageError("fusion has no parts: extractor.weights={colour: 0.25, hog: 0.75} names and weighs them")
    return {name: weight / total for name, weight in weights.items() if weight}


@dataclass(frozen=True)
class Term:
    """One of the spaces that images are compared in, and the distance in it."""

    space: Space
    """As the store holds it, not yet projected."""

    metric: Metric

    name: str = ""
    """In a fusion."""

    weight: float = 1.0

    extractor: Extractor | Mapping[str, Any] = field(default_factory=dict)
    """What extracts into it; or options to change on what was recorded."""

    projection: Reducer | None = None
    projected_from: int = 0
    """Of fewer images, copies not counted, they are compared as they are."""

    has_own_metric: bool = False
    """Whether a fusion says by which metric, and not who asks."""

    def ready_extractor(self) -> Extractor:
        """What extracts a query into the space.

        Raises:
            UsageError: as `extractor_of`.
        """
        return (
            self.extractor if isinstance(self.extractor, Extractor) else extractor_of(self.space, self.extractor)
        )


@dataclass(frozen=True)
class Similarity:
    """What images are compared by: a distance that is the weighted sum of terms."""

    key: str
    """The key of the only space; of several `fusion-` and a digest of them."""

    terms: tuple[Term, ...]

    metric: str = EUCLIDEAN
    """The name of the metric that was asked for, which a term may have otherwise."""

    recipe: Mapping[str, Any] | None = None
    """Of a fusion, what a store notes of it."""

    @property
    def is_fused(self) -> bool:
        """Whether there are weights and shares to tell of."""
        return self.recipe is not None

    def sources(self) -> tuple[list[Space], dict[str, Any]]:
        """What it takes of a store: spaces, not yet projected, and the note of a fusion."""
        notes = {} if self.recipe is None else {self.key: dict(self.recipe)}
        return list({term.space.key: term.space for term in self.terms}.values()), notes


def of(space: Space, metric: str = EUCLIDEAN, projection: Reducer | None = None) -> Similarity:
    """The similarity of one space.

    Raises:
        UsageError: there is no such metric.
    """
    return Similarity(space.key, (Term(space, metric_of(metric), projection=projection),), metric)


# --- which similarity -------------------------------------------------------------------------------------------


def choose(
    store: Store,
    wanted: str | None = None,
    extractor: Extractor | Fusion | Mapping[str, Any] | None = None,
    projection: Reducer | None = None,
    metric: str = EUCLIDEAN,
) -> Similarity:
    """The similarity of a store that is meant: by key or its beginning, by extractors, or the only one.

    Where a fusion was ingested it is that, and not its parts one by one.

    Args:
        store: the store, open.
        wanted: the key of a space or of a fusion, the beginning of one, or the name of an extractor.
        extractor: one or a fusion, as configured, matched by identity; or options to change on what is recorded.
        projection: a reducer to fit on the gallery, or fitted on it before; of one space.
        metric: the name of the distance, but for those parts of a fusion that have one of their own.

    Raises:
        UsageError: there is none, it is not there, or several could be meant; the line lists them. Or the options
            to change are none of the extractor's, or would make another space. Or a fusion is to be projected, or
            an extractor is not that of the space wanted.
    """
    if isinstance(extractor, Fusion):
        chosen = _similarity_of(store, extractor, metric)
    elif isinstance(extractor, Extractor):
        chosen = _of_space(choose_space(store, extractor=extractor), extractor, metric)
    else:
        chosen = _recorded(store, wanted, extractor or {}, metric)
    if chosen.is_fused and projection is not None:
        keys = ", ".join(term.space.key for term in chosen.terms)
        raise UsageError(
            f"projection= is for one extractor, and this is a fusion: choose a part with space= ({keys}), or give "
            f"each part its own when it is ingested, extractor.projections.NAME=pca"
        )
    if projection is not None:
        chosen = replace(chosen, terms=(replace(chosen.terms[0], projection=projection),))
    if wanted is not None and isinstance(extractor, Extractor | Fusion) and not chosen.key.startswith(wanted):
        raise UsageError(
            f"space={wanted} and extractor= are not of one space, {chosen.key}: leave one of them out"
        )
    return chosen


def _of_space(space: Space, extractor: Extractor | Mapping[str, Any], metric: str) -> Similarity:
    return Similarity(space.key, (Term(space, metric_of(metric), extractor=extractor),), metric)


def _similarity_of(store: Store, fusion: Fusion, metric: str) -> Similarity:
    terms = [
        Term(
            choose_space(store, extractor=fusion.parts[name]),
            metric_of(fusion.metrics.get(name, metric)),
            name,
            share,
            fusion.parts[name],
            fusion.projections.get(name),
            fusion.projected_from,
            has_own_metric=name in fusion.metrics,
        )
        for name, share in fusion.shares().items()
    ]
    recipe = fusion.recipe()
    return Similarity(note_of(recipe), tuple(terms), metric, recipe)


def note_of(recipe: Mapping[str, Any]) -> str:
    """The name of a fusion: its weights aside, with which it is the same one still."""
    about = {name: value for name, value in recipe.items() if name != "weights"}
    return NOTE + hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def recipes(store: Store) -> dict[str, dict[str, Any]]:
    """The fusions that were ingested into a store, by their names."""
    return {name: note for name, note in store.notes().items() if name.startswith(NOTE)}


def _recorded(store: Store, wanted: str | None, changes: Mapping[str, Any], metric: str) -> Similarity:
    """The similarity that is meant, of those that a store records."""
    spaces, fusions = {space.key: space for space in store.spaces()}, recipes(store)
    fusions = {name: note for name, note in fusions.items() if spaces.keys() >= set(note["spaces"].values())}
    parts = {key for note in fusions.values() for key in note["spaces"].values()}
    if wanted is None:
        known = [*fusions, *(key for key in spaces if key not in parts)]
    else:
        known = [key for key in (*fusions, *spaces) if key == wanted]
        known = known or [key for key in (*fusions, *spaces) if key.startswith(wanted)]
    if len(known) == 1 and known[0] in fusions:
        return _fused(known[0], fusions[known[0]], spaces, changes, metric)
    if fusions and len(known) != 1:
        told = "several spaces, choose one with space=:" if known else f"no space {wanted!r}; it has"
        listed = "; ".join([*map(described_recipe, fusions, fusions.values()), *map(describe, spaces.values())])
        raise UsageError(f"the gallery {store.location} has {told} {listed}")
    return _of_space(choose_space(store, known[0] if len(known) == 1 else wanted, changes), changes, metric)


def _fused(
    key: str, recipe: Mapping[str, Any], spaces: Mapping[str, Space], changes: Mapping[str, Any], metric: str
) -> Similarity:
    """A recorded fusion, with other weights and metrics where they are given, and options of parts changed."""
    _check_changes(key, changes, recipe["spaces"])
    options = changes.get("parts", {})
    metrics = {**recipe["metrics"], **changes.get("metrics", {})}
    terms = []
    weights = {**recipe["weights"], **changes.get("weights", {})}
    for name, share in _shares(weights).items():
        space, projection = spaces[recipe["spaces"][name]], recipe["projections"].get(name)
        if options.get(name):
            _check_overrides(space, options[name])
        reducer = registry.build("reducer", projection[0], **projection[1]) if projection else None
        terms.append(
            Term(
                space,
                metric_of(metrics.get(name, metric)),
                name,
                share,
                options.get(name, {}),
                reducer,
                recipe["projected_from"],
                has_own_metric=name in metrics,
            )
        )
    return Similarity(key, tuple(terms), metric, {**recipe, "weights": weights, "metrics": metrics})


# --- which space, and what extracts into it -----------------------------------------------------------------


def choose_space(
    store: Store, wanted: str | None = None, extractor: Extractor | Mapping[str, Any] | None = None
) -> Space:
    """The space of a store that is meant: by key or its beginning, by extractor, or the only one.

    Args:
        store: the store, open.
        wanted: a space's key, the beginning of one, or the name of an extractor.
        extractor: an extractor, as configured, matched by identity; or options to change on the recorded one.

    Raises:
        UsageError: there is none, it is not there, or several could be meant; the line lists them. Or the options
            to change are none of the extractor's, or would make another space.
    """
    spaces = store.spaces()
    if not spaces:
        raise UsageError(f"the gallery {store.location} is empty: fill it with `imgrec ingest FOLDER`")
    listed = "; ".join(map(describe, spaces))
    if isinstance(extractor, Extractor):
        try:
            asked = Space.of(extractor)
        except UsageError as error:
            raise UsageError(f"{error}. Or choose one of the gallery's own with space=: {listed}") from error
        if asked not in spaces:
            raise UsageError(
                f"the gallery {store.location} has no vectors of {describe(asked)}; it has {listed}. "
                f"Leave extractor= out, choose space=, or ingest with this extractor first"
            )
        return asked
    if wanted is not None:
        spaces = [s for s in spaces if s.key == wanted] or [s for s in spaces if s.key.startswith(wanted)]
        if not spaces:
            raise UsageError(f"the gallery {store.location} has no space {wanted!r}; it has {listed}")
    if len(spaces) > 1:
        raise UsageError(f"the gallery {store.location} has several spaces, choose one with space=: {listed}")
    if extractor:
        _check_overrides(spaces[0], extractor)
    return spaces[0]


def _check_overrides(space: Space, overrides: Mapping[str, Any]) -> None:
    changed = registry.build("extractor", space.extractor, **{**space.options, **overrides})
    harmless = {spec.name for spec in fields(changed) if not spec.metadata.get("changes_vectors", True)}
    if not harmless.issuperset(overrides):
        check_identity(space, changed)  # may load a model, so not for device= or batch_size=


def described_recipe(name: str, recipe: Mapping[str, Any]) -> str:
    """A recorded fusion in a line: its name, and the weights of its parts.

    >>> described_recipe("fusion-1234", {"weights": {"colour": 0.25, "hog": 0.75}})
    'fusion-1234 (0.25 colour, 0.75 hog)'
    """
    return f"{name} ({', '.join(f'{weight:g} {part}' for part, weight in recipe['weights'].items())})"


def describe(space: Space) -> str:
    """A space in a line: its key, and the options that differ from the extractor's defaults.

    >>> describe(Space.of(registry.build("extractor", "colour", bins=4)))
    'colour-... (bins=4)'
    """
    return space.key + (f" ({', '.join(changed)})" if (changed := _changed(space)) else "")


def _changed(space: Space) -> list[str]:
    """The options that set a space apart from its extractor as it is by default."""
    plugin = registry.available("extractor").get(space.extractor)
    if plugin is None:
        return [f"{name}={written(value)}" for name, value in space.options.items()]
    usual = {name: written(value) for name, value in default_values(plugin.cls).items()}
    harmless = {spec.name for spec in fields(plugin.cls) if not spec.metadata.get("changes_vectors", True)}
    options = {name: written(value) for name, value in space.options.items() if name not in harmless}
    return [f"{name}={value}" for name, value in options.items() if value != usual.get(name)]


def title(similarity: Similarity, longest: int = 70, *, with_metric: bool = True) -> str:
    """A similarity for a picture's margin: extractors, options that set one apart (files left out), the metric.

    Args:
        similarity: what is compared by.
        longest: characters; what is longer ends with an ellipsis.
        with_metric: whether metrics are told.

    >>> title(of(Space.of(registry.build("extractor", "colour", bins=4)), "cosine"))
    'colour, bins=4, cosine'
    """
    terms, metric = similarity.terms, similarity.metric if with_metric else None
    if not similarity.is_fused:
        (term,) = terms
        plugin = registry.available("extractor").get(term.space.extractor)
        paths = {spec.name for spec in fields(plugin.cls) if spec.metadata.get("path")} if plugin else set()
        words = [
            term.space.extractor,
            *(each for each in _changed(term.space) if each.partition("=")[0] not in paths),
        ]
        if term.projection is not None:
            words.append(f"{term.projection.name} to {term.projection.n_components}")
    else:
        own = {each.name: f" ({each.metric.name})" if metric and each.has_own_metric else "" for each in terms}
        words = [" + ".join(f"{each.weight:.2g} {each.name}{own[each.name]}" for each in terms)]
        metric = metric if any(not each.has_own_metric for each in terms) else None
    text = ", ".join([*words, metric] if metric else words)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def extractor_of(space: Space, overrides: Mapping[str, Any] | None = None) -> Extractor:
    """The extractor that filled a space, as it was configured then, some options changed.

    Raises:
        UsageError: it cannot be built here, or what it extracts now would be another space.
    """
    if space.extractor not in registry.available("extractor"):
        raise UsageError(
            f"the gallery's space {space.key} is of the extractor {space.extractor}, which is not installed here"
        )
    try:
        extractor: Extractor = registry.build(
            "extractor", space.extractor, **{**space.options, **(overrides or {})}
        )
        check_identity(space, extractor)
    except UsageError as error:
        raise UsageError(f"space {space.key}: {error}") from error
    return extractor


def check_identity(space: Space, extractor: Extractor) -> None:
    """Refuse an extractor whose vectors belong to another space.

    Raises:
        UsageError: naming what differs.
    """
    now = Space.of(extractor)
    if now != space:
        changed = [
            f"{name} was {space.identity.get(name)!r} and is {now.identity.get(name)!r}"
            for name in {**space.identity, **now.identity}
            if space.identity.get(name) != now.identity.get(name)
        ]
        raise UsageError(
            f"the gallery's space {space.key} and the extractor's {now.key} cannot be compared: "
            f"{'; '.join(changed)}. Put that back, or ingest anew"
        )
