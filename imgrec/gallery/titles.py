"""Similarities as the titles of pictures and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from imgrec import presets, registry
from imgrec.gallery.recorded import changed_options, is_of_preset
from imgrec.gallery.similarity import Similarity
from imgrec.kinds import Extractor, Reducer, Space


def title(similarity: Similarity, *, with_metric: bool = True) -> str:
    """A similarity as the title of a picture: preset, model or extractor, what is not its default, the distance.

    Paths and options of several values are left out.

    >>> from imgrec.gallery.similarity import of
    >>> title(of(Space.of(registry.build("extractor", "colour", bins=4)), "cosine"))
    'colour, bins=4, cosine distance'
    """
    terms, metric = similarity.terms, similarity.metric if with_metric else None
    if similarity.names:
        apart = with_metric and metric is None
        own = {each.name: f" ({each.metric.name})" if apart else "" for each in terms}
        heaviest_first = sorted(terms, key=lambda term: -term.weight)
        parts = " + ".join(f"{each.weight:.2g} {each.name}{own[each.name]}" for each in heaviest_first)
        weights = {each.name: each.weight for each in terms}
        preset = _preset(lambda name: _is_of_weights(name, weights))
        words = [f"{preset}: {parts}" if preset else parts]
        words += {_projected(each.projection) for each in terms if each.projection and each.is_projected_if_larger}
    else:
        (term,) = terms
        words = _words_of(term.space)
        if term.projection is not None:
            words.append(_projected(term.projection))
    if smoothing := terms[0].smoothing:
        words.append(f"smoothed by {smoothing.neighbours} neighbours")
    return ", ".join([*words, f"{metric} distance"] if metric else words)


def _words_of(space: Space) -> list[str]:
    """The preset that a space is of, else its model or extractor; and the options that these do not say."""
    options, plugin = space.options, registry.available("extractor").get(space.extractor)
    hidden = {spec.name for spec in fields(plugin.cls) if spec.metadata.get("path")} if plugin else set()
    hidden |= {name for name, value in options.items() if isinstance(value, Mapping | list)}
    preset = _preset(lambda name: is_of_preset(space, name))
    if preset:
        hidden |= presets.settings("extractor", preset).keys()
    elif options.get("model"):  # by convention what says most of an extractor that has one
        hidden.add("model")
    changed = [each for each in changed_options(space) if each.partition("=")[0] not in hidden]
    return [preset or str(options.get("model") or space.extractor), *changed]


def _preset(fits: Callable[[str], bool]) -> str | None:
    """The first preset of an extractor that fits; None if none does. Presets of the user are not known."""
    return next(filter(fits, presets.files(Extractor.kind)), None)


def _is_of_weights(name: str, weights: Mapping[str, float]) -> bool:
    """Whether a preset is a fusion whose parts have these weights."""
    return _shares(presets.settings(Extractor.kind, name).get("weights")) == _shares(weights)


def _shares(weights: Any) -> dict[str, float]:
    """Weights as parts of their sum."""
    given = weights if isinstance(weights, Mapping) else {}
    return {name: round(weight / (sum(given.values()) or 1), 9) for name, weight in given.items()}


def _projected(projection: Reducer) -> str:
    return f"{projection.name} to {projection.n_components}"
