"""What a store records of the extractors that filled it: its spaces and fusions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from imgrec import images, presets, registry
from imgrec.errors import ImgrecError, UsageError
from imgrec.fusion import check_weights
from imgrec.kinds import Extractor, Record, Space, Store
from imgrec.options import default_values, written
from imgrec.search import files

log = logging.getLogger(__name__)

FUSION_PREFIX = "fusion-"
"""The prefix of metadata names under which fusions are recorded."""

DEFAULT = "default"
"""The metadata name of the space or fusion by which a gallery's images are compared unless another is named."""

MANY = 10_000
"""Records from which on it is cached what they say of decoding: fewer are gone over in no time."""

IMPORTED = "imported"
"""What spaces name as their extractor whose vectors were imported."""

DECODING = "decoding"
"""The metadata name of the version of decoding of which all vectors are, by the keys of their spaces."""


def decodings(store: Store) -> dict[str, int]:
    """What a store notes under `DECODING`."""
    held = store.metadata().get(DECODING)
    return held if isinstance(held, dict) else {}


def is_outdated(record: Record, spaces: Iterable[str]) -> bool:
    """Whether the vector of an image, unless it is missing, may be of older decoding in one of some spaces."""
    found = (images.versions.is_outdated(record.path, record.stamp, space) for space in spaces)
    return not record.missing and any(found)


def warn_of_older_decoding(store: Store, spaces: Iterable[str]) -> None:
    """Warn of images that were decoded by older rules than a query is, once a run."""
    held = decodings(store)
    older = [space for space in spaces if held.get(space) != images.versions.CURRENT]
    told = (store.location, *older)
    if not older or told in _TOLD:
        return
    _TOLD.add(told)
    if count := _count_outdated(store, older):
        log.warning(
            "%s images of %s were decoded by older rules of imgrec, and may have other pixels now: "
            "`imgrec ingest` of their folders decodes these anew, and no others",
            f"{count:,}",
            store.location,
        )


_TOLD = set[tuple[str, ...]]()


def _count_outdated(store: Store, spaces: Sequence[str]) -> int:
    """How many images may be of older decoding in one of some spaces; of many, cached for the store's revision."""
    kept = _cached_count(store, spaces)
    if kept is not None:
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((kept / "count.json").read_text()))
    count, records = 0, 0
    for record in store.records():
        count += is_outdated(record, spaces)
        records += 1
    if kept is not None and records >= MANY:
        with contextlib.suppress(OSError):  # the disk may be full or read-only
            with files.put_in_place(kept) as aside:
                (aside / "count.json").write_text(json.dumps(count))
            files.clear_others(kept)
    return count


def _cached_count(store: Store, spaces: Sequence[str]) -> Path | None:
    held = {space.key: space for space in store.spaces()}
    revisions = [store.revision(held[key]) for key in spaces if key in held]
    if store.cache_folder is None or None in revisions:
        return None
    rules = {version: sorted(suffixes) for version, suffixes in images.versions.CHANGES.items()}
    names = [hashlib.sha256(json.dumps(each).encode()).hexdigest()[:12] for each in (spaces, [rules, revisions])]
    return store.cache_folder.joinpath("decoding", *names)


def fusion_key(fusion_spec: Mapping[str, Any]) -> str:
    """The name of a fusion, which does not depend on its weights."""
    about = {name: value for name, value in fusion_spec.items() if name != "weights"}
    return FUSION_PREFIX + hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def fusion_specs(store: Store) -> dict[str, dict[str, Any]]:
    """The fusions that a store records, by name."""
    found = {name: spec for name, spec in store.metadata().items() if name.startswith(FUSION_PREFIX)}
    if damaged := [name for name, spec in found.items() if not is_fusion_spec(spec)]:
        raise ImgrecError(
            f"the metadata {damaged[0]} of {store.location} is damaged: restore a backup, or ingest anew"
        )
    return found


def is_fusion_spec(spec: Any) -> bool:
    """Whether this is what a store records of a fusion."""
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


def default_key(store: Store) -> str:
    """The key of the space or fusion that images are compared by where none is named.

    It is the one that was set, else the one that was ingested first.

    Raises:
        UsageError: the gallery is empty.
    """
    spaces, fusions = [space.key for space in store.spaces()], whole_fusions(store)
    if not spaces:
        raise UsageError(f"the gallery {store.location} is empty: fill it with `imgrec ingest FOLDER`")
    if (chosen := store.metadata().get(DEFAULT)) in (*fusions, *spaces):
        return str(chosen)
    return next((key for key, spec in fusions.items() if spaces[0] in spec["spaces"].values()), spaces[0])


def whole_fusions(store: Store) -> dict[str, dict[str, Any]]:
    """The recorded fusions of which the store has all spaces, by name."""
    held = {space.key for space in store.spaces()}
    return {name: spec for name, spec in fusion_specs(store).items() if held >= set(spec["spaces"].values())}


def named(store: Store, wanted: str) -> str:
    """The key of the space or fusion that is meant: by a key, its beginning, the name of a part, or a preset.

    Raises:
        UsageError: none is meant, or several are; the message lists them.
    """
    spaces, fusions = {space.key: space for space in store.spaces()}, whole_fusions(store)
    keys = [*fusions, *spaces]
    found = [key for key in keys if key == wanted] or [key for key in keys if key.startswith(wanted)]
    found = found or list({spec["spaces"][wanted] for spec in fusions.values() if wanted in spec["spaces"]})
    found = found or [space.key for space in spaces.values() if is_of_preset(space, wanted)]
    if len(found) == 1:
        return found[0]
    if not keys:
        raise UsageError(f"the gallery {store.location} is empty: fill it with `imgrec ingest FOLDER`")
    message = f"several spaces that {wanted!r} may mean:" if found else f"no space {wanted!r}; it has"
    raise UsageError(f"the gallery {store.location} has {message} {listed(store, found or keys)}")


def is_of_preset(space: Space, name: str) -> bool:
    """Whether a space is of a preset's model, whatever else was chosen for it."""
    if presets.begins_with(Extractor.kind, name) != space.extractor:
        return False
    settings = presets.settings(Extractor.kind, name)
    return bool(settings) and settings.items() <= space.options.items()


def listed(store: Store, keys: Iterable[str]) -> str:
    """Spaces and fusions of a store in words, for messages."""
    spaces, fusions = {space.key: space for space in store.spaces()}, fusion_specs(store)
    return "; ".join(
        describe_fusion(key, fusions[key]) if key in fusions else describe(spaces[key]) for key in keys
    )


def space_of(store: Store, extractor: Extractor, *, loosely: bool = False) -> tuple[Space, bool]:
    """The space of a store that an extractor fills, and whether it is just that.

    Args:
        store: the store, open.
        extractor: matched by identity.
        loosely: without such a space take the only one of the same model, that is, the only one that has all of
            the extractor's options that are not defaults, and more. A warning names it.

    Raises:
        UsageError: the store has no such space; the message lists what it has.
    """
    spaces = store.spaces()
    has = listed(store, [space.key for space in spaces])
    try:
        asked = Space.of(extractor)
        if asked in spaces:
            return asked, True
        problem = UsageError(
            f"the gallery {store.location} has no vectors of {describe(asked)}; it has {has}. "
            f"Leave extractor= out, choose space=, or ingest with this extractor first"
        )
    except UsageError as error:  # its identity cannot be told here, for lack of weights say
        problem = UsageError(f"{error}. Or choose one of the gallery's own with space=: {has}")
    alike = [space for space in spaces if _is_like(space, extractor)] if loosely else []
    if len(alike) != 1:
        raise problem
    log.warning("compared in %s, the gallery's only space of that model", describe(alike[0]))
    return alike[0], False


def _is_like(space: Space, extractor: Extractor) -> bool:
    given = set(_changed_options(extractor.name, extractor.plain_options()))
    return space.extractor == extractor.name and bool(given) and given < set(changed_options(space))


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
    return _changed_options(space.extractor, space.options)


def _changed_options(extractor: str, options: Mapping[str, Any]) -> list[str]:
    plugin = registry.available("extractor").get(extractor)
    if plugin is None:
        return [f"{name}={written(value)}" for name, value in options.items()]
    usual = {name: written(value) for name, value in default_values(plugin.cls).items()}
    harmless = {spec.name for spec in fields(plugin.cls) if not spec.metadata.get("changes_vectors", True)}
    told = {name: written(value) for name, value in options.items() if name not in harmless}
    return [f"{name}={value}" for name, value in told.items() if value != usual.get(name)]


def extractor_of(space: Space, overrides: Mapping[str, Any] | None = None) -> Extractor:
    """Rebuild the extractor that filled a space, with some options changed.

    Raises:
        UsageError: it cannot be built here, or would now fill another space.
    """
    if space.extractor == IMPORTED:
        raise UsageError(
            f"the gallery's space {space.key} has vectors of {space.options.get('file')}, and nothing here makes "
            "more of them: ask with a picture that it holds, or choose another space="
        )
    if space.extractor not in registry.available("extractor"):
        raise UsageError(
            f"the gallery's space {space.key} is of the extractor {space.extractor}, which is not installed here; "
            "if it is a file, name it: plugins=[FILE.py]"
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
