"""Paths with `~` and variables, in every option that is one."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
from pathlib import Path
from typing import Any

import hydra
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli
from imgrec import presets, registry
from imgrec.cli import arguments, config, values
from imgrec.kinds import KINDS, Component, Stage, kind_of
from imgrec.options import component_fields, default_values, holds_several, is_path
from imgrec.paths import expanded

SPELLINGS = ("~/x/y", "$IMGREC_TEST/x/y", "${IMGREC_TEST}/x/y")
"""All of them `HOME/x/y` in the tests."""

NEEDED: dict[str, dict[str, Any]] = {
    "timm": {"model": "resnet18"},
    "new_plugin": {"name": "foo"},
    "plan": {"images": 1},
}
"""Options without which a component cannot be built, of those that are no paths."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMGREC_TEST", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def path_options(cls: type[Component]) -> list[str]:
    specs = [spec for spec in dataclasses.fields(cls) if spec.name not in component_fields(cls)]
    return [spec.name for spec in specs if is_path(cls, spec)]


COMPONENTS = [
    (kind, name, option)
    for kind in KINDS
    for name, plugin in registry.available(kind).items()
    for option in path_options(plugin.cls)
]


def in_stages() -> list[tuple[str, str, dict[str, str]]]:
    """Every path option that a stage's command line takes: the stage, the key, and the choice that it needs."""
    found: list[tuple[str, str, dict[str, str]]] = []
    for stage, cls in registry.classes(Stage).items():
        found += [(stage, option, {}) for option in path_options(cls)]
        for field, spec in component_fields(cls).items():
            for name, plugin in registry.available(kind_of(spec.metadata["group"])).items():
                if not holds_several(spec):
                    found += [(stage, f"{field}.{each}", {field: name}) for each in path_options(plugin.cls)]
    return found


def test_the_options_that_are_paths_are_declared_so() -> None:
    """Known ones, so that the generated tables below are not of nothing."""
    assert ("store", "sqlite", "path") in COMPONENTS
    assert ("extractor", "timm", "checkpoint") in COMPONENTS
    assert {key for stage, key, _ in in_stages() if stage == "evaluate"} >= {
        "source", "queries", "labels", "store.path", "extractor.checkpoint", "default_extractor.checkpoint"
    }  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("kind", "name", "option"), COMPONENTS)
def test_from_python(home: Path, kind: str, name: str, option: str, spelling: str) -> None:
    cls = registry.available(kind)[name].cls
    if cls.missing_libraries():
        pytest.skip(f"{name} is not installed")
    needed: dict[str, Any] = dict(NEEDED.get(name, {}))
    if kind == "stage":
        needed |= dict.fromkeys((each for each in path_options(cls) if each not in default_values(cls)), "a")
        plugins = {**presets.default_choices(name), "projection": None, "rerank": None}
        plugins |= {key: None for key, choice in plugins.items() if choice in ("none", "exact")}
        plugins |= {key: "colour" for key, choice in plugins.items() if choice == "handcrafted"}
        built: Any = registry.stage(name, {**needed, option: spelling}, plugins)
    else:
        built = imgrec.build(kind, name, **{**needed, option: spelling})
    assert getattr(built, option) == f"{home}/x/y"
    if "Any" in str(cls.__annotations__.get(option)):  # lists as well
        assert dataclasses.replace(built, **{option: [spelling, Path("a")]}).options()[option] == [
            f"{home}/x/y",
            "a",
        ]


def composed(stage: str, *words: str) -> Any:
    """What a command line's configuration is recorded as; the stage is not run."""
    read = arguments.read([stage, *words])
    config.register(read.config_folders)
    with hydra.initialize_config_dir(presets.conf_folders()[0].path, version_base="1.3"):
        return values.plain(hydra.compose("config", overrides=read.hydra), registry.classes(Stage)[stage])


def needed_by(stage: str, key: str, chosen: dict[str, str]) -> list[str]:
    wanted = set(path_options(registry.classes(Stage)[stage]))
    wanted -= default_values(registry.classes(Stage)[stage]).keys()
    options = {**dict.fromkeys(wanted, "a"), **NEEDED.get(stage, {}), **chosen}
    options |= {
        f"{field}.{name}": value for field, c in chosen.items() for name, value in NEEDED.get(c, {}).items()
    }
    return [f"{name}={value}" for name, value in options.items() if name != key]


@pytest.mark.parametrize(("number", "stage", "key", "chosen"), [(i, *each) for i, each in enumerate(in_stages())])
def test_from_the_shell_and_from_yaml(
    home: Path, tmp_path: Path, number: int, stage: str, key: str, chosen: dict[str, str]
) -> None:
    """One spelling from the shell, the next one from YAML."""
    others = needed_by(stage, key, chosen)
    shell, yaml = itertools.islice(itertools.cycle(SPELLINGS), number % 3, number % 3 + 2)
    value = composed(stage, *others, f"{key}={shell}")
    for part in key.split("."):
        value = value[part]
    assert value == f"{home}/x/y"
    outer, _, inner = key.rpartition(".")
    text = f"{inner}: {yaml}\n"
    file = tmp_path / "conf" / "experiment" / f"e{number}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\n" + (f"{outer}:\n  {text}" if outer else text))
    if inner in needed_by(stage, "", {}):
        others = [each for each in others if not each.startswith(f"{inner}=")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(config.SearchPath, "user_folders", (str(tmp_path / "conf"),))
        value = composed(stage, *others, f"+experiment=e{number}", "--config-dir", str(tmp_path / "conf"))
    for part in key.split("."):
        value = value[part]
    assert value == f"{home}/x/y"


# --- the rule itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["~", "~/a b", "$IMGREC_TEST", "${IMGREC_TEST}/a", "a/$IMGREC_TEST-b", "a~", "./~", "$", "a$", "$1", "~x$"],
)
def test_as_a_shell_expands(home: Path, path: str) -> None:
    quoted = path.replace(" ", "\\ ").replace("$1", "\\$1")
    # Without IFS the shell does not take a name with spaces apart.
    echoed = subprocess.run(
        ["bash", "-c", f"IFS=; printf %s {quoted}"], capture_output=True, text=True, check=True
    )
    assert expanded(path) == echoed.stdout


@settings(max_examples=200)
@given(st.text(st.sampled_from("~$ab{}_/"), min_size=1, max_size=8).filter(lambda name: set(name) != {"/"}))
def test_what_exists_keeps_its_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        path = name.strip("/")
        Path(path).mkdir(parents=True)
        assert expanded(path) == path
        assert expanded(os.path.join(path, "new.sqlite")) == os.path.join(path, "new.sqlite") or path[0] == "~"


@pytest.mark.parametrize(
    "path", ["s3://bucket/$x", "*/a$b/*", "/nowhere/$5.jpg", "a$.jpg", "~nobody-of-this-name/a"]
)
def test_what_stays_as_it_is(path: str) -> None:
    assert expanded(path) == path


def test_a_variable_that_is_not_there_is_an_error() -> None:
    with pytest.raises(imgrec.UsageError, match=r"'\$NOPE/g.sqlite': there is no environment variable NOPE"):
        imgrec.build("store", "sqlite", path="$NOPE/g.sqlite")


def test_functions_take_them_as_well(home: Path, few: Path) -> None:
    home.mkdir()
    few.rename(home / "few")
    store = imgrec.build("store", "sqlite", path="~/gallery.sqlite")
    imgrec.ingest("~/few", imgrec.build("extractor", "colour"), store)
    assert len(imgrec.recommend("$HOME/few/china/china-0-0.jpg", store, k=3)) == 3
    imgrec.visualise(store, imgrec.build("reducer", "pca")).save("${HOME}/map.svg")
    assert {each.name for each in home.iterdir()} >= {"gallery.sqlite", "map.svg"}


def test_files_with_such_names_are_ingested_and_asked_for(here: Cli, few: Path) -> None:
    odd = few.parent / "$HOME"
    (few / "china").rename(odd)
    (odd / "china-0-0.jpg").rename(few.parent / "~a${seed}.jpg")
    here("ingest", "$HOME", "extractor=colour", "store.path=$HOME/new.sqlite")
    found = here("recommend", "~a${seed}.jpg", "store.path=$HOME/new.sqlite", "format=paths", "k=2").out
    assert found.count(f"{odd}/") == 2


# --- interpolations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "ingest few store.path=${GALLERY}/g.sqlite",
            "store.path: there is no option and no environment variable GAL",
        ),
        ("ingest photos/${x}", "source: there is no option and no environment variable x"),
        ("ingest [few,${x}]", "source[1]: there is no option and no environment variable x"),
        ("ingest few store.path=${oc.env:NOPE}", "Environment variable 'NOPE' not found"),
        ("ingest few store.path=${nope.x}", "store.path: Interpolation key 'nope.x' not found"),
        ("ingest few store.path=${nope:x}", "store.path: Unsupported interpolation type nope"),
        ("ingest few store.path=$NOPE/x", "'$NOPE/x': there is no environment variable NOPE"),
        ("ingest few batch_size=${NOPE}", "batch_size: there is no option and no environment variable NOPE"),
        ("ingest few hydra.run.dir=${NOPE}", "NOPE"),
        ("info store.path=${NOPE}", "store.path: there is no option and no environment variable NOPE"),
        ("ingest few --config-dir $NOPE", "there is no environment variable NOPE"),
    ],
)
def test_an_interpolation_of_nothing_is_a_line(here: Cli, few: Path, words: str, told: str) -> None:
    done = here(*words.split(), code=2)
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert sorted(each.name for each in few.parent.iterdir()) == ["few"]


def test_interpolations_keep_working(home: Path) -> None:
    found = composed("ingest", "a", "seed=3", "store.path=${oc.env:IMGREC_TEST}/${seed}-${batch_size}.sqlite")
    assert found["store"]["path"] == f"{home}/3-64.sqlite"
    assert composed("ingest", "${oc.env:NOPE,b}/c")["source"] == "b/c"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("seed", "of the environment")  # an option goes first
        assert composed("ingest", "a${seed}", "seed=5")["source"] == "a5"


@pytest.mark.parametrize("words", [[], ["-m"]])
def test_a_variable_in_a_run_and_in_a_sweep(here: Cli, few: Path, home: Path, words: list[str]) -> None:
    done = here(*words, "ingest", "${IMGREC_TEST}/../few", "extractor=colour", "store.path=${HOME}/g.sqlite")
    assert "12 new" in done.out
    assert (home / "g.sqlite").is_file()


def test_hydras_folders_and_those_of_yaml_files(here: Cli, home: Path, few: Path) -> None:
    (home / "conf" / "experiment").mkdir(parents=True)
    (home / "conf" / "experiment" / "e.yaml").write_text("# @package _global_\nbatch_size: 5\n")
    here("ingest", few, "extractor=colour", "+experiment=e", "--config-dir", "~/conf", "hydra.run.dir=$HOME/run")
    assert '"batch_size": 5' in (home / "run" / "run.json").read_text()
    assert str(home) not in str(Path.cwd())
    assert not Path("~").exists()
    assert not Path("$HOME").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["ingest", "photos", "store.path=s3://bucket/gallery"],
        ["ingest", "photos", "store=csv", "store.path=gs://bucket/gallery"],
        ["ingest", "photos", "backup=csv", "backup.path=s3://bucket/gallery"],
        ["info", "store.path=s3://bucket/gallery"],
        ["export", "to=s3://bucket/gallery"],
        ["new_plugin", "name=foo", "folder=az://bucket/plugin"],
    ],
)
def test_an_address_is_no_folder_of_this_machine(words: list[str], few: Path, here: Cli) -> None:
    few.rename("photos")
    here("ingest", "photos", "extractor=colour")
    before = sorted(Path.cwd().iterdir())
    assert "takes a path on this machine, not the address" in here(*words, code=2).err
    assert sorted(Path.cwd().iterdir()) == before


def test_the_environment_names_a_store_at_an_address_by_its_kind(
    here: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGREC_STORE", "s3://bucket/gallery")
    assert "sqlite.path takes a path on this machine" in here("info", code=2).err
