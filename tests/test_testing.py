"""The conformance kit: what keeps its contract passes, and each check fails what breaks just that."""

from __future__ import annotations

import dataclasses
import io
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import broken
import imgrec
from imgrec import registry, testing
from imgrec.kinds import GROUPS, KINDS, kind_of
from imgrec.testing import (
    Check,
    ContractError,
    check_decoder,
    check_engine,
    check_extractor,
    check_index,
    check_metric,
    check_reducer,
    check_reranker,
    check_source,
    check_stage,
    check_store,
    write_pictures,
)

# --- every built-in plugin ----------------------------------------------------------------------------------

EXTRACTORS: dict[str, dict[str, Any]] = {
    "colour": {"colour_space": "lab"},
    "hog": {"clip": 0.2},
    "phash": {"side_bits": 6},
    "timm": {"model": "mobilenetv3_small_050", "pretrained": False, "device": "cpu"},
}
STORES: dict[str, dict[str, Any]] = {"csv": {}, "lance": {}, "sqlite": {}}
REDUCERS: dict[str, dict[str, Any]] = {
    "lda": {"shrinkage": 0.5},
    "logistic": {"n_components": 4, "penalty": 0.1},
    "pca": {"whiten": True},
    "tsne": {"n_iter": 50, "n_jobs": 1},
    "umap": {"n_epochs": 50},
}
RERANKERS: dict[str, dict[str, Any]] = {"query_expansion": {"alpha": 0.5}}


STAGES: dict[str, dict[str, Any]] = {
    "compare": {"runs": ["run", "run"]},
    "default": {},
    "duplicates": {},
    "evaluate": {"labels": "folder", "default_extractor": "colour"},
    "export": {},
    "failures": {},
    "forget": {"images": "pictures/a/0.png"},
    "import": {"file": "exported.parquet"},
    "info": {},
    "ingest": {"source": "pictures", "default_extractor": "colour"},
    "new_plugin": {"name": "foo", "folder": "imgrec-foo"},
    "plan": {"images": 1000, "extractor": "colour", "engine": "threads", "stores": ["sqlite"], "vectors": 1000},
    "plugins": {},
    "recommend": {"query": "pictures/a/0.png"},
    "restore": {"backup": "csv"},
    "verify": {},
    "visualise": {"reducer": "pca"},
}
ELSEWHERE = {"replay", "explore"}
"""What needs whole runs of the command line: tests/test_replay.py, tests/test_serving.py."""


def test_no_plugin_is_left_out() -> None:
    found = {kind: set(imgrec.available(kind)) for kind in KINDS}
    listed = {
        "extractor": EXTRACTORS.keys() | {"clip", "fusion"},  # of clip in tests/test_clip.py, on a small model
        "store": STORES,
        "metric": {"chi2", "cosine", "euclidean", "hamming", "hellinger", "manhattan"},
        "index": {"faiss"},
        "reducer": REDUCERS,
        "reranker": RERANKERS,
        "decoder": {"heif", "jxl", "raw"},
        "source": {"addresses", "files", "remote", "tar"},  # tests/test_addresses.py, test_remote.py, test_tar.py
        "engine": {"ray", "threads"},  # the former in tests/test_ray.py, on a cluster
        "stage": STAGES.keys() | ELSEWHERE,
    }
    assert found == {kind: set(names) for kind, names in listed.items()}


@pytest.mark.parametrize("name", EXTRACTORS)
def test_an_extractor_keeps_its_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "timm":
        pytest.importorskip("timm")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_extractor(
        imgrec.build("extractor", name, **EXTRACTORS[name]),
        alternatives={"model": ["mobilenetv3_small_075"], "input_size": [96], "pooling": ["max"]},
    )


def test_a_fusion_keeps_the_contract_of_an_extractor() -> None:
    parts = {name: imgrec.build("extractor", name) for name in ("colour", "hog")}
    check_extractor(imgrec.Fusion({"colour": 1, "hog": 2}, parts))


@pytest.mark.parametrize("name", STORES)
def test_a_store_keeps_its_contract(name: str) -> None:
    if name == "lance":
        pytest.importorskip("lance")
    check_store(lambda folder: imgrec.build("store", name, path=str(folder / "gallery"), **STORES[name]))


@pytest.mark.parametrize("name", REDUCERS)
def test_a_reducer_keeps_its_contract(name: str) -> None:
    if name == "umap":
        pytest.importorskip("umap")
    check_reducer(imgrec.build("reducer", name, **REDUCERS[name]))


@pytest.mark.parametrize("name", imgrec.available("metric"))
def test_a_metric_keeps_its_contract(name: str) -> None:
    check_metric(imgrec.build("metric", name))


def test_a_reducer_that_only_draws_keeps_its_contract() -> None:
    check_reducer(broken.Draws())


@pytest.mark.parametrize("name", RERANKERS)
def test_a_reranker_keeps_its_contract(name: str) -> None:
    check_reranker(imgrec.build("reranker", name, **RERANKERS[name]))


def test_a_decoder_keeps_its_contract() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    data = io.BytesIO()
    pillow_heif.from_pillow(PIL.Image.linear_gradient("L").convert("RGB").resize((40, 30))).save(data)
    check_decoder(imgrec.build("decoder", "heif"), data.getvalue())


def test_the_files_of_this_machine_keep_the_contract_of_a_source(tmp_path: Path) -> None:
    """But for one check: what nobody else recognises is theirs."""
    write_pictures(tmp_path / "pictures")
    with pytest.raises(ContractError) as raised:
        check_source(imgrec.build("source", "files"), str(tmp_path / "pictures"))
    assert raised.value.failures.keys() == {"other_paths_are_left_alone"}


def test_threads_keep_the_contract_of_an_engine() -> None:
    check_engine(imgrec.build("engine", "threads"))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_keeps_its_contract(name: str) -> None:
    cls: Any = imgrec.available("stage")[name].cls

    def make(folder: Path) -> imgrec.Stage:
        write_pictures(folder / "pictures")
        (folder / "run").mkdir()
        (folder / "run" / "run.json").write_text('{"stage": "info"}')
        store = imgrec.build("store", "sqlite", path=str(folder / "gallery.sqlite"))
        backup = imgrec.build("store", "csv", path=str(folder / "backup"))
        if name != "ingest":
            imgrec.ingest(folder / "pictures", imgrec.build("extractor", "colour"), store, backup)
        if name == "import":
            imgrec.export_vectors(store, folder / "exported.parquet")
        values: dict[str, Any] = dict(STAGES[name])
        for field in dataclasses.fields(cls):
            value = values.get(field.name)
            if field.metadata.get("path") and value is not None:
                several = [str(folder / each) for each in value] if isinstance(value, list) else None
                values[field.name] = several or (value if field.name == "labels" else str(folder / value))
            elif field.metadata.get("group") in ("store", "backup"):
                values[field.name] = {"store": store, "backup": backup}[field.name]
            elif group := field.metadata.get("group"):
                none: Any = None if GROUPS[group].none else {}
                values[field.name] = imgrec.build(kind_of(group), value) if value else none
        return registry.composed(cls, values)  # type: ignore[no-any-return]

    check_stage(make)


def test_a_good_plugin_passes() -> None:
    check_extractor(broken.Good(shift=1))
    check_index(broken.Brute())


def test_an_index_of_faiss_keeps_its_contract() -> None:
    pytest.importorskip("faiss")
    check_index(imgrec.build("index", "faiss"))
    check_decoder(broken.Flat(), broken.FLAT)
    check_source(broken.Memory(), "memory://photos")
    check_engine(broken.Plain())
    check_stage(broken.stage_maker(broken.Count))


# --- every check fails what breaks it -----------------------------------------------------------------------

CASES = [(kind, check) for kind in KINDS for check in testing.checks(kind)]


@pytest.mark.parametrize(("kind", "check"), CASES, ids=[f"{kind}-{check.name}" for kind, check in CASES])
def test_a_check_fails_a_plugin_that_breaks_it(kind: str, check: Check[Any]) -> None:
    cls = broken.BROKEN[kind][check.name]
    cls = pkgutil.resolve_name(cls) if isinstance(cls, str) else cls
    with pytest.raises(ContractError) as caught:
        getattr(testing, f"check_{kind}")(*broken.ARGUMENTS.get(kind, lambda cls: (cls(),))(cls))
    # To convert paths is a batch as any other, and breaks with it.
    assert set(caught.value.failures) - {"relative_paths_travel_with_the_store"} | {check.name} == {check.name}
    told = caught.value.failures[check.name]
    assert f"contract: {check.contract}" in told
    assert "seen: " in told
    assert cls.title() in str(caught.value)


def test_there_is_a_broken_plugin_for_every_check_of_every_kind_and_no_other() -> None:
    assert list(broken.BROKEN) == list(KINDS)
    for kind, plugins in broken.BROKEN.items():
        assert [check.name for check in testing.checks(kind)] == list(plugins)
        assert all(check.contract.endswith(".") for check in testing.checks(kind))


def test_what_is_no_kind_has_no_check() -> None:
    with pytest.raises(AttributeError, match="check_painter"):
        testing.check_painter  # noqa: B018


def test_all_failures_are_told_at_once() -> None:
    class Local(broken.NoSmall):
        """Inside a function, where no other process finds it."""

    with pytest.raises(ContractError, match="fails 3 checks of its contract") as caught:
        check_extractor(Local())
    assert "ValueError for an image of 1x1: kernel larger" in caught.value.failures["any_size_is_taken"]
    assert "is inside a function" in caught.value.failures["module_is_light"]


KIT = """
from dataclasses import dataclass
import numpy as np, imgrec
from imgrec.testing import check_extractor

@dataclass
class Rough(imgrec.Extractor):
    def extract(self, images):
        sides = [{expression} for i in images]
        return np.array(sides, np.float32)

def test_rough():
    check_extractor(Rough())
"""


@pytest.mark.parametrize(
    ("expression", "seen"),
    [
        ("[1 / (len(i) - 1)]", "seen: ZeroDivisionError for an image of 1x1: division by zero ({file}:9)"),
        ("[np.random.rand(), i.mean()]", "seen: it is random: the vectors of the same images, extracted twice"),
        ("[np.inf, np.nan, i.mean()]", "seen: [inf nan] of a black image"),
    ],
)
def test_a_failure_is_told_without_frames_of_the_kit_and_without_warnings(
    tmp_path: Path, expression: str, seen: str
) -> None:
    file = tmp_path / "test_rough.py"
    file.write_text(KIT.format(expression=expression))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert seen.format(file=file) in done.stdout
    shown = done.stdout
    for internal in ("kit.py", "imgrec/testing/extractor.py", "direct cause", "SeenError", "warnings summary"):
        assert internal not in shown
    if "random" in seen:
        assert "fails 1 check of its contract" in shown


def test_a_plugin_in_a_script_is_checked(tmp_path: Path) -> None:
    script = tmp_path / "try_it.py"
    script.write_text(
        "from dataclasses import dataclass\nimport numpy as np, imgrec\n"
        "from imgrec.testing import check_extractor\n"
        "@dataclass\nclass Grey(imgrec.Extractor):\n    power: float = 1.0\n"
        "    def extract(self, images):\n"
        "        return np.array([[(i.mean() + 1) ** self.power] for i in images], np.float32)\n"
        "if __name__ == '__main__':\n    check_extractor(Grey())\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, cwd=tmp_path)
