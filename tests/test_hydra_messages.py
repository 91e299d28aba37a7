"""What Hydra's and OmegaConf's errors say, as far as imgrec goes by it: a new version shows here first."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from imgrec.cli.messages import MESSAGES


@dataclass
class Typed:
    k: int = 1
    names: list[str] = field(default_factory=list)


VERSIONS = f"hydra-core {version('hydra-core')}, omegaconf {version('omegaconf')}"


def raised(folder: Path, *overrides: str) -> Exception:
    """What Hydra raises of a command line, on a typed configuration with a group of two files."""
    ConfigStore.instance().store(name="typed", node=Typed)
    (folder / "group").mkdir()
    (folder / "config.yaml").write_text("defaults: [typed, group: right, _self_]\n")
    (folder / "group" / "right.yaml").write_text("# @package _global_\nk: 2\n")
    (folder / "group" / "unknown.yaml").write_text("# @package _global_\nq: 2\n")
    (folder / "group" / "wrong.yaml").write_text("# @package _global_\nk: x\n")
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            loader.load_configuration("config", list(overrides), RunMode.RUN)
    except Exception as error:
        return error
    finally:
        GlobalHydra.instance().clear()
    raise AssertionError(f"{VERSIONS} takes {overrides}")


@pytest.mark.parametrize(
    ("overrides", "message", "found"),
    [
        (["q=1"], "option", "q"),
        (["group=unknown"], "file", "group/unknown"),
        (["group=wrong"], "file", "group/wrong"),
        (["k=x"], "merge", "k=x"),
        (["group=null"], "null choice", None),
        (["k=1,2"], "ambiguous", "k=1,2"),
    ],
)
def test_a_message_is_as_it_was(tmp_path: Path, overrides: list[str], message: str, found: str | None) -> None:
    error = raised(tmp_path, *overrides)
    match = MESSAGES[message].match(str(error))
    assert match, f"{VERSIONS} says of {overrides}: {error!r}"
    assert found is None or match[1] == found, f"{VERSIONS} says of {overrides}: {error!r}"


def test_one_value_for_a_list(tmp_path: Path) -> None:
    cause = raised(tmp_path, "names=x").__cause__
    assert MESSAGES["list"].match(str(cause)), f"{VERSIONS} says: {cause}"


@pytest.mark.parametrize(("choice", "key", "is_unknown"), [("unknown", "q", True), ("wrong", "k", False)])
def test_what_is_wrong_in_a_file_names_the_key(tmp_path: Path, choice: str, key: str, is_unknown: bool) -> None:
    text = str(raised(tmp_path, f"group={choice}"))
    named, problem = MESSAGES["key"].search(text), MESSAGES["file"].match(text)
    assert named, f"{VERSIONS} says: {text}"
    assert named[1] == key
    assert problem, f"{VERSIONS} says: {text}"
    assert bool(MESSAGES["unknown key"].match(problem[2])) == is_unknown, f"{VERSIONS} says: {text}"


def test_every_message_has_a_test() -> None:
    assert set(MESSAGES) == {"option", "file", "merge", "list", "null choice", "ambiguous", "key", "unknown key"}
