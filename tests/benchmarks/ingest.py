"""Ingest of photographs: beside the loop that tutorials show, and beside what the processor allows."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

import imgrec
from benchmarks.report import Report
from conftest import SHARED
from imgrec import images
from imgrec.kinds import Image
from imgrec.threads import each

WEIGHTS = SHARED / "weights" / "mobilenetv2_100.safetensors"
CLOTHING = SHARED / "photos" / "clothing"
COUNT, ROUNDS = 512, 3
PLAIN = 64
"""The plain loop gets fewer: it is slow."""

K = 5

Floats = npt.NDArray[np.float32]


def run() -> Report:
    """Rounds take turns, so that a busy machine is busy for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        photos = photographs(Path(folder, "photos"), COUNT)
        report = Report(
            f"{COUNT} photographs of 400 x 533, mobilenetv2_100 "
            f"({'ImageNet weights' if WEIGHTS.exists() else 'random weights'})"
        )
        ways: dict[str, Callable[[], int]] = {
            "plain timm loop": lambda: len(plain_loop(photos[:PLAIN])),
            "model alone, OpenVINO": _model_alone(),
            "decoding alone": lambda: len(each(_decoded, photos)),
        }
        for name, extractor in {
            "imgrec, fast": model(),
            "imgrec, resize=exact": model(resize="exact"),
            "imgrec, precision=bfloat16": model(precision="bfloat16"),
            "imgrec, colour": imgrec.build("extractor", "colour"),
        }.items():
            if is_worth(extractor):
                ways[name] = _ingesting(extractor, Path(folder), photos[0].parent)
            else:
                report.notes.append(
                    f"{name} was not measured: this processor has no bfloat16, and imitating it in torch takes "
                    "many times as long as float32."
                )
        rates = _rates(ways)
    for name, rate in rates.items():
        report.add(name, rate, "images/s")
    plain = rates["plain timm loop"]
    allowed = 1 / (1 / rates["model alone, OpenVINO"] + 1 / rates["decoding alone"])
    report.add("what the cores allow, decoding and model", allowed, "images/s")
    report.hold("ingest, fast, over the plain loop", rates["imgrec, fast"] / plain, at_least=8)
    report.hold("ingest, resize=exact, over the plain loop", rates["imgrec, resize=exact"] / plain, at_least=5)
    if "imgrec, precision=bfloat16" in rates:
        report.hold(
            "ingest, bfloat16, over the plain loop", rates["imgrec, precision=bfloat16"] / plain, at_least=13
        )
    report.hold("ingest, fast, over what the cores allow", rates["imgrec, fast"] / allowed, at_least=0.85)
    report.hold(
        "colour ingest over decoding alone", rates["imgrec, colour"] / rates["decoding alone"], at_least=0.85
    )
    _add_quality(report)
    return report


def model(**options: Any) -> imgrec.Extractor:
    """MobileNet v2 with the shared weights, or with random ones where those are absent."""
    known = {"checkpoint": str(WEIGHTS)} if WEIGHTS.exists() else {"pretrained": False}
    half = [0.5, 0.5, 0.5]
    kwargs = {"pad_type": "same"}
    return imgrec.build(  # type: ignore[no-any-return]
        "extractor", "timm", model="mobilenetv2_100", model_kwargs=kwargs, mean=half, std=half, **known, **options
    )


def photographs(folder: Path, count: int, size: tuple[int, int] = (400, 533)) -> list[Path]:
    """Parts of the two photographs that scikit-learn ships, at the size of a web photograph. No two are alike."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sources = []
    for name in ("china", "flower"):
        with files("sklearn.datasets.images").joinpath(f"{name}.jpg").open("rb") as file:
            sources.append(PIL.Image.open(file).convert("RGB"))
    made = []
    for i in range(count):
        source = sources[i % 2]
        tall = int(random.integers(200, source.height))
        wide = tall * size[0] // size[1]
        left, top = (int(random.integers(0, 1 + end)) for end in (source.width - wide, source.height - tall))
        part = source.crop((left, top, left + wide, top + tall)).resize(size, PIL.Image.Resampling.BICUBIC)
        made.append(folder / f"{i:05}.jpg")
        part.save(made[-1], quality=75)
    return made


def plain_loop(photos: Sequence[Path], made: tuple[Any, Any] | None = None) -> Floats:
    """What tutorials show: Pillow, timm's transform, a DataLoader, the model as it is."""
    import torch

    net, transform = made or plain_model(model())

    class Photographs(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(photos)

        def __getitem__(self, i: int) -> Any:
            return transform(PIL.Image.open(photos[i]).convert("RGB"))

    loader = torch.utils.data.DataLoader(Photographs(), batch_size=32, num_workers=os.cpu_count() or 1)
    with torch.inference_mode():
        vectors: Floats = torch.cat([net(batch) for batch in loader]).numpy()
    return vectors


def plain_model(extractor: Any) -> tuple[Any, Any]:
    """The model of an extractor by timm alone, without its classifier, and timm's transform for it."""
    import timm
    import torch
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    torch.manual_seed(0)
    net: Any = timm.create_model(
        extractor.model, checkpoint_path=extractor.checkpoint, **extractor.model_kwargs
    ).eval()
    net.reset_classifier(0)
    how: dict[str, Any] = resolve_data_config({}, model=net)  # type: ignore[no-untyped-call]
    how |= {name: value for name in ("mean", "std") if (value := getattr(extractor, name))}
    return net, create_transform(**how)


def _decoded(photo: Path) -> Image:
    return images.decode(photo.read_bytes(), 256)


def _model_alone() -> Callable[[], int]:
    """The runtime on pixels that are there already, in the batches that ingest makes."""
    from imgrec_timm import cache, export, runtimes

    extractor: Any = model()
    made = export.exported(extractor, cache.resolved(extractor))
    runtime = runtimes.OpenVINO(made.file, lambda image: image, "float32")
    pixels = [np.full((224, 224, 3), i, np.uint8) for i in range(64)]
    return lambda: sum(len(runtime(pixels)) for _ in range(4))


def is_worth(extractor: Any) -> bool:
    from imgrec_timm import export

    return getattr(extractor, "precision", "float32") == "float32" or export.has_bfloat16()


def _ingesting(extractor: imgrec.Extractor, folder: Path, source: Path) -> Callable[[], int]:
    def ingest() -> int:
        with tempfile.TemporaryDirectory(dir=folder) as new:
            store = imgrec.build("store", "sqlite", path=f"{new}/gallery.sqlite")
            return imgrec.ingest(source, extractor, store).extracted

    return ingest


def _rates(ways: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Images a second, the median of the rounds; a first one warms up."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            measured[name].append(way() / (time.perf_counter() - start))
    return {name: statistics.median(rates[1:]) for name, rates in measured.items()}


def _add_quality(report: Report) -> None:
    """How the vectors compare with the plain loop's, on labelled photographs where they are."""
    if not (CLOTHING.exists() and WEIGHTS.exists()):
        report.notes.append("Without ../shared there are no labelled photographs to compare hits on.")
        return
    gallery, queries = (sorted((CLOTHING / part).rglob("*.jpg")) for part in ("validation", "test"))
    plain = [plain_loop(photos) for photos in (gallery, queries)]
    fast, exact = ([vectors_of(model(resize=way), p) for p in (gallery, queries)] for way in ("fast", "exact"))
    cosines = np.concatenate([_cosines(ours, theirs) for ours, theirs in zip(exact, plain, strict=True)])
    report.hold(
        "resize=exact, least cosine with the plain loop's vectors", cosines.min(), at_least=0.9999, unit=""
    )
    labels = [np.array([photo.parent.name for photo in photos]) for photos in (gallery, queries)]
    hits = {name: precision(*vectors, *labels) for name, vectors in {"plain": plain, "fast": fast}.items()}
    report.add("P@5 of the plain loop's vectors, 713 photographs of clothes, cosine", hits["plain"], "")
    report.add("P@5 of resize=fast", hits["fast"], "")
    report.hold("P@5, difference", abs(hits["fast"] - hits["plain"]), at_most=0.01, unit="")
    rounded = model(precision="bfloat16")
    if is_worth(rounded):
        half = [vectors_of(rounded, photos) for photos in (gallery, queries)]
        report.add("P@5 of precision=bfloat16", precision(*half, *labels), "")
        cosine = np.concatenate([_cosines(*pair) for pair in zip(half, fast, strict=True)]).mean()
        report.add("mean cosine of precision=bfloat16 with resize=fast in float32", cosine, "")


def vectors_of(extractor: imgrec.Extractor, photos: Sequence[Path]) -> Floats:
    return extractor.extract(each(lambda photo: images.decode(photo.read_bytes(), extractor.side), photos))


def _cosines(first: Floats, second: Floats) -> Floats:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: Floats = (first * second).sum(axis=1) / lengths
    return cosines


def precision(gallery: Floats, queries: Floats, labels: Any, wanted: Any) -> float:
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (gallery, queries)]
    nearest = np.argsort(-unit[1] @ unit[0].T, axis=1)[:, :K]
    return float(np.mean(labels[nearest] == wanted[:, None]))
