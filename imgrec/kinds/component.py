"""The base of every plugin class: a component has options and is chosen by name from a config group."""

from __future__ import annotations

import importlib.util
import json
import os
from abc import ABC
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.installation import install_command
from imgrec.options import Options

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Makes a progress bar from a description and a total: a context manager that yields a callback to advance it."""


def no_progress(description: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show no progress bar: the default of components."""
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Group:
    """A config group, from which a component is chosen on the command line, as in `backup=csv`."""

    name: str

    none: str | None = None
    """The choice that means no component; None if one is required."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of options that differ in this group."""

    refuses: Callable[[type[Component]], str | None] = lambda _: None
    """Returns why a class of the kind cannot be chosen in this group; None if it can."""

    beside: str | None = None
    """The group next to whose component's `path` this group's `path` is placed by default."""

    variable: str | None = None
    """The environment variable that names the default `path` on the command line, as `PATH` or `CHOICE:PATH`."""


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
    """The name it is chosen by; by default the class name in lower case."""

    requires: ClassVar[Mapping[str, str]] = {}
    """Optional libraries: maps importable modules to what brings them, as `install_command` takes it."""

    supervised: ClassVar[bool] = False
    """Whether it learns from labels. An evaluation then has it learn without those of the queries."""

    free_names: ClassVar[frozenset[str]] = frozenset()
    """Attributes of the kind's base class that an option may shadow."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.usual_name()

    @classmethod
    def usual_name(cls) -> str:
        """The default of `name`."""
        return cls.__name__.lower()

    @classmethod
    def title(cls) -> str:
        """The name it is chosen by and called in messages."""
        return cls.name

    @classmethod
    def choice(cls) -> str:
        """How it is chosen on the command line: `extractor=colour`."""
        return f"{cls.kind}={cls.title()}"

    def __post_init__(self) -> None:
        super().__post_init__()
        for module, command in self.missing_libraries().items():
            raise UsageError(f"{self.choice()} needs {module}: {command}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy its options alone: a model that was loaded stays behind, and is loaded anew at use."""
        return _with_options, (type(self), self.options())

    def plain_options(self) -> dict[str, Any]:
        """All options as JSON data from which to rebuild it: paths as strings, Enum members by name."""
        data: dict[str, Any] = json.loads(json.dumps(self.options(), default=plain))
        return data

    @classmethod
    def missing_libraries(cls) -> dict[str, str]:
        """The modules of `requires` that are not installed, and the commands that install them."""
        return {
            module: install_command(needed) for module, needed in cls.requires.items() if not _is_installed(module)
        }

    @classmethod
    def problem(cls) -> str | None:
        """What is wrong with the class by the rules of its kind; None if nothing is."""
        return None


def check_component(value: object, base: type[Component], name: str) -> None:
    """Refuse what is neither a component of a kind nor None.

    Raises:
        UsageError: saying how one is built.
    """
    if not isinstance(value, base | None):
        raise UsageError(f"{name} takes what imgrec.build({base.kind!r}, ...) builds, not {value!r:.60}")


def plain(value: object) -> Any:
    """A value that JSON has no form for, as data that `Options` and `registry.composed` read back."""
    if isinstance(value, Component):
        return {"name": value.title(), "options": value.plain_options()}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    raise UsageError(f"an option or identity of {type(value).__name__} cannot be recorded: {value!r}")


def _with_options(cls: type[Component], options: Mapping[str, Any]) -> Component:
    return cls(**options)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
