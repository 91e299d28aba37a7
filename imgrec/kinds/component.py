"""What every plugin class is: a component, with options, and chosen by name from a config group."""

from __future__ import annotations

import importlib.util
import json
import os
from abc import ABC
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.options import Options

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""What makes a progress bar, of a description and a total: its context gives the function that advances it."""


CONTRACT_VERSION = 2
"""The version of what the kinds ask of plugins: raised when a plugin that was right would no longer be.

A plugin may say which one it was made for with `imgrec_contract = 2` in its module.
"""


@dataclass(frozen=True)
class Group:
    """A config group: what people write to choose a component, as in `backup=csv`."""

    name: str

    none: str | None = None
    """The choice that means no component; None where there is always one."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Other defaults that a plugin's options have in this group."""

    refuses: Callable[[type[Component]], str | None] = lambda _: None
    """Why a class of the kind cannot be chosen here; None where it can."""

    beside: str | None = None
    """The group beside whose component's `path` the one of this group lies by default."""


@dataclass
class Component(Options, ABC):
    """Base of every plugin class.

    Raises:
        UsageError: a library in `requires` is not installed.
    """

    kind: ClassVar[str]
    """`extractor`, `store`, ...: set by the base class of each kind."""

    groups: ClassVar[tuple[Group, ...]] = ()
    """The config groups that components of this kind fill; set by the base class of each kind."""

    name: ClassVar[str]
    """What it is chosen by: the class's name in lower case, unless the class says otherwise."""

    requires: ClassVar[Mapping[str, str]] = {}
    """Optional libraries: importable module to the command that installs it."""

    free_names: ClassVar[frozenset[str]] = frozenset()
    """Of what a kind's base class defines, what an option may be called all the same."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.usual_name()

    @classmethod
    def usual_name(cls) -> str:
        """What it is chosen by unless `name` says otherwise."""
        return cls.__name__.lower()

    @classmethod
    def title(cls) -> str:
        """What it is chosen by, and what messages call it."""
        return cls.name

    @classmethod
    def choice(cls) -> str:
        """What people write to have it: `extractor=colour`."""
        return f"{cls.kind}={cls.title()}"

    def __post_init__(self) -> None:
        super().__post_init__()
        for module, command in self.missing_libraries().items():
            raise UsageError(f"{self.choice()} needs {module}: {command}")

    def plain_options(self) -> dict[str, Any]:
        """Every option as JSON data that the class takes back: paths as strings, members of an Enum by name."""
        data: dict[str, Any] = json.loads(json.dumps(self.options(), default=plain))
        return data

    @classmethod
    def missing_libraries(cls) -> dict[str, str]:
        """The part of `requires` that is not installed here."""
        return {module: command for module, command in cls.requires.items() if not _is_installed(module)}

    @classmethod
    def problem(cls) -> str | None:
        """What is wrong with a class of this kind, beyond what is asked of all kinds; None where nothing is."""
        return None


def plain(value: object) -> Any:
    """What JSON has no form for, as data that `Options` and `registry.composed` read back."""
    if isinstance(value, Component):
        return {"name": value.title(), "options": value.plain_options()}
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
