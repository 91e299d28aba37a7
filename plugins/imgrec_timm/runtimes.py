"""Runtimes for models: torch, or OpenVINO, which is several times as fast on a CPU and does not import torch."""

from __future__ import annotations

import importlib.util
import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import Image, chunks, cores, each
from imgrec_timm import export, models

if TYPE_CHECKING:
    from imgrec_timm import Timm
    from imgrec_timm.cache import Resolved
    from imgrec_timm.preprocessing import Preprocessing

log = logging.getLogger("imgrec.timm")

Runtime = Callable[[Sequence[Image]], npt.NDArray[np.float32]]
"""Maps images of any sizes to features, `float32 (n, ...)`."""

Preprocess = Callable[[Image], Image]
"""Maps an image of any size to the model's input, `uint8 (height, width, 3)`."""

AGREEMENT = 0.9999
"""The minimum cosine between OpenVINO's and torch's vectors for OpenVINO to be chosen."""


AGREEMENT_IN_BFLOAT16 = 0.95
"""The minimum cosine between OpenVINO's vectors in bfloat16 and in float32; rounding alone leaves 0.99."""


class UnavailableError(Exception):
    """A runtime cannot be used; the message says why."""


def runtime_of(extractor: Timm, resolved: Resolved, preprocessing: Preprocessing) -> Runtime:
    """The runtime that an extractor requests; for `auto`, OpenVINO on a CPU if its vectors agree with torch's.

    Raises:
        UsageError: OpenVINO is requested, but not installed or unable to run the model; a missing device.
    """
    why = "as asked"
    if extractor.runtime != "torch":
        try:
            runtime, why = _openvino(extractor, resolved, preprocessing)
            log.info("runtime of %s: openvino, %s", extractor.model, why)
            return runtime
        except UnavailableError as error:
            if extractor.runtime == "openvino":
                raise imgrec.UsageError(
                    f"extractor.runtime=openvino cannot be had: {error}; extractor.runtime=auto takes torch then"
                ) from error
            why = f"not openvino: {error}"
    log.info("runtime of %s: torch, %s", extractor.model, why)
    return Torch(extractor, preprocessing)


def _openvino(extractor: Timm, resolved: Resolved, preprocessing: Preprocessing) -> tuple[OpenVINO, str]:
    """The OpenVINO runtime, and why it was chosen.

    Raises:
        UnavailableError: it cannot be used, or not automatically.
    """
    if importlib.util.find_spec("openvino") is None:
        raise UnavailableError(f"it is not installed: {imgrec.install_command('imgrec[openvino]')}")
    if extractor.device not in ("auto", "cpu"):
        raise UnavailableError(f"it runs on the CPU, and extractor.device={extractor.device}")
    if extractor.precision == "bfloat16" and not export.has_bfloat16():
        raise UnavailableError("this processor has no bfloat16 for it")
    made = export.exported(extractor, resolved)
    if made.problem:
        raise UnavailableError(made.problem)
    if extractor.precision == "bfloat16":
        cosine = export.agreement_in_bfloat16(made.file)
        if not cosine >= AGREEMENT_IN_BFLOAT16:
            raise UnavailableError(
                f"its vectors in bfloat16 have a cosine of only {cosine:.4f} with those in float32 here"
            )
    if extractor.runtime == "openvino":
        return OpenVINO(made.file, preprocessing, extractor.precision), "as asked"
    if made.accelerator != "cpu" and extractor.device == "auto":
        raise UnavailableError(f"torch has {made.accelerator} here")
    if not made.cosine >= AGREEMENT:  # also if it is NaN
        raise UnavailableError(f"its vectors have a cosine of only {made.cosine:.6f} with torch's")
    why = f"whose vectors have a cosine of {made.cosine:.7f} with torch's"
    return OpenVINO(made.file, preprocessing, extractor.precision), why


# --- torch --------------------------------------------------------------------------------------------------


class Torch:
    """Runs a model in torch, on a GPU if there is one."""

    def __init__(self, extractor: Timm, preprocessing: Preprocessing) -> None:
        import torch

        self._preprocessing, self._batch_size = preprocessing, extractor.batch_size
        self._device = models.best_device() if extractor.device == "auto" else extractor.device
        models.check_device(self._device)
        self._is_bfloat16 = extractor.precision == "bfloat16"
        # Channels last is three times as fast with MobileNets on a CPU.
        self._model = models.make(extractor).to(self._device).to(memory_format=torch.channels_last)
        self._mean, self._std = (
            torch.tensor([255 * value for value in values], device=self._device).view(3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )

    def __call__(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """See `Runtime`. The GPU works asynchronously while the next batch is prepared."""
        import torch

        features = []
        # Else convolutions on a GPU round to TF32, and vectors depend on the batch.
        exactly = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        bfloat16 = torch.autocast(self._device, torch.bfloat16, enabled=self._is_bfloat16)
        with torch.inference_mode(), exactly, bfloat16:
            for some in chunks(images, self._batch_size):
                pixels = torch.from_numpy(np.stack(each(self._preprocessing, some)))
                if self._device == "cuda":
                    pixels = pixels.pin_memory()
                # Bytes are a quarter of the size of floats; NHWC viewed as NCHW is already channels last.
                pixels = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
                features.append(self._model((pixels.float() - self._mean) / self._std))
            found: npt.NDArray[np.float32] = torch.cat(features).float().cpu().numpy()
        return found


# --- OpenVINO -----------------------------------------------------------------------------------------------


class OpenVINO:
    """Runs an exported model on the CPU, one image per core, so that vectors do not depend on the batch size."""

    def __init__(self, file: Path, preprocess: Preprocess, precision: str) -> None:
        self._file, self._preprocess = file, preprocess
        self._precision = {"float32": "f32", "bfloat16": "bf16"}[precision]
        self._compiled: dict[int, Any] = {}

    def __call__(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """See `Runtime`. A single image, usually a query, uses all cores."""
        streams = 1 if len(images) == 1 else cores()
        if streams not in self._compiled:
            self._compiled[streams] = self._compile(streams)
        # Preprocess everything first: interleaved, it would evict the model from the cores' caches.
        pixels = each(self._preprocess, images)
        features: list[npt.NDArray[np.float32]] = []
        # One request more than streams keeps all cores busy. No callbacks: OpenVINO's threads would run Python,
        # and a process that exits at that moment would be aborted.
        waiting: deque[Any] = deque()
        for some in pixels:
            if len(waiting) > streams:
                request = waiting.popleft()
                features.append(_result(request))
            else:
                request = self._compiled[streams].create_infer_request()
            request.start_async({0: some[None]}, share_inputs=True)
            waiting.append(request)
        features += map(_result, waiting)
        return np.stack(features)

    def _compile(self, streams: int) -> Any:
        settings = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": cores(),
            "ENABLE_CPU_PINNING": False,  # decoding shares the cores
        }
        try:
            return export.compiled(self._file, settings)
        except RuntimeError:
            if self._file.exists() or not self._compiled:
                raise
            # The cache was deleted during the run: use a model compiled for another number of streams.
            return next(iter(self._compiled.values()))


def _result(request: Any) -> npt.NDArray[np.float32]:
    """Wait for a request and return its result."""
    request.wait()
    found: npt.NDArray[np.float32] = request.get_output_tensor().data[0].copy()
    return found
