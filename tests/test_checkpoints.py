from __future__ import annotations

import argparse
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
from imgrec.errors import UsageError
from imgrec.kinds import Image, Space, Vectors

timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")

SMALL = "test_resnet"

Write = Callable[[dict[str, Any], Path], None]


def extractor(**options: Any) -> imgrec.Extractor:
    return imgrec.build("extractor", "timm", **{"model": SMALL, "runtime": "torch", **options})  # type: ignore[no-any-return]


def weights(seed: int = 5, model: str = SMALL, **options: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    state: dict[str, Any] = timm.create_model(model, num_classes=5, **options).state_dict()
    return state


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    return list(np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8))


@pytest.fixture(scope="module")
def vectors(pictures: list[Image]) -> Vectors:
    """Those of the weights, by timm itself."""
    model = timm.create_model(SMALL, num_classes=5)
    model.load_state_dict(weights())
    model.reset_classifier(0)
    cfg = timm.get_pretrained_cfg(SMALL)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (cfg.mean, cfg.std))
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        found: Vectors = model.eval()((pixels - mean) / std).numpy()
    return found


def safetensors(state: dict[str, Any], file: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: each.contiguous() for name, each in state.items()}, file)


def zipped(state: dict[str, Any], file: Path) -> None:
    torch.save(state, file)


def legacy(state: dict[str, Any], file: Path) -> None:
    torch.save(state, file, _use_new_zipfile_serialization=False)


def ours(file: Path, **options: Any) -> imgrec.Extractor:
    # At 160 pixels, fully seen, pictures of 160 pixels are neither resized nor cropped.
    return extractor(checkpoint=str(file), crop_pct=1.0, input_size=160, **options)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin", "w.ckpt", "w"])
@pytest.mark.parametrize("write", [safetensors, zipped, legacy])
def test_the_content_tells_what_a_file_is(
    write: Write, name: str, tmp_path: Path, pictures: list[Image], vectors: Vectors
) -> None:
    write(weights(), tmp_path / name)
    np.testing.assert_allclose(ours(tmp_path / name).extract(pictures), vectors, rtol=1e-4, atol=1e-5)


def of_timm(state: dict[str, Any]) -> Any:
    return {
        "epoch": 3,
        "arch": SMALL,
        "state_dict": {name: 0 * each for name, each in state.items()},
        "state_dict_ema": {f"module.{name}": each for name, each in state.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(model=SMALL, lr=0.1),
        "metric": 0.5,
    }


WHOLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "timm": of_timm,
    "Lightning": lambda state: {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**{f"model.{name}": each for name, each in state.items()}, "loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
    },
    "compiled, on several devices": lambda state: {
        "model": {f"_orig_mod.module.{name}": each for name, each in state.items()}
    },
    "another name": lambda state: {"epoch": 1, "model_state_dict": state, "optimizer": {"param_groups": []}},
    "a number beside": lambda state: {**state, "epoch": 4},
}


@pytest.mark.parametrize("kind", WHOLES)
def test_weights_are_found_in_what_trainings_leave(
    kind: str, tmp_path: Path, pictures: list[Image], vectors: Vectors
) -> None:
    torch.save(WHOLES[kind](weights()), tmp_path / "w.ckpt")
    np.testing.assert_allclose(ours(tmp_path / "w.ckpt").extract(pictures), vectors, rtol=1e-4, atol=1e-5)


RENAMED = (("fc1", "c_fc"), ("fc2", "c_proj"))


def test_the_image_half_of_clip_is_found_in_all_of_it(tmp_path: Path, pictures: list[Image]) -> None:
    """In the names that OpenCLIP and OpenAI have, with the text half beside it."""
    model = "vit_base_patch32_clip_224"
    options: dict[str, Any] = {"model": model, "model_kwargs": {"depth": 1}}
    torch.manual_seed(3)
    state = timm.create_model(model, depth=1, num_classes=512).state_dict()
    renamed = {
        "visual.class_embedding": state["cls_token"][0, 0],
        "visual.positional_embedding": state["pos_embed"][0],
        "visual.conv1.weight": state["patch_embed.proj.weight"],
        "visual.proj": state["head.weight"].T,
        "text_projection": torch.ones(4, 4),
        "logit_scale": torch.tensor(1.0),
        "token_embedding.weight": torch.ones(4, 4),
    }
    names = {"norm_pre.": "ln_pre.", "norm.": "ln_post."}
    names |= {
        "blocks.0.norm1.": "transformer.resblocks.0.ln_1.",
        "blocks.0.norm2.": "transformer.resblocks.0.ln_2.",
    }
    names |= {f"blocks.0.mlp.{a}.": f"transformer.resblocks.0.mlp.{b}." for a, b in RENAMED}
    names |= {"blocks.0.attn.proj.": "transformer.resblocks.0.attn.out_proj."}
    names |= {"blocks.0.attn.qkv.": "transformer.resblocks.0.attn.in_proj_"}
    for mine, theirs in names.items():
        for each in ("weight", "bias"):
            renamed[f"visual.{theirs}{each}"] = state[f"{mine}{each}"]
    whole = {"epoch": 1, "name": "run", "state_dict": {f"module.{name}": each for name, each in renamed.items()}}
    torch.save(whole, tmp_path / "clip.pt")
    torch.save({name: each for name, each in state.items() if not name.startswith("head.")}, tmp_path / "timm.pt")
    found, wanted = (
        extractor(checkpoint=str(tmp_path / name), **options).extract(pictures) for name in ("clip.pt", "timm.pt")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


class Custom:
    """A class as trainings put it beside their weights."""


def refusals(folder: Path) -> dict[str, str]:
    """Files of weights that are none, or more, and what is said of them."""
    state, file = weights(), folder / "safe"
    safetensors(state, file)
    zipped(state, folder / "zip")
    (folder / "cut.safetensors").write_bytes(file.read_bytes()[:3000])
    (folder / "cut.pth").write_bytes((folder / "zip").read_bytes()[:3000])
    torch.save(timm.create_model(SMALL), folder / "model.pth")
    torch.save({"state_dict": state, "config": Custom()}, folder / "beside.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and such files are around
        torch.jit.script(torch.nn.Linear(2, 2)).save(folder / "script.pt")
    (folder / "plain.pkl").write_bytes(pickle.dumps({"state_dict": 1, "custom": Custom()}))
    torch.save({"student": state, "teacher": state}, folder / "two.pt")
    torch.save({"epoch": 1, "lr": 0.1}, folder / "none.pt")
    torch.save([1, 2], folder / "list.pt")
    np.savez(folder / "numpy.npz", a=np.ones(3))
    with zipfile.ZipFile(folder / "any.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    (folder / "text.pth").write_text("https://example.org/weights.pth is not here\n")
    (folder / "empty.pth").touch()
    return {
        "cut.safetensors": "is a damaged safetensors file",
        "cut.pth": "is a zip file, and damaged or not one of torch",
        "model.pth": "holds more than weights: timm.models.resnet.ResNet. imgrec runs no code",
        "beside.ckpt": r"holds more than weights: [\w.]*Custom",
        "script.pt": r"holds more than weights: a program \(TorchScript\)",
        "plain.pkl": r"holds more than weights: [\w.]*Custom|is a pickle that torch refuses",
        "two.pt": "holds the weights of several: student, teacher",
        "none.pt": "holds no weights, but epoch, lr",
        "list.pt": "holds no weights by name, but list",
        "numpy.npz": "is a zip file, and damaged or not one of torch",
        "any.zip": "is a zip file, and damaged or not one of torch",
        "text.pth": "is neither a safetensors nor a torch file",
        "empty.pth": "is neither a safetensors nor a torch file",
    }


def test_what_is_no_file_of_weights_is_told_as_what_it_is(tmp_path: Path, pictures: list[Image]) -> None:
    for name, message in refusals(tmp_path).items():
        with pytest.raises(UsageError, match=message) as caught:
            ours(tmp_path / name).extract(pictures)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("runtime", ["torch", "openvino", "auto"])
@pytest.mark.parametrize("tensor", ["conv1.0.weight", "bn1.running_var"])
def test_weights_that_are_not_finite_are_refused_by_every_runtime(
    value: float, runtime: str, tensor: str, tmp_path: Path, pictures: list[Image]
) -> None:
    """A ReLU of OpenVINO makes zeros of NaN."""
    if runtime == "openvino":
        pytest.importorskip("openvino")
    state = weights()
    state[tensor].view(-1)[0] = value
    zipped(state, tmp_path / "w.pth")
    for _ in range(2):  # also when the first try has left something in the cache
        with pytest.raises(UsageError, match=rf"not finite, such as {tensor}"):
            extractor(checkpoint=str(tmp_path / "w.pth"), runtime=runtime).extract(pictures)


# --- models of folders and hubs -----------------------------------------------------------------------------


def folder_of(folder: Path, **config: Any) -> Path:
    """A folder with a model, as timm's `save_for_hf` makes it."""
    folder.mkdir()
    safetensors(weights(), folder / "model.safetensors")
    cfg = {"input_size": [3, 160, 160], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "crop_pct": 1.0}
    about = {"architecture": SMALL, "num_classes": 5, "pretrained_cfg": {**cfg, "tag": "mine"}, **config}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_a_folder_names_a_model(tmp_path: Path, pictures: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are those of the same weights as a checkpoint, and so is the space, wherever the folder is."""
    folder = folder_of(tmp_path / "m")
    found = extractor(model=f"local-dir:{folder}")
    same = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "crop_pct": 1.0, "input_size": 160}
    wanted = extractor(checkpoint=str(folder / "model.safetensors"), **same)
    np.testing.assert_array_equal(found.extract(pictures), wanted.extract(pictures))
    space = Space.of(found)
    assert space.identity["model"] == SMALL
    monkeypatch.chdir(tmp_path)
    assert Space.of(extractor(model="local-dir:m")) == space
    assert Space.of(extractor(model="local-dir:m")).options["model"] == f"local-dir:{folder}"
    folder.rename(tmp_path / "moved")
    assert Space.of(extractor(model="local-dir:moved")) == space
    folder_of(tmp_path / "other", model_args={"global_pool": "max"})
    assert Space.of(extractor(model="local-dir:other")) != space


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnt18"}, "the architecture of local-dir:.*no model 'resnt18'"),
        ({"architecture": None}, "not one of timm"),
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, "the preprocessing of local-dir:.*standard deviation"),
        ({"pretrained_cfg": {"mean": [float("nan"), 0, 0]}}, "the preprocessing of local-dir:.*mean"),
        ({"model_args": {"in_chans": 1}}, "in_chans=1 makes a model"),
        ({"architecture": "resnet10t"}, "does not fit local-dir:"),
    ],
)
def test_folders_that_tell_of_no_model(
    config: dict[str, Any], message: str, tmp_path: Path, pictures: list[Image]
) -> None:
    folder = folder_of(tmp_path / "m", **config)
    with pytest.raises(UsageError, match=message) as caught:
        extractor(model=f"local-dir:{folder}").extract(pictures)
    assert "\n" not in str(caught.value)


def test_names_of_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(json.dumps({"architecture": SMALL}))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    cases = {
        f"local-dir:{tmp_path}/none": f"extractor.model=local-dir:{tmp_path}/none: there is no .*config.json",
        f"local-dir:{tmp_path}/bare": f"extractor.model=local-dir:{tmp_path}/bare has no weights",
        "local-dir:": "extractor.model=local-dir: names no model",
        "s3:bucket/model": "extractor.model=s3:bucket/model names no model",
        "timm/resnet18.a1_in1k": "no model 'timm/resnet18.a1_in1k': of the hub it is hf-hub:timm/resnet18.a1_in1k",
    }
    for model, message in cases.items():
        with pytest.raises(UsageError, match=message):
            Space.of(extractor(model=model))


def test_the_hubs_cache_is_enough(
    tmp_path: Path, pictures: list[Image], vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that was downloaded before is used without a connection; another one is told by its name."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--me--mine"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    cfg = timm.get_pretrained_cfg(SMALL)
    settings = {"input_size": [3, 160, 160], "mean": cfg.mean, "std": cfg.std, "crop_pct": 1.0}
    folder_of(repository / "snapshots" / ("0" * 40), pretrained_cfg=settings)
    found = extractor(model="hf-hub:me/mine")
    np.testing.assert_allclose(found.extract(pictures), vectors, rtol=1e-4, atol=1e-5)
    for what, model in (("configuration", "hf-hub:me/other"), ("configuration", "hf_hub:me/other@v2")):
        shown = model.replace("_", "-")
        with pytest.raises(UsageError, match=f"the {what} of {shown} cannot be downloaded .*: connect once"):
            Space.of(extractor(model=model))
