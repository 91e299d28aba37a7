"""The stages: one job of a run each, one file each, found by the file's name."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar

from imgrec.contracts import Component
from imgrec.options import Options, option
from imgrec.run import Run


def part(group: str, default: Any = MISSING) -> Any:
    """A field of a stage that is filled from a config group: `extractor`, `store`, `backup`, `reducer`."""
    return field(default=default, metadata={"group": group})


def kind_of(spec: Field[Any]) -> str:
    """The kind of plugin that fills a part: a backup is a store."""
    group: str = spec.metadata["group"]
    return "store" if group == "backup" else group


@dataclass(kw_only=True)
class Stage(Options, ABC):
    """One job of a run. Its fields are its options, and the components that it works with (`part`)."""

    positional: ClassVar[str | None] = None
    """The option that a bare argument fills: `imgrec recommend img.jpg`."""

    seed: int = option(0, minimum=0, maximum=2**32 - 1, help="of everything random")
    debug: bool = option(False, help="show the traceback of an error")

    @classmethod
    def title(cls) -> str:
        """What messages call it: its name, which is its file's."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def run(self, run: Run) -> None:
        """Do the job: results on stdout through `run.print` and into `run.folder`.

        Raises:
            UsageError: what was asked for cannot be done; the run's folder is removed again.
            ImgrecError: it failed.
        """

    @classmethod
    def parts(cls) -> dict[str, Field[Any]]:
        """The fields that config groups fill."""
        return {spec.name: spec for spec in fields(cls) if "group" in spec.metadata}

    def components(self) -> Iterator[Component]:
        """The components that the configuration chose."""
        for name in self.parts():
            if isinstance(value := getattr(self, name), Component):
                yield value


@functools.cache
def available() -> dict[str, type[Stage]]:
    """The stages by name: the one `Stage` that each module here defines."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        contents = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        (found[module.name],) = (
            value
            for value in contents
            if isinstance(value, type)
            and issubclass(value, Stage)
            and value.__module__ == f"{__name__}.{module.name}"
        )
    return found
