"""A run: its folder, its record `run.json`, and all that is needed to repeat it."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from imgrec import plugin_files, registry
from imgrec.errors import UsageError
from imgrec.hookspecs import RunInfo
from imgrec.kinds import Space, Stage
from imgrec.locks import only_writer
from imgrec.run.console import linked, to_json, write_results
from imgrec.run.listing import Listing

# Module to distribution; versions are recorded of those that a run has imported.
LIBRARIES = {
    "cv2": "opencv-python-headless",
    "hydra": "hydra-core",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "omegaconf": "omegaconf",
    "openTSNE": "openTSNE",
    "pandas": "pandas",
    "PIL": "pillow",
    "pluggy": "pluggy",
    "sklearn": "scikit-learn",
    "timm": "timm",
    "torch": "torch",
    "umap": "umap-learn",
}

RECORD, RESULTS, DIFF = "run.json", "results.json", "git.diff"
"""Files of a run's folder: its record, its results, and the uncommitted changes."""

SHARED = "shared"
"""The folder of a sweep with what its jobs have measured once for all."""

LONGEST_DIFF = 1_000_000
"""Maximum size of `git.diff` in bytes."""


@dataclass
class Run:
    """One execution of a stage."""

    stage: str
    folder: Path
    command: Sequence[str]
    configuration: Mapping[str, Any]
    choices: Mapping[str, str | None] = field(default_factory=dict)
    """The choice made in each config group."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """The environment variables that have located components, `IMGREC_STORE`."""

    overrides: Mapping[str, str] = field(default_factory=dict)
    """The values set on the command line, by option."""

    repeats: Path | None = None
    """The folder of the run that it repeats, if it is a replay."""

    sweep: Path | None = None
    """The folder of its sweep, if it is a job of one."""

    plugins: dict[str, str] = field(default_factory=dict)
    """Distribution and version of each plugin used, by `kind=name`."""

    plugin_files: Mapping[str, str] = field(default_factory=plugin_files.digests)
    """The digest of each plugin file that is loaded, by path."""

    components: Mapping[str, str | None] = field(default_factory=dict)
    """The plugin of each component of the stage; None if nothing was chosen, or the recorded one is used."""

    gallery: dict[str, Any] | None = None
    """Identifies the gallery that the run works on; see `reads`."""

    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of other inputs, by option: `{"query": "00ff..."}`."""

    index: dict[str, Any] | None = None
    """The index that was asked for, its effort, and what it finds; None if there is none."""

    counts: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by phase of the stage."""

    status: str = "running"
    error: str | None = None
    is_quiet: bool = False
    """Suppress results on stdout, for a replay or the job of a sweep."""

    directory: Path = field(default_factory=Path.cwd)
    """The working directory, which relative paths refer to."""

    stdout: TextIO = field(default_factory=lambda: sys.stdout, repr=False)
    """As it is when the run begins: meanwhile what else is printed goes to stderr."""

    _started: float = field(default_factory=time.time)

    @functools.cached_property
    def _commit(self) -> str | None:
        """The commit when the run began, looked up once."""
        return git_commit()

    def gives(self, key: str) -> bool:
        """Whether the command line sets an option, or one of the component that it holds."""
        return any(name == key or name.startswith(f"{key}.") for name in self.overrides)

    def uses(self, kind: str, name: str) -> None:
        """Record a plugin that the run uses."""
        plugin = registry.available(kind).get(name)
        self.plugins[f"{kind}={name}"] = plugin.origin if plugin else "not installed"

    def works_with(self, stage: Stage) -> None:
        """Record the plugins of a stage and of all nested components."""
        self.components = stage.plugins()
        self.uses(Stage.kind, self.stage)
        for component in stage.components():
            self.uses(component.kind, component.name)

    def reads(
        self, images: int, fingerprint: str, spaces: Sequence[Space], notes: Mapping[str, Any] | None = None
    ) -> None:
        """Record the gallery that the run works on.

        Args:
            images: the number of files.
            fingerprint: of their contents, as from `search.tables.fingerprint`.
            spaces: the spaces used; their identities include the digests of weights.
            notes: the store's metadata that the run depends on.
        """
        self.gallery = {
            "images": images,
            "fingerprint": fingerprint,
            "spaces": [each.to_json() for each in spaces],
            "notes": dict(notes or {}),
        }
        for space in spaces:
            self.uses("extractor", space.extractor)

    def print(self, text: str, *, end: str = "\n") -> None:
        """Print a result on stdout.

        Raises:
            ImgrecError: stdout cannot be written.
        """
        if not self.is_quiet:
            write_results(text + end, self.stdout)

    def show(self, listing: Listing, form: str) -> None:
        """Print a listing on stdout in one of `FORMATS`; in a terminal the paths of a table are links.

        Raises:
            ImgrecError: stdout cannot be written.
        """
        text = listing.text(form)
        self.print(linked(text, self.stdout) if form == "table" else text, end="")

    def note(self, text: str) -> None:
        """Print a remark on stderr."""
        if not self.is_quiet:
            sys.stderr.write(text + "\n")

    def write_json(self, name: str, data: Any) -> None:
        """Write a result to a file of the run's folder."""
        (self.folder / name).write_text(to_json(data), encoding="utf-8")

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time spent in the block to `timings`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[part] = round(self.timings.get(part, 0) + time.perf_counter() - start, 4)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep `run.json` up to date while the stage runs, and call the listeners."""
        self.save()
        if self._commit and self._commit.endswith("+"):
            (self.folder / DIFF).write_bytes(git_diff())
        try:
            registry.notify("imgrec_run_started", self._info())
            yield
            self.status = "done"
        except KeyboardInterrupt:
            self.status = "interrupted"
            raise
        except BaseException as error:
            self.status, self.error = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            self.save()
            registry.notify("imgrec_run_finished", self._info())

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` returns, JSON data; in a sweep only the first job calls it, and the others get the same.

        Args:
            name: of the file in the sweep's folder that keeps it.
            find: called while jobs beside this one wait.
        """
        if self.sweep is None:
            return find()
        file = self.sweep / SHARED / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        with only_writer(file.with_suffix(".lock"), str(file)):
            with contextlib.suppress(OSError, ValueError):
                return json.loads(file.read_text(encoding="utf-8"))
            found = find()
            file.write_text(json.dumps(found), encoding="utf-8")
        return found

    def fail(self, error: BaseException) -> None:
        """Record an error raised before the stage ran."""
        self.status, self.error = "failed", str(error)
        self.save()

    def _info(self) -> RunInfo:
        return RunInfo(
            stage=self.stage,
            folder=self.folder,
            configuration=self.configuration,
            choices=self.choices,
            status=self.status,
            sweep=self.sweep,
            counts=self.counts,
            timings=self.timings,
            error=self.error,
        )

    def save(self) -> None:
        """Write `run.json`."""
        record = {
            "stage": self.stage,
            "status": self.status,
            "error": self.error,
            "command": list(self.command),
            "directory": self.directory,
            "started": datetime.fromtimestamp(self._started, UTC).isoformat(),
            "seconds": round(time.time() - self._started, 4),
            "timings": self.timings,
            "counts": self.counts,
            "seed": self.configuration.get("seed"),
            "sweep": self.sweep,
            "choices": self.choices,
            "overrides": self.overrides,
            "environment": self.environment,
            "components": self.components,
            "configuration": self.configuration,
            "gallery": self.gallery,
            "inputs": self.inputs,
            **({"index": self.index} if self.index else {}),
            "plugins": self.plugins,
            "plugin_files": self.plugin_files,
            "versions": versions(),
            "git": self._commit,
        }
        self.write_json(RECORD, record)


def read_record(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the `run.json` of a run's folder.

    Raises:
        UsageError: there is no such folder, it is not a run's, or its record is damaged.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"there is no run {os.fspath(folder)}: name a folder of a run, outputs/DATE/TIME-STAGE")
    try:
        record = json.loads(Path(folder, RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{os.fspath(folder)} is not a folder of a run: it has no {RECORD}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{Path(folder, RECORD)} cannot be read: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("stage"), str):
        raise UsageError(f"{Path(folder, RECORD)} is not a record of a run: it names no stage")
    return record


def read_results(folder: str | os.PathLike[str]) -> Any:
    """Read the `results.json` of a run's folder; empty if the stage writes none.

    Raises:
        UsageError: the file is damaged.
    """
    file = Path(folder, RESULTS)
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None


def versions() -> dict[str, str]:
    """Versions of Python, imgrec and the libraries imported so far."""
    used = ("imgrec", *(name for module, name in LIBRARIES.items() if module in sys.modules))
    return {name: found for name in ("python", "platform", *used) if (found := version_of(name))}


@functools.cache
def version_of(distribution: str) -> str | None:
    """The version of a distribution, of `python` or of the `platform`; None if it is not installed."""
    if distribution == "python":
        return platform.python_version()
    if distribution == "platform":
        return platform.platform()
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the working directory, followed by `+` if tracked files differ; None outside git."""
    # Excluding all tags makes `describe` print the commit itself.
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git_diff() -> bytes:
    """The diff of tracked files against the commit, truncated to a megabyte; empty outside git."""
    command = ["git", "diff", "--no-ext-diff", "--no-color", "HEAD"]
    try:
        diff = subprocess.run(command, capture_output=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
    return diff if len(diff) <= LONGEST_DIFF else diff[:LONGEST_DIFF] + b"\n... cut off here\n"
