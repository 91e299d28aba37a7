"""Paths as people write them: `~/photos`, `$HOME/photos`, `${HOME}/photos`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from imgrec.errors import UsageError

VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


def expanded(path: str, *, strict: bool = True) -> str:
    """A path with `~` and environment variables expanded, as a shell would.

    What exists under just this name keeps it, and so do folders of it. An address like `s3://` stays as it is.

    Args:
        path: of a file or folder, which need not exist; or a pattern of paths.
        strict: whether a variable must exist; in a pattern it never must.

    Raises:
        UsageError: there is no such variable.
    """
    if "://" in path or os.path.lexists(path):
        return path
    folder, _ = os.path.split(path)
    while folder and not os.path.lexists(folder):
        folder, _ = os.path.split(folder)
    must_exist = strict and not re.search(r"[*?[]", path)

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if must_exist and name not in os.environ:
            raise UsageError(f"{path!r}: there is no environment variable {name}, and no file of this name")
        return os.environ.get(name, found[0])

    path = folder + VARIABLE.sub(value, path[len(folder) :])
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib raises an error where nobody has such a home


def expanded_in(value: Any) -> Any:
    """A path, or paths in a list or by name, each `expanded`; anything else as it is."""
    if isinstance(value, list | tuple):
        return [expanded_in(each) for each in value]
    if isinstance(value, Mapping):
        return {name: expanded_in(each) for name, each in value.items()}
    given = os.fspath(value) if isinstance(value, os.PathLike) else value
    return expanded(given) if isinstance(given, str) else value
