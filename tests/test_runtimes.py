"""What runs a model: OpenVINO gives torch's vectors, from a cache, without torch."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import imgrec
from conftest import Cli, shared, shared_timm
from imgrec import images
from imgrec.errors import UsageError
from imgrec.kinds import Image, Space
from test_imports import modules
from test_timm import SMALL, cosines, random_model

timm = pytest.importorskip("timm")
pytest.importorskip("openvino")

from imgrec_timm import cache, export, runtimes  # noqa: E402 - they need what is asked for above
from imgrec_timm.preprocessing import Preprocessing  # noqa: E402


@pytest.fixture
def some(photos: Path) -> list[Image]:
    return [images.decode(file.read_bytes()) for file in sorted(photos.rglob("*.jpg"))[:6]]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has the export of `random_model`. Not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder))
        assert runtime_of(random_model()) == "OpenVINO"
    return folder


@pytest.fixture
def ready_cache(own_cache: Path, exported: Path) -> Path:
    """A copy of it: to export a model takes some seconds."""
    shutil.copytree(exported, own_cache)
    return own_cache


def runtime_of(extractor: Any) -> str:
    return type(extractor._runtime).__name__


@pytest.mark.parametrize("model", [SMALL, "vit_tiny_patch16_224"])
def test_openvino_gives_torchs_vectors_in_the_same_space(model: str, some: list[Image]) -> None:
    ours, torchs = (random_model(model=model, runtime=runtime) for runtime in ("auto", "torch"))
    assert (runtime_of(ours), runtime_of(torchs)) == ("OpenVINO", "Torch")
    assert Space.of(ours) == Space.of(torchs)
    found, wanted = ours.extract(some), torchs.extract(some)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    assert cosines(found, wanted).min() >= 0.99999
    np.testing.assert_array_equal(ours.extract(some[::-1])[::-1], found)  # no batches, so to the last bit


TYPES_FROM_THREADS = """
import sys, threading
from imgrec_timm import export

sys.setswitchinterval(1e-6)
together = threading.Barrier(4)

def first() -> None:
    export.core()
    together.wait()
    export._openvino().Type.f32.to_dtype()

threads = [threading.Thread(target=first) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("_", range(3))
def test_the_first_images_of_several_threads_do_not_wait_for_each_other(_: int) -> None:
    """OpenVINO's table of types did so in three of four such runs: one in twenty ingests of a few images hung."""
    subprocess.run([sys.executable, "-c", TYPES_FROM_THREADS], check=True, timeout=60)


def test_a_model_is_made_ready_once_however_many_there_are(
    some: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    whole = export.compiled

    def compiled(file: Path, settings: dict[str, Any]) -> Any:
        made.append(file)
        return whole(file, settings)

    monkeypatch.setattr(export, "compiled", compiled)
    models = [random_model(), random_model(normalise=True), random_model(crop_pct=0.8)]  # of one export
    for _ in range(2):
        for model in models:
            model.extract(some)
            model.extract(some[:1])  # a query has all cores
    assert (len(made), len(set(made))) == (6, 1)


def test_openvino_gives_torchs_vectors_of_real_photographs() -> None:
    files = sorted(shared("photos", "clothing", "test").rglob("*.jpg"))[:12]
    decoded = [images.decode(file.read_bytes(), 256) for file in files]
    ours, torchs = (shared_timm("mobilenetv2_100", runtime=runtime) for runtime in ("openvino", "torch"))
    assert cosines(ours.extract(decoded), torchs.extract(decoded)).min() >= 0.999999


def test_a_later_run_needs_neither_timm_nor_torch(cli: Cli, few: Path, own_cache: Path) -> None:
    words = ["extractor=timm", f"extractor.model={SMALL}", "extractor.pretrained=false"]
    first = cli("ingest", few / "china", *words)
    assert "preparing mobilenetv3_small_050 for OpenVINO, once" in first.err
    assert "torch" in first.record()["versions"]
    log = (first.runs()[-1] / "imgrec.log").read_text()
    assert "runtime of mobilenetv3_small_050: openvino, whose vectors have a cosine of 1.000000" in log
    query = few.parent / "outside.png"
    PIL.Image.open(few / "flower" / "flower-0-0.jpg").resize((90, 90)).save(query)
    for line in (["ingest", str(few)], ["recommend", str(query)]):
        assert modules(*line, cwd=few.parent).isdisjoint({"torch", "timm", "torchvision"})
    assert cli("recommend", query, "format=json").json()["matches"][0]["label"] == "flower"


def test_a_model_is_traced_once() -> None:
    model, seen = timm.create_model(SMALL).eval(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    export._converted(model, {"input_size": [64, 64], "mean": [0.5] * 3, "std": [0.5] * 3})
    assert len(seen) == 1


def test_a_damaged_export_is_made_again(
    ready_cache: Path, some: list[Image], caplog: pytest.LogCaptureFixture
) -> None:
    wanted = random_model().extract(some)
    (file,) = ready_cache.rglob("model.bin")
    file.write_bytes(file.read_bytes()[:-1000])
    np.testing.assert_array_equal(random_model().extract(some), wanted)
    assert "is damaged, and made again" in caplog.text
    (about,) = ready_cache.rglob("about.json")
    about.write_text("{")
    np.testing.assert_array_equal(random_model().extract(some), wanted)
    assert json.loads(about.read_text())["cosine"] > 0.9999


def test_a_damaged_compiled_form_is_made_again(ready_cache: Path, some: list[Image]) -> None:
    wanted = random_model().extract(some)
    (blob,) = (ready_cache / "imgrec").rglob("*.blob")
    whole = blob.read_bytes()
    half = len(whole) // 2
    blob.write_bytes(whole[:half] + bytes(4096) + whole[half + 4096 :])
    np.testing.assert_array_equal(random_model().extract(some), wanted)
    assert blob.read_bytes()[half : half + 4096] != bytes(4096)


def test_a_cache_that_cannot_be_written_costs_time_only(
    own_cache: Path, some: list[Image], caplog: pytest.LogCaptureFixture
) -> None:
    own_cache.write_text("a file, where a folder is wanted")
    extractor = random_model()
    assert extractor.extract(some).shape == (6, 1024)
    assert runtime_of(extractor) == "OpenVINO"
    assert "cannot be written" in caplog.text


MADE_READY = """
import sys
import imgrec
import numpy as np

extractor = imgrec.build("extractor", "timm", model=sys.argv[1], pretrained=False)
extractor.extract([np.zeros((50, 50, 3), np.uint8)] * int(sys.argv[2]))
"""


def test_processes_that_make_a_model_ready_at_once_do_not_disturb_each_other(
    own_cache: Path, some: list[Image]
) -> None:
    model = "mobilenetv2_100"  # large enough to be seen half written
    random_model(model=model).extract(some)
    for _ in range(3):
        for file in (own_cache / "imgrec").rglob("compiled*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", MADE_READY, model, str(1 + i % 2)], stderr=subprocess.PIPE, text=True
            )
            for i in range(4)
        ]
        ends = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
        assert [code for _, code in ends] == [0] * 4, ends


def test_of_two_runs_that_export_a_model_the_first_ones_stays(
    own_cache: Path, some: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    agreement = export._agreement
    quicker: list[int] = []

    def overtaken(*args: Any) -> float:
        monkeypatch.setattr(export, "_agreement", agreement)
        random_model().extract(some)
        quicker.extend(file.stat().st_ino for file in own_cache.rglob("model.xml") if ".new-" not in str(file))
        return agreement(*args)

    monkeypatch.setattr(export, "_agreement", overtaken)
    random_model().extract(some)
    assert [file.stat().st_ino for file in own_cache.rglob("model.xml")] == quicker


def test_a_process_may_end_as_soon_as_it_has_its_vectors(ready_cache: Path, some: list[Image]) -> None:
    random_model().extract(some)
    for _ in range(12):
        line = [sys.executable, "-c", MADE_READY, SMALL, "6"]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr


def test_the_cache_may_be_deleted_during_a_run(ready_cache: Path, some: list[Image]) -> None:
    extractor = random_model(runtime="openvino")
    single = extractor.extract(some[:1])
    shutil.rmtree(ready_cache)
    np.testing.assert_allclose(extractor.extract(some)[:1], single, atol=1e-5)


def test_a_full_disk_is_no_verdict_on_a_model(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(whole(), name)

        def save_model(self, *_: object, **__: object) -> None:
            raise RuntimeError("basic_ios::clear: iostream error")

    whole = export._openvino
    with monkeypatch.context() as patched:
        patched.setattr(export, "_openvino", Full)
        assert runtime_of(random_model()) == "Torch"
    assert "cannot be written" in caplog.text
    assert str(own_cache) in caplog.text
    assert not list(own_cache.rglob(".new-*"))
    assert runtime_of(random_model()) == "OpenVINO"


def test_what_a_killed_export_left_is_removed(own_cache: Path) -> None:
    left = own_cache / "imgrec" / "timm" / "exported" / ".new-killed"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    _ = random_model()._runtime  # type: ignore[attr-defined]
    assert not left.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("compiled-f32.json", "[1]"),
        ("about.json", '{"problem": null, "cosine": "x", "accelerator": "cpu", "digests": {}}'),
        ("about.json", '{"problem": null, "cosine": 1.0, "accelerator": "cpu", "digests": {}}'),
        ("resolved/*.json", '{"preprocessing": {}, "weights": "", "weights_file": null}'),
    ],
)
def test_a_cache_that_says_something_else_is_made_again(
    ready_cache: Path, some: list[Image], name: str, text: str
) -> None:
    wanted = random_model().extract(some)
    (file,) = (ready_cache / "imgrec").rglob(name)
    file.write_text(text)
    np.testing.assert_array_equal(random_model().extract(some), wanted)
    assert file.read_text() != text


@pytest.mark.parametrize("options", [{"features_only": True}, {"in_chans": 1}])
def test_models_that_give_no_vectors_of_photographs_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"model_kwargs.{next(iter(options))}"):
        random_model(model_kwargs=options).extract([np.zeros((50, 50, 3), np.uint8)])


def test_auto_takes_torch_where_vectors_differ(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtimes, "AGREEMENT", 1.1)
    with caplog.at_level(logging.INFO):
        assert runtime_of(random_model()) == "Torch"
    assert "torch, not openvino: its vectors have a cosine of only" in caplog.text
    assert runtime_of(random_model(runtime="openvino")) == "OpenVINO"  # who asks for it gets it


def test_a_model_that_cannot_be_exported(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(export, "_converted", fail)
    with caplog.at_level(logging.INFO):
        assert runtime_of(random_model()) == "Torch"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache))
    assert runtime_of(random_model()) == "Torch"  # the choice stays what it was
    assert "cannot be exported: no such operation" in caplog.text
    with pytest.raises(UsageError, match="openvino cannot be had: mobilenetv3_small_050 cannot be exported"):
        _ = random_model(runtime="openvino")._runtime  # type: ignore[attr-defined]


def test_without_openvino_torch_is_taken(few: Path, own_cache: Path) -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'openvino' else found(name, *rest)\n"
        "from imgrec.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["ingest", str(few), "extractor=timm", f"extractor.model={SMALL}", "extractor.pretrained=false"]
    for asked, code_wanted in (("auto", 0), ("openvino", 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, f"extractor.runtime={asked}", f"store.path={asked}.sqlite"],
            cwd=few.parent, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == code_wanted, done.stderr
    assert imgrec.install_command("imgrec[openvino]") in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bfloat16_is_a_space_of_its_own(some: list[Image]) -> None:
    whole, half = random_model(), random_model(precision="bfloat16")
    assert Space.of(whole) != Space.of(half)
    assert 0.97 < cosines(half.extract(some), whole.extract(some)).min() < 0.9999999
    assert runtime_of(half) == ("OpenVINO" if export.has_bfloat16() else "Torch")  # never float32 in disguise
    if not export.has_bfloat16():
        with pytest.raises(UsageError, match="no bfloat16"):
            random_model(precision="bfloat16", runtime="openvino").extract(some)


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", SMALL])
def test_one_precision_does_not_spoil_the_other_in_the_cache(
    model: str, own_cache: Path, some: list[Image]
) -> None:
    """OpenVINO 2026.4 takes what it compiled in one precision for the other's, and attention is NaN then."""
    if not export.has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    wanted = random_model(model=model, runtime="torch").extract(some)
    for _ in range(2):
        for precision, least in (("float32", 0.99999), ("bfloat16", 0.98)):
            extractor = random_model(model=model, precision=precision, runtime="openvino")
            assert cosines(extractor.extract(some), wanted).min() > least, precision
            assert cosines(extractor.extract(some[:1]), wanted[:1]).min() > least, precision


@pytest.mark.parametrize("told", [0.3, "none", None])
def test_bfloat16_by_openvino_is_compared_with_float32_on_each_processor(
    told: object, ready_cache: Path, some: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "has_bfloat16", lambda: True)  # elsewhere it computes in float32
    half = random_model(precision="bfloat16")
    assert runtime_of(half) == "OpenVINO"
    (kept,) = ready_cache.rglob("bfloat16.json")
    (processor, cosine), *others = json.loads(kept.read_text()).items()
    assert cosine > 0.97
    assert not others
    kept.write_text(json.dumps({"another": 0.1, processor: told}))
    if told != 0.3:  # what cannot be is measured again
        assert runtime_of(random_model(precision="bfloat16")) == "OpenVINO"
        assert json.loads(kept.read_text()) == {"another": 0.1, processor: cosine}
        return
    assert runtime_of(random_model(precision="bfloat16")) == "Torch"
    assert runtime_of(random_model()) == "OpenVINO"
    with pytest.raises(
        UsageError, match=r"cosine of only 0\.3000 with those in float32.*runtime=auto takes torch"
    ):
        random_model(precision="bfloat16", runtime="openvino").extract(some)


def test_other_weights_are_another_export(own_cache: Path, tmp_path: Path, some: list[Image]) -> None:
    import torch
    from safetensors.torch import save_file

    file, vectors = tmp_path / "mine.safetensors", []
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_file(timm.create_model(SMALL).state_dict(), file)
        extractor = random_model(checkpoint=str(file))
        vectors.append(extractor.extract(some))
        assert extractor.identity()["weights"] == cache.resolved(extractor).weights  # type: ignore[arg-type]
    assert not np.allclose(vectors[0], vectors[1])
    assert len(list(own_cache.rglob("model.xml"))) == 2


def test_an_export_serves_every_way_to_come_to_its_size(ready_cache: Path, some: list[Image]) -> None:
    ways: list[dict[str, Any]] = [{}, {"crop_pct": 0.5}, {"resize": "exact"}]
    assert len({random_model(**options).extract(some).tobytes() for options in ways}) == 3
    exports = ready_cache / "imgrec" / "timm" / "exported"
    assert len(list(exports.iterdir())) == 1
    random_model(mean=[0.1, 0.2, 0.3]).extract(some)
    assert len(list(exports.iterdir())) == 2


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("input_size", [(224, 224), (96, 160)])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_exact_preprocessing_gives_timms_pixels(
    crop_mode: str, input_size: tuple[int, int], crop_pct: float
) -> None:
    settings: dict[str, Any] = {"crop_mode": crop_mode, "crop_pct": crop_pct, "interpolation": "bicubic"}
    half = [0.4, 0.5, 0.6]
    transform = timm.data.create_transform((3, *input_size), mean=half, std=half, **settings)
    transform.transforms = transform.transforms[:-2]  # up to the tensor
    ours = Preprocessing(input_size=input_size, mean=half, std=half, exact=True, **settings)
    fast = Preprocessing(input_size=input_size, mean=half, std=half, exact=False, **settings)
    random = np.random.default_rng(0)
    for shape in [(300, 451), (533, 400), (100, 90), (31, 700), (224, 224)]:
        image = random.integers(0, 256, (*shape, 3), np.uint8)
        wanted = np.asarray(transform(PIL.Image.fromarray(image)))
        np.testing.assert_array_equal(ours(image), wanted)
        assert fast(image).shape == wanted.shape


def test_fast_preprocessing_is_near_the_exact_one() -> None:
    files = sorted(shared("photos", "clothing", "test").rglob("*.jpg"))[::16]
    decoded = [images.decode(file.read_bytes()) for file in files]
    fast, exact = (shared_timm("mobilenetv2_100", resize=way).extract(decoded) for way in ("fast", "exact"))
    assert cosines(fast, exact).mean() > 0.99


def test_the_kept_forms_are_plain_files(ready_cache: Path, some: list[Image]) -> None:
    random_model().extract(some)
    kept = sorted(file.name for file in ready_cache.rglob("*") if file.is_file())
    assert [name for name in kept if name in ("about.json", "model.bin", "model.xml")] == [
        "about.json",
        "model.bin",
        "model.xml",
    ]
    assert cache.folder() == ready_cache / "imgrec" / "timm"
