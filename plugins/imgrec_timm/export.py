"""Models exported for OpenVINO: cached, and compared with torch when exported."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import math
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import locks
from imgrec_timm import cache, models

if TYPE_CHECKING:
    from imgrec_timm import Timm
    from imgrec_timm.cache import Resolved

log = logging.getLogger("imgrec.timm")

IN_THE_GRAPH = ("input_size", "mean", "std")
"""The parts of the preprocessing that are in the exported graph; resizing and cropping come before it."""

PROBE = 8
"""How many images an export is compared with torch on."""

ABANDONED = 3600
"""Seconds after which an unfinished export is considered abandoned."""


@dataclass(frozen=True)
class Export:
    """The result of exporting a model."""

    problem: str | None
    """Why it could not be exported."""

    cosine: float
    """The minimum cosine similarity with torch's vectors on the probe images."""

    accelerator: str
    """torch's best device on this machine: `cpu`, `cuda` or `mps`."""

    digests: dict[str, str]
    """SHA-256 digests of the files."""

    folder: str = ""

    @property
    def file(self) -> Path:
        """The model's file; it maps `uint8 (1, height, width, 3)` to features."""
        return Path(self.folder, "model.xml")


def exported(extractor: Timm, resolved: Resolved) -> Export:
    """The export of an extractor's model, from the cache if intact there, else exported now.

    Raises:
        UsageError: the model cannot be created.
    """
    made_of = resolved.made_of(extractor)
    key = cache.key(
        **made_of,
        pooling=extractor.pooling,
        preprocessing={name: resolved.preprocessing[name] for name in IN_THE_GRAPH},
        weights=resolved.weights,
        libraries=[cache.version(each) for each in ("timm", "torch", "openvino")],
    )
    folder = cache.folder() / "exported" / f"{made_of['model']}-{key}"
    return _kept(folder) or _make(extractor, resolved, folder)


def _kept(folder: Path) -> Export | None:
    """The export in a folder, or None if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        about = Export(**json.loads((folder / "about.json").read_text(encoding="utf-8")), folder=str(folder))
        if _is_sound(about) and all(
            models.digest_of(str(folder / name)) == digest for name, digest in about.digests.items()
        ):
            return about
        log.warning("the export in %s is damaged, and made again", folder)
    return None


def _is_sound(about: Export) -> bool:
    return (
        isinstance(about.cosine, float)
        and math.isfinite(about.cosine)
        and isinstance(about.digests, dict)
        and (isinstance(about.problem, str) or (about.problem is None and about.file.name in about.digests))
    )


def _make(extractor: Timm, resolved: Resolved, folder: Path) -> Export:
    log.warning("preparing %s for OpenVINO, once; it is kept in %s", extractor.model, folder)
    model = models.make(extractor)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    except OSError as error:
        log.warning("the cache %s cannot be written (%s): every run prepares it anew", folder, error.strerror)
        aside = folder = Path(tempfile.mkdtemp(prefix="imgrec-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        about = _export_to(aside, extractor, model, resolved.preprocessing)
        data = {name: value for name, value in asdict(about).items() if name != "folder"}
        with contextlib.suppress(OSError):  # a full disk: the export still serves this run
            cache.write_text(aside / "about.json", json.dumps(data))
        if aside != folder:
            _put_in_place(aside, folder)
    except (OSError, MemoryError) as error:  # may succeed the next time
        problem = f"{extractor.model} cannot be exported now: {error}"
        if extractor.runtime != "openvino":
            log.warning("%s", problem)
        return Export(problem, 0.0, models.best_device(), {})
    finally:
        if aside != folder:
            shutil.rmtree(aside, ignore_errors=True)
    return Export(**data, folder=str(folder))


def _put_in_place(aside: Path, folder: Path) -> None:
    """Rename an export into place, unless another run has done so already."""
    try:
        aside.rename(folder)
    except OSError:
        if _kept(folder) is None:  # damaged
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                aside.rename(folder)


def _remove_abandoned(parent: Path) -> None:
    for aside in parent.glob(".new-*"):
        with contextlib.suppress(OSError):  # removed by another run
            if time.time() - aside.stat().st_mtime > ABANDONED:
                shutil.rmtree(aside)


def _export_to(aside: Path, extractor: Timm, model: Any, preprocessing: dict[str, Any]) -> Export:
    """Write the export to a folder and compare it with torch.

    Raises:
        OSError: it cannot be written.
        MemoryError: there is not enough memory.
    """
    problem, cosine = None, 0.0
    try:
        graph = _converted(model, preprocessing)
        _save(graph, aside / "model.xml")
        if not math.isfinite(cosine := _agreement(graph, model, preprocessing)):
            problem, cosine = f"the vectors of {extractor.model} are not finite", 0.0
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the converter may raise any exception on unknown operations
        problem = f"{extractor.model} cannot be exported: {' '.join(str(error).split())[:200]}"
    digests = {file.name: models.digest_of(str(file)) for file in sorted(aside.iterdir())}
    return Export(problem, cosine, models.best_device(), digests)


def _save(graph: Any, file: Path) -> None:
    try:
        _openvino().save_model(graph, file, compress_to_fp16=False)
    except RuntimeError as error:  # on a full disk, OpenVINO only reports that a stream has failed
        raise OSError(f"{file.parent.parent} cannot be written: is the disk full?") from error


def _converted(model: Any, preprocessing: dict[str, Any]) -> Any:
    """Convert the model with normalisation in the graph, so that it takes one `uint8` image."""
    import torch

    openvino, shape = _openvino(), [1, 3, *preprocessing["input_size"]]
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by the tracing
        # Tracing a second time to check the first takes as long again, and `_agreement` compares vectors.
        once = {"check_trace": False}
        traced = TorchScriptPythonDecoder(model, example_input=torch.zeros(shape), trace_kwargs=once)
        graph = openvino.convert_model(traced, example_input=torch.zeros(shape), input=shape)
    steps = PrePostProcessor(graph)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    mean, std = ([255 * value for value in preprocessing[name]] for name in ("mean", "std"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(mean).scale(std)
    return steps.build()


def _agreement(graph: Any, model: Any, preprocessing: dict[str, Any]) -> float:
    """The minimum cosine between the graph's float32 vectors and eager torch's on the probe images, or NaN."""
    import torch

    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    mean, std = (255 * np.array(preprocessing[name], np.float32) for name in ("mean", "std"))
    cosines = []
    for image in _probe(*preprocessing["input_size"]):
        with torch.inference_mode():
            normal = ((image.astype(np.float32) - mean) / std).transpose(2, 0, 1)
            wanted = model(torch.from_numpy(normal[None].copy())).double().numpy().ravel()
        cosines.append(_cosine(wanted, _vector(compiled, image)))
    return float(np.min(cosines))  # unlike Python's min, NaN if one is


def agreement_in_bfloat16(file: Path) -> float:
    """The minimum cosine between vectors in bfloat16 and in float32 on the probe images; 0 if one is not finite.

    It is measured once on each kind of processor: on some, releases of OpenVINO multiply bfloat16 wrongly.
    """
    kept = file.parent / "bfloat16.json"
    known, processor = _read(kept), _processor()
    if not isinstance(known.get(processor), float):
        half, whole = (
            core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": each}) for each in ("bf16", "f32")
        )
        _, height, width, _ = whole.input(0).shape
        found = np.min([_cosine(_vector(half, each), _vector(whole, each)) for each in _probe(height, width)])
        known[processor] = float(np.nan_to_num(found))
        with contextlib.suppress(OSError):  # the cache may be read-only or full
            cache.write_text(kept, json.dumps(known))
    return known[processor]  # type: ignore[no-any-return]


def _processor() -> str:
    """What OpenVINO tells of the processor."""
    name, can = (core().get_property("CPU", each) for each in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"))
    return f"{name}: {', '.join(sorted(can))}"


def _vector(compiled: Any, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = compiled({0: image[None]})[0].astype(np.float64).ravel()
    return found


def _cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) or 1))


def _probe(height: int, width: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Deterministic synthetic images: smooth shapes of several sizes, with noise."""
    import cv2

    random = np.random.default_rng(0)
    for _ in range(PROBE):
        layers = [random.normal(size=(side, side, 3)).astype(np.float32) for side in (2, 5, 12, 30)]
        wide = [cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) for layer in layers]
        noise = random.normal(size=(height, width, 3)).astype(np.float32)
        mixed = np.sum([50 / (i + 1) * layer for i, layer in enumerate([*wide, noise])], axis=0)
        yield np.clip(mixed + 128, 0, 255).astype(np.uint8)


def compiled(file: Path, settings: dict[str, Any]) -> Any:
    """Compile an exported model for the CPU, using OpenVINO's cache beside it.

    OpenVINO invalidates the cache for another processor or version, but does not detect damaged files, and takes
    what it compiled in one precision for the other's (2026.4), so each has a folder.
    """
    name = f"compiled-{settings['INFERENCE_PRECISION_HINT']}"
    folder, digests = file.parent / name, file.parent / f"{name}.json"
    with contextlib.ExitStack() as turn:
        # An exclusive lock, as a file that another process is writing would be read or be taken for damaged.
        with contextlib.suppress(imgrec.UsageError):  # a read-only cache needs no lock
            turn.enter_context(locks.only_writer(file.parent / f"{name}.lock", f"compiled models {file.parent}"))
        try:
            folder.mkdir(exist_ok=True)
            known = _read(digests)
            for blob in folder.iterdir():
                if known.get(blob.name) != models.digest_of(str(blob)):
                    blob.unlink()
            model = core().compile_model(str(file), "CPU", {**settings, "CACHE_DIR": str(folder)})
            found = {blob.name: models.digest_of(str(blob)) for blob in folder.iterdir()}
            if found != known:
                cache.write_text(digests, json.dumps(found))
        except (OSError, RuntimeError):  # the cache is read-only, full or being deleted
            return core().compile_model(str(file), "CPU", settings)
    return model


def _read(file: Path) -> dict[str, Any]:
    """What a file of JSON holds by name; empty if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    return {}


# --- OpenVINO itself ----------------------------------------------------------------------------------------


def has_bfloat16() -> bool:
    """Whether the processor supports bfloat16; without it, OpenVINO silently uses float32."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def core() -> Any:
    """OpenVINO's runtime, created lazily."""
    return _openvino().Core()


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report every import and export."""
    with _IMPORT:
        telemetry = "openvino_telemetry"
        is_loaded = telemetry in sys.modules
        if not is_loaded:
            sys.modules[telemetry] = None  # type: ignore[assignment]  # makes its import fail
        try:
            import openvino
        finally:
            if not is_loaded:
                del sys.modules[telemetry]
        # The table of types is created lazily; two threads doing so at once deadlock (2026.4).
        openvino.Type.f32.to_dtype()
        return openvino


_IMPORT = threading.Lock()
