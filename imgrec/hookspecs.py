"""The hooks that a plugin module may implement: one a kind of component, presets, and the events of a run.

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

if TYPE_CHECKING:
    from imgrec.kinds import Decoder, Extractor, Reducer, Reranker, Store

hookspec = pluggy.HookspecMarker("imgrec")
hookimpl = pluggy.HookimplMarker("imgrec")


@dataclass(frozen=True)
class RunInfo:
    """A run, as `imgrec_run_started` and `imgrec_run_finished` see it."""

    stage: str
    folder: Path
    """Where its results lie, and `run.json` with its whole record."""

    configuration: Mapping[str, Any]
    """Every option with its value."""

    choices: Mapping[str, str | None]
    """What was chosen of each config group: `{"stage": "ingest", "extractor": "colour", ...}`."""

    status: str
    """`running`, `done`, `failed` or `interrupted`."""

    sweep: Path | None = None
    """The folder of the sweep that it is a job of."""

    counts: Mapping[str, Any] = field(default_factory=dict)
    """The results in numbers."""

    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by part of the stage."""

    error: str | None = None


@hookspec
def imgrec_extractors() -> Sequence[type[Extractor]]:
    """Extractor classes of this plugin.

    Called when somebody asks what extractors there are, `--help` included, so the module that has it is light.

    Returns:
        Dataclasses derived from `imgrec.Extractor`; each is chosen by its `name`.

    Example::

        @imgrec.hookimpl
        def imgrec_extractors():
            return [Texture]                      # imgrec ingest photos extractor=texture
    """
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_stores() -> Sequence[type[Store]]:
    """Store classes of this plugin; each is a backup as well.

    Called when somebody asks what stores there are, `--help` included, so the module that has it is light.

    Returns:
        Dataclasses derived from `imgrec.Store`; each is chosen by its `name`.

    Example::

        @imgrec.hookimpl
        def imgrec_stores():
            return [Parquet]                      # imgrec ingest photos store=parquet store.path=gallery
    """
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_reducers() -> Sequence[type[Reducer]]:
    """Reducer classes of this plugin.

    Called when somebody asks what reducers there are, `--help` included, so the module that has it is light.

    Returns:
        Dataclasses derived from `imgrec.Reducer`; each is chosen by its `name`.

    Example::

        @imgrec.hookimpl
        def imgrec_reducers():
            return [Isomap]                       # imgrec visualise reducer=isomap
    """
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_rerankers() -> Sequence[type[Reranker]]:
    """Reranker classes of this plugin: second searches, with a better query.

    Called when somebody asks what rerankers there are, `--help` included, so the module that has it is light.

    Returns:
        Dataclasses derived from `imgrec.Reranker`; each is chosen by its `name`.

    Example::

        @imgrec.hookimpl
        def imgrec_rerankers():
            return [Rocchio]                      # imgrec recommend img.jpg rerank=rocchio
    """
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_decoders() -> Sequence[type[Decoder]]:
    """Decoder classes of this plugin: image formats that OpenCV and Pillow do not read by themselves.

    Called when image files are looked for or read.

    Returns:
        Dataclasses without fields derived from `imgrec.Decoder`; asked in the order of their names.

    Example::

        @imgrec.hookimpl
        def imgrec_decoders():
            return [Raw]                          # imgrec ingest photos: finds and reads *.cr3 as well
    """
    raise AssertionError("a hook specification is not called")


@hookspec
def imgrec_conf_packages() -> Sequence[str]:
    """Importable packages with YAML presets of this plugin, laid out like `conf/`.

    Called when a command line is read. A preset bears another name than all plugins and presets of its group.

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

    Called in the process of the run, for each job of a sweep, when its folder is there and its options checked.

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

    Called once for each `imgrec_run_started`, when all results lie in the run's folder.

    Args:
        run: as at the start, with `status` (`done`, `failed`, `interrupted`), `counts`, `timings` and `error`.

    Example::

        @imgrec.hookimpl
        def imgrec_run_finished(run):
            if run.status == "done":
                shutil.copytree(run.folder, archive / run.folder.name)
    """
