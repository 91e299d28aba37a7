"""Dotted keys of a command line: whose option they are, or what they choose; through components in components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgrec import presets, registry
from imgrec.kinds import Component, Stage, kind_of
from imgrec.options import component_fields, holds_several


@dataclass(frozen=True)
class Key:
    """What a key means."""

    owners: Sequence[type[Component]]
    """Whose option it is: the classes of which one is chosen, or all that could be where nothing tells."""

    path: str
    """Where these are: `extractor.parts.shape`; empty for the stage."""

    name: str
    """What follows: the option's name, with anything behind it."""

    group: str | None = None
    """The config group that it chooses from; None where it is no choice."""

    is_listed: bool = False
    """Whether a preset chooses something there already."""

    @property
    def is_path(self) -> bool:
        """Whether it is an option whose value names a file or folder, of any of its owners."""
        specs = (getattr(cls, "__dataclass_fields__", {}).get(self.name) for cls in self.owners)
        return any(spec is not None and spec.metadata.get("path", False) for spec in specs)


def resolved(stage: type[Stage], key: str, given: Mapping[str, str], folders: Sequence[str] = ()) -> Key:
    """What a key means on a command line.

    Args:
        stage: that of the command line.
        key: `k`, `extractor.bins`, `extractor.parts.shape`, ...
        given: what the command line sets, by key.
        folders: the user's own, with presets.
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
                return Key(owners, path, name)  # all of them as one value
            inner = f"{inner}.{rest.pop(0)}"
        if not rest:
            return Key(owners, path, name, group, inner in inside)
        choice = given.get(inner, inside.get(inner)) or defaults.get(inner) or ""
        for each in choice.split(","):
            below = presets.inside(kind_of(group), each, folders)
            inside |= {f"{inner}.{name}": value for name, value in below.items()}
        owners = chosen_by(choice, group, folders) or [p.cls for p in registry.available(kind_of(group)).values()]
        path = inner


def chosen_by(choices: str, group: str, folders: Sequence[str] = ()) -> list[type[Component]]:
    """The classes that choices from a group stand for, `a,b` in a sweep; presets by what they begin with."""
    plugins = [presets.plugin_of(kind_of(group), choice, folders) for choice in choices.split(",")]
    return [plugin.cls for plugin in plugins if plugin is not None]
