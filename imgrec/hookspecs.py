"""The hooks that a plugin module may implement: its components, its presets, and the events of a run.

A plugin is a module, or any object, that an entry point of the group `imgrec` names::

    [project.entry-points.imgrec]
    foo = "imgrec_foo"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from imgrec.errors import PluginError
from imgrec.options import suggestion

if TYPE_CHECKING:
    from imgrec.kinds import Component

CONTRACT_VERSION = 2
"""The version of the plugin contract, raised by changes that break existing plugins.

A plugin may declare which version it was made for with `imgrec_contract = 2` in its module.
"""

hookspec = pluggy.HookspecMarker("imgrec")
hookimpl = pluggy.HookimplMarker("imgrec")

REPLACED = {
    f"imgrec_{kind}s": "imgrec_components" for kind in ("extractor", "store", "reducer", "reranker", "decoder")
}
"""Hooks of earlier versions of the contract, and their replacements."""


@dataclass(frozen=True)
class RunInfo:
    """A run, as `imgrec_run_started` and `imgrec_run_finished` see it."""

    stage: str
    folder: Path
    """Where its results are, with its full record in `run.json`."""

    configuration: Mapping[str, Any]
    """All options with their values."""

    choices: Mapping[str, str | None]
    """The choice in each config group: `{"stage": "ingest", "extractor": "colour", ...}`."""

    status: str
    """`running`, `done`, `failed` or `interrupted`."""

    sweep: Path | None = None
    """The folder of the sweep that it belongs to, if any."""

    counts: Mapping[str, Any] = field(default_factory=dict)
    """The results in numbers."""

    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by phase of the stage."""

    error: str | None = None


@hookspec
def imgrec_components() -> Sequence[type[Component]]:
    """The classes of this plugin, of any kinds: extractors, stores, reducers, stages, ...

    Called whenever plugins of any kind are looked up, as for `--help`, so its module must import fast.

    Returns:
        Dataclasses derived from `imgrec.Extractor`, `imgrec.Store` and the like; each is chosen by its `name`.

    Example::

        @imgrec.hookimpl
        def imgrec_components():
            return [Texture, Isomap]              # imgrec ingest photos extractor=texture
    """
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_conf_packages() -> Sequence[str]:
    """Importable packages with YAML presets of this plugin, laid out like `conf/`.

    Called when a command line is read. The name of a preset must be unique among plugins and presets of its group.

    Returns:
        Dotted names of packages; a folder without `__init__.py` will do.

    Example::

        @imgrec.hookimpl
        def imgrec_conf_packages():
            return ["imgrec_foo.conf"]            # conf/extractor/foo_fine.yaml: imgrec ingest extractor=foo_fine
    """
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_run_started(run: RunInfo) -> None:
    """A run begins: for trackers and other listeners. An exception costs a warning, not the run.

    Called in the process of the run, for each job of a sweep, once its folder exists and its options are checked.

    Args:
        run: stage, folder and configuration; `status` is `running`.

    Example::

        @imgrec.hookimpl
        def imgrec_run_started(run):
            print(run.stage, run.configuration["seed"], file=sys.stderr)
    """


@hookspec
def imgrec_run_finished(run: RunInfo) -> None:
    """A run is over, done or not: for trackers and other listeners. An exception costs a warning, not the run.

    Called once for each `imgrec_run_started`, when all results are in the run's folder.

    Args:
        run: as at the start, with `status` (`done`, `failed`, `interrupted`), `counts`, `timings` and `error`.

    Example::

        @imgrec.hookimpl
        def imgrec_run_finished(run):
            if run.status == "done":
                shutil.copytree(run.folder, archive / run.folder.name)
    """


# --- whether a plugin keeps to them --------------------------------------------------------------------------


def check_version(plugin: object) -> None:
    """Refuse a plugin made for another version of the contract; listeners and presets of version 1 still work."""
    made_for = getattr(plugin, "imgrec_contract", CONTRACT_VERSION)
    if not isinstance(made_for, int):
        raise PluginError(f"imgrec_contract is a whole number, not {made_for!r}")
    old = [name for name in REPLACED if hasattr(plugin, name)]
    if old and not any(hasattr(plugin, REPLACED[name]) for name in old):
        raise PluginError(
            f"{', '.join(old)} was a hook of version 1 of the contract, and this imgrec has {CONTRACT_VERSION}: "
            f"{REPLACED[old[0]]} takes its place, for classes of all kinds"
        )
    if made_for not in (1, CONTRACT_VERSION):
        older = made_for < CONTRACT_VERSION
        raise PluginError(
            f"it was made for version {made_for} of the contract, and this imgrec has {CONTRACT_VERSION}: "
            f"{'upgrade it, or take an older imgrec' if older else 'upgrade imgrec, or take an older one of it'}"
        )


def check_hooks(plugins: pluggy.PluginManager, plugin: object) -> None:
    """Refuse hooks that would never be called, misspelt or unmarked ones; the plugin's other hooks stay."""
    known = [name for name in globals() if name.startswith("imgrec_")]
    callers = plugins.get_hookcallers(plugin) or []
    marked = {caller.name for caller in callers}
    if unmarked := [name for name in known if hasattr(plugin, name) and name not in marked]:
        raise PluginError(f"not marked with @imgrec.hookimpl: {', '.join(unmarked)}")
    if not callers:
        raise PluginError(f"it has no hook: there are {', '.join(known)}")
    for name in sorted(marked.difference(known, REPLACED)):
        raise PluginError(f"there is no {name}{suggestion(name, known)}: there are {', '.join(known)}")
