"""Stages are the jobs of a run."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from imgrec.kinds.component import Component
from imgrec.options import component_fields, option, option_names

if TYPE_CHECKING:
    from imgrec.run import Run


@dataclass(frozen=True)
class Ranking:
    """The figures of `results.json` by which a sweep ranks a stage's jobs, with their headings."""

    quality: Mapping[str, str]
    """Higher is better; the first decides. `confidence` in `results.json` may hold their intervals."""

    cost: Mapping[str, str]
    """What the quality costs; the quality is plotted against the first.

    Those whose names end in `_per_s` are speeds, better when higher; others are better when lower.
    """

    remarks: Mapping[str, str] = field(default_factory=dict)
    """How a job was evaluated: columns that are shown where a job has any."""

    per_query: str | None = None
    """The column of the job's `queries.csv` with the first figure of quality for each query, if it writes one.

    A row's first two columns name the query. Jobs that asked the same ones are compared query by query.
    """

    def directions(self) -> dict[str, str]:
        """What an optimisation looks for: the first figure of quality, then all costs, each with its direction."""
        costs = {cost: "maximize" if cost.endswith("_per_s") else "minimize" for cost in self.cost}
        return {next(iter(self.quality)): "maximize", **costs}


TAKEN = frozenset(("stage", "hydra", "experiment", "plugins"))
"""Names that no option of a stage may have."""


@dataclass(kw_only=True)
class Stage(Component):
    """One job of a run. Its fields are its options, and the components that it works with (`imgrec.component`).

    It is chosen by its class name in snake case, `NewPlugin` by `new_plugin`, unless it sets `name`.
    """

    kind: ClassVar[str] = "stage"

    free_names: ClassVar[frozenset[str]] = frozenset(("kind", "name", "title"))

    positional: ClassVar[str | None] = None
    """The option that a bare argument fills: `imgrec recommend img.jpg`."""

    takes_several: ClassVar[bool] = False
    """Whether it takes several bare arguments, as a list."""

    keeps_record: ClassVar[bool] = True
    """Whether a run leaves a folder with its record and results; False for one that only prints what it finds."""

    ranking: ClassVar[Ranking | None] = None
    """What a sweep's leaderboard shows, instead of each job's own results; None: there is no leaderboard."""

    seed: int = option(0, minimum=0, maximum=2**32 - 1, help="of everything random")
    debug: bool = option(False, help="show the traceback of an error")

    @classmethod
    def usual_name(cls) -> str:
        """The class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        """The name it is chosen by and called in messages."""
        return cls.usual_name() if "name" in option_names(cls) else cls.name

    @classmethod
    def choice(cls) -> str:
        """How it is chosen on the command line: `stage=ingest`."""
        return f"{Stage.kind}={cls.title()}"

    @classmethod
    def problem(cls) -> str | None:
        """No option has a reserved name, `positional` is an option, and the ranking has quality and cost."""
        if taken := TAKEN.intersection(option_names(cls)):
            return f"{cls.__name__} has an option {min(taken)!r}, which means something else on the command line"
        if cls.ranking is not None and not (cls.ranking.quality and cls.ranking.cost):
            return f"{cls.__name__}.ranking has no {'cost' if cls.ranking.quality else 'quality'}: it wants both"
        if cls.positional is not None and cls.positional not in option_names(cls):
            return f"{cls.__name__}.positional is {cls.positional!r}, and that is none of its options"
        return None

    @abstractmethod
    def execute(self, run: Run) -> None:
        """Do the job: print results with `run.print`, and write them to `run.folder`.

        Raises:
            UsageError: what was asked for cannot be done; the run's folder is removed.
            ImgrecError: it failed.
        """

    @classmethod
    def reproducible(cls, results: Mapping[str, Any]) -> Mapping[str, Any]:
        """The part of `results.json` that a replay must reproduce: by default all. Costs are never compared."""
        return results

    def components(self) -> Iterator[Component]:
        """The components that the configuration chose, nested ones included.

        Fallbacks are left out: they may not be used.
        """
        specs = component_fields(type(self))
        for key, each in self.inner().items():
            if isinstance(each, Component) and not specs[key.partition(".")[0]].metadata["is_fallback"]:
                yield each

    def plugins(self) -> dict[str, str | None]:
        """The name of each component's plugin; None if none was chosen, or only options were changed.

        Nested ones have dotted keys: `{"extractor": "fusion", "extractor.parts.colour": "colour"}`.
        """
        chosen = {key: each.title() for key, each in self.inner().items()}
        return {**dict.fromkeys(component_fields(type(self))), **chosen}
