"""Options: the fields of a component's dataclass, with metadata for help and validation."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from imgrec import paths
from imgrec.errors import UsageError


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str = "",  # noqa: A002 - reads best as option(5, help=...)
    choices: Iterable[str] | Callable[[], Iterable[str]] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    path: bool = False,
    is_local: bool = False,
    text: bool = False,
    is_output: bool = False,
    changes_vectors: bool = True,
) -> Any:
    """A dataclass field that is an option, with metadata for `--help`, validation and identity.

    Plain dataclass fields work as well.

    Args:
        default: the default; without one the option is required. A list or a dict is copied for each instance.
        help: one line for `--help` and the tables of the README.
        choices: the values allowed, for a `str`; or a function that returns them, called lazily.
        minimum: the smallest value allowed, for a number or each number of a list.
        maximum: the largest.
        path: the value names a file or folder, or holds such names: `~` and `$HOME` are expanded in it, and the
            command line accepts any characters. An option of the type `Path` is one anyway.
        is_local: the value names what is on this machine: an address such as `s3://` is refused.
        text: the value is free text: the command line accepts any characters.
        is_output: the value names what is written, so that a replay leaves it out.
        changes_vectors: False for options such as `device` that leave an extractor's vectors as they are.
    """
    metadata = {
        "help": help,
        "choices": choices if callable(choices) else tuple(choices),
        "minimum": minimum,
        "maximum": maximum,
        "path": path,
        "is_local": is_local,
        "text": text,
        "is_output": is_output,
        "changes_vectors": changes_vectors,
    }
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def component(
    group: str, default: Any = dataclasses.MISSING, *, choice: str | None = None, is_fallback: bool = False
) -> Any:
    """A dataclass field that holds a component, chosen from a config group.

    Args:
        group: `extractor`, `store`, `backup`, `reducer`, `projection`, `rerank`, ...
        default: None if it may be left out from Python; without a default the component is required.
        choice: the default choice on the command line; None: nothing, or `none` in an optional group. A YAML file
            of the stage, `conf/stage/NAME.yaml`, overrides it.
        is_fallback: it is used only if another component is absent, and is not recorded as used.
    """
    return field(default=default, metadata={"group": group, "choice": choice, "is_fallback": is_fallback})


def components(group: str, *, named_by: str | None = None, help: str = "") -> Any:  # noqa: A002 - as `option` has it
    """A dataclass field that holds components by name, each from a config group: `extractor.parts.NAME=colour`.

    Args:
        group: see `component`.
        named_by: another field, a mapping; a key of it without a choice is the name of its component.
        help: one line for `--help` and the tables of the README.
    """
    metadata = {"group": group, "is_fallback": False, "named_by": named_by, "help": help}
    return field(default_factory=dict, metadata=metadata)


def component_fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a component class that hold components."""
    return {spec.name: spec for spec in dataclasses.fields(cls) if "group" in spec.metadata}


def holds_several(spec: dataclasses.Field[Any]) -> bool:
    """Whether a field holds components by name, not just one."""
    return "named_by" in spec.metadata


@dataclass
class Options:
    """Base of all components: a dataclass whose fields are options.

    Values are checked on construction, so that Python callers get the same one-line errors as the shell. Numbers
    are finite, those inside of lists and mappings too.

    Raises:
        UsageError: a value of the wrong type, out of range, or none of the choices.
    """

    @classmethod
    def title(cls) -> str:
        """Its name in messages."""
        return cls.__name__.lower()

    def __post_init__(self) -> None:
        hints, title = type_hints(type(self)), type(self).title()  # an option of a stage may be called so
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if is_path(type(self), spec):
                value = paths.expanded_in(value)
            value = _checked_type(hints[spec.name], value, f"{title}.{spec.name}")
            check_range(spec.metadata, value, f"{title}.{spec.name}")
            setattr(self, spec.name, value)

    def options(self) -> dict[str, Any]:
        """All options with their values."""
        return {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}

    def inner(self) -> dict[str, Options]:
        """The components that it holds, in mappings and nested ones included, by dotted key."""
        found: dict[str, Options] = {}
        for name, value in self.options().items():
            held = {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {}
            for key, each in (held or {name: value}).items():
                if isinstance(each, Options):
                    found |= {key: each, **{f"{key}.{below}": those for below, those in each.inner().items()}}
        return found


def type_hints(cls: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, evaluated."""
    return _type_hints(cls)


_type_hints = functools.cache(typing.get_type_hints)
"""Evaluated once: a server reads options with each request."""


@functools.cache
def allowed_types(hint: Any) -> tuple[Any, ...]:
    """The types that a type hint allows: of `int | None` both."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def is_path(cls: type, spec: dataclasses.Field[Any]) -> bool:
    """Whether an option of a component class names files or folders."""
    return bool(spec.metadata.get("path")) or Path in allowed_types(type_hints(cls)[spec.name])


def choices_of(metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    """The choices of an option, from its field's metadata; empty if it has none."""
    choices = metadata.get("choices", ())
    return tuple(choices() if callable(choices) else choices)


def values_of(cls: type, spec: dataclasses.Field[Any]) -> list[str]:
    """The values that an option accepts, as written: choices, Enum members, true and false; else empty."""
    if choices := choices_of(spec.metadata):
        return list(map(str, choices))
    for kind in allowed_types(type_hints(cls)[spec.name]):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return list(kind.__members__)
        if kind is bool:
            return ["true", "false"]
    return []


def written(value: Any) -> str:
    """A value as written on the command line and in YAML.

    >>> written(None), written(True), written(0.5)
    ('null', 'true', '0.5')
    """
    if isinstance(value, Enum):
        return value.name
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _checked_type(hint: Any, value: Any, where: str) -> Any:
    """Convert a value to the type wanted, and check it if that is a scalar type."""
    allowed = allowed_types(hint)
    value = _converted(allowed, value, where)
    plain = {int, float, str, bool, types.NoneType}
    if plain.issuperset(allowed) and type(value) not in allowed:
        wanted = " or ".join("null" if kind is types.NoneType else kind.__name__ for kind in allowed)
        raise UsageError(f"{where} takes {wanted}, not {value!r}")
    if isinstance(value, list | tuple) and any(typing.get_args(kind) == (float,) for kind in allowed):
        for at, each in _inside(value, where):
            if isinstance(each, bool) or not isinstance(each, numbers.Real):
                raise UsageError(f"{at} takes float, not {each!r}")
    return value


def _converted(allowed: tuple[Any, ...], value: Any, where: str) -> Any:
    """Convert equivalent values to the type wanted: those read from JSON, NumPy scalars, int to float."""
    for kind in allowed:
        if isinstance(kind, type) and issubclass(kind, Enum) and isinstance(value, str):
            if value not in kind.__members__:
                raise UsageError(f"{where} is one of {', '.join(kind.__members__)}, not {value!r}")
            return kind[value]
        if kind is Path and isinstance(value, str):
            return Path(value)
    if str in allowed and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        value = value.item()
    return float(value) if float in allowed and type(value) is int else value


def check_range(metadata: Mapping[str, Any], value: Any, where: str) -> None:
    """Refuse a value that is none of an option's choices, or out of its range; `metadata` is that of its field."""
    choices, minimum, maximum = choices_of(metadata), metadata.get("minimum"), metadata.get("maximum")
    if choices and value is not None and value not in choices:
        raise UsageError(f"{where} is one of {', '.join(map(str, choices))}, not {value!r}")
    for at, each in _inside(value, where):
        if isinstance(each, float | np.floating) and not math.isfinite(each):
            raise UsageError(f"{at} is a finite number, not {each}")
        if metadata.get("is_local") and "://" in str(each):
            raise UsageError(f"{at} takes a path on this machine, not the address {str(each)!r}")
        if minimum is not None and each is not None and each < minimum:
            raise UsageError(f"{at} is at least {minimum}, not {each}")
        if maximum is not None and each is not None and each > maximum:
            raise UsageError(f"{at} is at most {maximum}, not {each}")


def _inside(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """A value, or the values inside of lists and mappings, however deep, each with its key for messages."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _inside(each, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            yield from _inside(each, f"{where}[{i}]")
    else:
        yield where, value


# --- for help and error messages -----------------------------------------------------------------------------


def default_values(cls: type) -> dict[str, Any]:
    """The defaults of a component class's options, of those that have one."""
    found = {}
    for spec in dataclasses.fields(cls):
        if spec.default is not dataclasses.MISSING:
            found[spec.name] = spec.default
        elif spec.default_factory is not dataclasses.MISSING:
            found[spec.name] = spec.default_factory()
    return found


def option_names(cls: type) -> list[str]:
    """The names of a component class's options."""
    return [spec.name for spec in dataclasses.fields(cls)]


def first_line(cls: type) -> str:
    """The first line of a class's docstring; empty if it is the one that Python generates for dataclasses."""
    line = (cls.__doc__ or "").strip().split("\n")[0]
    return "" if line.startswith(f"{cls.__name__}(") else line


@dataclass(frozen=True)
class OptionRow:
    """One option, as shown in help and READMEs."""

    name: str
    default: str
    help: str


def option_rows(cls: type) -> list[OptionRow]:
    """The options of a component class, without those that hold one component: its own come first."""
    known, rows = default_values(cls), []
    owners = [vars(base).get("__annotations__", {}) for base in cls.__mro__]
    owner_of = {name: i for i, names in reversed(list(enumerate(owners))) for name in names}
    for spec in sorted(dataclasses.fields(cls), key=lambda spec: owner_of[spec.name]):
        if "group" not in spec.metadata or holds_several(spec):
            values = values_of(cls, spec)
            default = known.get(spec.name, "...")
            listed = f" ({', '.join(values)})" if values and not isinstance(default, bool) else ""
            rows.append(OptionRow(spec.name, written(default), spec.metadata.get("help", "") + listed))
    return rows


def check_option_names(owner: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Refuse options that a component does not have.

    Raises:
        UsageError: naming the first one, the closest known option, and all known options.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise UsageError(
                f"{owner} has no option {name!r}{suggestion(name, known)}: it has {', '.join(known) or 'none'}"
            )


def suggestion(word: object, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or empty if no known word is close.

    >>> suggestion("colr", ["colour", "timm"])
    ' (did you mean colour?)'
    """
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
