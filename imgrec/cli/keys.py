"""Resolves dotted keys of a command line, through nested components, to options and choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass
from typing import Any

from imgrec import presets, registry
from imgrec.kinds import Component, Stage, kind_of
from imgrec.options import choices_of, component_fields, holds_several, is_path, option_names


@dataclass(frozen=True)
class Key:
    """What a key means."""

    owners: Sequence[type[Component]]
    """The classes that may have the option: the chosen ones, or all of the kind if none is chosen."""

    path: str
    """The key of the owner, such as `extractor.parts.shape`; empty for the stage."""

    name: str
    """The rest of the key: the option's name and anything after it."""

    group: str | None = None
    """The config group that it chooses from; None if it makes no choice."""

    is_listed: bool = False
    """Whether a preset already makes a choice for this key."""

    @property
    def is_literal(self) -> bool:
        """Whether any owner declares the option as a path or free text, which hold any characters."""
        return any(is_path(cls, spec) or spec.metadata.get("text") for cls, spec in self._specs(self.name))

    @property
    def choices(self) -> list[str]:
        """The values that an owner allows; empty if it allows any."""
        specs = self._specs(self.name)
        return list(dict.fromkeys(each for _, spec in specs for each in choices_of(spec.metadata)))

    @property
    def is_of_some(self) -> bool:
        """Whether some of the owners have the option, and others lack it."""
        return 0 < len(self._specs(self.name.partition(".")[0])) < len(self.owners)

    def _specs(self, name: str) -> list[tuple[type[Component], Field[Any]]]:
        return [(cls, cls.__dataclass_fields__[name]) for cls in self.owners if name in option_names(cls)]


def resolved(stage: type[Stage], key: str, given: Mapping[str, str], folders: Sequence[str] = ()) -> Key:
    """Resolve a key of a command line.

    Args:
        stage: the stage of the command line.
        key: `k`, `extractor.bins`, `extractor.parts.shape`, ...
        given: the values that the command line sets, by key.
        folders: folders with the user's presets.
    """
    owners: list[type[Component]] = [stage]
    path, rest = "", key.split(".")
    inside: dict[str, str] = {}
    defaults = presets.default_choices(stage.title(), folders)
    while True:
        fields = [component_fields(cls)[rest[0]] for cls in owners if rest[0] in component_fields(cls)]
        if not fields:
            return Key(owners, path, ".".join(rest))
        name, group = rest.pop(0), fields[0].metadata["group"]
        inner = f"{path}.{name}" if path else name
        if holds_several(fields[0]):
            if not rest:
                return Key(owners, path, name)  # the whole mapping as one value
            inner = f"{inner}.{rest.pop(0)}"
        if not rest:
            return Key(owners, path, name, group, inner in inside)
        choice = given.get(inner, inside.get(inner)) or defaults.get(inner) or ""
        for each in choice.split(","):
            below = presets.inside(group, each, folders)
            inside |= {f"{inner}.{name}": value for name, value in below.items()}
        owners = chosen_by(choice, group, folders) or [p.cls for p in registry.available(kind_of(group)).values()]
        path = inner


def chosen_by(choices: str, group: str, folders: Sequence[str] = ()) -> list[type[Component]]:
    """The classes of choices from a group (`a,b` in a sweep); of a preset, that of the plugin it extends."""
    plugins = [presets.plugin_of(group, choice, folders) for choice in choices.split(",")]
    return [plugin.cls for plugin in plugins if plugin is not None]
