"""timm's models, their preprocessing and their weights."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imgrec
from imgrec_timm import checkpoints, hubs
from imgrec_timm.preprocessing import Preprocessing

if TYPE_CHECKING:
    from imgrec_timm import Timm

ONLY = {"features_only": False, "in_chans": 3}
"""Keyword arguments of timm's models that must keep their defaults to return a vector for an RGB image."""


def preprocessing(extractor: Timm) -> dict[str, Any]:
    """Input size, mean, std, interpolation and crop as plain data: the model's own, overridden by options.

    Raises:
        UsageError: there is no such model, or a mean or std does not have three channels; or what a folder or hub
            tells of its model is out of range.
    """
    from timm.data.config import resolve_data_config

    given = {
        "input_size": (3, extractor.input_size, extractor.input_size) if extractor.input_size else None,
        "mean": tuple(extractor.mean) if extractor.mean else None,
        "std": tuple(extractor.std) if extractor.std else None,
        "interpolation": extractor.interpolation,
        "crop_pct": extractor.crop_pct,
    }
    for name in ("mean", "std"):
        if given[name] is not None and len(given[name]) != 3:  # type: ignore[arg-type]
            raise imgrec.UsageError(f"extractor.{name} has three values, one a channel: [0.5,0.5,0.5]")
    changed = {name: value for name, value in given.items() if value is not None}
    settings: dict[str, Any] = resolve_data_config(  # type: ignore[no-untyped-call]
        {}, pretrained_cfg={**described(extractor.model).cfg, **changed}, verbose=False
    )
    found = {
        "input_size": list(settings["input_size"][1:]),
        "mean": list(settings["mean"]),
        "std": list(settings["std"]),
        "interpolation": settings["interpolation"],
        "crop_pct": settings["crop_pct"],
        "crop_mode": settings["crop_mode"],
    }
    try:
        Preprocessing(**found, exact=True)
    except (TypeError, ValueError) as error:
        raise imgrec.UsageError(f"the preprocessing of {extractor.model} cannot be done: {error}") from error
    return found


def weights_file(extractor: Timm) -> str | None:
    """The file of the checkpoint or of the downloaded weights; None for random weights.

    Raises:
        UsageError: there is no such file; the model has no weights, or they cannot be downloaded.
    """
    if extractor.checkpoint is not None:
        if not Path(extractor.checkpoint).is_file():
            raise imgrec.UsageError(f"checkpoint {extractor.checkpoint!r} does not exist")
        return extractor.checkpoint
    if not extractor.pretrained:
        return None
    if hubs.is_elsewhere(extractor.model):
        return hubs.weights(extractor.model)
    return _pretrained_file(extractor.model, described(extractor.model).cfg)


def digest_of(file: str) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def digest_of_values(model: Any) -> str:
    """The SHA-256 digest of a model's weights, for weights without a file."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def best_device() -> str:
    """The fastest device available to torch."""
    return next(name for name, is_there in _devices().items() if is_there)


def check_device(device: str) -> None:
    """Raise a UsageError if a device is not available."""
    if not _devices()[device]:
        raise imgrec.UsageError(f"extractor.device={device} is not there: take auto or cpu")


def _devices() -> dict[str, bool]:
    import torch

    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def make(extractor: Timm) -> Any:
    """Create the model with its weights, a `torch.nn.Module` on the CPU from `(n, 3, height, width)` to vectors.

    Raises:
        UsageError: the model cannot be created with these options, or the checkpoint does not fit it or is not
            finite.
    """
    import timm
    import torch

    is_elsewhere, about, weights = (
        hubs.is_elsewhere(extractor.model),
        described(extractor.model),
        weights_file(extractor),
    )
    cfg, options = about.cfg, {"num_classes": 0, **about.arguments, **extractor.model_kwargs}
    for name, usual in ONLY.items():
        if options.get(name, usual) != usual:
            raise imgrec.UsageError(
                f"extractor.model_kwargs.{name}={options[name]} makes a model that "
                "does not give a vector of an image in colour: leave it out"
            )
    if extractor.pooling is not None:
        options["global_pool"] = extractor.pooling
    if extractor.input_size is not None and cfg.get("fixed_input_size"):
        options["img_size"] = extractor.input_size
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if is_elsewhere:
                options["pretrained_cfg"] = cfg
            elif weights is not None and extractor.checkpoint is None:
                # Let timm load the file, as it converts some models' published weights.
                options.update(pretrained=True, pretrained_cfg_overlay={"file": weights})
            model = timm.create_model(about.architecture, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise imgrec.UsageError(f"timm cannot make {extractor.model}: {hubs.one_line(error)}") from error
    if weights is not None and (is_elsewhere or extractor.checkpoint is not None):
        classifiers = cfg.get("classifier") or ()
        heads = tuple(f"{each}." for each in ((classifiers,) if isinstance(classifiers, str) else classifiers))
        checkpoints.load(model, weights, heads, extractor.model)
    whose = extractor.model if extractor.checkpoint is None else f"checkpoint {extractor.checkpoint!r}"
    checkpoints.check_finite(model.state_dict().items(), whose)
    return model.eval()


def described(model: str) -> hubs.Description:
    """The architecture of a model, its arguments, its preprocessing and where its weights are.

    Raises:
        UsageError: there is no such model.
    """
    if not hubs.is_elsewhere(model):
        return hubs.Description(model, cfg=_pretrained_cfg(model))
    import timm.models

    about = hubs.description(model)
    try:
        usual = _pretrained_cfg(about.architecture)
    except imgrec.UsageError as error:
        raise imgrec.UsageError(f"the architecture of {model}: {error}") from error
    known = {spec.name for spec in fields(timm.models.PretrainedCfg)}
    cfg = {name: value for name, value in about.cfg.items() if name in known}
    bare = ("classifier", "first_conv")  # what its layers are called
    cfg = {**{name: usual[name] for name in bare if name in usual}, **cfg, "architecture": about.architecture}
    return replace(about, cfg=cfg)


@functools.cache
def _pretrained_cfg(model: str) -> dict[str, Any]:
    """The configuration of a model in timm: its preprocessing, and where its weights are."""
    import timm

    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5] or timm.list_models(f"{name[:4]}*")[:5]
        like = f"; there are {', '.join(near)}" if near else ""
        if "/" in model:
            like = f": of the hub it is {hubs.HUB}:{model}, in a folder {hubs.FOLDER}:{model}"
        raise imgrec.UsageError(f"timm has no model {model if '/' in model else name!r}{like}")
    tagged = [each for each in timm.list_pretrained() if each.startswith(f"{name}.")]
    if tag and model not in tagged:
        raise imgrec.UsageError(f"timm has no weights {tag!r} of {name}; there are {', '.join(tagged) or 'none'}")
    cfg = timm.get_pretrained_cfg(model)
    return cfg.to_dict() if cfg else {}  # type: ignore[no-untyped-call]


def _pretrained_file(model: str, cfg: Mapping[str, Any]) -> str:
    """The file of a model's published weights, from the local cache without network access, or downloaded.

    Raises:
        UsageError: there are none, or the hub does not answer.
    """
    if cfg.get("file"):
        return str(cfg["file"])
    if not cfg.get("hf_hub_id") and not cfg.get("url"):
        raise imgrec.UsageError(
            f"timm has no weights for {model}: give extractor.checkpoint= or extractor.pretrained=false"
        )
    if not cfg.get("hf_hub_id"):
        return hubs.downloaded(model, "weights", functools.partial(hubs.from_url, cfg["url"]))
    usual = cfg.get("hf_hub_filename") or "pytorch_model.bin"
    # In timm's order: safetensors first, if the repository has them.
    safe = "model.safetensors" if usual == "pytorch_model.bin" else str(Path(usual).with_suffix(".safetensors"))
    return hubs.downloaded(model, "weights", functools.partial(hubs.from_hub, cfg["hf_hub_id"], (safe, usual)))
