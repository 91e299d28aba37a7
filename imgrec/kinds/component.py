"""What every plugin class is: a component, with options, and chosen by name from a config group."""

from __future__ import annotations

import importlib.util
import json
import os
from abc import ABC
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.options import Options

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""What makes a progress bar, of a description and a total: its context gives the function that advances it."""


CONTRACT_VERSION = 1
"""The version of what this module asks of plugins: raised when a plugin that was right would no longer be.

A plugin says which one it was made for with `imgrec_contract = 1` in its module. One that says nothing was made
for 1.
"""


@dataclass
class Component(Options, ABC):
    """Base of every plugin class.

    Raises:
        UsageError: a library in `requires` is not installed.
    """

    kind: ClassVar[str]
    """`extractor`, `store`, `reducer`, `reranker` or `decoder`."""

    name: ClassVar[str]
    """What it is chosen by: the class's name in lower case, unless the class says otherwise."""

    requires: ClassVar[Mapping[str, str]] = {}
    """Optional libraries: importable module to the command that installs it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()

    @classmethod
    def title(cls) -> str:
        """What messages call it: its name."""
        return cls.name

    def __post_init__(self) -> None:
        super().__post_init__()
        for module, command in self.missing_libraries().items():
            raise UsageError(f"{self.kind}={self.name} needs {module}: {command}")

    def plain_options(self) -> dict[str, Any]:
        """Every option as JSON data that the class takes back: paths as strings, members of an Enum by name."""
        data: dict[str, Any] = json.loads(json.dumps(self.options(), default=plain))
        return data

    @classmethod
    def missing_libraries(cls) -> dict[str, str]:
        """The part of `requires` that is not installed here."""
        return {module: command for module, command in cls.requires.items() if not _is_installed(module)}


def plain(value: object) -> str:
    """What JSON has no form for, as text that `Options` reads back."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    raise UsageError(f"an option or identity of {type(value).__name__} cannot be recorded: {value!r}")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
