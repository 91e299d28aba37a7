"""The stages: one job of a run each, one file each, found by the file's name."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType
from typing import Any, ClassVar, cast, get_origin

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.kinds import Component
from imgrec.options import (
    Options,
    allowed_types,
    check_option_names,
    default_values,
    option,
    option_names,
    suggestion,
    type_hints,
)
from imgrec.run import Run
from imgrec.views import Fusion


def part(group: str, default: Any = MISSING) -> Any:
    """A field of a stage that is filled from a config group: `extractor`, `store`, `backup`, `reducer`."""
    return field(default=default, metadata={"group": group})


OPTIONAL = {"backup": "store", "projection": "reducer", "rerank": "reranker"}
"""Config groups that may be left empty (`none`), and the kind of plugin that fills them."""

DEFAULTS = {"projection": {"n_components": 128}}
"""Other defaults that a plugin's options have in such a group."""


def kind_of(spec: Field[Any]) -> str:
    """The kind of plugin that fills a part: a backup is a store, a projection a reducer."""
    group: str = spec.metadata["group"]
    return OPTIONAL.get(group, group)


@dataclass(frozen=True)
class Ranking:
    """By which figures of `results.json` a sweep ranks a stage's jobs. Each with the heading that tells it."""

    quality: Mapping[str, str]
    """More is better; the first decides. `confidence` in `results.json` may have the ends of their intervals."""

    cost: Mapping[str, str]
    """What the quality costs; the first is what it is drawn against."""


@dataclass(kw_only=True)
class Stage(Options, ABC):
    """One job of a run. Its fields are its options, and the components that it works with (`part`)."""

    positional: ClassVar[str | None] = None
    """The option that a bare argument fills: `imgrec recommend img.jpg`."""

    takes_several: ClassVar[bool] = False
    """Whether several bare arguments make a list of it."""

    ranking: ClassVar[Ranking | None] = None
    """What a sweep's leaderboard is made of, all that its jobs print; None: each job prints its own results."""

    seed: int = option(0, minimum=0, maximum=2**32 - 1, help="of everything random")
    debug: bool = option(False, help="show the traceback of an error")

    @classmethod
    def title(cls) -> str:
        """What messages call it: its name, which is its file's."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def execute(self, run: Run) -> None:
        """Do the job: results on stdout through `run.print` and into `run.folder`.

        Raises:
            UsageError: what was asked for cannot be done; the run's folder is removed again.
            ImgrecError: it failed.
        """

    @classmethod
    def reproducible(cls, results: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of `results.json` a replay is to find again: all of it; times and the like count for nothing."""
        return results

    @classmethod
    def parts(cls) -> dict[str, Field[Any]]:
        """The fields that config groups fill."""
        return {spec.name: spec for spec in fields(cls) if "group" in spec.metadata}

    def components(self) -> Iterator[Component]:
        """The components that the configuration chose, those of a fusion's parts among them.

        A default extractor is none of them: it may not be the one that is used.
        """
        for name in self.parts():
            if name == "default_extractor":
                continue
            value = getattr(self, name)
            if isinstance(value, Fusion):
                yield from value.components().values()
            elif isinstance(value, Component):
                yield value

    def plugins(self) -> dict[str, str | None]:
        """The name of each part's plugin; None where nothing was chosen, or options to change only.

        In a fusion those of its parts as well: `{"extractor": "fusion", "extractor.parts.colour": "colour"}`.
        """
        found: dict[str, str | None] = {}
        for name in self.parts():
            value = getattr(self, name)
            found[name] = value.name if isinstance(value, Component | Fusion) else None
            if isinstance(value, Fusion):
                found |= {f"{name}.{key}": each.name for key, each in value.components().items()}
        return found


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


def build(name: str, configuration: Mapping[str, Any], plugins: Mapping[str, str | None]) -> Stage:
    """A stage with its components, all of them found by name and their options checked: nothing else is called.

    Args:
        name: of the stage.
        configuration: its options; those of its components under the names of the parts that they fill.
        plugins: the plugin of each part, as `Stage.plugins` has them; where there is none, the part may be left
            out, or take options only.

    Raises:
        UsageError: there is no such stage or plugin; an option is missing, unknown or not allowed; a library is
            not installed.
    """
    known = available()
    if name not in known:
        raise UsageError(f"there is no stage {name!r}{suggestion(name, known)}: the stages are {', '.join(known)}")
    cls = known[name]
    check_option_names(name, option_names(cls), configuration)
    values = dict(configuration)
    for key, spec in cls.parts().items():
        options = values.get(key) or {}
        if not isinstance(options, Mapping):
            raise UsageError(f"{name}.{key} holds options by name, not {options!r}")
        if (plugin := plugins.get(key)) == Fusion.name:
            values[key] = _fusion(key, options, plugins)
        elif plugin:
            values[key] = registry.build(kind_of(spec), plugin, **options)
        else:
            values[key] = _without_plugin(cls, key, options)
    if absent := [key for key in option_names(cls) if key not in {**default_values(cls), **values}]:
        raise UsageError(f"{name} needs {', '.join(f'{key}=' for key in absent)}: see {name} --help")
    stage: Stage = cast("Any", cls)(**values)
    return stage


def _fusion(key: str, options: Mapping[str, Any], plugins: Mapping[str, str | None]) -> Fusion:
    """A fusion with its parts; one that its weights do not name is left out, for a preset may offer more."""
    check_option_names(Fusion.name, option_names(Fusion), options)
    values, weights = dict(options), options.get("weights") or {}
    for what, kind in (("parts", "extractor"), ("projections", "reducer")):
        given = {name: each or {} for name, each in (options.get(what) or {}).items() if name in weights}
        values[what] = {
            name: registry.build(kind, plugin, **each)
            for name, each in given.items()
            if (plugin := plugins.get(f"{key}.{what}.{name}"))
        }
    return Fusion(**values)


def _without_plugin(cls: type[Stage], part: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a part is where no plugin was chosen: options to change on a recorded one, or nothing."""
    allowed = allowed_types(type_hints(cls)[part])
    if any(get_origin(kind) is dict for kind in allowed):
        return options
    if NoneType in allowed and not options:
        return None
    raise UsageError(f"{cls.title()} needs {part}=")
