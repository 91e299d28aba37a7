"""open_clip's models, their preprocessing and their weights."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import Image, Vectors, chunks, each
from imgrec_clip import FOLDER

log = logging.getLogger("imgrec.clip")

CONFIG = "open_clip_config.json"

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""A folder's and a repository's files of weights, in open_clip's order."""


@dataclass(frozen=True)
class Description:
    """A model, its preprocessing and its weights."""

    model: str
    """open_clip's name of it, or its folder."""

    weights: str
    """The file."""

    preprocessing: dict[str, Any]
    """What differs from CLIP's, as open_clip names it."""

    quick_gelu: bool
    """Whether the weights were trained with OpenAI's approximation of GELU."""

    identity: dict[str, Any]
    """What determines vectors."""


def describe(model: str, pretrained: str | None, checkpoint: str | None) -> Description:
    """Find out what options mean, downloading the weights if they are not here.

    Raises:
        UsageError: there is no such model, no such weights of it, or no such file; or they cannot be downloaded.
    """
    import open_clip

    if model.startswith(FOLDER):
        config = _config_in(Path(model.removeprefix(FOLDER)))
        name, tag = config["model_cfg"], config.get("preprocess_cfg", {})
        file = checkpoint or _weights_in(Path(model.removeprefix(FOLDER)))
    else:
        name, tag = model, _published(model, pretrained)
        file = checkpoint or _downloaded(f"{model} {pretrained}", tag.get("hf_hub"))
    if not Path(file).is_file():
        raise imgrec.UsageError(f"checkpoint {file!r} does not exist")
    own = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode", "fill_color") if key in tag}
    quick_gelu = bool(tag.get("quick_gelu"))
    with Path(file).open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    whole = open_clip.transform.merge_preprocess_dict(open_clip.transform.PreprocessCfg(), own)
    del whole["size"]  # the model's
    identity = {"model": name, "quick_gelu": quick_gelu, "preprocessing": whole, "weights": digest}
    return Description(model, file, own, quick_gelu, identity)


def _published(model: str, pretrained: str | None) -> dict[str, Any]:
    """Where weights of a model are, and how it sees pictures then; empty for none."""
    import open_clip

    known: list[str] = open_clip.list_models()
    if model not in known:
        near = difflib.get_close_matches(model, known, 4, 0.4)
        raise imgrec.UsageError(
            f"open_clip has no model {model!r}{'; there are ' + ', '.join(near) if near else ''}; a folder is "
            f"{FOLDER}FOLDER"
        )
    if pretrained is None:
        return {}
    found: dict[str, Any] = open_clip.get_pretrained_cfg(model, pretrained)
    if not found:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise imgrec.UsageError(
            f"open_clip has no weights {pretrained!r} of {model}, but {tags}: choose by extractor.pretrained=, or "
            "give extractor.checkpoint=FILE and extractor.pretrained=null"
        )
    return found


def _config_in(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not {"vision_cfg", "text_cfg", "embed_dim"} <= config["model_cfg"].keys():
            raise KeyError("model_cfg")
    except FileNotFoundError as error:
        raise imgrec.UsageError(
            f"extractor.model={FOLDER}{folder}: there is no {CONFIG} in it, which tells of its model"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise imgrec.UsageError(f"{folder / CONFIG} is not one of open_clip ({_line(error)})") from error
    return config


def _weights_in(folder: Path) -> str:
    found = [name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise imgrec.UsageError(f"{folder} has no {' and no '.join(WEIGHTS)}: give extractor.checkpoint=")
    return str(folder / found[0])


def _downloaded(what: str, place: str | None) -> str:
    """The file of published weights, from the local cache or the hub.

    Args:
        what: model and weights, for messages.
        place: of the hub, `OWNER/NAME/FILE`; without a file the usual one.
    """
    if not place:
        raise imgrec.UsageError(
            "there are no weights: choose extractor.pretrained=, or give extractor.checkpoint="
        )
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, name = place.rpartition("/")
    names = [Path(name).with_suffix(".safetensors").name, name] if name else WEIGHTS
    for each_name in names:
        if isinstance(cached := hub.try_to_load_from_cache(repository, each_name), str):
            return cached
    try:
        for each_name in names:
            # Without this, hf_hub_download retries an unresponsive hub for minutes.
            patience = hub.constants.HF_HUB_ETAG_TIMEOUT
            with contextlib.suppress(EntryNotFoundError):
                hub.get_hf_file_metadata(hub.hf_hub_url(repository, each_name), timeout=patience)
                return hub.hf_hub_download(repository, each_name)
        raise FileNotFoundError(f"{repository} has no {' and no '.join(names)}")
    except Exception as error:  # libraries of hubs raise anything
        raise imgrec.UsageError(
            f"the weights of {what} cannot be downloaded ({_line(error)}): connect once, or give "
            "extractor.checkpoint=FILE"
        ) from error


class Model:
    """A model with its weights."""

    def __init__(self, description: Description, device: str, batch_size: int) -> None:
        self._description, self._batch_size = description, batch_size
        self._device = _device(device)
        self._model = _made(description).to(self._device).eval()

    def of_images(self, images: Sequence[Image]) -> Vectors:
        """Vectors of images, `float32 (n, dim)`."""
        import torch

        def inputs(some: Sequence[Image]) -> Any:
            return torch.stack(list(each(self._see, some)))

        return self._through(self._model.encode_image, images, inputs)

    def of_texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts, `float32 (n, dim)`.

        Raises:
            UsageError: the model's tokenizer needs a library or file that is not here.
        """
        return self._through(self._model.encode_text, texts, self._tokens)

    def _through(self, side: Any, items: Sequence[Any], inputs: Any) -> Vectors:
        import torch

        with torch.inference_mode():
            found = [
                side(inputs(some).to(self._device), normalize=True) for some in chunks(items, self._batch_size)
            ]
            vectors: npt.NDArray[np.float32] = torch.cat(found).float().cpu().numpy()
        return vectors

    def _see(self, image: Image) -> Any:
        import PIL.Image

        return self._transform(PIL.Image.fromarray(image))

    @functools.cached_property
    def _transform(self) -> Any:
        from open_clip import transform

        config = transform.PreprocessCfg(**self._model.visual.preprocess_cfg)
        return transform.image_transform_v2(config, is_train=False)

    def _tokens(self, texts: Sequence[str]) -> Any:
        import open_clip

        if isinstance(self._tokenizer, open_clip.SimpleTokenizer):  # others cut by themselves as well
            most = self._tokenizer.context_length - 2  # beside the tokens of start and end
            for text in texts:
                if (tokens := len(self._tokenizer.encode(text))) > most:
                    log.warning("%.60r is %d tokens long, and the model reads the first %d", text, tokens, most)
        return self._tokenizer(list(texts))

    @functools.cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        try:
            with _quietly():
                return open_clip.get_tokenizer(self._description.model)
        except Exception as error:  # of a library for it that is not here, or of a hub
            raise imgrec.UsageError(
                f"the tokenizer of {self._description.model} cannot be had: {_line(error)}"
            ) from error


def _made(description: Description) -> Any:
    """The model, a `torch.nn.Module` on the CPU.

    No code in the file of weights is run: it is safetensors, or read as `weights_only`.

    Raises:
        UsageError: the model cannot be made here, or the weights are damaged, not finite or of another model.
    """
    import open_clip

    name, file = description.model, description.weights
    with Path(file).open("rb") as opened:
        is_safe = opened.read(9)[8:] == b"{"
    if is_safe != file.endswith(".safetensors"):  # open_clip goes by the name
        how = "is safetensors by its content: name it so" if is_safe else "is no safetensors file, as it is named"
        raise imgrec.UsageError(f"checkpoint {file!r} {how}")
    with _quietly():
        try:
            model = open_clip.create_model(
                name,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=description.quick_gelu,
                force_preprocess_cfg=description.preprocessing,
            )
        except Exception as error:  # a configuration may hold anything
            raise imgrec.UsageError(f"open_clip cannot make {name}: {_line(error)}") from error
        try:
            open_clip.load_checkpoint(model, file)
        except Exception as error:  # torch, safetensors and pickle each raise their own errors
            raise imgrec.UsageError(
                f"checkpoint {file!r} is damaged, holds more than weights, or is not of {name}: {_line(error)}"
            ) from error
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise imgrec.UsageError(f"checkpoint {file!r} has weights that are not finite, such as {key}")
    return model


def _device(wanted: str) -> str:
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[wanted]:
        raise imgrec.UsageError(f"extractor.device={wanted} is not there: take auto or cpu")
    return wanted


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep open_clip from telling of each step by the root logger, and from giving that a handler."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def refuse(_: logging.LogRecord) -> bool:
        return False

    root.addHandler(handler)
    root.addFilter(refuse)
    try:
        yield
    finally:
        root.removeFilter(refuse)
        root.removeHandler(handler)


def _line(error: Exception) -> str:
    """An error's message on one line, at most 300 characters; its kind if it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 300 else text[:300] + " ..."
