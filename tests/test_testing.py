"""The conformance kit: what keeps its contract passes, and each check fails what breaks just that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import broken
import imgrec
from imgrec import testing
from imgrec.testing import Check, ContractError, check_extractor, check_reducer, check_reranker, check_store

# --- every built-in plugin ----------------------------------------------------------------------------------

EXTRACTORS: dict[str, dict[str, Any]] = {
    "colour": {"colour_space": "lab"},
    "hog": {"clip": 0.2},
    "timm": {"model": "mobilenetv3_small_050", "pretrained": False, "device": "cpu"},
}
STORES: dict[str, dict[str, Any]] = {"csv": {}, "sqlite": {}}
REDUCERS: dict[str, dict[str, Any]] = {
    "lda": {"shrinkage": 0.5},
    "logistic": {"n_components": 4, "penalty": 0.1},
    "pca": {"whiten": True},
    "tsne": {"n_iter": 50, "n_jobs": 1},
    "umap": {"n_epochs": 50},
}
RERANKERS: dict[str, dict[str, Any]] = {"query_expansion": {"alpha": 0.5}}


def test_no_plugin_is_left_out() -> None:
    found = [set(imgrec.available(kind)) for kind in ("extractor", "store", "reducer", "reranker")]
    assert found == [set(EXTRACTORS), set(STORES), set(REDUCERS), set(RERANKERS)]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_an_extractor_keeps_its_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "timm":
        pytest.importorskip("timm")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_extractor(
        imgrec.build("extractor", name, **EXTRACTORS[name]),
        alternatives={"model": ["mobilenetv3_small_075"], "input_size": [96], "pooling": ["max"]},
    )


@pytest.mark.parametrize("name", STORES)
def test_a_store_keeps_its_contract(name: str) -> None:
    check_store(lambda folder: imgrec.build("store", name, path=str(folder / "gallery"), **STORES[name]))


@pytest.mark.parametrize("name", REDUCERS)
def test_a_reducer_keeps_its_contract(name: str) -> None:
    if name == "umap":
        pytest.importorskip("umap")
    check_reducer(imgrec.build("reducer", name, **REDUCERS[name]))


@pytest.mark.parametrize("name", RERANKERS)
def test_a_reranker_keeps_its_contract(name: str) -> None:
    check_reranker(imgrec.build("reranker", name, **RERANKERS[name]))


def test_a_good_plugin_passes() -> None:
    check_extractor(broken.Good(shift=1))


# --- every check fails what breaks it -----------------------------------------------------------------------

CASES: list[tuple[Check[Any], Any, dict[str, Any]]] = [
    *((check, check_extractor, broken.EXTRACTORS) for check in testing.EXTRACTOR_CHECKS),
    *((check, check_reducer, broken.REDUCERS) for check in testing.REDUCER_CHECKS),
    *((check, check_reranker, broken.RERANKERS) for check in testing.RERANKER_CHECKS),
    *((check, check_store, broken.STORES) for check in testing.STORE_CHECKS),
]


@pytest.mark.parametrize(
    ("check", "call", "plugins"), CASES, ids=[f"{call.__name__}-{check.name}" for check, call, _ in CASES]
)
def test_a_check_fails_a_plugin_that_breaks_it(check: Check[Any], call: Any, plugins: dict[str, Any]) -> None:
    cls = plugins[check.name]
    with pytest.raises(ContractError) as caught:
        call(broken.maker(cls) if call is check_store else cls())
    assert set(caught.value.failures) == {check.name}
    told = caught.value.failures[check.name]
    assert f"contract: {check.contract}" in told
    assert "seen: " in told
    assert cls.name in str(caught.value)


def test_there_is_a_broken_plugin_for_every_check_and_no_other() -> None:
    everything: list[tuple[tuple[Check[Any], ...], dict[str, Any]]] = [
        (testing.EXTRACTOR_CHECKS, broken.EXTRACTORS),
        (testing.REDUCER_CHECKS, broken.REDUCERS),
        (testing.RERANKER_CHECKS, broken.RERANKERS),
        (testing.STORE_CHECKS, broken.STORES),
    ]
    for checks, plugins in everything:
        assert [check.name for check in checks] == list(plugins)
        assert all(check.contract.endswith(".") for check in checks)


def test_all_failures_are_told_at_once() -> None:
    class Local(broken.NoSmall):
        """Inside a function, where no other process finds it."""

    with pytest.raises(ContractError, match="fails 3 checks of its contract") as caught:
        check_extractor(Local())
    assert "ValueError for an image of 1x1: kernel larger" in caught.value.failures["any_size_is_taken"]
    assert "is inside a function" in caught.value.failures["module_is_light"]


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
