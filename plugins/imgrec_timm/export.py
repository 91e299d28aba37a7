"""Models exported for OpenVINO: made once, kept in the cache, compared with torch when they are made."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgrec_timm import cache, models

if TYPE_CHECKING:
    from imgrec_timm import Timm
    from imgrec_timm.cache import Resolved

log = logging.getLogger("imgrec.timm")

IN_THE_GRAPH = ("input_size", "mean", "std")
"""The parts of the preprocessing that an export has in it: how images come to the size is done before."""

PROBE = 8
"""Images on which an export is compared with torch."""


@dataclass(frozen=True)
class Export:
    """What was found out when a model was exported."""

    problem: str | None
    """Why it could not be."""

    cosine: float
    """With torch's vectors of the probe: the least of them."""

    accelerator: str
    """What torch runs on here: `cpu`, `cuda` or `mps`."""

    digests: dict[str, str]
    """SHA-256 of the files."""

    folder: str = ""

    @property
    def file(self) -> Path:
        """The model: `uint8 (1, height, width, 3)` to features."""
        return Path(self.folder, "model.xml")


def exported(extractor: Timm, resolved: Resolved) -> Export:
    """The export of an extractor's model: from the cache where it is whole, else made.

    Raises:
        UsageError: the model cannot be made at all.
    """
    key = cache.key(
        model=extractor.model,
        model_kwargs=extractor.model_kwargs,
        pooling=extractor.pooling,
        preprocessing={name: resolved.preprocessing[name] for name in IN_THE_GRAPH},
        weights=resolved.weights,
        libraries=[cache.version(each) for each in ("timm", "torch", "openvino")],
    )
    folder = cache.folder() / "exported" / f"{extractor.model}-{key}"
    return _kept(folder) or _make(extractor, resolved, folder)


def _kept(folder: Path) -> Export | None:
    """What a folder holds, if all of it is there as it was written."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        about = Export(**json.loads((folder / "about.json").read_text(encoding="utf-8")), folder=str(folder))
        if all(models.digest_of(str(folder / name)) == digest for name, digest in about.digests.items()):
            return about
        log.warning("the export in %s is damaged, and made again", folder)
    return None


def _make(extractor: Timm, resolved: Resolved, folder: Path) -> Export:
    log.warning("preparing %s for OpenVINO, once; it is kept in %s", extractor.model, folder)
    model = models.make(extractor)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    except OSError as error:
        log.warning("the cache %s cannot be written (%s): every run prepares it anew", folder, error.strerror)
        aside = folder = Path(tempfile.mkdtemp(prefix="imgrec-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    problem, cosine = None, 0.0
    device = models.best_device()
    try:
        graph = _converted(model, resolved.preprocessing)
        openvino().save_model(graph, aside / "model.xml", compress_to_fp16=False)
        cosine = _agreement(graph, model, resolved.preprocessing)
    except (OSError, MemoryError) as error:  # may be otherwise the next time
        shutil.rmtree(aside, ignore_errors=True)
        return Export(f"{extractor.model} cannot be exported now: {error}", 0.0, device, {})
    except Exception as error:  # the converter raises anything on what it does not know
        problem = f"{extractor.model} cannot be exported: {' '.join(str(error).split())[:200]}"
    digests = {file.name: models.digest_of(str(file)) for file in sorted(aside.iterdir())}
    about = Export(problem, cosine, device, digests)
    data = {name: value for name, value in asdict(about).items() if name != "folder"}
    with contextlib.suppress(OSError):  # a full disk: what is there serves this run
        cache.write_text(aside / "about.json", json.dumps(data))
    if aside != folder:
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        with contextlib.suppress(OSError):  # another run was quicker
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    return Export(**data, folder=str(folder))


def _converted(model: Any, preprocessing: dict[str, Any]) -> Any:
    """The model with normalising in front, for one image of bytes: less to hand over, and all of it optimised."""
    import torch
    from openvino.preprocess import PrePostProcessor

    ov, shape = openvino(), [1, 3, *preprocessing["input_size"]]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which the converter does
        graph = ov.convert_model(model, example_input=torch.zeros(shape), input=shape)
    steps = PrePostProcessor(graph)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    mean, std = ([255 * value for value in preprocessing[name]] for name in ("mean", "std"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(mean).scale(std)
    return steps.build()


def _agreement(graph: Any, model: Any, preprocessing: dict[str, Any]) -> float:
    """The least cosine of the graph's float32 vectors with eager torch's, on the probe."""
    import torch

    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    mean, std = (255 * np.array(preprocessing[name], np.float32) for name in ("mean", "std"))
    cosines = []
    for image in _probe(*preprocessing["input_size"]):
        with torch.inference_mode():
            normal = ((image.astype(np.float32) - mean) / std).transpose(2, 0, 1)
            wanted = model(torch.from_numpy(normal[None].copy())).double().numpy().ravel()
        found = compiled({0: image[None]})[0].astype(np.float64).ravel()
        cosines.append(float(wanted @ found / (np.linalg.norm(wanted) * np.linalg.norm(found) or 1)))
    return min(cosines)


def _probe(height: int, width: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Soft shapes of all sizes and some noise: pictures enough for a network, and the same everywhere."""
    import cv2

    random = np.random.default_rng(0)
    for _ in range(PROBE):
        layers = [random.normal(size=(side, side, 3)).astype(np.float32) for side in (2, 5, 12, 30)]
        wide = [cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) for layer in layers]
        noise = random.normal(size=(height, width, 3)).astype(np.float32)
        mixed = np.sum([50 / (i + 1) * layer for i, layer in enumerate([*wide, noise])], axis=0)
        yield np.clip(mixed + 128, 0, 255).astype(np.uint8)


def compiled(file: Path, settings: dict[str, Any]) -> Any:
    """An exported model made ready for the CPU; what OpenVINO keeps of that beside it makes the next time quicker.

    OpenVINO recognises another processor, version or setting, but not a file that has been damaged.
    """
    folder, digests = file.parent / "compiled", file.parent / "compiled.json"
    try:
        folder.mkdir(exist_ok=True)
        known = json.loads(digests.read_text()) if digests.exists() else {}
        for blob in folder.iterdir():
            if known.get(blob.name) != models.digest_of(str(blob)):
                blob.unlink()
        model = core().compile_model(str(file), "CPU", {**settings, "CACHE_DIR": str(folder)})
        found = {blob.name: models.digest_of(str(blob)) for blob in folder.iterdir()}
        if found != known:
            cache.write_text(digests, json.dumps(found))
    except (OSError, ValueError):  # a cache that is read-only, or that another run is clearing
        return core().compile_model(str(file), "CPU", settings)
    return model


# --- OpenVINO itself ----------------------------------------------------------------------------------------


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16: OpenVINO would quietly take float32 otherwise."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def core() -> Any:
    """OpenVINO's devices."""
    return openvino().Core()


def openvino() -> Any:
    """The module, without its telemetry, which would tell its makers of every import and export."""
    with _IMPORT:
        telemetry = "openvino_telemetry"
        is_loaded = telemetry in sys.modules
        if not is_loaded:
            sys.modules[telemetry] = None  # type: ignore[assignment]  # an import of it fails, as if it was absent
        try:
            import openvino as ov
        finally:
            if not is_loaded:
                del sys.modules[telemetry]
        # Its table of types is made when it is first asked for; two threads that do so at once hang (2026.4).
        ov.Type.f32.to_dtype()
        return ov


_IMPORT = threading.Lock()
