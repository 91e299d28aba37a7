"""The values of a composed configuration as plain data: interpolations resolved, paths expanded."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from imgrec import paths, presets
from imgrec.cli.config import class_of, first_line
from imgrec.errors import UsageError
from imgrec.kinds import GROUPS, Component, Stage
from imgrec.options import component_fields, holds_several, is_path


def plain(configuration: DictConfig, cls: type[Stage]) -> dict[str, Any]:
    """The configuration of a stage as plain data, with interpolations resolved and paths expanded.

    Raises:
        UsageError: an interpolation cannot be resolved.
    """
    _let_variables_be(configuration, configuration)
    try:
        found: Any = OmegaConf.to_container(configuration, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        _, _, problem = first_line(error).rpartition("raised while resolving interpolation: ")
        raise UsageError(f"{error.full_key}: {problem}") from error
    return _with_paths(found, configuration, cls)


NAME = r"[A-Za-z_]\w*"
INTERPOLATION = re.compile(rf"(?<!\\)((?:\\\\)*)\$\{{({NAME})\}}", re.ASCII)
"""`${NAME}`, not escaped by a backslash."""


def _let_variables_be(node: DictConfig | ListConfig, root: DictConfig) -> None:
    """Let `${NAME}` mean the environment variable where no option has this name."""
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        inner: Any = node._get_node(key)
        value = inner._value()
        if isinstance(value, str) and (names := {each for _, each in INTERPOLATION.findall(value)} - root.keys()):
            if absent := names - os.environ.keys():
                raise UsageError(
                    f"{inner._get_full_key(None)}: there is no option and no environment variable {min(absent)}, "
                    f"which {value} names"
                )
            variables = re.compile(INTERPOLATION.pattern.replace(NAME, "|".join(names)), re.ASCII)
            inner._set_value(variables.sub(r"\1${oc.env:\2}", value))
        elif isinstance(inner, DictConfig | ListConfig) and isinstance(value, dict | list):
            _let_variables_be(inner, root)


def _with_paths(options: dict[str, Any], node: DictConfig, cls: type[Component]) -> dict[str, Any]:
    """Plain options with the paths of a component, and of those that it holds, as the component expands them."""
    found = dict(options)
    for spec in dataclasses.fields(cls):
        name = spec.name
        if name not in found:
            continue
        if name not in component_fields(cls):
            found[name] = paths.expanded_in(found[name]) if is_path(cls, spec) else found[name]
        elif holds_several(spec) and isinstance(node[name], DictConfig):
            found[name] = {key: _inner_paths(value, node[name][key]) for key, value in found[name].items()}
        else:
            found[name] = _inner_paths(found[name], node[name])
    return found


def _inner_paths(options: Any, node: Any) -> Any:
    cls = class_of(node)
    return options if cls is None else _with_paths(options, node, cls)


def environment(options: Mapping[str, Any], cls: type[Stage]) -> dict[str, str]:
    """The environment variables that have located components of a stage, by name."""
    found = {}
    for name, spec in component_fields(cls).items():
        group, located = spec.metadata["group"], presets.named_by_environment(spec.metadata["group"])
        if located and paths.expanded(located[1]) == str((options[name] or {}).get("path")):
            variable = GROUPS[group].variable or ""
            found[variable] = os.environ[variable]
    return found
