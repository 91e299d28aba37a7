"""timm's models, their preprocessing and their weights."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import imgrec

if TYPE_CHECKING:
    from imgrec_timm import Timm

URL_PATIENCE = 15.0
"""Seconds to wait for a server other than the Hugging Face Hub, which has `HF_HUB_ETAG_TIMEOUT`."""

ONLY = {"features_only": False, "in_chans": 3}
"""Keyword arguments of timm's models that must keep their defaults to return a vector for an RGB image."""

Result = TypeVar("Result")


def preprocessing(extractor: Timm) -> dict[str, Any]:
    """Input size, mean, std, interpolation and crop as plain data: the model's own, overridden by options.

    Raises:
        UsageError: there is no such model, or a mean or std does not have three channels.
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
        {}, pretrained_cfg={**_pretrained_cfg(extractor.model), **changed}, verbose=False
    )
    return {
        "input_size": list(settings["input_size"][1:]),
        "mean": list(settings["mean"]),
        "std": list(settings["std"]),
        "interpolation": settings["interpolation"],
        "crop_pct": settings["crop_pct"],
        "crop_mode": settings["crop_mode"],
    }


def weights_file(extractor: Timm) -> str | None:
    """The file of the checkpoint or of the downloaded weights; None for random weights.

    Raises:
        UsageError: there is no such file; the model has no weights, or they cannot be downloaded.
    """
    if extractor.checkpoint is not None:
        if not Path(extractor.checkpoint).is_file():
            raise imgrec.UsageError(f"checkpoint {extractor.checkpoint!r} does not exist")
        return extractor.checkpoint
    return _pretrained_file(extractor.model, _pretrained_cfg(extractor.model)) if extractor.pretrained else None


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
        UsageError: the model cannot be created with these options, or the checkpoint does not fit it.
    """
    import timm
    import torch

    for name, usual in ONLY.items():
        if extractor.model_kwargs.get(name, usual) != usual:
            raise imgrec.UsageError(
                f"extractor.model_kwargs.{name}={extractor.model_kwargs[name]} makes a model that "
                "does not give a vector of an image in colour: leave it out"
            )
    cfg, weights = _pretrained_cfg(extractor.model), weights_file(extractor)
    options: dict[str, Any] = {"num_classes": 0, **extractor.model_kwargs}
    if extractor.pooling is not None:
        options["global_pool"] = extractor.pooling
    if extractor.input_size is not None and cfg.get("fixed_input_size"):
        options["img_size"] = extractor.input_size
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if weights is not None and extractor.checkpoint is None:
                # Let timm load the file, as it converts some models' published weights.
                options.update(pretrained=True, pretrained_cfg_overlay={"file": weights})
            model = timm.create_model(extractor.model, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise imgrec.UsageError(f"timm cannot make {extractor.model}: {_one_line(error)}") from error
    if extractor.checkpoint is not None:
        _load_checkpoint(model, extractor.checkpoint, cfg, extractor.model)
    return model.eval()


@functools.cache
def _pretrained_cfg(model: str) -> dict[str, Any]:
    """The configuration of a model in timm: its preprocessing, and where its weights are."""
    import timm

    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5] or timm.list_models(f"{name[:4]}*")[:5]
        like = f"; there are {', '.join(near)}" if near else ""
        raise imgrec.UsageError(f"timm has no model {name!r}{like}")
    tagged = [each for each in timm.list_pretrained() if each.startswith(f"{name}.")]
    if tag and model not in tagged:
        raise imgrec.UsageError(f"timm has no weights {tag!r} of {name}; there are {', '.join(tagged) or 'none'}")
    cfg = timm.get_pretrained_cfg(model)
    return cfg.to_dict() if cfg else {}  # type: ignore[no-untyped-call]


def _load_checkpoint(model: Any, checkpoint: str, cfg: Mapping[str, Any], name: str) -> None:
    """Load a user's weights, with or without those of the classifier, into a model without a classifier.

    Raises:
        UsageError: the file is not a checkpoint, or is one of another model.
    """
    import timm.models

    try:
        # weights_only: no code in the file is executed.
        state = timm.models.clean_state_dict(timm.models.load_state_dict(checkpoint, weights_only=True))
    except Exception as error:  # safetensors, pickle, zipfile and torch each raise their own errors
        raise imgrec.UsageError(f"checkpoint {checkpoint!r} is neither a safetensors nor a torch file") from error
    # Counters of training steps, missing in older checkpoints, do not affect vectors.
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    classifiers = cfg.get("classifier") or ()
    heads = tuple(f"{each}." for each in ((classifiers,) if isinstance(classifiers, str) else classifiers))
    lacks = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in model.state_dict() and not key.startswith(heads)]
    other = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    message = [f"lacks {len(lacks)} of its {len(wanted)} weights, such as {lacks[0]}"] if lacks else []
    message += [f"has {len(extra)} that the model has not, such as {extra[0]}"] if extra else []
    message += (
        [f"has {other[0]} as {list(state[other[0]].shape)}, not {list(wanted[other[0]].shape)}"] if other else []
    )
    if message:
        raise imgrec.UsageError(f"checkpoint {checkpoint!r} does not fit {name}: it {', '.join(message)}")
    model.load_state_dict(state, strict=False)  # only the classifier may differ, which the model lacks


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."


# --- the hub ------------------------------------------------------------------------------------------------


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
    # In timm's order: safetensors first, if the repository has them.
    safe = "model.safetensors" if usual == "pytorch_model.bin" else str(Path(usual).with_suffix(".safetensors"))
    for name in (safe, usual):
        cached = hub.try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(cached, str):
            return cached
    for name in (safe, usual):
        url = hub.hf_hub_url(repository, name, revision=revision or None)
        try:
            # Without this, hf_hub_download retries an unresponsive hub for minutes.
            patience = hub.constants.HF_HUB_ETAG_TIMEOUT
            _within(patience, functools.partial(hub.get_hf_file_metadata, url, timeout=patience))
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
        _within(URL_PATIENCE, functools.partial(urllib.request.urlopen, request, timeout=URL_PATIENCE))
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file))
    return str(file)


def _within(seconds: float, ask: Callable[[], Result]) -> Result:
    """Call `ask` with a timeout, raising TimeoutError; DNS look-ups have none of their own."""
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
