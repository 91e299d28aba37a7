"""Exact search among 1,000,000 vectors of 1,024 values, beside an earlier commit."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import searcher
from benchmarks.report import Report
from benchmarks.search import like_real_ones
from imgrec.kinds.metric import metric_of
from imgrec.search import exact
from imgrec.search.exact import VectorField

ROWS, DIM, K = 1_000_000, 1_024, searcher.K
QUERIES, ONE_BY_ONE, TOGETHER, ROUNDS = 1_000, 40, 256, 5
EARLIER = "5e234b1"
"""The commit that the search is compared with."""

CHECKOUT = Path(__file__).parent.parent.parent


def run() -> Report:
    """Each way in a process of its own, on the same mapped vectors; rounds take turns."""
    report = Report(
        f"{K} nearest of {ROWS:,} x {DIM:,} float32, Euclidean, with the spectrum of real ones; "
        f"medians of {ROUNDS} rounds that take turns"
    )
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as earlier:
        folder = Path(name)
        vectors, queries = make_vectors(folder)
        command: list[Any] = ["git", "-C", CHECKOUT, "worktree", "add", "--quiet", "--detach", earlier, EARLIER]
        subprocess.run(command, check=True)
        try:
            with (
                started("imgrec", folder, CHECKOUT) as ours,
                started(EARLIER, folder, Path(earlier)) as theirs,
            ):
                found = _compared(report, ours, theirs)
        finally:
            subprocess.run(["git", "-C", CHECKOUT, "worktree", "remove", "--force", earlier], check=True)
        _checked(report, vectors, queries, found)
    return report


def make_vectors(folder: Path) -> tuple[Any, Any]:
    """Write `vectors.npy`, which is mapped, and `queries.npy`; returns both."""
    rng, size = np.random.default_rng(0), 50_000
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (ROWS, DIM))
    for start in range(0, ROWS, size):
        vectors[start : start + size] = like_real_ones(min(size, ROWS - start), rng)
    queries = like_real_ones(QUERIES, rng)
    np.save(folder / "queries.npy", queries)
    return vectors, queries


@dataclass(frozen=True)
class Searcher:
    """A search in a process of its own; see `searcher`."""

    process: subprocess.Popen[str]
    built: float
    """The seconds of CPU that its index took."""

    def ask(self, first: int, last: int, *, together: bool, effort: int | None = None) -> tuple[float, Any]:
        """The seconds that these queries took, and the rows found."""
        asked = {"first": first, "last": last, "together": together, "effort": effort}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        told = _line(self.process)
        return told["seconds"], told["rows"]


@contextmanager
def started(way: str, folder: Path, source: Path, python: str | Path = sys.executable) -> Iterator[Searcher]:
    """A way of `searcher`, with imgrec from a checkout."""
    env = {**os.environ, "PYTHONPATH": str(source)}
    command = [python, searcher.__file__, way, folder]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=env, cwd=folder) as process:
        yield Searcher(process, _line(process)["built"])
        assert process.stdin is not None
        process.stdin.close()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def _compared(report: Report, ours: Searcher, theirs: Searcher) -> list[list[int]]:
    """The rows that are found for all queries, one by one."""
    times: dict[tuple[str, bool], list[float]] = {}
    for turn in range(1 + ROUNDS):
        for name, each in (("this one", ours), (EARLIER, theirs)):
            for together, count in ((False, ONE_BY_ONE), (True, TOGETHER)):
                seconds, _ = each.ask(0, count, together=together)
                if turn:  # a first round warms up
                    times.setdefault((name, together), []).append(1000 * seconds / count)
    ms = {}
    for (name, together), rounds in times.items():
        what = f"{name}, {f'{TOGETHER} at once, each' if together else 'one query'}"
        ms[name, together] = report.add(what, statistics.median(rounds), "ms")
    report.hold(f"one query, over commit {EARLIER}", ms[EARLIER, False] / ms["this one", False], at_least=3)
    report.hold(f"{TOGETHER} at once", 1000 / ms["this one", True], at_least=150, unit="a second")
    seconds, found = ours.ask(0, QUERIES, together=False)
    return found  # type: ignore[no-any-return]


def _checked(report: Report, vectors: Any, queries: Any, found: list[list[int]]) -> None:
    """Compare with a search that bounds nothing by fewer values than all."""
    whole = exact.nearest([VectorField(vectors, metric_of("euclidean"))], [queries], K)
    same = sum(rows[:K].tolist() == ours for (rows, _), ours in zip(whole, found, strict=True))
    report.hold(f"queries of {QUERIES:,} with the whole scan's {K} neighbours", same, at_least=QUERIES, unit="")
