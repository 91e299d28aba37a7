"""Neural backbones: any model of timm."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

import imgrec
from imgrec.contracts import Image, Vectors
from imgrec.options import option

HUB_PATIENCE = 15.0
"""Seconds to wait for the first answer of a model hub. What then comes may take its time."""

# OpenCV's enlargement and Pillow's resampling by timm's names.
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")

Result = TypeVar("Result")


@dataclass
class Timm(imgrec.Extractor):
    """Any model of timm by name, without its classifier: transfer learning from ImageNet and beyond.

    Preprocessing is the model's own, as far as options do not say otherwise.
    """

    requires: ClassVar[Mapping[str, str]] = {"timm": "pip install 'imgrec[timm]'"}

    model: str = option(help="name, as timm.list_models() has it: resnet50, vit_base_patch16_clip_224.openai")
    pretrained: bool = option(True, help="download the model's weights, once; false: random ones, always the same")
    checkpoint: str | None = option(None, path=True, help="weights from this file: safetensors, or torch's own")
    model_kwargs: dict[str, Any] = option({}, help="keyword arguments for timm.create_model: {pad_type: same}")
    pooling: str | None = option(
        None, help="how features become a vector: avg, max, token, ...; null: the model's way"
    )
    input_size: int | None = option(
        None, minimum=1, help="side of the square that the model sees; null: the model's"
    )
    mean: list[float] | None = option(None, help="of the channels, for normalising; null: the model's")
    std: list[float] | None = option(None, help="of the channels, for normalising; null: the model's")
    interpolation: str | None = option(None, choices=INTERPOLATIONS, help="resampling; null: the model's")
    crop_pct: float | None = option(None, help="part of the shorter side that is seen; null: the model's")
    resize: str = option(
        "fast", choices=("fast", "exact"), help="OpenCV's area resampling, or Pillow's as timm's own"
    )
    normalise: bool = option(False, help="vectors of unit length")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to", changes_vectors=False)
    batch_size: int = option(32, minimum=1, help="images at once through the model", changes_vectors=False)

    @property
    def side(self) -> int | None:
        """What preprocessing resizes to; full size for `resize=exact`, whose pixels are timm's own."""
        return None if self.resize == "exact" else self._resized_side

    def extract(self, images: Sequence[Image]) -> Vectors:
        """Features before the classifier, `float32 (n, number of features)`."""
        import torch

        device = self._device
        parts = []
        for start in range(0, len(images), self.batch_size):
            pixels = list(self._threads.map(self._preprocess, images[start : start + self.batch_size]))
            with torch.inference_mode():
                # Channels last: measured three times as fast with MobileNets on a CPU.
                batch = torch.from_numpy(np.stack(pixels)).to(device, memory_format=torch.channels_last)
                features = self._model(batch)
            parts.append(features.float().cpu().numpy())
        vectors: Vectors = np.concatenate(parts)
        if vectors.ndim != 2:
            raise imgrec.UsageError(
                f"{self.model} gives features of shape {vectors.shape[1:]}, not a vector: choose pooling=avg"
            )
        if self.normalise:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors

    def identity(self) -> dict[str, Any]:
        """The options that change vectors, preprocessing as it is in force, and the digest of the weights."""
        decided = super().identity()
        for name in ("pretrained", "checkpoint"):
            del decided[name]
        settings = self._settings
        return {
            **decided,
            "input_size": list(settings["input_size"][1:]),
            "mean": list(settings["mean"]),
            "std": list(settings["std"]),
            "interpolation": settings["interpolation"],
            "crop_pct": settings["crop_pct"],
            "crop_mode": settings["crop_mode"],
            "weights": self._weights_digest,
        }

    # --- preprocessing --------------------------------------------------------------------------------------

    @functools.cached_property
    def _settings(self) -> dict[str, Any]:
        """Input size, mean, std, interpolation and crop: the model's own, options over them."""
        from timm.data.config import resolve_data_config

        given: dict[str, Any] = {
            "input_size": (3, self.input_size, self.input_size) if self.input_size else None,
            "mean": tuple(self.mean) if self.mean else None,
            "std": tuple(self.std) if self.std else None,
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
        }
        for name in ("mean", "std"):
            if given[name] is not None and len(given[name]) != 3:
                raise imgrec.UsageError(f"extractor.{name} has three values, one a channel: [0.5,0.5,0.5]")
        changed = {name: value for name, value in given.items() if value is not None}
        settings: dict[str, Any] = resolve_data_config(  # type: ignore[no-untyped-call]
            {}, pretrained_cfg={**self._pretrained_cfg, **changed}, verbose=False
        )
        return settings

    @property
    def _resized_side(self) -> int:
        """The shorter side before cropping, as timm's evaluation transform has it."""
        height, width = self._settings["input_size"][1:]
        return int(min(height, width) / self._settings["crop_pct"])

    def _preprocess(self, image: Image) -> Vectors:
        """`float32 (3, height, width)`, normalised."""
        if self.resize == "exact":
            import PIL.Image

            return np.asarray(self._exact_transform(PIL.Image.fromarray(image)), dtype=np.float32)
        pixels = self._resized_and_cropped(image).astype(np.float32)
        scale, offset = self._scale_and_offset
        pixels *= scale
        pixels += offset
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    @functools.cached_property
    def _exact_transform(self) -> Callable[[Any], Any]:
        from timm.data.transforms_factory import create_transform

        transform: Callable[[Any], Any] = create_transform(**self._settings, is_training=False)
        return transform

    @functools.cached_property
    def _scale_and_offset(self) -> tuple[Vectors, Vectors]:
        mean, std = (np.asarray(self._settings[name], dtype=np.float64) for name in ("mean", "std"))
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def _resized_and_cropped(self, image: Image) -> Image:
        """The middle of the image at the model's size, as timm's crop modes `center` and `squash` have it."""
        import cv2

        height, width = self._settings["input_size"][1:]
        if self._settings["crop_mode"] == "squash":
            tall, wide = round(height / self._settings["crop_pct"]), round(width / self._settings["crop_pct"])
        else:
            scale = max(height, width) / self._settings["crop_pct"] / min(image.shape[:2])
            tall, wide = (
                max(side, round(scale * old)) for side, old in zip((height, width), image.shape, strict=False)
            )
        shrinks = tall < image.shape[0]
        resized = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        top, left = round((tall - height) / 2), round((wide - width) / 2)
        return resized[top : top + height, left : left + width]  # type: ignore[return-value]

    @functools.cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(os.cpu_count() or 1)

    # --- the model and its weights --------------------------------------------------------------------------

    @functools.cached_property
    def _pretrained_cfg(self) -> dict[str, Any]:
        """What timm knows of the model: preprocessing, and where its weights are."""
        import timm

        name, _, tag = self.model.partition(".")
        if not timm.is_model(name):
            near = timm.list_models(f"*{name}*")[:5] or timm.list_models(f"{name[:4]}*")[:5]
            like = f"; there are {', '.join(near)}" if near else ""
            raise imgrec.UsageError(f"timm has no model {name!r}{like}")
        tagged = [each for each in timm.list_pretrained() if each.startswith(f"{name}.")]
        if tag and self.model not in tagged:
            raise imgrec.UsageError(
                f"timm has no weights {tag!r} of {name}; there are {', '.join(tagged) or 'none'}"
            )
        cfg = timm.get_pretrained_cfg(self.model)
        return cfg.to_dict() if cfg else {}  # type: ignore[no-untyped-call]

    @functools.cached_property
    def _weights_file(self) -> str | None:
        """The checkpoint, or the downloaded weights; None for random ones."""
        if self.checkpoint is not None:
            if not Path(self.checkpoint).is_file():
                raise imgrec.UsageError(f"checkpoint {self.checkpoint!r} does not exist")
            return self.checkpoint
        return _pretrained_file(self.model, self._pretrained_cfg) if self.pretrained else None

    @functools.cached_property
    def _weights_digest(self) -> str:
        """SHA-256 of the weights' file; of the values themselves where they are random."""
        if self._weights_file is not None:
            with Path(self._weights_file).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for name, tensor in self._model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def _device(self) -> str:
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device == "auto":
            return next(name for name, is_there in there.items() if is_there)
        if not there[self.device]:
            raise imgrec.UsageError(f"extractor.device={self.device} is not there: take auto or cpu")
        return self.device

    @functools.cached_property
    def _model(self) -> Any:
        import timm
        import torch

        cfg = self._pretrained_cfg
        weights = self._weights_file
        options: dict[str, Any] = {"num_classes": 0, **self.model_kwargs}
        if self.pooling is not None:
            options["global_pool"] = self.pooling
        if self.input_size is not None and cfg.get("fixed_input_size"):
            options["img_size"] = self.input_size
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                if weights is not None and self.checkpoint is None:
                    # By timm's own way, which converts what some models' published weights need.
                    options.update(pretrained=True, pretrained_cfg_overlay={"file": weights})
                model = timm.create_model(self.model, **options)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise imgrec.UsageError(f"timm cannot make {self.model}: {_one_line(error)}") from error
        if self.checkpoint is not None:
            _load_checkpoint(model, self.checkpoint, cfg, self.model)
        return model.eval().to(self._device).to(memory_format=torch.channels_last)


def _load_checkpoint(model: Any, checkpoint: str, cfg: Mapping[str, Any], name: str) -> None:
    """A user's weights into a model without a classifier.

    Raises:
        UsageError: the file is no checkpoint, or of another model. The classifier's weights may be there or not.
    """
    import timm.models

    try:
        # Read with weights_only: nothing in the file is run.
        state = timm.models.clean_state_dict(timm.models.load_state_dict(checkpoint, weights_only=True))
    except Exception as error:  # safetensors, pickle, zipfile and torch each have errors of their own
        raise imgrec.UsageError(f"checkpoint {checkpoint!r} is neither a safetensors nor a torch file") from error
    # Counters of training steps, which older checkpoints lack, do not touch a vector.
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    classifiers = cfg.get("classifier") or ()
    heads = tuple(f"{each}." for each in ((classifiers,) if isinstance(classifiers, str) else classifiers))
    lacks = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in model.state_dict() and not key.startswith(heads)]
    other = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    told = [f"lacks {len(lacks)} of its {len(wanted)} weights, such as {lacks[0]}"] if lacks else []
    told += [f"has {len(extra)} that the model has not, such as {extra[0]}"] if extra else []
    told += (
        [f"has {other[0]} as {list(state[other[0]].shape)}, not {list(wanted[other[0]].shape)}"] if other else []
    )
    if told:
        raise imgrec.UsageError(f"checkpoint {checkpoint!r} does not fit {name}: it {', '.join(told)}")
    model.load_state_dict(state, strict=False)  # all that could differ is the classifier, which the model lacks


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."


# --- the hub ------------------------------------------------------------------------------------------------


def _pretrained_file(model: str, cfg: Mapping[str, Any]) -> str:
    """The file of a model's published weights: from the cache, without asking anybody, or downloaded.

    Raises:
        UsageError: there are none, or the hub does not answer.
    """
    if cfg.get("file"):
        return str(cfg["file"])
    if not cfg.get("hf_hub_id") and not cfg.get("url"):
        raise imgrec.UsageError(
            f"timm has no weights for {model}: give extractor.checkpoint= or extractor.pretrained=false"
        )
    try:
        return _from_hub(cfg) if cfg.get("hf_hub_id") else _from_url(cfg["url"])
    except Exception as error:
        if isinstance(error, imgrec.UsageError):
            raise
        raise imgrec.UsageError(
            f"the weights of {model} cannot be downloaded ({_one_line(error) or type(error).__name__}): "
            f"connect once, or give extractor.checkpoint=FILE, extractor.pretrained=false (random weights) "
            f"or extractor=colour"
        ) from error


def _from_hub(cfg: Mapping[str, Any]) -> str:
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = cfg["hf_hub_id"].partition("@")
    usual = cfg.get("hf_hub_filename") or "pytorch_model.bin"
    # timm's own order: the same weights as safetensors first, where the repository has them.
    safe = "model.safetensors" if usual == "pytorch_model.bin" else str(Path(usual).with_suffix(".safetensors"))
    for name in (safe, usual):
        cached = hub.try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(cached, str):
            return cached
    for name in (safe, usual):
        url = hub.hf_hub_url(repository, name, revision=revision or None)
        try:
            _within(HUB_PATIENCE, functools.partial(hub.get_hf_file_metadata, url, timeout=HUB_PATIENCE))
        except EntryNotFoundError:
            continue
        return hub.hf_hub_download(repository, name, revision=revision or None)
    raise FileNotFoundError(f"{repository} has neither {safe} nor {usual}")


def _from_url(url: str) -> str:
    import urllib.request

    import torch.hub

    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not file.exists():
        request = urllib.request.Request(url, method="HEAD")
        _within(HUB_PATIENCE, functools.partial(urllib.request.urlopen, request, timeout=HUB_PATIENCE))
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file))
    return str(file)


def _within(seconds: float, ask: Callable[[], Result]) -> Result:
    """What `ask` returns or raises, or TimeoutError: looking up a name may hang where no timeout reaches."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(ask())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    if failure:
        raise failure[0]
    return outcome[0]


@imgrec.hookimpl
def imgrec_extractors() -> list[type[imgrec.Extractor]]:
    """This plugin's extractors."""
    return [Timm]
