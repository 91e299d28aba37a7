"""Reads files of weights, told by their content, and fits them to models."""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import imgrec

WRAPPED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training programs keep a model's weights in a checkpoint, in timm's order; any other name is found too."""

LONGEST_HEADER = 100_000_000
"""Bytes, by the definition of safetensors."""


def weights_in(file: str) -> dict[str, Any]:
    """The tensors of a file by name: safetensors, or torch's formats, of a model alone or from a training.

    No code in the file is run: torch's formats are read as `weights_only`.

    Raises:
        UsageError: it is neither, is damaged, or holds more than weights or none.
    """
    try:
        found = _safetensors(file) if _is_safetensors(file) else _torch(file)
    except OSError as error:
        raise imgrec.UsageError(f"checkpoint {file!r} cannot be read: {error.strerror or error}") from error
    state = _of_a_model(found, file)
    # Wrappers for several devices and for compilation put their names in front.
    return {re.sub(r"^(_orig_mod\.|module\.)+", "", name): tensor for name, tensor in state.items()}


def _is_safetensors(file: str) -> bool:
    """Whether a file begins with the length of a header in JSON, and then that."""
    with Path(file).open("rb") as opened:
        start = opened.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER


def _safetensors(file: str) -> Any:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(file)
    except Exception as error:
        raise imgrec.UsageError(f"checkpoint {file!r} is a damaged safetensors file: {error}") from error


def _torch(file: str) -> Any:
    import torch

    is_zip = zipfile.is_zipfile(file)
    if is_zip and _is_program(file):
        raise imgrec.UsageError(f"checkpoint {file!r} holds more than weights: a program (TorchScript). {HOW}")
    try:
        # Given a name, torch would go by its suffix. timm's trainings keep their options in a Namespace.
        with Path(file).open("rb") as opened, torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile each raise their own errors
        if found := re.search(r"(?:GLOBAL|Unsupported class) ([A-Za-z_][\w.]*)", str(error)):
            what = found[1]
            raise imgrec.UsageError(f"checkpoint {file!r} holds more than weights: {what}. {HOW}") from error
        with Path(file).open("rb") as opened:
            start = opened.read(4)
        if is_zip or start == b"PK\x03\x04":
            raise imgrec.UsageError(
                f"checkpoint {file!r} is a zip file, and damaged or not one of torch: {_short(error)}"
            ) from error
        kind = (
            "is a pickle that torch refuses" if _is_pickle(start) else "is neither a safetensors nor a torch file"
        )
        raise imgrec.UsageError(f"checkpoint {file!r} {kind}: {_short(error)}") from error


HOW = (
    "imgrec runs no code from a file: where you trust it, load it in Python and save its state_dict() alone, by "
    "safetensors.torch.save_file or torch.save"
)


def _is_program(file: str) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _is_pickle(start: bytes) -> bool:
    """Whether a file begins as a pickle of protocol 2 or above does."""
    return start[:1] == b"\x80" and start[1:2] <= b"\x05"


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _of_a_model(found: Any, file: str) -> dict[str, Any]:
    """The weights of a model in what a file holds: the file itself, or what it holds under some name."""
    if not isinstance(found, Mapping):
        raise imgrec.UsageError(f"checkpoint {file!r} holds no weights by name, but {type(found).__name__}")
    usual = next((found[name] for name in WRAPPED if _tensors(found.get(name))), None)
    if usual is not None:
        return _tensors(usual)
    if state := _tensors(found):
        return state
    inside = {str(name): tensors for name, each in found.items() if (tensors := _tensors(each))}
    if len(inside) == 1:
        return next(iter(inside.values()))
    if inside:
        raise imgrec.UsageError(
            f"checkpoint {file!r} holds the weights of several: {', '.join(inside)}. Save one alone"
        )
    names = ", ".join(map(str, list(found)[:5])) or "nothing"
    raise imgrec.UsageError(f"checkpoint {file!r} holds no weights, but {names}")


def _tensors(value: Any) -> dict[str, Any]:
    """The tensors by name in a mapping, the other values left out."""
    import torch

    if not isinstance(value, Mapping):
        return {}
    return {name: each for name, each in value.items() if isinstance(name, str) and isinstance(each, torch.Tensor)}


# --- into a model -------------------------------------------------------------------------------------------


def load(model: Any, checkpoint: str, heads: tuple[str, ...], name: str) -> None:
    """Load a user's weights, with or without those of the classifier, into a model without a classifier.

    Weights may be inside those of a whole, as Lightning has them (`model.conv1.weight`), or named as in the
    original publication where timm can convert them, as CLIP's.

    Args:
        model: a `torch.nn.Module` of timm.
        checkpoint: the file.
        heads: the names of the model's classifiers.
        name: the model's, for messages.

    Raises:
        UsageError: the file is not a checkpoint, or is one of another model.
    """
    given = weights_in(checkpoint)
    state = given
    if problem := _misfit(model, state, heads):
        for other in (_inside_of(model, given), _converted(model, given)):
            if other is not None and _misfit(model, other, heads) is None:
                state, problem = other, None
                break
    if problem:
        raise imgrec.UsageError(f"checkpoint {checkpoint!r} does not fit {name}: it {problem}")
    model.load_state_dict(state, strict=False)  # only the classifier may differ, which the model lacks


def _misfit(model: Any, state: Mapping[str, Any], heads: tuple[str, ...]) -> str | None:
    """Why weights do not fit a model; None if they do."""
    known = model.state_dict()
    # Counters of training steps, missing in older checkpoints, do not affect vectors.
    wanted = {key: value for key, value in known.items() if not key.endswith("num_batches_tracked")}
    lacks = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in known and not key.startswith(heads)]
    other = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    message = [f"lacks {len(lacks)} of its {len(wanted)} weights, such as {lacks[0]}"] if lacks else []
    message += [f"has {len(extra)} that the model has not, such as {extra[0]}"] if extra else []
    message += (
        [f"has {other[0]} as {list(state[other[0]].shape)}, not {list(wanted[other[0]].shape)}"] if other else []
    )
    return ", ".join(message) or None


def _inside_of(model: Any, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """The weights under the only prefix under which all of a model's are; None if there is none, or several."""
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    prefixes = {key.removesuffix(names[0]) for key in state if key.endswith(f".{names[0]}")} if names else set()
    whole = [prefix for prefix in prefixes if all(prefix + each in state for each in names)]
    if len(whole) != 1:
        return None
    return {key.removeprefix(whole[0]): each for key, each in state.items() if key.startswith(whole[0])}


def _converted(model: Any, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """The weights renamed by the model's module in timm, which knows the published names; None if it cannot."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        return _tensors(convert(dict(state), model)) if convert else None
    except Exception:  # the names are of some other model
        return None


def check_finite(tensors: Iterable[tuple[str, Any]], whose: str) -> None:
    """Refuse weights that are not finite, which some runtimes would turn into zeros without a word.

    Raises:
        UsageError: naming one of them.
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise imgrec.UsageError(
                f"{whose} has weights that are not finite, such as {name}: take weights from before its training "
                "diverged"
            )
