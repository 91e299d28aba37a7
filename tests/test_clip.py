"""CLIP, pictures and texts, against open_clip's own vectors of a small model with its real tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec import images
from imgrec.errors import UsageError
from imgrec.kinds import Space, Vectors
from imgrec.testing import check_extractor

open_clip = pytest.importorskip("open_clip", reason="needs the extra clip")
torch = pytest.importorskip("torch")

TEXTS = ["a red hat", "Two  dogs &amp; a cat's PHOTO, ½ price", "ein großer Hut: 帽子", "hat " * 200]

SQUASHED = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers in all, with random weights and the vocabulary of all CLIPs."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    return write_model(folder, {})


def write_model(folder: Path, preprocessing: dict[str, Any], *, seed: int = 0) -> Path:
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    about = json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing})
    (folder / "open_clip_config.json").write_text(about)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def clip(folder: Path, **options: Any) -> imgrec.Extractor:
    return imgrec.build("extractor", "clip", model=f"local-dir:{folder}", **options)  # type: ignore[no-any-return]


def own(folder: Path, pictures: list[Path], texts: list[str]) -> tuple[Vectors, Vectors]:
    """The vectors of open_clip's own calls, of unit length."""
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    with torch.inference_mode():
        pixels = torch.stack([preprocess(PIL.Image.open(file)) for file in pictures])
        both = model.eval().encode_image(pixels), model.encode_text(tokens)
    return tuple((each / each.norm(dim=1, keepdim=True)).numpy() for each in both)


@pytest.mark.parametrize("preprocessing", [{}, SQUASHED, {"resize_mode": "longest", "fill_color": 9}])
def test_vectors_are_open_clips_own(tmp_path: Path, few: Path, preprocessing: dict[str, Any]) -> None:
    tiny = write_model(tmp_path, preprocessing)
    pictures = sorted(few.rglob("*.jpg"))[:4]
    PIL.Image.new("RGB", (70, 11), (200, 30, 40)).save(tmp_path / "wide.png")
    pictures.append(tmp_path / "wide.png")
    of_images, of_texts = own(tiny, pictures, TEXTS)
    extractor = clip(tiny, batch_size=3)
    found = extractor.extract([images.decode(file.read_bytes(), extractor.side) for file in pictures])
    np.testing.assert_allclose(found, of_images, atol=1e-5)
    np.testing.assert_allclose(extractor.extract_text(TEXTS), of_texts, atol=1e-5)
    assert np.abs(of_images[0] - of_images[1]).max() > 1e-3  # it could fail
    assert np.abs(of_texts[0] - of_texts[1]).max() > 1e-3


def test_it_keeps_its_contract(folder: Path) -> None:
    check_extractor(clip(folder), alternatives={"pretrained": ["openai"], "device": ["cpu"]})


def test_a_gallery_is_asked_in_words(here: Cli, few: Path, folder: Path) -> None:
    chosen = ("extractor=clip", f"extractor.model=local-dir:{folder}")
    here("ingest", few, *chosen)
    found = here("recommend", "text=a red hat, twice=2", "k=3", "format=json")
    result = found.json()
    assert (result["query"], result["text"]) == (None, "a red hat, twice=2")
    pictures = sorted(few.rglob("*.jpg"))
    of_images, (of_text, away) = own(folder, pictures, ["a red hat, twice=2", "two cats"])
    wanted = np.linalg.norm(of_images - of_text, axis=1)
    order = np.argsort(wanted)[:3]
    assert [match["path"] for match in result["matches"]] == [str(pictures[i]) for i in order]
    np.testing.assert_allclose([match["distance"] for match in result["matches"]], wanted[order], atol=1e-5)
    assert found.record()["configuration"]["text"] == "a red hat, twice=2"
    replayed = here("replay", found.runs()[-1])
    assert "identical" in replayed.out + replayed.err
    # beside a picture: the mean of both
    both = here("recommend", pictures[0], "text=a red hat, twice=2", "k=3", "metric=cosine", "format=json").json()
    mean = of_images[0] + of_text
    cosines = 1 - of_images @ mean / np.linalg.norm(mean)
    order = 1 + np.argsort(cosines[1:])[:3]  # not the query itself
    assert [match["path"] for match in both["matches"]] == [str(pictures[i]) for i in order]
    np.testing.assert_allclose([match["distance"] for match in both["matches"]], cosines[order], atol=1e-5)
    assert both["query"] == str(pictures[0])
    # away from words: by Rocchio
    how = ("unlike_text=two cats", "unlike_weight=0.4", "metric=cosine", "k=3", "format=json")
    done = here("recommend", "text=a red hat, twice=2", *how)
    pushed = of_text - 0.4 * away
    cosines = 1 - of_images @ pushed / np.linalg.norm(pushed)
    order = np.argsort(cosines)[:3]
    assert [match["path"] for match in done.json()["matches"]] == [str(pictures[i]) for i in order]
    np.testing.assert_allclose([match["distance"] for match in done.json()["matches"]], cosines[order], atol=1e-5)
    assert (done.json()["unlike_text"], done.json()["unlike_weight"]) == ("two cats", 0.4)
    assert "unlike" not in done.json()
    assert here("replay", done.runs()[-1]).out == "identical\n"
    store = imgrec.build("store", "sqlite", path=str(done.cwd / "outputs" / "gallery.sqlite"))
    words = imgrec.Text("a red hat, twice=2")
    same = imgrec.recommend(
        words, store, 3, "cosine", unlike=imgrec.Text("two cats"), unlike_weight=0.4, extractor=clip(folder)
    )
    assert [match.to_json() for match in same] == done.json()["matches"]
    assert same._repr_png_().startswith(b"\x89PNG")
    for wrong in (["text= "], [pictures[0], "unlike_text="]):
        assert "text is empty" in here("recommend", *wrong, code=2).err
    assert "each=true asks with files" in here("recommend", few, "text=hat", "each=true", code=2).err
    assert "threshold=auto goes by" in here("recommend", "text=hat", "threshold=auto", code=2).err
    assert "variants=turns are of pictures" in here("recommend", "text=hat", "variants=turns", code=2).err
    # beside colours, which have a space of their own
    here("ingest", few, "extractor=colour")
    both = here("recommend", "text=a hat", "unlike_text=cats", "colour=red", "k=1", "format=json")
    assert both.json()["matches"][0]["shares"].keys() == {"clip", "colours"}
    assert here("replay", both.runs()[-1]).out == "identical\n"


def test_the_page_is_asked_in_words(
    here: Cli, few: Path, folder: Path, tmp_path: Path, open_page: Callable[..., Any]
) -> None:
    """In the space that takes them, whatever the default; what is found is what the command line finds."""
    serving = pytest.importorskip("serving", reason="needs the extra explore").serving
    here("ingest", few, "extractor=colour")
    here("ingest", few, "extractor=clip", f"extractor.model=local-dir:{folder}")
    command_line = here("recommend", "text=a red hat", "k=4", "format=json").json()
    with serving(tmp_path) as server:
        space = server.get("/api/gallery")["in_words"][0]
        served = server.get(f"/api/recommend?text=a%20red%20hat&k=4&space={space}")
        assert {name: served[name] for name in command_line} == command_line
        away = here("recommend", "text=a red hat", "unlike_text=two cats", "k=4", "format=json").json()
        asked = f"/api/recommend?text=a%20red%20hat&unlike_text=two%20cats&k=4&space={space}"
        assert server.get(asked)["matches"] == away["matches"]
        page = open_page(server.address)
        page.get_by_label("In words").fill("a red hat")
        page.get_by_label("In words").press("Enter")
        page.get_by_role("heading", name="11 like it").or_(
            page.get_by_role("heading", name="12 like it")
        ).wait_for()
        shown = page.locator("#found .grid img").evaluate_all("images => images.slice(0, 4).map(each => each.src)")
        assert [digest in source for digest, source in zip(served["digests"], shown, strict=True)] == [True] * 4
        assert "text=a+red+hat" in page.url
        page.close()


def test_others_say_what_takes_text(here: Cli, few: Path, folder: Path, tmp_path: Path) -> None:
    here("ingest", few, "extractor=colour")
    for words in (["text=a hat"], [few / "china" / "china-0-0.jpg", "unlike_text=a hat"]):
        assert (
            here("recommend", *words, code=2)
            .err.splitlines()[-1]
            .endswith("cannot be asked in words: ingest with extractor=clip first")
        )
    here("ingest", few, "extractor=clip", f"extractor.model=local-dir:{folder}")
    found = here("recommend", "text=a hat", "format=json")
    key = found.json()["space"]
    assert key.startswith("clip-")
    assert f"asked in {key}, the gallery's only space that takes text" in found.err
    again = here("recommend", "text=a hat", f"space={key[:9]}", "format=json")
    assert again.json() == found.json()
    assert "asked in" not in again.err
    for words in (["space=colour"], ["extractor=colour"]):
        refused = here("recommend", "text=a hat", *words, code=2).err
        assert f"cannot be asked in words: choose space={key}" in refused
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "outputs" / "gallery.sqlite"))
    for parts in ({"clip": clip(folder)}, {"clip": clip(folder), "colour": imgrec.build("extractor", "colour")}):
        fusion = imgrec.Fusion(weights=dict.fromkeys(parts, 1.0), parts=parts)
        if len(parts) == 1:
            assert imgrec.recommend(imgrec.Text("a hat"), store, extractor=fusion)
        else:
            with pytest.raises(UsageError, match=r"colour-.* cannot be asked in words: choose space=clip-"):
                imgrec.recommend(imgrec.Text("a hat"), store, extractor=fusion)
    other = write_model(tmp_path, {}, seed=1)
    here("ingest", few, "extractor=clip", f"extractor.model=local-dir:{other}")
    assert "choose space=clip-" in here("recommend", "text=a hat", code=2).err


def test_a_long_text_is_cut_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    extractor = clip(folder)
    cut, whole = extractor.extract_text(["hat " * 76, "hat " * 75])
    assert "76 tokens long, and the model reads the first 75" in caplog.text
    assert len(caplog.records) == 1
    np.testing.assert_array_equal(cut, whole)


def test_the_space_follows_weights_and_preprocessing(tmp_path: Path, folder: Path) -> None:
    (moved := tmp_path / "moved").mkdir()
    for name in ("open_clip_config.json", "open_clip_pytorch_model.bin"):
        (moved / name).write_bytes((folder / name).read_bytes())
    assert Space.of(clip(moved)).key == Space.of(clip(folder)).key
    weights = str(moved / "open_clip_pytorch_model.bin")
    assert Space.of(clip(folder, checkpoint=weights)).key == Space.of(clip(folder)).key
    write_model(moved, {}, seed=1)
    assert len({Space.of(clip(each)).key for each in (moved, folder)}) == 2
    write_model(moved, SQUASHED)
    assert len({Space.of(clip(each)).key for each in (moved, folder)}) == 2
    named = imgrec.build("extractor", "clip", checkpoint=weights)
    openai = imgrec.build("extractor", "clip", checkpoint=weights, pretrained="openai")  # of another GELU
    siglip = imgrec.build("extractor", "clip", checkpoint=weights, model="ViT-B-16-SigLIP", pretrained="webli")
    assert [Space.of(each).identity["quick_gelu"] for each in (named, openai)] == [False, True]
    assert Space.of(siglip).identity["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


class Program:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("it was run",)


def test_what_cannot_be_is_one_line(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.load(folder / "open_clip_pytorch_model.bin")
    safe, program, cut, other, infinite = (
        str(tmp_path / name) for name in ("safe.pt", "program.pt", "cut.pt", "other.pt", "infinite.pt")
    )
    import safetensors.torch

    safetensors.torch.save_file(weights, safe)
    torch.save({"state_dict": weights, "more": Program()}, program)
    Path(cut).write_bytes((folder / "open_clip_pytorch_model.bin").read_bytes()[:9000])
    torch.save({**weights, "visual.proj": weights["visual.proj"][:9]}, other)
    torch.save({**weights, "visual.proj": weights["visual.proj"] * float("nan")}, infinite)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"checkpoint": safe}, "name it so"),
        ({"checkpoint": program}, "holds more than weights"),
        ({"checkpoint": cut}, "is damaged"),
        ({"checkpoint": other}, "is not of"),
        ({"checkpoint": infinite}, "not finite, such as visual.proj"),
        ({"checkpoint": str(tmp_path / "none")}, "does not exist"),
        ({"model": "ViT-B-3"}, "there are ViT-B-32"),
        ({"model": f"local-dir:{tmp_path}"}, "there is no open_clip_config.json"),
        ({"model": "RN50", "checkpoint": safe}, "no weights 'laion2b_s34b_b79k' of RN50, but openai"),
        ({"model": "RN50", "pretrained": None}, "there are no weights"),
        ({"model": "RN50", "pretrained": "openai"}, "cannot be downloaded"),
        ({"device": "mps"}, "extractor.device=mps is not there"),
    ]
    for options, message in wrong:
        extractor = imgrec.build("extractor", "clip", **{"model": f"local-dir:{folder}", **options})
        with pytest.raises(UsageError) as refused:
            extractor.extract([np.zeros((9, 9, 3), np.uint8)])
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
    assert "it was run" not in capsys.readouterr().out
    Path(safe).rename(named := tmp_path / "safe.safetensors")
    assert (clip(folder, checkpoint=str(named)).extract_text(TEXTS) == clip(folder).extract_text(TEXTS)).all()
