"""Neural backbones: any model of timm."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import imgrec
from imgrec import Image, Vectors, option
from imgrec_timm import hubs

if TYPE_CHECKING:
    from imgrec_timm.cache import Resolved
    from imgrec_timm.preprocessing import Preprocessing
    from imgrec_timm.runtimes import Runtime

log = logging.getLogger(__name__)

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")
"""Pillow's filters by timm's names; `resize=fast` uses a fixed filter of OpenCV instead."""


@dataclass
class Timm(imgrec.Extractor):
    """Any model of timm by name, without its classifier: transfer learning from ImageNet and beyond.

    Preprocessing is the model's own unless options override it.
    """

    requires: ClassVar[Mapping[str, str]] = {"timm": "imgrec[timm]"}

    model: str = option(
        help="name, as timm.list_models() has it, resnet50 or vit_base_patch16_clip_224.openai; or "
        "hf-hub:OWNER/NAME, or local-dir:FOLDER with a config.json"
    )
    pretrained: bool = option(True, help="download the model's weights, once; false: random ones, always the same")
    checkpoint: str | None = option(
        None,
        path=True,
        help="weights from this file, told by its content: safetensors or torch's own, of a model or a training",
    )
    model_kwargs: dict[str, Any] = option({}, help="keyword arguments for timm.create_model: {pad_type: same}")
    pooling: str | None = option(
        None, help="how features become a vector: avg, max, token, ...; null: the model's way"
    )
    input_size: int | None = option(
        None, minimum=1, help="side of the square that the model sees; null: the model's"
    )
    mean: list[float] | None = option(None, help="of the channels, for normalising; null: the model's")
    std: list[float] | None = option(
        None, minimum=1e-6, help="of the channels, for normalising; null: the model's"
    )
    interpolation: str | None = option(None, choices=INTERPOLATIONS, help="resampling; null: the model's")
    crop_pct: float | None = option(
        None, minimum=0.1, maximum=10, help="part of the shorter side that is seen; null: the model's"
    )
    resize: str = option(
        "fast", choices=("fast", "exact"), help="OpenCV's area resampling, or Pillow's as timm's own"
    )
    normalise: bool = option(False, help="vectors of unit length")
    flip: bool = option(False, help="mean of an image's vector and that of its mirror image, for twice the work")
    precision: str = option(
        "float32", choices=("float32", "bfloat16"), help="bfloat16: faster where the hardware has it, less exact"
    )
    runtime: str = option(
        "auto",
        choices=("auto", "torch", "openvino"),
        help="auto: OpenVINO on a CPU, if it is installed and gives torch's vectors",
        changes_vectors=False,
    )
    device: str = option(
        "auto", choices=("auto", "cpu", "cuda", "mps"), help="where torch runs", changes_vectors=False
    )
    batch_size: int = option(
        32, minimum=1, help="images at once through the model, by torch", changes_vectors=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model = hubs.normalised(self.model)
        if self.interpolation is not None and self.resize == "fast":
            log.warning(
                "timm.interpolation has no effect: resize=fast has a filter of its own, resize=exact has not"
            )
        if taken := sorted(hubs.BY_OTHER_WAYS.intersection(self.model_kwargs)):
            raise imgrec.UsageError(
                f"extractor.model_kwargs.{taken[0]} is not taken: weights are chosen by extractor.pretrained and "
                f"extractor.checkpoint, so that vectors of others are never compared"
            )

    @property
    def side(self) -> int | None:
        """The side to which preprocessing resizes; None for `resize=exact`, as timm starts from full size."""
        return self._preprocessing.side

    def extract(self, images: Sequence[Image]) -> Vectors:
        """The features before the classifier, `float32 (n, number of features)`."""
        vectors = self._runtime(images)
        if self.flip:
            vectors = (vectors + self._runtime([image[:, ::-1] for image in images])) / np.float32(2)
        if vectors.ndim != 2:
            raise imgrec.UsageError(
                f"{self.model} gives features of shape {vectors.shape[1:]}, not a vector: choose pooling=avg"
            )
        if self.normalise:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors

    def identity(self) -> dict[str, Any]:
        """The options that change vectors, the effective preprocessing, and the digest of the weights."""
        decided = super().identity()
        for name in ("pretrained", "checkpoint"):
            del decided[name]
        if not self.flip:  # there are spaces from before it was an option
            del decided["flip"]
        made_of = self._resolved.made_of(self)
        return {**decided, **made_of, **self._resolved.preprocessing, "weights": self._resolved.weights}

    @functools.cached_property
    def _resolved(self) -> Resolved:
        from imgrec_timm import cache

        return cache.resolved(self)

    @functools.cached_property
    def _preprocessing(self) -> Preprocessing:
        from imgrec_timm.preprocessing import Preprocessing

        return Preprocessing(**self._resolved.preprocessing, exact=self.resize == "exact")

    @functools.cached_property
    def _runtime(self) -> Runtime:
        from imgrec_timm import runtimes

        return runtimes.runtime_of(self, self._resolved, self._preprocessing)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Extractor]]:
    """This plugin's components."""
    return [Timm]
