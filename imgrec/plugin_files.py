"""Plugins that are single files, not installed: `plugins=[mymodel.py]`, `IMGREC_PLUGINS`, `imgrec.load_plugin`.

Each is the module `imgrec.plugin_files.NAME`, which other processes import by the environment variable, so that an
engine or a sweep may send its components there.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from imgrec.errors import UsageError
from imgrec.paths import expanded

VARIABLE = "IMGREC_PLUGINS"
"""The environment variable that names plugin files, separated as in `PATH`."""

__path__: list[str] = []  # a module that has submodules


@dataclass(frozen=True)
class PluginFile:
    """A file that is a plugin, in the place that a distribution has for installed ones."""

    path: str
    """Absolute."""

    data: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def metadata(self) -> dict[str, str]:
        """Its path and the beginning of its digest, where a distribution has name and version."""
        return {"Name": self.path, "Version": self.digest[:12]}

    def line_of(self, error: BaseException) -> str:
        """The line of the file that an error comes from, to follow its message; empty if none is known."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self.path]
        return f" (line {lines[-1]})" if lines else ""

    def entry_point(self) -> EntryPoint:
        """The entry point that a distribution would have."""
        name = Path(self.path).stem
        entry = EntryPoint(name, f"{__name__}.{name}", "imgrec")
        vars(entry).update(dist=self)
        return entry


_read: dict[str, PluginFile] = {}
"""The files by their paths, each as it was when it was first read."""


def named() -> list[PluginFile]:
    """The files that the environment variable names.

    Raises:
        UsageError: one cannot be read, or two have one name.
    """
    found: dict[str, PluginFile] = {}
    for path in map(_absolute, filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))):
        file = _read.get(path) or _read.setdefault(path, _opened(path))
        other = found.setdefault(Path(path).stem, file)
        if other.path != path:
            raise UsageError(f"two plugin files have one name, {other.path} and {path}: rename one")
    return list(found.values())


def add(path: str | os.PathLike[str]) -> PluginFile:
    """Name a file in the environment variable, for this process and those that it starts, and read it anew.

    Raises:
        UsageError: it cannot be read, or another one has its name.
    """
    file = _opened(_absolute(path))
    before = os.environ.get(VARIABLE, "")
    if file.path not in [each.path for each in named()]:
        os.environ[VARIABLE] = os.pathsep.join(filter(None, (before, file.path)))
    _read[file.path] = file
    try:
        named()
    except UsageError:
        os.environ[VARIABLE] = before
        raise
    sys.modules.pop(file.entry_point().value, None)  # it may have changed
    return file


def digests() -> dict[str, str]:
    """The digests of the files that are loaded, by path."""
    return {file.path: file.digest for file in named()}


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(expanded(os.fspath(path)))


def _opened(path: str) -> PluginFile:
    if not (path.endswith(".py") and Path(path).stem.isidentifier()):
        raise UsageError(f"a plugin file is called NAME.py, of letters, digits and _, not {path}")
    try:
        return PluginFile(path, Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"the plugin file {path} cannot be read: {error.strerror}") from None


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs the content that the digest is of, and neither reads nor leaves bytecode."""

    def get_data(self, path: str) -> bytes:
        """The content."""
        return _read[path].data if path in _read else super().get_data(path)

    def path_stats(self, path: str) -> Any:
        """Nothing: so Python does not look for bytecode."""
        raise OSError(path)


class _Finder:
    """Finds the modules of plugin files."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """The module of a file; None if no file is named so."""
        if not name.startswith(f"{__name__}."):
            return None
        files = {file.entry_point().value: file.path for file in named()}
        if name not in files:
            return None
        return importlib.util.spec_from_file_location(name, loader=_Loader(name, files[name]))


sys.meta_path.append(_Finder)
