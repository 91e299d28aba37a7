"""Which queries `threshold=auto` refuses: photographs of what a gallery is of, and pictures of other things."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw

import imgrec
from benchmarks.ingest import CLOTHING
from benchmarks.quality import mobilenet
from benchmarks.report import Report, Target
from conftest import SHARED

ALPHA = 0.05

EACH = 100
"""Pictures of each kind that are made."""

MOST_GOOD, LEAST_OTHERS = 0.08, 0.9


def run() -> Report:
    """For each way of comparing, the share refused of good queries and of each kind of others."""
    report = Report(
        "Gallery: 341 photographs of clothes. Share of queries that `threshold=auto` refuses with "
        f"alpha={ALPHA}: of 372 other photographs of clothes, of {EACH} each of tiles of two photographs, noise "
        "and drawings, and of `odd/`"
    )
    if not CLOTHING.exists():
        report.notes.append("Not measured: ../shared is not there.")
        return report
    with tempfile.TemporaryDirectory() as folder:
        others = {name: make(Path(folder, name)) for name, make in KINDS.items()}
        others["odd"] = [path for path in (SHARED / "photos" / "odd").rglob("*") if path.is_file()]
        for name, (extractor, metric) in ways().items():
            store = imgrec.build("store", "sqlite", path=f"{folder}/{name}.sqlite")
            imgrec.ingest(CLOTHING / "validation", extractor, store)
            with imgrec.open(store, metric, extractor=extractor) as gallery:
                good = _refused(gallery, [path for path in (CLOTHING / "test").rglob("*") if path.is_file()])
                found = {kind: _refused(gallery, paths) for kind, paths in others.items()}
            report.add(f"`{name}`, of clothes", float(np.mean(good)), "")
            for kind, refused in found.items():
                report.add(f"`{name}`, of {kind}", float(np.mean(refused)), "")
            every = float(np.mean(np.concatenate(list(found.values()))))
            report.add(f"`{name}`, of all others", every, "")
            if name == "mobilenetv2":
                what = "refused by `mobilenetv2` and cosine distance"
                report.targets.append(Target(f"{what}, of clothes", float(np.mean(good)), MOST_GOOD, True, ""))
                report.targets.append(Target(f"{what}, of all others", every, LEAST_OTHERS, False, ""))
    return report


def ways() -> dict[str, tuple[imgrec.Extractor, str | None]]:
    """The extractors and metrics."""
    words = dict(word.split("=", 1) for word in mobilenet("v2"))
    v2 = imgrec.build(
        "extractor",
        "timm",
        model="mobilenetv2_100",
        checkpoint=words["extractor.checkpoint"],
        model_kwargs={"pad_type": "same"},
        mean=[0.5] * 3,
        std=[0.5] * 3,
    )
    colour, hog = (imgrec.build("extractor", name) for name in ("colour", "hog"))
    handcrafted: imgrec.Extractor = imgrec.build(  # as its preset has it
        "extractor",
        "fusion",
        weights={"hog": 0.75, "colour": 0.25},
        parts={"hog": hog, "colour": colour},
        metrics={"hog": "cosine", "colour": "hellinger"},
        projections={"hog": imgrec.build("reducer", "pca", n_components=64)},
        projected_from=128,
    )
    both: imgrec.Extractor = imgrec.build(
        "extractor",
        "fusion",
        weights={"mobilenetv2": 0.75, "colour": 0.25},
        parts={"mobilenetv2": v2, "colour": colour},
        metrics={"mobilenetv2": "cosine"},
    )
    return {
        "mobilenetv2": (v2, "cosine"),
        "handcrafted": (handcrafted, None),
        "colour": (colour, None),
        "mobilenetv2 and colour": (both, None),
    }


def _refused(gallery: Any, paths: list[Path]) -> list[bool]:
    """Whether each picture finds nothing; those that cannot be read are left out."""
    asked = []
    for path in paths:
        try:
            asked.append(gallery.resolve(path))
        except imgrec.UsageError:
            continue
    return [not matches for matches in gallery.search(asked, 1, threshold="auto", alpha=ALPHA)]


# --- other things -----------------------------------------------------------------------------------------------


def _written(draw: Callable[[np.random.Generator, int], PIL.Image.Image]) -> Callable[[Path], list[Path]]:
    """Writes `EACH` pictures into a folder."""

    def write(folder: Path) -> list[Path]:
        folder.mkdir()
        rng = np.random.default_rng(0)
        paths = [folder / f"{i}.png" for i in range(EACH)]
        for i, path in enumerate(paths):
            draw(rng, i).save(path)
        return paths

    return write


def _tile(rng: np.random.Generator, i: int) -> PIL.Image.Image:
    """A square of at least half the height of one of the photographs that scikit-learn ships."""
    with files("sklearn.datasets.images").joinpath(f"{('china', 'flower')[i % 2]}.jpg").open("rb") as file:
        photograph = PIL.Image.open(file).convert("RGB")
    side = int(rng.integers(photograph.height // 2, photograph.height))
    left, top = (int(rng.integers(0, most - side)) for most in photograph.size)
    return photograph.crop((left, top, left + side, top + side))


def _noise(rng: np.random.Generator, i: int) -> PIL.Image.Image:
    """Noise in colour or grey, of grains from 1 to 64 pixels."""
    grain, channels = 2 ** (i % 7), 1 if i % 2 else 3
    values = rng.integers(0, 256, (256 // grain + 1, 256 // grain + 1, channels), np.uint8)
    return PIL.Image.fromarray(np.repeat(values, 3 // channels, axis=2)).resize((256, 256))


def _drawing(rng: np.random.Generator, i: int) -> PIL.Image.Image:
    """Shapes and lines on white."""
    picture = PIL.Image.new("RGB", (320, 320), "white")
    pen = PIL.ImageDraw.Draw(picture)
    for _ in range(3 + i % 9):
        (left, right), (top, bottom) = (np.sort(rng.integers(0, 320, 2)).tolist() for _ in range(2))
        colour = tuple(rng.integers(0, 256, 3).tolist())
        shape = (pen.ellipse, pen.rectangle, pen.line)[int(rng.integers(3))]
        shape([left, top, right, bottom], fill=colour)
    return picture


KINDS = {"tiles": _written(_tile), "noise": _written(_noise), "drawings": _written(_drawing)}
