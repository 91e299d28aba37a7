"""The whole process of an ingest, from the shell to its end, beside the plain loop without its start-up."""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image

from benchmarks import ingest
from benchmarks.quality import mobilenet
from benchmarks.report import Report

COUNT, ROUNDS = 3_000, 3
PLAIN = 240
"""The plain loop gets fewer: it is slow."""


def run() -> Report:
    """Rounds take turns; a first one fills the caches."""
    report = Report(
        f"{COUNT:,} photographs of clothes, cut, mirrored and encoded in different ways, mobilenetv2_100; "
        f"`python -m imgrec ingest` into a new store, medians of {ROUNDS}"
    )
    if not ingest.CLOTHING.exists():
        report.notes.append("Not measured: ../shared is not there.")
        return report
    with tempfile.TemporaryDirectory() as name:
        photos = _encoded_again(Path(name) / "photos")
        ways = [each for each in ("float32", "bfloat16") if ingest.is_worth(ingest.model(precision=each))]
        plain = ingest.plain_model(ingest.model())
        rates: dict[str, list[float]] = {each: [] for each in ("plain", *ways)}
        for _ in range(1 + ROUNDS):
            for each in ways:
                start = time.perf_counter()
                _ingested(Path(name), photos[0].parent, each)
                rates[each].append(COUNT / (time.perf_counter() - start))
            some = photos[:: COUNT // PLAIN]
            start = time.perf_counter()
            ingest.plain_loop(some, plain)
            rates["plain"].append(len(some) / (time.perf_counter() - start))
    found = {each: statistics.median(some[1:]) for each, some in rates.items()}
    for each, rate in found.items():
        what = "the plain timm loop, without its start-up" if each == "plain" else f"imgrec, {each}, whole process"
        report.add(what, rate, "images/s")
    for each, least in (("float32", 8), ("bfloat16", 13)):
        if each in found:
            what = f"the whole process in {each} over the plain loop"
            report.hold(what, found[each] / found["plain"], at_least=least)
        else:
            report.notes.append(f"{each} was not measured: this processor imitates it.")
    return report


def _ingested(folder: Path, source: Path, precision: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as new:
        options = [*mobilenet("v2"), f"extractor.precision={precision}", f"store.path={new}/gallery.sqlite"]
        command = [sys.executable, "-m", "imgrec", "ingest", str(source), *options]
        done = subprocess.run(command, cwd=new, capture_output=True, check=True)
        assert f"{COUNT:,} new" in done.stdout.decode(), done.stdout


def _encoded_again(folder: Path) -> list[Path]:
    """The photographs over and over, no two files alike: other parts of them, sides, sizes and qualities."""
    folder.mkdir()
    rng, sources = np.random.default_rng(0), sorted(ingest.CLOTHING.rglob("*.jpg"))
    made = []
    for i in range(COUNT):
        with PIL.Image.open(sources[i % len(sources)]) as opened:
            picture = opened.convert("RGB")
        width, height = picture.size
        left, top = (int(rng.integers(0, 1 + side // 10)) for side in picture.size)
        picture = picture.crop((left, top, left + width * 9 // 10, top + height * 9 // 10))
        if rng.random() < 0.5:
            picture = picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(60, 95)))
        made.append(folder / f"{i:05}.jpg")
        made[-1].write_bytes(file.getvalue())
    return made
