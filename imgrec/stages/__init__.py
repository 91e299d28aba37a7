"""The built-in stages: one job of a run each, one file each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import NoneType
from typing import Any, cast, get_origin

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.gallery.similarity import Fusion
from imgrec.hookspecs import hookimpl
from imgrec.kinds import Stage, kind_of
from imgrec.options import allowed_types, check_option_names, default_values, option_names, suggestion, type_hints


@hookimpl
def imgrec_components() -> list[type[Stage]]:
    """The stage that each module here defines."""
    names = [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]
    return [
        value
        for name in names
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, type) and issubclass(value, Stage) and value.__module__ == name
    ]


def build(name: str, configuration: Mapping[str, Any], plugins: Mapping[str, str | None]) -> Stage:
    """A stage with its components, all of them found by name and their options checked: nothing else is called.

    Args:
        name: of the stage.
        configuration: its options; those of its components under the names of the parts that they fill.
        plugins: the plugin of each part, as `Stage.plugins` has them; where there is none, the part may be left
            out, or take options only.

    Raises:
        UsageError: there is no such stage or plugin; an option is missing, unknown or not allowed; a library is
            not installed.
    """
    known = registry.classes(Stage)
    if name not in known:
        raise UsageError(f"there is no stage {name!r}{suggestion(name, known)}: the stages are {', '.join(known)}")
    cls = known[name]
    check_option_names(name, option_names(cls), configuration)
    values = dict(configuration)
    for key, spec in cls.component_fields().items():
        options = values.get(key) or {}
        if not isinstance(options, Mapping):
            raise UsageError(f"{name}.{key} holds options by name, not {options!r}")
        if (plugin := plugins.get(key)) == Fusion.name:
            values[key] = _fusion(key, options, plugins)
        elif plugin:
            values[key] = registry.build(kind_of(spec.metadata["group"]), plugin, **options)
        else:
            values[key] = _without_plugin(cls, key, options)
    if absent := [key for key in option_names(cls) if key not in {**default_values(cls), **values}]:
        raise UsageError(f"{name} needs {', '.join(f'{key}=' for key in absent)}: see {name} --help")
    stage: Stage = cast("Any", cls)(**values)
    return stage


def _fusion(key: str, options: Mapping[str, Any], plugins: Mapping[str, str | None]) -> Fusion:
    """A fusion with its parts; one that its weights do not name is left out, for a preset may offer more."""
    check_option_names(Fusion.name, option_names(Fusion), options)
    values, weights = dict(options), options.get("weights") or {}
    for what, kind in (("parts", "extractor"), ("projections", "reducer")):
        given = {name: each or {} for name, each in (options.get(what) or {}).items() if name in weights}
        values[what] = {
            name: registry.build(kind, plugin, **each)
            for name, each in given.items()
            if (plugin := plugins.get(f"{key}.{what}.{name}"))
        }
    return Fusion(**values)


def _without_plugin(cls: type[Stage], part: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a part is where no plugin was chosen: options to change on a recorded one, or nothing."""
    allowed = allowed_types(type_hints(cls)[part])
    if any(get_origin(kind) is dict for kind in allowed):
        return options
    if NoneType in allowed and not options:
        return None
    raise UsageError(f"{cls.title()} needs {part}=")
