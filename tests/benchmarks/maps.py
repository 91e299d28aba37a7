"""t-SNE of 50,000 vectors of 128 values beside scikit-learn's of 10,000; of landmarks beside all; of a million."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import imgrec
from benchmarks import spectra
from benchmarks.report import Report
from imgrec import Batch, Record, Space
from imgrec.drawing.visualise import neighbours_kept

SMALL, LARGE, DIM = 10_000, 50_000, 128
WHOLE, LANDMARKS = 100_000, 50_000
"""Vectors whose map of all and map of landmarks are compared."""

MILLION, BATCH = 1_000_000, 10_000

KEPT = "share of 15 nearest kept"

CHILD = """
import re, sys
from pathlib import Path
from imgrec.cli.main import main
code = main(sys.argv[1:])
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9)
sys.exit(code)
"""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """One map."""

    name: str
    count: int
    seconds: float
    kept: float
    """See `neighbours_kept`."""


def run() -> Report:
    """Times, and how good the maps are."""
    maps = measure()
    theirs, ours = maps[0], maps[-1]
    report = Report(f"t-SNE of vectors of {DIM} values, in a hundred groups")
    for each in maps:
        report.add(f"{each.name}, {each.count:,} vectors", each.seconds, "s")
        report.add(f"{KEPT}, {each.name}, {each.count:,}", each.kept, "")
    expected = report.add(f"scikit-learn, {LARGE:,}, extrapolated", theirs.seconds * growth(SMALL, LARGE), "s")
    report.hold(f"t-SNE of {LARGE:,} over scikit-learn's", expected / ours.seconds, at_least=3.5)
    _of_landmarks(report, "in a hundred groups", in_groups(WHOLE))
    _of_landmarks(report, "near a curved surface", spectra.curved(WHOLE, DIM, np.random.default_rng(0)))
    with tempfile.TemporaryDirectory() as folder:
        _million(report, Path(folder))
    return report


def _of_landmarks(report: Report, which: str, vectors: Floats) -> None:
    """A map of all beside one of landmarks."""
    kept = []
    for name, landmarks in (("all", WHOLE), (f"{LANDMARKS:,} landmarks", LANDMARKS)):
        reducer = imgrec.build("reducer", "tsne", metric="euclidean", landmarks=landmarks)
        found = measured(name, vectors, functools.partial(reducer.fit_transform, vectors))
        report.add(f"{WHOLE:,} vectors {which}, {name}", found.seconds, "s")
        kept.append(report.add(f"{KEPT}, {name}", found.kept, ""))
    report.hold(f"{KEPT}, {LANDMARKS:,} landmarks over all, {which}", kept[1] / kept[0], at_least=0.8)


def _million(report: Report, folder: Path) -> None:
    """`imgrec visualise` in a process of its own, whose peak of memory the system tells; the map drawn."""
    store = imgrec.build("store", "sqlite", path=str(folder / "g.sqlite"))
    space = Space("benchmark-0", "benchmark", {}, {})
    with store.open(create=True):
        for first in range(0, MILLION, BATCH):
            names = [f"{i:064x}" for i in range(first, first + BATCH)]
            records = [Record(f"/photos/{first}/{name}.jpg", name, 1, 1) for name in names]
            vectors = in_groups(BATCH, first)
            store.write(Batch(records, vectors={space: (names, vectors)}))
    options = ["thumbnails=0", "reducer.metric=euclidean", f"reducer.landmarks={LANDMARKS}"]
    command = [sys.executable, "-c", CHILD, "+stage=visualise", f"store.path={store.location}", *options]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    took = time.perf_counter() - start
    picture, _, memory = done.stdout.split()
    record = json.loads((folder / picture).with_name("run.json").read_text())
    for phase, seconds in record["timings"].items():
        report.add(f"map of {MILLION:,}: {phase}", seconds, "s")
    assert record["counts"]["landmarks"] == LANDMARKS
    report.add(f"{KEPT}, {LANDMARKS:,} landmarks of {MILLION:,}", record["counts"]["neighbours_kept"], "")
    report.hold(f"map of {MILLION:,} x {DIM}, from the shell to its end", took, at_most=600, unit="s")
    report.hold("its peak of memory", float(memory), at_most=4, unit="GB")


def measure() -> list[Measured]:
    """scikit-learn's map of few vectors, and imgrec's of these and of many; compiled and cached beforehand."""
    from sklearn.manifold import TSNE

    vectors = in_groups(LARGE)
    imgrec.build("reducer", "tsne", n_iter=10).fit(vectors[:500])
    ours = imgrec.build("reducer", "tsne", metric="euclidean")
    few = vectors[:SMALL]
    return [
        measured("scikit-learn", few, lambda: TSNE(random_state=0).fit_transform(few)),
        measured("imgrec", few, lambda: ours.fit_transform(few)),
        measured("imgrec", vectors, lambda: ours.fit_transform(vectors)),
    ]


def measured(name: str, vectors: Floats, reduce: Callable[[], Floats]) -> Measured:
    """Time one map, and look how good it is."""
    start = time.perf_counter()
    reduced = reduce()
    took = time.perf_counter() - start
    return Measured(name, len(vectors), took, neighbours_kept(vectors, reduced, "euclidean"))


def growth(few: int, many: int) -> float:
    """How much longer many take than few, as n log n."""
    return many * math.log(many) / (few * math.log(few))


def in_groups(count: int, seed: int = 0) -> Floats:
    """Vectors in a hundred groups, each of another shape and with the falling spectrum that photographs' have."""
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(1 + np.arange(DIM))).astype(np.float32)
    centres = rng.normal(size=(100, DIM)).astype(np.float32) * scale
    shapes = rng.gamma(1, size=(100, DIM)).astype(np.float32) * scale
    rng = np.random.default_rng([seed, 1])
    group = rng.integers(100, size=count)
    return centres[group] + shapes[group] * rng.standard_normal((count, DIM), dtype=np.float32)
