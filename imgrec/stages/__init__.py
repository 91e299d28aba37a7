"""The built-in stages: one job of a run each, one file each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.hookspecs import hookimpl
from imgrec.kinds import Stage
from imgrec.options import suggestion


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
        configuration: its options; those of its components under the names of the fields that they fill.
        plugins: the plugin of each component, as `Stage.plugins` has them; where there is none, the component may
            be left out, or take options only.

    Raises:
        UsageError: there is no such stage or plugin; an option is missing, unknown or not allowed; a library is
            not installed.
    """
    known = registry.classes(Stage)
    if name not in known:
        raise UsageError(f"there is no stage {name!r}{suggestion(name, known)}: the stages are {', '.join(known)}")
    return registry.composed(known[name], configuration, plugins)
