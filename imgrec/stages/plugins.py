"""plugins: lists the installed plugins."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from imgrec import registry
from imgrec.kinds import KINDS, Stage
from imgrec.options import component_fields, default_values, first_line, option, option_names, written
from imgrec.run import Run, table, to_json


@dataclass(kw_only=True)
class Plugins(Stage):
    """List every plugin: kind, name, distribution, version, options, and whether its library is installed."""

    positional: ClassVar[str | None] = None
    keeps_record: ClassVar[bool] = False

    format: str = option("table", choices=("table", "json"), help="of the result on stdout")

    def execute(self, run: Run) -> None:
        """Print the list, and write `results.json`."""
        result = [describe(plugin) for kind in KINDS for plugin in registry.available(kind).values()]
        result += [
            {"kind": kind, "name": name, "distribution": distribution, "version": version}
            for kind, name, distribution, version in registry.others()
        ]
        run.write_json("results.json", result)
        run.print(to_json(result) if self.format == "json" else as_text(result))


def describe(plugin: registry.Plugin) -> dict[str, Any]:
    """Describe a plugin as plain data."""
    inside = component_fields(plugin.cls)
    defaults = {name: value for name, value in default_values(plugin.cls).items() if name not in inside}
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "summary": first_line(plugin.cls),
        "options": {name: value.name if isinstance(value, Enum) else value for name, value in defaults.items()},
        "required": [name for name in option_names(plugin.cls) if name not in {**defaults, **inside}],
        "needs": plugin.cls.missing_libraries(),
    }


def as_text(plugins: list[dict[str, Any]]) -> str:
    """The plugins as a table."""
    rows = [
        [
            plugin["kind"],
            plugin["name"],
            f"{plugin['distribution']} {plugin['version']}",
            "; ".join(plugin.get("needs", {}).values()) or "installed",
            " ".join(
                [f"{name}=..." for name in plugin.get("required", ())]
                + [f"{name}={written(value)}" for name, value in plugin.get("options", {}).items()]
            ),
        ]
        for plugin in plugins
    ]
    return table(rows, header=["kind", "name", "distribution", "library", "options"])
