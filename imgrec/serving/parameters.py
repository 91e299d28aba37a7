"""Options in an address: read into the options' dataclass, and described for OpenAPI from the same."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from imgrec.errors import UsageError
from imgrec.options import (
    Options,
    allowed_types,
    check_option_names,
    choices_of,
    default_values,
    option_names,
    type_hints,
)

T = TypeVar("T", bound=Options)

TYPES: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def read(cls: type[T], query: QueryParams) -> T:
    """Options from the query of an address; `?q=a&q=b` is a list, `?weights=colour:2` a mapping.

    Raises:
        UsageError: there is no such option, or it cannot have this value.
    """
    names = list(dict.fromkeys(query.keys()))
    check_option_names("this address", option_names(cls), names)
    hints = type_hints(cls)
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}
    if lacking := specs.keys() - default_values(cls).keys() - set(names):
        raise UsageError(f"{min(lacking)}= is missing: {specs[min(lacking)].metadata.get('help', '')}")
    return cls(**{name: _value(specs[name], hints[name], query.getlist(name)) for name in names})


def _value(spec: dataclasses.Field[Any], hint: Any, given: list[str]) -> Any:
    kinds = allowed_types(hint)
    origins = {typing.get_origin(kind) or kind for kind in kinds}
    if dict in origins:
        return dict(_pair(spec.name, each) for each in given)
    if list in origins:
        return given
    if any(kind is Any for kind in kinds):
        is_text = spec.metadata.get("text") or spec.metadata.get("path")
        values = given if is_text else [_number(each) for each in given]
        return values[0] if len(values) == 1 else values
    if len(given) > 1:
        raise UsageError(f"{spec.name}= is given {len(given)} times")
    return _scalar(spec.name, kinds, given[0])


def _scalar(name: str, kinds: tuple[Any, ...], text: str) -> Any:
    try:
        if bool in kinds:
            return {"true": True, "false": False}[text]
        if int in kinds:
            return int(text)
        if float in kinds:
            return float(text)
    except (KeyError, ValueError):
        wanted = next(TYPES[kind] for kind in (bool, int, float) if kind in kinds)
        raise UsageError(f"{name} takes {wanted}, not {text!r:.60}") from None
    return text


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _pair(name: str, text: str) -> tuple[str, float]:
    key, _, value = text.rpartition(":")
    try:
        return key, float(value)
    except ValueError:
        raise UsageError(f"{name} takes NAME:NUMBER, not {text!r:.60}") from None


# --- for OpenAPI ------------------------------------------------------------------------------------------------


def described(cls: type[Options]) -> list[dict[str, Any]]:
    """The parameters of an address that takes these options, as OpenAPI has them."""
    defaults, hints = default_values(cls), type_hints(cls)
    return [
        {
            "name": spec.name,
            "in": "query",
            "required": spec.name not in defaults,
            "description": spec.metadata.get("help", ""),
            "schema": _schema(spec, hints[spec.name], defaults.get(spec.name)),
        }
        for spec in dataclasses.fields(cls)
    ]


def _schema(spec: dataclasses.Field[Any], hint: Any, default: Any) -> dict[str, Any]:
    kinds = allowed_types(hint)
    origins = {typing.get_origin(kind) or kind for kind in kinds}
    if origins & {list, dict}:
        return {"type": "array", "items": {"type": "string"}}
    schema: dict[str, Any] = {}
    if kind := next((TYPES[kind] for kind in TYPES if kind in kinds), None):
        schema["type"] = kind
    elif spec.metadata.get("text") or spec.metadata.get("path"):
        schema = {"type": "array", "items": {"type": "string"}}
    else:
        schema["type"] = ["string", "number"]
    if choices := choices_of(spec.metadata):
        schema["enum"] = list(choices)
    bounds = {"minimum": spec.metadata.get("minimum"), "maximum": spec.metadata.get("maximum")}
    schema |= {name: value for name, value in bounds.items() if value is not None}
    return schema if default in (None, [], {}) else {**schema, "default": default}
