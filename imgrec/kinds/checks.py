"""Checks of plugin classes when they are discovered."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping

from imgrec.errors import PluginError
from imgrec.kinds import GROUPS, KINDS, Component
from imgrec.options import component_fields, default_values, option_names, type_hints

NO_NAMES = frozenset("none null true false yes no on off y n nan inf".split())
"""Words that YAML or Hydra read as something other than a name."""


def base_of(cls: type) -> type[Component]:
    """The base class of a plugin class's kind.

    Raises:
        PluginError: it has none.
    """
    for base in KINDS.values():
        if issubclass(cls, base):
            return base
    bases = ", ".join(f"imgrec.{base.__name__}" for base in KINDS.values())
    raise PluginError(f"{cls.__name__} is derived from none of {bases}")


def checked_class(cls: object) -> type[Component]:
    """Check that a plugin class can be listed, chosen and built.

    Raises:
        PluginError: with the first problem found.
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise PluginError(f"imgrec_components returned {cls!r}, which is no dataclass")
    base = base_of(cls)
    assert issubclass(cls, Component)
    if inspect.isabstract(cls):
        raise PluginError(f"{cls.__name__} lacks {', '.join(sorted(cls.__abstractmethods__))}")
    _check_dataclass(cls)
    name: object = cls.title()
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w*", name)):
        raise PluginError(f"{cls.__name__}.name cannot be chosen: it is {name!r}, not letters, digits and _")
    if name in NO_NAMES or name in {group.none for group in base.groups}:
        raise PluginError(f"{cls.__name__}.name cannot be chosen: {name!r} means something else to imgrec or YAML")
    if not (
        isinstance(cls.requires, Mapping)
        and all(re.fullmatch(r"\w+(\.\w+)*", module) for module in cls.requires)
        and all(isinstance(needed, str) for needed in cls.requires.values())
    ):
        raise PluginError(f"{cls.__name__}.requires maps modules to what brings them, not {cls.requires!r}")
    try:  # choices are not evaluated: they may be the names of other plugins
        type_hints(cls), default_values(cls)
    except Exception as error:
        raise PluginError(f"the options of {cls.__name__} cannot be listed: {message_of(error)}") from error
    inherited = {*option_names(base), *base.free_names}
    options = [name for name in option_names(cls) if name not in inherited]
    if taken := [name for name in options if hasattr(base, name) or name == "name"]:
        raise PluginError(
            f"{cls.__name__} has an option {taken[0]!r}, and that name means something else in the contract: "
            "rename it, or annotate it as ClassVar"
        )
    _check_groups(cls)
    if problem := cls.problem():
        raise PluginError(problem)
    return cls


def _check_groups(cls: type) -> None:
    """Refuse component fields of a config group that does not exist."""
    for name, spec in component_fields(cls).items():
        if (group := spec.metadata["group"]) not in GROUPS:
            raise PluginError(f"{cls.__name__}.{name} is of a group {group!r}: the groups are {', '.join(GROUPS)}")


def _check_dataclass(cls: type) -> None:
    """Refuse options that lack a type, or a @dataclass decorator above the class."""
    if "__dataclass_fields__" not in cls.__dict__:
        hints = inspect.get_annotations(cls)
        annotated = [name for name, hint in hints.items() if "ClassVar" not in str(hint)]
        if annotated:
            raise PluginError(f"{cls.__name__} has options, {', '.join(annotated)}, and no @dataclass above it")
    if bare := [name for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)]:
        raise PluginError(f"{cls.__name__}.{bare[0]} has no type: write `{bare[0]}: int = option(...)`")


def message_of(error: BaseException) -> str:
    """A plugin's exception in one line; for a failed import from imgrec, with a hint at what is public."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error that cannot be printed"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("imgrec."):
        return f"there is no {error.name} in this imgrec: `import imgrec` has all that a plugin needs"
    if isinstance(error, ImportError) and error.name == "imgrec":
        return f"{text}: `import imgrec` has all that a plugin needs"
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"
