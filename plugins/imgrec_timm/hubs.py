"""Models that are named by a folder or by a repository of a hub, as timm has them: `local-dir:` and `hf-hub:`."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import imgrec

URL_PATIENCE = 15.0
"""Seconds to wait for a server other than the Hugging Face Hub, which has `HF_HUB_ETAG_TIMEOUT`."""

FOLDER, HUB = "local-dir", "hf-hub"

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
"""The usual names of a folder's weights, in timm's order."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""Those of other names."""

BY_OTHER_WAYS = frozenset(
    ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
)
"""Arguments of timm.create_model that would bypass a space's identity."""

Result = TypeVar("Result")


def normalised(model: str) -> str:
    """A model's name, with the path of a folder made absolute, so that it means the same from elsewhere.

    >>> normalised("hf_hub:timm/resnet18.a1_in1k"), normalised("resnet18")
    ('hf-hub:timm/resnet18.a1_in1k', 'resnet18')
    """
    source, colon, where = model.partition(":")
    if not colon:
        return model
    source = source.lower().replace("_", "-")
    return f"{source}:{Path(where).expanduser().absolute() if source == FOLDER and where else where}"


def is_elsewhere(model: str) -> bool:
    """Whether a model's name tells where its configuration is, instead of being one of timm's own."""
    return ":" in model


@dataclass(frozen=True)
class Description:
    """What a `config.json` tells of a model."""

    architecture: str
    """timm's name of it."""

    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for `timm.create_model`."""

    cfg: dict[str, Any] = field(default_factory=dict)
    """Its preprocessing, and the name of its classifier, as `timm.models.PretrainedCfg` has them."""


def description(model: str) -> Description:
    """Read what a folder, or a repository of the hub, tells of its model.

    Raises:
        UsageError: it is not there, cannot be downloaded, or tells of no model.
    """
    try:
        return _described(json.loads(config_file(model).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise imgrec.UsageError(
            f"extractor.model={model}: its config.json is not one of timm ({type(error).__name__}: {error})"
        ) from error


def config_file(model: str) -> Path:
    """The `config.json` of such a model, from the folder, the local cache or the hub.

    Raises:
        UsageError: it is not there, or cannot be downloaded.
    """
    source, _, where = model.partition(":")
    if source not in (FOLDER, HUB) or not where:
        raise imgrec.UsageError(
            f"extractor.model={model} names no model: it is one of timm.list_models(), {HUB}:OWNER/NAME or "
            f"{FOLDER}:FOLDER"
        )
    if source == FOLDER:
        file = Path(where, "config.json")
        if not file.is_file():
            raise imgrec.UsageError(f"extractor.model={model}: there is no {file}, which names its architecture")
        return file
    return Path(downloaded(model, "configuration", functools.partial(from_hub, where, ("config.json",))))


def _described(config: Mapping[str, Any]) -> Description:
    cfg = dict(config.get("pretrained_cfg") or config)
    others = {*BY_OTHER_WAYS, "num_classes"}
    arguments = {name: each for name, each in (config.get("model_args") or {}).items() if name not in others}
    architecture = config["architecture"]
    if not isinstance(architecture, str):
        raise TypeError("architecture is no name")
    return Description(architecture, arguments, cfg)


def weights(model: str) -> str:
    """The file of the weights of such a model.

    Raises:
        UsageError: it has none, or they cannot be downloaded.
    """
    source, _, where = model.partition(":")
    if source == HUB:
        return downloaded(model, "weights", functools.partial(from_hub, where, WEIGHTS[:2]))
    found = [file for name in WEIGHTS if (file := Path(where, name)).is_file()]
    if not found:
        others = [sorted(Path(where).glob(f"*{suffix}")) for suffix in SUFFIXES]
        found = next((each for each in others if each), [])
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise imgrec.UsageError(f"extractor.model={model} has several files of weights: {names}. Leave one")
    if not found:
        raise imgrec.UsageError(
            f"extractor.model={model} has no weights, {' or '.join(WEIGHTS[:2])}: give extractor.checkpoint= or "
            "extractor.pretrained=false"
        )
    return str(found[0])


def downloaded(model: str, what: str, download: Callable[[], str]) -> str:
    """Call `download`, and tell what to do where it fails.

    Raises:
        UsageError: the hub does not answer, or has no such thing; the message has its reason.
    """
    try:
        return download()
    except imgrec.UsageError:
        raise
    except Exception as error:  # libraries of hubs raise anything
        raise imgrec.UsageError(
            f"the {what} of {model} cannot be downloaded ({one_line(error) or type(error).__name__}): "
            f"connect once, or give extractor.checkpoint=FILE, extractor.pretrained=false (random weights) "
            f"or extractor=colour"
        ) from error


def from_hub(repository: str, names: Sequence[str]) -> str:
    """The first of some files that a repository of the hub has, from the local cache or downloaded."""
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    identifier, _, revision = repository.partition("@")
    for name in names:
        cached = hub.try_to_load_from_cache(identifier, name, revision=revision or None)
        if isinstance(cached, str):
            return cached
    for name in names:
        url = hub.hf_hub_url(identifier, name, revision=revision or None)
        try:
            # Without this, hf_hub_download retries an unresponsive hub for minutes.
            patience = hub.constants.HF_HUB_ETAG_TIMEOUT
            _within(patience, functools.partial(hub.get_hf_file_metadata, url, timeout=patience))
        except EntryNotFoundError:
            continue
        return hub.hf_hub_download(identifier, name, revision=revision or None)
    raise FileNotFoundError(f"{identifier} has no {' and no '.join(names)}")


def from_url(url: str) -> str:
    """The file of a URL, from torch's cache or downloaded."""
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


def one_line(error: Exception) -> str:
    """An error's message on one line, at most 300 characters."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."
