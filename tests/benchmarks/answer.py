"""From the shell to an answer: `+stage=recommend` in a gallery of 214,005 images, the picture drawn."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import imgrec
import tiles
from benchmarks import ingest
from benchmarks.report import Report
from benchmarks.search import DIM, ROWS, like_real_ones
from imgrec import images
from imgrec.kinds import Batch, Record, Space

ROUNDS, LARGE = 5, 1_000_000
AT_ONCE = 16_384

LIMITS = {
    "recommend, query inside": 1.0,
    f"recommend, query inside, {LARGE:,} images": 0.5,
    "recommend, query outside, mobilenetv2": 1.5,
}
"""Seconds that each may take."""


def run() -> Report:
    """Medians of rounds that take turns, so that a busy machine is busy for all of them.

    The index is there, and everything was read before. A query inside the gallery is extracted by nobody.
    """
    report = Report(
        f"{ROWS:,} images, processes from the shell to their end, contact sheet drawn; median of {ROUNDS}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tile, *photos = tiles.cut(folder / "photos", columns=3, rows=2)
        inside = fill(folder, imgrec.build("extractor", "colour"), DIM, photos)
        large = fill(folder / "large", imgrec.build("extractor", "colour"), DIM, photos, LARGE)
        commands = {
            "recommend, query inside": recommend(photos[0], inside),
            f"recommend, query inside, {LARGE:,} images": recommend(photos[0], large),
        }
        if importlib.util.find_spec("timm"):
            outside = fill(folder, ingest.model(), 1_280, photos)
            commands["recommend, query outside, mobilenetv2"] = recommend(tile, outside)
        commands |= {
            "python -c 'import numpy, cv2'": [sys.executable, "-c", "import numpy, cv2"],
            "python -c 'import hydra'": [sys.executable, "-c", "import hydra"],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        }
        # As users have it: compiled once.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"

        def timed(command: Sequence[str]) -> float:
            start = time.perf_counter()
            subprocess.run(command, env=env, check=True, capture_output=True, cwd=folder)
            return time.perf_counter() - start

        for command in commands.values():
            timed(command)
            timed(command)  # the second search of a gallery makes its index
        rounds = [{name: timed(command) for name, command in commands.items()} for _ in range(ROUNDS)]
    for name in commands:
        report.add(name, statistics.median(each[name] for each in rounds), "s")
    found = {figure.what: figure.value for figure in report.figures}
    for name, most in LIMITS.items():
        if name in found:
            report.hold(name, found[name], at_most=most, unit="s")
    return report


def recommend(query: Path, store: Path) -> list[str]:
    return [sys.executable, "-m", "imgrec", "+stage=recommend", f"query={query}", f"store.path={store}"]


def fill(folder: Path, extractor: imgrec.Extractor, dim: int, photos: Sequence[Path], rows: int = ROWS) -> Path:
    """A gallery of these photographs and of records without a file, in an extractor's space.

    The photographs are each other's neighbours: those that an answer shows are read and drawn.
    """
    rng = np.random.default_rng(0)
    space = Space.of(extractor)
    store = imgrec.build("store", "sqlite", path=str(folder / f"{extractor.name}.sqlite"))
    near = extractor.extract([images.decode(photo.read_bytes(), extractor.side) for photo in photos])
    near = np.resize(near, (len(photos), dim))  # a histogram's values over and over, to the length asked for
    with store.open(create=True):
        digests = [images.read(str(photo))[1] for photo in photos]
        records = [Record(str(photo), digest, 1, 1) for photo, digest in zip(photos, digests, strict=True)]
        store.write(Batch(records=records, vectors={space: (digests, near)}))
        for start in range(len(photos), rows, AT_ONCE):
            numbers = range(start, min(rows, start + AT_ONCE))
            names = [f"{i:064x}" for i in numbers]
            records = [
                Record(f"/photos/{i // 100}/{i}.jpg", name, 1, 1) for i, name in zip(numbers, names, strict=True)
            ]
            vectors = like_real_ones(len(names), rng)
            # Far away, and as long as the model's vectors are.
            vectors = 10 * np.hstack([vectors, vectors[:, : dim - DIM]]) if dim > DIM else 10 * vectors
            store.write(Batch(records=records, vectors={space: (names, vectors)}))
    return Path(store.location)
