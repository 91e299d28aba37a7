"""The hooks that a plugin module may implement: one a kind of component, and the events of a run.

A plugin is a module, or any object, that an entry point of the group `imgrec` names::

    [project.entry-points.imgrec]
    foo = "imgrec_foo"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgrec.contracts import Extractor, Reducer, RunInfo, Store

hookspec = pluggy.HookspecMarker("imgrec")
hookimpl = pluggy.HookimplMarker("imgrec")


@hookspec
def imgrec_extractors() -> Sequence[type[Extractor]]:
    """Extractor classes of this plugin: `return [Colour]`."""
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_stores() -> Sequence[type[Store]]:
    """Store classes of this plugin: `return [Sqlite]`."""
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_reducers() -> Sequence[type[Reducer]]:
    """Reducer classes of this plugin: `return [PCA]`."""
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_conf_packages() -> Sequence[str]:
    """Importable packages with YAML presets, laid out like `conf/`: `return ["imgrec_foo.conf"]`."""
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_run_started(run: RunInfo) -> None:
    """A run begins: its folder is there, its configuration is complete. For trackers and the like."""


@hookspec
def imgrec_run_finished(run: RunInfo) -> None:
    """A run is over, done or failed: its results lie in its folder."""
