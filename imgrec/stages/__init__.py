"""The built-in stages: one job of a run each, one file each."""

from __future__ import annotations

import importlib
import pkgutil

from imgrec.hookspecs import hookimpl
from imgrec.kinds import Stage


@hookimpl
def imgrec_components() -> list[type[Stage]]:
    """The stages defined in this package."""
    names = [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]
    return [
        value
        for name in names
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, type) and issubclass(value, Stage) and value.__module__ == name
    ]
