from __future__ import annotations

import http.server
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from omegaconf import OmegaConf

import imgrec
from conftest import Cli, shared, shared_timm
from imgrec import images, presets
from imgrec.errors import UsageError
from imgrec.kinds import Image, Space, Vectors

timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")

SMALL = "mobilenetv3_small_050"


def random_model(**options: Any) -> imgrec.Extractor:
    return imgrec.build("extractor", "timm", **{"model": SMALL, "pretrained": False, **options})  # type: ignore[no-any-return]


@pytest.fixture
def some(photos: Path) -> list[Image]:
    return [images.decode(file.read_bytes()) for file in sorted(photos.rglob("*.jpg"))[:6]]


def cosines(first: Vectors, second: Vectors) -> Vectors:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / lengths  # type: ignore[no-any-return]


def test_the_same_vector_alone_and_in_any_batch(some: list[Image]) -> None:
    vectors = random_model(batch_size=4).extract(some)
    assert vectors.dtype == np.float32
    assert vectors.shape == (6, 1024)
    backwards = random_model(batch_size=1).extract(some[::-1])[::-1]
    np.testing.assert_allclose(vectors, backwards, rtol=1e-5, atol=1e-5 * np.abs(vectors).max())


def test_images_of_any_size() -> None:
    odd = [np.full(shape, 90, np.uint8) for shape in [(1, 1, 3), (1, 700, 3), (900, 2, 3), (224, 224, 3)]]
    for resize in ("fast", "exact"):
        vectors = random_model(resize=resize).extract(odd)
        assert np.isfinite(vectors).all()


@pytest.mark.parametrize("model", [SMALL, "vit_tiny_patch16_224", "resnet10t"])
def test_exact_resizing_gives_timms_own_vectors(photos: Path, model: str) -> None:
    files = sorted(photos.rglob("*.jpg"))[:6]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(model, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=net))
    with torch.inference_mode():
        expected = net(torch.stack([transform(PIL.Image.open(file).convert("RGB")) for file in files])).numpy()
    extractor = random_model(model=model, resize="exact")
    vectors = extractor.extract([images.decode(file.read_bytes(), extractor.side) for file in files])
    assert cosines(vectors, expected).min() >= 0.9999


def test_options_change_what_they_say(some: list[Image]) -> None:
    plain = random_model().extract(some)
    unit = random_model(normalise=True).extract(some)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
    assert cosines(plain, unit).min() > 0.9999
    assert random_model(pooling="max").extract(some).shape == plain.shape
    assert not np.allclose(random_model(input_size=96).extract(some), plain)
    assert not np.allclose(random_model(mean=[0.1, 0.2, 0.3]).extract(some), plain)
    assert not np.allclose(random_model(crop_pct=0.5).extract(some), plain)
    cubic, nearest = (random_model(resize="exact", interpolation=i).extract(some) for i in ("bicubic", "nearest"))
    assert not np.allclose(cubic, nearest)


def test_the_identity_changes_with_vectors_and_only_with_them() -> None:
    key = Space.of(random_model()).key
    assert Space.of(random_model(device="cpu", batch_size=3)).key == key
    changes: list[dict[str, Any]] = [
        {"model": "mobilenetv3_small_075"},
        {"normalise": True},
        {"resize": "exact"},
        {"mean": [0.5, 0.5, 0.5]},
        {"input_size": 128},
        {"crop_pct": 0.5},
        {"pooling": "max"},
    ]
    keys = {Space.of(random_model(**change)).key for change in changes}
    assert len(keys) == len(changes)
    assert key not in keys


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_flipped_it_is_the_mean_of_an_image_and_its_mirror_image(some: list[Image], runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in some]
    plain, flipped = (random_model(runtime=runtime, flip=flip) for flip in (False, True))
    mean = (plain.extract(some).astype(float) + plain.extract(mirrored)) / 2
    found = flipped.extract(some)
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(flipped.extract(mirrored), found, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, plain.extract(some), rtol=1e-2)
    unit = random_model(runtime=runtime, flip=True, normalise=True).extract(some)
    np.testing.assert_allclose(unit, mean / np.linalg.norm(mean, axis=1, keepdims=True), rtol=1e-4, atol=1e-5)


def test_spaces_from_before_flip_was_an_option_are_the_same() -> None:
    assert "flip" not in random_model().identity()
    assert random_model(flip=True).identity()["flip"] is True


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Weights of a small model with a classifier of five classes, as a user's training leaves them."""
    torch.manual_seed(5)
    file = tmp_path / "mine.pt"
    model = timm.create_model(SMALL, num_classes=5)
    torch.save({"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}}, file)
    return file


def test_a_checkpoint_of_ones_own(checkpoint: Path, some: list[Image], tmp_path: Path) -> None:
    extractor = random_model(checkpoint=str(checkpoint))
    vectors = extractor.extract(some)
    assert not np.allclose(vectors, random_model().extract(some))
    copy = tmp_path / "renamed.pt"
    shutil.copy(checkpoint, copy)
    assert Space.of(random_model(checkpoint=str(copy))) == Space.of(extractor)
    safe = tmp_path / "mine.safetensors"
    from safetensors.torch import save_file

    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    save_file({name.removeprefix("module."): value for name, value in state.items()}, safe)
    np.testing.assert_allclose(random_model(checkpoint=str(safe)).extract(some), vectors, rtol=1e-5)


def test_checkpoints_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    cases = [(str(tmp_path / "none.pt"), SMALL, "does not exist")]
    rubbish = tmp_path / "rubbish.safetensors"
    rubbish.write_bytes(b"rubbish")
    cases += [(str(rubbish), SMALL, "neither a safetensors nor a torch file")]
    cases += [(str(checkpoint), "resnet10t", "does not fit resnet10t: it lacks")]
    cases += [(str(checkpoint), "mobilenetv3_small_100", r"as \[.*\], not \[")]
    for file, model, message in cases:
        extractor = random_model(model=model, checkpoint=file)
        with pytest.raises(UsageError, match=message) as caught:
            extractor.extract([np.zeros((8, 8, 3), np.uint8)])
        assert "\n" not in str(caught.value)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "done"),)

    file = tmp_path / "evil.pt"
    file.write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(UsageError):
            random_model(checkpoint=str(tmp_path / name)).extract([np.zeros((8, 8, 3), np.uint8)])
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnt18"}, "no model 'resnt18'"),
        ({"model": "resnet18.foo"}, "no weights 'foo'.*resnet18.a1_in1k"),
        ({"pooling": "nonsense"}, "cannot make"),
        ({"mean": [0.5]}, "three values"),
        ({"model_kwargs": {"nonsense": 1}}, "cannot make"),
        ({"interpolation": "cubic"}, "one of bilinear"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        random_model(**options).extract([np.zeros((8, 8, 3), np.uint8)])


def test_a_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA, and this one has it")
    with pytest.raises(UsageError, match="device=cuda is not there"):
        random_model(device="cuda").extract([np.zeros((8, 8, 3), np.uint8)])


def test_on_a_gpu_vectors_are_those_of_the_cpu_in_any_batch() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU of NVIDIA's")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (96, 96, 3), np.uint8) for _ in range(40)]
    usual = random_model(device="cpu", runtime="torch").extract(pictures)
    for size in (1, 7, 40):
        found = random_model(device="cuda", batch_size=size).extract(pictures)
        assert np.linalg.norm(found - usual, axis=1).max() <= 1e-5 * np.linalg.norm(usual, axis=1).min()


def test_model_is_required() -> None:
    with pytest.raises(UsageError, match="needs model"):
        imgrec.build("extractor", "timm")


FILES = sorted((Path(presets.conf_folders()[0].path) / "extractor").glob("*.yaml"))
PRESETS = [file for file in FILES if presets.begins_with("extractor", file.stem) == "timm"]


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_every_presets_model_exists_with_weights(file: Path) -> None:
    preset = OmegaConf.load(file)
    assert preset.defaults == ["timm", "_self_"]
    assert preset.model in timm.list_pretrained(), f"{preset.model} has no weights in timm {timm.__version__}"
    assert file.stem not in imgrec.available("extractor")


def test_the_presets_are_those_that_are_promised() -> None:
    promised = "clip_vit_b32 dinov2_small efficientnet_b0 mobilenet mobilenetv1 mobilenetv2 resnet18"
    assert [file.stem for file in PRESETS] == promised.split()


def test_from_the_shell_with_a_checkpoint_and_recommend_elsewhere(
    cli: Cli, few: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ["extractor=timm", f"extractor.model={SMALL}", f"extractor.checkpoint={checkpoint.name}"]
    done = cli("ingest", "few", *words, "extractor.model_kwargs.drop_rate=0.0")
    assert done.record()["plugins"]["extractor=timm"].startswith("imgrec ")
    assert done.record()["versions"]["timm"] == timm.__version__
    query = tmp_path / "outside.png"
    PIL.Image.open(few / "china" / "china-0-0.jpg").resize((90, 90)).save(query)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = f"store.path={tmp_path}/outputs/gallery.sqlite"
    found = cli("recommend", query, store, "extractor.device=cpu", "format=json", cwd=elsewhere).json()
    assert found["matches"][0]["label"] == "china"
    checkpoint.write_bytes(checkpoint.read_bytes() + b"x")  # other weights under the same name
    refused = cli("recommend", query, store, cwd=elsewhere, code=2).err
    assert "cannot be compared: weights was" in refused
    inside = few / "flower" / "flower-0-0.jpg"
    assert cli("recommend", inside, store, "format=json", cwd=elsewhere).json()["matches"]


# --- the hub ------------------------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """A model hub with one repository, whose file comes slowly."""

    weights = b""
    pause = 0.0

    def do_HEAD(self) -> None:
        found = self.path.endswith("/resolve/main/model.safetensors")
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(self.weights) if found else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        half = len(self.weights) // 2
        self.wfile.write(self.weights[:half])
        self.wfile.flush()
        time.sleep(self.pause)
        self.wfile.write(self.weights[half:])

    def log_message(self, format: str, *args: Any) -> None:
        logging.getLogger(__name__).debug(format, *args)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    from safetensors.torch import save_file

    torch.manual_seed(6)
    save_file(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "weights")
    Hub.weights, Hub.pause = (tmp_path / "weights").read_bytes(), 3.0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ingest_from(endpoint: str, few: Path, tmp_path: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    words = ["ingest", str(few), "extractor=timm", f"extractor.model={SMALL}.lamb_in1k"]
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_ETAG_TIMEOUT": "2"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "imgrec", *words],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, time.monotonic() - started


def test_a_slow_download_may_take_its_time_and_is_made_once(hub: str, few: Path, tmp_path: Path) -> None:
    done, _ = ingest_from(hub, few, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 new" in done.stdout
    shutil.rmtree(tmp_path / "outputs")
    done, _ = ingest_from("http://127.0.0.1:9", few, tmp_path)  # nobody is asked for what is in the cache
    assert "12 new" in done.stdout, done.stderr


def test_a_hub_that_does_not_answer(few: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done, seconds = ingest_from(f"http://127.0.0.1:{silent.getsockname()[1]}", few, tmp_path)
    assert done.returncode == 2
    assert seconds < 40
    told = done.stderr.splitlines()[-1]
    for word in ("connect once", "extractor.checkpoint=", "extractor.pretrained=false", "extractor=colour"):
        assert word in told
    assert not (tmp_path / "outputs").exists()


def test_a_hub_that_refuses(few: Path, tmp_path: Path) -> None:
    done, _ = ingest_from("http://127.0.0.1:9", few, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "cannot be downloaded" in done.stderr


# --- real photographs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "floors"),
    [
        ("colour", {"euclidean": 0.12}),
        ("mobilenetv1_100", {"euclidean": 0.47, "cosine": 0.54}),
        ("mobilenetv2_100", {"euclidean": 0.62, "cosine": 0.67}),
    ],
)
def test_hits_among_the_five_nearest(model: str, floors: dict[str, float], tmp_path: Path) -> None:
    clothing = shared("photos", "clothing")
    extractor = imgrec.build("extractor", "colour") if model == "colour" else shared_timm(model)
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(clothing / "validation", extractor, store)
    queries = sorted((clothing / "test").rglob("*.jpg"))
    vectors = np.concatenate(
        [
            extractor.extract(
                [images.decode(file.read_bytes(), extractor.side) for file in queries[start : start + 32]]
            )
            for start in range(0, len(queries), 32)
        ]
    )
    for metric, floor in floors.items():
        with imgrec.open(store, metric) as gallery:
            answers = gallery.search(list(vectors), 5)
        pairs = zip(queries, answers, strict=True)
        hits = [match.label == file.parent.name for file, matches in pairs for match in matches]
        assert np.mean(hits) >= floor


def test_exact_resizing_gives_timms_own_vectors_of_real_photographs() -> None:
    extractor = shared_timm("mobilenetv2_100", resize="exact")
    files = sorted(shared("photos", "clothing", "test").rglob("*.jpg"))[:24]
    weights = str(shared("weights", "mobilenetv2_100.safetensors"))
    net = timm.create_model("mobilenetv2_100", checkpoint_path=weights, pad_type="same").eval()
    net.reset_classifier(0)
    half = (0.5, 0.5, 0.5)
    transform = timm.data.create_transform(
        (3, 224, 224), interpolation="bicubic", mean=half, std=half, crop_pct=0.875
    )
    with torch.inference_mode():
        expected = net(torch.stack([transform(PIL.Image.open(file).convert("RGB")) for file in files])).numpy()
    vectors = extractor.extract([images.decode(file.read_bytes(), extractor.side) for file in files])
    assert cosines(vectors, expected).min() >= 0.9999
