"""Stages are the jobs of a run."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from imgrec.kinds.component import Component
from imgrec.options import component_fields, option, option_names

if TYPE_CHECKING:
    from imgrec.run import Run


@dataclass(frozen=True)
class Ranking:
    """By which figures of `results.json` a sweep ranks a stage's jobs. Each with its heading."""

    quality: Mapping[str, str]
    """More is better; the first decides. `confidence` in `results.json` may have the ends of their intervals."""

    cost: Mapping[str, str]
    """What the quality costs; the first is what it is drawn against."""


TAKEN = frozenset(("stage", "hydra", "experiment"))
"""What no option of a stage is called."""


@dataclass(kw_only=True)
class Stage(Component):
    """One job of a run. Its fields are its options, and the components that it works with (`imgrec.component`).

    It is chosen by its class's name in words, `NewPlugin` by `new_plugin`, unless `name` says otherwise.
    """

    kind: ClassVar[str] = "stage"

    free_names: ClassVar[frozenset[str]] = frozenset(("kind", "name"))

    positional: ClassVar[str | None] = None
    """The option that a bare argument fills: `imgrec recommend img.jpg`."""

    takes_several: ClassVar[bool] = False
    """Whether several bare arguments make a list of it."""

    ranking: ClassVar[Ranking | None] = None
    """What a sweep's leaderboard is made of, all that its jobs print; None: each job prints its own results."""

    seed: int = option(0, minimum=0, maximum=2**32 - 1, help="of everything random")
    debug: bool = option(False, help="show the traceback of an error")

    @classmethod
    def usual_name(cls) -> str:
        """The class's name in words."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        """What it is chosen by, and what messages call it."""
        return cls.usual_name() if "name" in option_names(cls) else cls.name

    @classmethod
    def choice(cls) -> str:
        """What people write to have it: `stage=ingest`."""
        return f"{Stage.kind}={cls.title()}"

    @classmethod
    def problem(cls) -> str | None:
        """Its bare argument fills an option, no option has a name of Hydra's, and a ranking is whole."""
        if taken := TAKEN.intersection(option_names(cls)):
            return f"{cls.__name__} has an option {min(taken)!r}, which means something else on the command line"
        if cls.ranking is not None and not (cls.ranking.quality and cls.ranking.cost):
            return f"{cls.__name__}.ranking has no {'cost' if cls.ranking.quality else 'quality'}: it wants both"
        if cls.positional is not None and cls.positional not in option_names(cls):
            return f"{cls.__name__}.positional is {cls.positional!r}, and that is none of its options"
        return None

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

    def components(self) -> Iterator[Component]:
        """The components that the configuration chose, those inside others among them.

        A fallback is none of them: it may not be the one that is used.
        """
        specs = component_fields(type(self))
        for key, each in self.inner().items():
            if isinstance(each, Component) and not specs[key.partition(".")[0]].metadata["is_fallback"]:
                yield each

    def plugins(self) -> dict[str, str | None]:
        """The name of each component's plugin; None where nothing was chosen, or options to change only.

        Those of components inside others as well: `{"extractor": "fusion", "extractor.parts.colour": "colour"}`.
        """
        chosen = {key: each.title() for key, each in self.inner().items()}
        return {**dict.fromkeys(component_fields(type(self))), **chosen}
