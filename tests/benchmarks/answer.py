"""From the shell to an answer: `+stage=recommend` in a gallery of 214,005 images, the picture drawn."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import imgrec
import tiles
from benchmarks.search import DIM, ROWS, like_real_ones
from imgrec import images
from imgrec.contracts import Batch, Record, Space
from tables import table

ROUNDS = 5
AT_ONCE = 16_384


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    seconds: Mapping[str, Sequence[float]]
    """Each round's time of whole processes, by name."""

    index_made_in: float
    """Seconds of the search that made the index."""


def run() -> str:
    """A table: medians of rounds that take turns, so that a busy machine is busy for all of them."""
    return _report(measure())


def measure() -> Figures:
    """The query is in the gallery, so that nobody extracts; the index is there, and everything was read before."""
    with tempfile.TemporaryDirectory() as folder:
        query = fill(Path(folder))
        recommend = [sys.executable, "-m", "imgrec", "+stage=recommend", f"query={query}"]
        commands = {
            "recommend, query inside": recommend,
            "import numpy, cv2": [sys.executable, "-c", "import numpy, cv2"],
            "import hydra": [sys.executable, "-c", "import hydra"],
        }
        if importlib.util.find_spec("torch"):
            commands["import torch"] = [sys.executable, "-c", "import torch"]
        # As users have it: compiled once.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"

        def timed(command: Sequence[str]) -> float:
            start = time.perf_counter()
            subprocess.run(command, env=env, check=True, capture_output=True, cwd=folder)
            return time.perf_counter() - start

        timed(recommend)  # the second search of a gallery makes its index
        index_made_in = timed(recommend)
        for command in commands.values():
            timed(command)
        rounds = [{name: timed(command) for name, command in commands.items()} for _ in range(ROUNDS)]
        return Figures({name: [each[name] for each in rounds] for name in commands}, index_made_in)


def fill(folder: Path) -> Path:
    """Make `outputs/gallery.sqlite`, of real tiles and of records without a file; one of the tiles.

    The tiles are each other's neighbours: the six of them that an answer shows are read and drawn.
    """
    rng = np.random.default_rng(0)
    files = tiles.cut(folder / "photos", columns=2, rows=2)
    space = Space.of(imgrec.build("extractor", "colour"))
    store = imgrec.build("store", "sqlite", path=str(folder / "outputs" / "gallery.sqlite"))
    near = like_real_ones(1, rng) + np.float32(1e-3) * rng.standard_normal((len(files), DIM), dtype=np.float32)
    with store.open(create=True):
        digests = [images.read(str(file))[1] for file in files]
        records = [Record(str(file), digest, 1, 1) for file, digest in zip(files, digests, strict=True)]
        store.write(Batch(records=records, vectors={space: (digests, near)}))
        for start in range(len(files), ROWS, AT_ONCE):
            numbers = range(start, min(ROWS, start + AT_ONCE))
            names = [f"{i:064x}" for i in numbers]
            records = [
                Record(f"/photos/{i // 100}/{i}.jpg", name, 1, 1) for i, name in zip(numbers, names, strict=True)
            ]
            store.write(Batch(records=records, vectors={space: (names, like_real_ones(len(names), rng))}))
    return files[0]


def _report(figures: Figures) -> str:
    base = statistics.median(figures.seconds["import numpy, cv2"])
    medians = {name: statistics.median(times) for name, times in figures.seconds.items()}
    rows = [[name, f"{each:.2f} s", f"{each / base:.1f} x"] for name, each in medians.items()]
    return (
        table(["process", f"median of {ROUNDS}", "over numpy and cv2"], rows)
        + f"\n\nThe search that made the index took {figures.index_made_in:.0f} s."
    )
