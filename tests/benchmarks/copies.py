"""Precision and recall of duplicates: 300 photographs and nine altered copies of each, at `distance=auto`."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

import imgrec
from benchmarks.report import Report
from conftest import SHARED, shared_timm
from imgrec import images
from imgrec.evaluation.alterations import ALTERATIONS
from imgrec.gallery.nearness import near_copies

PHOTOGRAPHS = 300

KINDS = (*ALTERATIONS, "turn", "tiny")
"""Those that evaluations use, a quarter turn, and a tenth of the size: nine."""


def run() -> Report:
    """Each extractor on the same files: pairs of an original and its copy are to be found, and no others."""
    report = Report(
        f"{PHOTOGRAPHS} photographs of clothes, a copy of each by {len(KINDS)} alterations, at `distance=auto` "
        "and without `turned=true`. Recall: the share of copies that are within the distance of their originals. "
        "Precision: the share of the images within the distance of an original that are of the same photograph"
    )
    ways = {
        "phash, hamming": (imgrec.build("extractor", "phash"), "hamming"),
        "colour, hellinger": (imgrec.build("extractor", "colour"), "hellinger"),
        "hog, euclidean": (imgrec.build("extractor", "hog"), "euclidean"),
        "mobilenetv2, cosine": (shared_timm("mobilenetv2_100"), "cosine"),
    }
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder, "photos"))
        for name, (extractor, metric) in ways.items():
            store = imgrec.build("store", "sqlite", path=f"{folder}/{name}.sqlite")
            imgrec.ingest(f"{folder}/photos", extractor, store)
            _measure(report, name, store, metric)
    return report


def _write(folder: Path) -> None:
    """The photographs as `NUMBER-original.png`, and their copies."""
    folder.mkdir()
    paths = sorted((SHARED / "photos" / "clothing").glob("*/*/*"))
    for number, path in enumerate(random.Random(0).sample(paths, PHOTOGRAPHS)):
        image, rng = images.decode(path.read_bytes()), np.random.default_rng(number)
        PIL.Image.fromarray(image).save(folder / f"{number}-original.png", compress_level=1)
        for kind in KINDS:
            copy = _altered(image, kind, rng)
            PIL.Image.fromarray(copy).save(folder / f"{number}-{kind}.jpg", quality=90)


def _altered(image: imgrec.Image, kind: str, rng: np.random.Generator) -> imgrec.Image:
    if kind == "turn":
        return np.ascontiguousarray(np.rot90(image))
    if kind == "tiny":
        size = [max(1, length // 10) for length in (image.shape[1], image.shape[0])]
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
    return ALTERATIONS[kind](image, rng)


def _measure(report: Report, name: str, store: imgrec.Store, metric: str) -> None:
    with imgrec.open(store, metric, where=lambda record: "-original." in record.path) as gallery:
        distance, _ = near_copies(gallery)
    with imgrec.open(store, metric) as gallery:
        originals = [record for record in gallery.records if "-original." in record.path]
        every = gallery.within([record.path for record in originals], distance)
        found = [
            (Path(record.path).stem, Path(match.path).stem)
            for record, matches in zip(originals, every, strict=True)
            for match in matches
        ]
    right = [other.split("-") for one, other in found if one.split("-")[0] == other.split("-")[0]]
    report.add(f"{name}: distance", distance, "")
    report.add(f"{name}: precision", len(right) / max(1, len(found)), "")
    report.add(f"{name}: recall", len(right) / (PHOTOGRAPHS * len(KINDS)), "")
    for kind in KINDS:
        report.add(f"{name}: recall of {kind}", sum(each[1] == kind for each in right) / PHOTOGRAPHS, "")
