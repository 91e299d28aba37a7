"""Every backbone of `conf/extractor`: images a second each way, beside timm alone and imagededup; and hits."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import imgrec
from benchmarks import ingest
from benchmarks.index import ENVIRONMENTS
from benchmarks.report import Report
from conftest import SHARED
from tables import table

BACKBONES = {
    "mobilenetv1_100": "mobilenetv1_100",
    "mobilenetv2_100": "mobilenetv2_100",
    "mobilenetv4_conv_small": "",
    "resnet18": "",
    "efficientnet_b0": "",
    "vit_base_patch32_clip_224": "",
    "vit_small_patch14_dinov2": "",
}
"""timm's names, and the shared weights of each, if there are any: others have random ones, which are as fast."""

WAYS = [(runtime, precision) for precision in ("float32", "bfloat16") for runtime in ("torch", "openvino")]

PROBED, FEWEST, MOST, SECONDS, ROUNDS = 16, 16, 512, 6, 2
"""Photographs that a model is tried with; then as many as fill some seconds, the median of rounds in turn."""

ASKED = 9
"""Query pictures that are timed, one by one."""

DEDUP = ["imagededup", "PyWavelets"]


def run() -> Report:
    """A model after the other, each way of it in turn."""
    report = Report(
        "Images a second from photographs of 400 x 533 in a folder to vectors in SQLite; `timm` is its model and "
        "transform in a DataLoader, `imagededup` its CNN encoder with these. A query: from a picture's file to "
        "its vector, OpenVINO in float32. P@5: of 713 photographs of clothes, cosine, where weights are here"
    )
    rows, over = [], dict[str, list[float]](timm=[], imagededup=[])
    with tempfile.TemporaryDirectory() as name:
        photos = ingest.photographs(Path(name) / "photos", MOST)
        for backbone, weights in BACKBONES.items():
            extractor = _extractor(backbone, weights)
            rates = _rates(Path(name), extractor, photos)
            for each, ratios in over.items():
                ratios.append(rates["openvino, float32"] / rates[each])
            told = [f"{rates[each]:.3g}" if each in rates else "" for each in _names()]
            rows.append([f"`{backbone}`", *told, f"{_query(extractor, photos):.1f} ms", _hits(extractor, weights)])
    report.notes.append(table(["", *_names(), "a query", "P@5"], rows))
    for each, ratios in over.items():
        report.hold(f"OpenVINO in float32 over {each}, the least of all backbones", min(ratios), at_least=1)
    return report


def _names() -> list[str]:
    return [*(f"{runtime}, {precision}" for runtime, precision in WAYS), "timm", "imagededup"]


def _extractor(backbone: str, weights: str) -> Any:
    file = SHARED / "weights" / f"{weights}.safetensors"
    if not weights or not file.exists():
        return imgrec.build("extractor", "timm", model=backbone, pretrained=False)
    half = [0.5, 0.5, 0.5]
    return imgrec.build(
        "extractor",
        "timm",
        model=backbone,
        checkpoint=str(file),
        mean=half,
        std=half,
        model_kwargs={"pad_type": "same"},
    )


def _rates(folder: Path, extractor: Any, photos: Sequence[Path]) -> dict[str, float]:
    """Images a second, by way."""
    ways: dict[str, Callable[[Path], object]] = {}
    for runtime, precision in WAYS:
        chosen = replace(extractor, runtime=runtime, precision=precision)
        if ingest.is_worth(chosen):
            ways[f"{runtime}, {precision}"] = functools.partial(_ingested, folder, chosen)
    made = ingest.plain_model(extractor)
    ways["timm"] = lambda source: ingest.plain_loop(sorted(source.iterdir()), made)
    encoder = _imagededup(extractor.model, *made)
    ways["imagededup"] = lambda source: encoder.encode_images(image_dir=str(source))
    found = {}
    for name, way in ways.items():
        with tempfile.TemporaryDirectory(dir=folder) as few:
            probe = _linked(photos[:PROBED], Path(few) / "probe")
            way(probe)  # what is made once
            count = int(np.clip(SECONDS * PROBED / _seconds(way, probe), FEWEST, MOST))
            source = _linked(photos[:count], Path(few) / "photos")
            found[name] = count / statistics.median(_seconds(way, source) for _ in range(ROUNDS))
    return found


def _linked(photos: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for photo in photos:
        os.link(photo, folder / photo.name)
    return folder


def _seconds(way: Callable[[Path], object], source: Path) -> float:
    start = time.perf_counter()
    way(source)
    return time.perf_counter() - start


def _ingested(folder: Path, extractor: Any, source: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as new:
        store = imgrec.build("store", "sqlite", path=f"{new}/gallery.sqlite")
        assert imgrec.ingest(source, extractor, store).failed == 0


def _imagededup(name: str, net: Any, transform: Any) -> Any:
    """imagededup's encoder with the same model: installed beside this environment, whose torch it uses."""
    target = ENVIRONMENTS / "peer-imagededup"
    if not target.exists():
        command: list[Any] = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            target,
            *DEDUP,
        ]
        subprocess.run(command, check=True)
    if str(target) not in sys.path:
        sys.path.append(str(target))
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel

    return CNN(verbose=False, model_config=CustomModel(name, net, transform))


def _query(extractor: Any, photos: Sequence[Path]) -> float:
    """Milliseconds from a picture's file to its vector."""
    times = []
    for photo in photos[: 1 + ASKED]:
        start = time.perf_counter()
        extractor.extract([imgrec.images.decode(photo.read_bytes(), extractor.side)])
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])


def _hits(extractor: Any, weights: str) -> str:
    if not (weights and ingest.CLOTHING.exists()):
        return ""
    gallery, queries = (sorted((ingest.CLOTHING / part).rglob("*.jpg")) for part in ("validation", "test"))
    labels = [np.array([photo.parent.name for photo in photos]) for photos in (gallery, queries)]
    vectors = [ingest.vectors_of(extractor, photos) for photos in (gallery, queries)]
    return f"{ingest.precision(*vectors, *labels):.3f}"
