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
"""The parts of the preprocessing that an export has in it: how images come to the size is done before."""

PROBE = 8
"""Images on which an export is compared with torch."""

ABANDONED = 3600
"""Seconds after which an export that is being made belongs to a run that was killed."""


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
        if _is_sound(about) and all(
            models.digest_of(str(folder / name)) == digest for name, digest in about.digests.items()
        ):
            return about
        log.warning("the export in %s is damaged, and made again", folder)
    return None


def _is_sound(about: Export) -> bool:
    return (
        isinstance(about.cosine, float)
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
        with contextlib.suppress(OSError):  # a full disk: what is there serves this run
            cache.write_text(aside / "about.json", json.dumps(data))
        if aside != folder:
            _put_in_place(aside, folder)
    except (OSError, MemoryError) as error:  # may be otherwise the next time
        problem = f"{extractor.model} cannot be exported now: {error}"
        if extractor.runtime != "openvino":
            log.warning("%s", problem)
        return Export(problem, 0.0, models.best_device(), {})
    finally:
        if aside != folder:
            shutil.rmtree(aside, ignore_errors=True)
    return Export(**data, folder=str(folder))


def _put_in_place(aside: Path, folder: Path) -> None:
    """Under its name, unless another run was quicker: that one uses what it has made."""
    try:
        aside.rename(folder)
    except OSError:
        if _kept(folder) is None:  # damaged
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                aside.rename(folder)


def _remove_abandoned(parent: Path) -> None:
    for aside in parent.glob(".new-*"):
        with contextlib.suppress(OSError):  # another run removes it
            if time.time() - aside.stat().st_mtime > ABANDONED:
                shutil.rmtree(aside)


def _export_to(aside: Path, extractor: Timm, model: Any, preprocessing: dict[str, Any]) -> Export:
    """Write the export into a folder, and compare it with torch.

    Raises:
        OSError: it cannot be written.
        MemoryError: it needs more than there is.
    """
    problem, cosine = None, 0.0
    try:
        graph = _converted(model, preprocessing)
        _save(graph, aside / "model.xml")
        cosine = _agreement(graph, model, preprocessing)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the converter raises anything on what it does not know
        problem = f"{extractor.model} cannot be exported: {' '.join(str(error).split())[:200]}"
    digests = {file.name: models.digest_of(str(file)) for file in sorted(aside.iterdir())}
    return Export(problem, cosine, models.best_device(), digests)


def _save(graph: Any, file: Path) -> None:
    try:
        _openvino().save_model(graph, file, compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO says of a full disk is that a stream has failed
        raise OSError(f"{file.parent.parent} cannot be written: is the disk full?") from error


def _converted(model: Any, preprocessing: dict[str, Any]) -> Any:
    """The model with normalising in front, for one image of bytes: less to hand over, and all of it optimised."""
    import torch
    from openvino.preprocess import PrePostProcessor

    openvino, shape = _openvino(), [1, 3, *preprocessing["input_size"]]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which the converter does
        graph = openvino.convert_model(model, example_input=torch.zeros(shape), input=shape)
    steps = PrePostProcessor(graph)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    mean, std = ([255 * value for value in preprocessing[name]] for name in ("mean", "std"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(mean).scale(std)
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
    with contextlib.ExitStack() as turn:
        # One process at a time: what another one is writing would be taken for damaged, or read.
        with contextlib.suppress(imgrec.UsageError):  # a cache that is read-only: nobody writes
            turn.enter_context(locks.only_writer(file.parent / "compiled.lock", f"compiled models {file.parent}"))
        try:
            folder.mkdir(exist_ok=True)
            known = _digests_in(digests)
            for blob in folder.iterdir():
                if known.get(blob.name) != models.digest_of(str(blob)):
                    blob.unlink()
            model = core().compile_model(str(file), "CPU", {**settings, "CACHE_DIR": str(folder)})
            found = {blob.name: models.digest_of(str(blob)) for blob in folder.iterdir()}
            if found != known:
                cache.write_text(digests, json.dumps(found))
        except (OSError, RuntimeError):  # a cache that is read-only, full, or being deleted
            return core().compile_model(str(file), "CPU", settings)
    return model


def _digests_in(file: Path) -> dict[str, str]:
    """What was written there; nothing where there is no such file, or it was changed."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    return {}


# --- OpenVINO itself ----------------------------------------------------------------------------------------


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16: OpenVINO would quietly take float32 otherwise."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def core() -> Any:
    """OpenVINO's devices."""
    return _openvino().Core()


def _openvino() -> Any:
    """The module, without its telemetry, which would tell its makers of every import and export."""
    with _IMPORT:
        telemetry = "openvino_telemetry"
        is_loaded = telemetry in sys.modules
        if not is_loaded:
            sys.modules[telemetry] = None  # type: ignore[assignment]  # an import of it fails, as if it was absent
        try:
            import openvino
        finally:
            if not is_loaded:
                del sys.modules[telemetry]
        # Its table of types is made when it is first asked for; two threads that do so at once hang (2026.4).
        openvino.Type.f32.to_dtype()
        return openvino


_IMPORT = threading.Lock()
