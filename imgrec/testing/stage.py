"""The contract of stages."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgrec.kinds import Stage, Store
from imgrec.options import component_fields, first_line
from imgrec.reproduction import without_costs
from imgrec.run import RESULTS, Run
from imgrec.testing import kit
from imgrec.testing.kit import Check, require


@dataclass
class Done:
    """The outcome of a run of the stage."""

    stage: Stage
    results: Any
    """The content of `results.json`; None if there is none."""

    out: str
    """What was written to stdout."""


@dataclass
class Subject:
    """A stage under test."""

    make: Callable[[Path], Stage]
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def built(self) -> Stage:
        """Build a new stage in a folder of its own."""
        return self.make(Path(self._stack.enter_context(tempfile.TemporaryDirectory())))

    def done(self, stage: Stage | None = None, *, is_quiet: bool = False) -> Done:
        """Execute the stage, or a new one, as a separate run."""
        stage = stage or self.built()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        name = type(stage).title()  # of the class: an option of a stage may be called `title`
        run = Run(name, folder, [name], {}, is_quiet=is_quiet)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            stage.execute(run)
        file = folder / RESULTS
        text = file.read_text(encoding="utf-8") if file.exists() else "null"
        return Done(stage, json.loads(text, parse_constant=_no_number), out.getvalue())

    def closed(self) -> None:
        """Remove all folders."""
        self._stack.close()


def _no_number(name: str) -> float:
    raise kit.SeenError(f"{RESULTS} has {name}, which is not valid JSON")


def check_stage(make: Callable[[Path], Stage]) -> None:
    """Check that a stage keeps its contract.

    Args:
        make: builds the stage, of a class defined at module level, ready to be executed. It is called with an
            empty folder, in which it may prepare a gallery, for example from `imgrec.testing.write_pictures`.

    Raises:
        ContractError: any check failed.
    """
    subject = Subject(make)
    try:
        kit.run(f"stage {type(subject.built()).title()}", CHECKS, subject)
    finally:
        subject.closed()


# --- the checks ---------------------------------------------------------------------------------------------


def it_runs(subject: Subject) -> None:
    """`execute` succeeds, and `results.json`, if the stage writes one, is valid JSON."""
    subject.done()


def stdout_is_for_results(subject: Subject) -> None:
    """Results go to stdout only through `run.print`, so that a sweep can suppress them."""
    out = subject.done(is_quiet=True).out
    require(not out, f"{out[:200]!r} was printed, although the run is quiet")


def it_does_the_same_again(subject: Subject) -> None:
    """On the same gallery, the `reproducible` part of `results.json` is always the same, times aside."""
    stage = subject.built()
    if not any(spec.metadata["group"] == Store.kind for spec in component_fields(type(stage)).values()):
        return
    results = [subject.done(stage).results for _ in range(2)]
    compared = [without_costs(stage.reproducible(each)) if each is not None else None for each in results]
    require(compared[0] == compared[1], f"{str(compared[0])[:200]}, and then {str(compared[1])[:200]}")


def it_is_ranked_by_numbers(subject: Subject) -> None:
    """Each quality in its `ranking` is a finite number in `results.json`, and each cost a number or null."""
    done = subject.done()
    if (ranking := done.stage.ranking) is None:
        return
    require(isinstance(done.results, dict), f"{RESULTS} holds {type(done.results).__name__}, not figures by name")
    for name in [*ranking.quality, *ranking.cost]:
        value = done.results.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        require(is_number or (value is None and name in ranking.cost), f"{name} is {value!r}")


def help_says_what_it_does(subject: Subject) -> None:
    """The first line of its docstring says what it does, as listed by `imgrec --help`."""
    require(bool(first_line(type(subject.built()))), "no docstring")


def options_come_through_yaml(subject: Subject) -> None:
    """Options are unchanged after a round trip through YAML."""
    kit.check_options(subject.built())


def module_is_light(subject: Subject) -> None:
    """Importing the module imports no heavy library before the stage is executed."""
    kit.check_light(subject.built())


CHECKS = tuple(
    map(
        Check,
        (
            it_runs,
            stdout_is_for_results,
            it_does_the_same_again,
            it_is_ranked_by_numbers,
            help_says_what_it_does,
            options_come_through_yaml,
            module_is_light,
        ),
    )
)
