"""What a store records of the extractors that filled it: its spaces and fusions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from imgrec import registry
from imgrec.errors import ImgrecError, UsageError
from imgrec.fusion import check_weights
from imgrec.kinds import Extractor, Space, Store
from imgrec.options import default_values, written

FUSION_PREFIX = "fusion-"
"""The prefix of metadata names under which fusions are recorded."""

DEFAULT = "default"
"""The metadata name under which a store records the space or fusion that it was first ingested with."""


def fusion_key(fusion_spec: Mapping[str, Any]) -> str:
    """The name of a fusion, which does not depend on its weights."""
    about = {name: value for name, value in fusion_spec.items() if name != "weights"}
    return FUSION_PREFIX + hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def fusion_specs(store: Store) -> dict[str, dict[str, Any]]:
    """The fusions that a store records, by name."""
    found = {name: spec for name, spec in store.metadata().items() if name.startswith(FUSION_PREFIX)}
    if damaged := [name for name, spec in found.items() if not _is_fusion_spec(spec)]:
        raise ImgrecError(
            f"the metadata {damaged[0]} of {store.location} is damaged: restore a backup, or ingest anew"
        )
    return found


def _is_fusion_spec(spec: Any) -> bool:
    if not isinstance(spec, Mapping) or "projected_from" not in spec:
        return False
    by_term = [spec.get(what) for what in ("weights", "spaces", "projections", "metrics")]
    if not all(isinstance(each, Mapping) for each in by_term):
        return False
    names = spec["weights"].keys()
    least = spec["projected_from"]
    counts = least.values() if isinstance(least, Mapping) else [least]
    if not all(type(each) is int and each >= 0 for each in counts):
        return False
    try:
        check_weights(spec["weights"])
    except UsageError:
        return False
    return names == spec["spaces"].keys() and all(names >= set(each) for each in by_term if each)


def choose_space(
    store: Store, wanted: str | None = None, extractor: Extractor | Mapping[str, Any] | None = None
) -> Space:
    """Choose a space of a store: by key or prefix, by extractor, or the only one.

    Args:
        store: the store, open.
        wanted: a space's key, a prefix of one, or the name of an extractor.
        extractor: an extractor, matched by identity; or options to change on the recorded one.

    Raises:
        UsageError: no space matches, or several do; the message lists them. Or the options to change are not the
            extractor's, or would make another space.
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
        check_overrides(spaces[0], extractor)
    return spaces[0]


def check_overrides(space: Space, overrides: Mapping[str, Any]) -> None:
    """Refuse options with which the vectors would be of another space.

    Raises:
        UsageError: naming them.
    """
    changed = registry.build("extractor", space.extractor, **{**space.options, **overrides})
    harmless = {spec.name for spec in fields(changed) if not spec.metadata.get("changes_vectors", True)}
    if not harmless.issuperset(overrides):
        check_identity(space, changed)  # may load a model, so not for device= or batch_size=


def describe_fusion(name: str, fusion_spec: Mapping[str, Any]) -> str:
    """A recorded fusion in one line: its name, and the weights of its parts.

    >>> describe_fusion("fusion-1234", {"weights": {"colour": 0.25, "hog": 0.75}})
    'fusion-1234 (0.25 colour, 0.75 hog)'
    """
    return f"{name} ({', '.join(f'{weight:g} {part}' for part, weight in fusion_spec['weights'].items())})"


def describe(space: Space) -> str:
    """A space in one line: its key, and the options that differ from the extractor's defaults.

    >>> describe(Space.of(registry.build("extractor", "colour", bins=4)))
    'colour-... (bins=4)'
    """
    return space.key + (f" ({', '.join(changed)})" if (changed := changed_options(space)) else "")


def changed_options(space: Space) -> list[str]:
    """The options of a space that differ from the extractor's defaults."""
    plugin = registry.available("extractor").get(space.extractor)
    if plugin is None:
        return [f"{name}={written(value)}" for name, value in space.options.items()]
    usual = {name: written(value) for name, value in default_values(plugin.cls).items()}
    harmless = {spec.name for spec in fields(plugin.cls) if not spec.metadata.get("changes_vectors", True)}
    options = {name: written(value) for name, value in space.options.items() if name not in harmless}
    return [f"{name}={value}" for name, value in options.items() if value != usual.get(name)]


def extractor_of(space: Space, overrides: Mapping[str, Any] | None = None) -> Extractor:
    """Rebuild the extractor that filled a space, with some options changed.

    Raises:
        UsageError: it cannot be built here, or would now fill another space.
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
