"""The user's own folders of YAML files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import imgrec
from conftest import Cli

GLOBAL = "# @package _global_\n"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "my conf"
    write(folder / "experiment" / "my_run.yaml", GLOBAL + "defaults: [override /extractor: fine]\nbatch_size: 7\n")
    write(folder / "experiment" / "three.yaml", GLOBAL + "k: 3\nmetric: cosine\n")
    write(folder / "extractor" / "fine.yaml", "defaults: [colour, _self_]\nbins: 8\n")
    return folder


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, errors="surrogateescape")


def test_an_experiment_of_a_config_dir(cli: Cli, few: Path, mine: Path) -> None:
    ingested = cli("--config-dir", mine, "+experiment=my_run", "+stage=ingest", f"source={few}")
    assert ingested.record()["configuration"]["batch_size"] == 7
    assert ingested.record()["choices"]["extractor"] == "fine"
    assert "bins=8" in cli("info").out
    query = few / "china" / "china-0-0.jpg"
    found = cli("recommend", query, "experiment=three", "format=json", f"--config-dir={mine}").json()
    assert (found["k"], found["metric"]) == (3, "cosine")
    # The command line has the last word.
    assert cli("recommend", query, "+experiment=three", "k=2", "format=json", "-cd", mine).json()["k"] == 2
    swept = cli("-m", "recommend", query, "experiment=three", "k=2,4", "--config-dir", mine)
    assert swept.out.count("rank") == 2


def test_folders_of_the_environment_come_first(cli: Cli, few: Path, mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other / "extractor" / "fine.yaml", "defaults: [colour, _self_]\nbins: 2\n")
    write(other / "extractor" / "mobilenet.yaml", "defaults: [colour, _self_]\nbins: 3\n")
    env = {"IMGREC_CONFIG_DIR": f"{mine}{os.pathsep}{other}"}
    assert "|fine|fusion|handcrafted|hog|mobilenet|" in cli("ingest", "--help", env=env).out
    cli("ingest", few, "extractor=fine", env=env)
    cli("ingest", few, "extractor=mobilenet", env=env)  # hides imgrec's own preset, as it says
    spaces = cli("info", "format=json").json()["spaces"]
    assert [space["options"]["bins"] for space in spaces] == [8, 3]
    cli("ingest", few, "extractor=fine", "--config-dir", other, env=env)  # the command line comes first of all
    assert [s["options"]["bins"] for s in cli("info", "format=json").json()["spaces"]] == [8, 3, 2]


def test_a_users_stage_file_is_imgrecs_with_other_defaults(cli: Cli, few: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "conf" / "stage" / "ingest.yaml").read_text()
    write(tmp_path / "mine" / "stage" / "ingest.yaml", text.replace("backup: none", "backup: csv"))
    assert "backup=csv|lance|sqlite|none  (default csv)" in cli("ingest", "--help", "--config-dir", "mine").out
    cli("ingest", few, "--config-dir", "mine")
    assert list((tmp_path / "outputs" / "gallery-csv").glob("[0-9]*/records.csv"))


def test_what_a_users_stage_file_chooses_is_what_options_are_of(cli: Cli, tmp_path: Path) -> None:
    ours = (Path(imgrec.__file__).parent.parent / "conf" / "stage" / "visualise.yaml").read_text()
    assert "reducer: tsne" in ours
    write(tmp_path / "mine" / "stage" / "visualise.yaml", ours.replace("reducer: tsne", "reducer: pca"))
    told = cli("visualise", "--config-dir", "mine", "reducer.bogus=1", code=2).err
    assert "reducer=pca has no option 'bogus'" in told


def test_a_users_stage_file_without_its_first_line_is_told(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "mine" / "stage" / "info.yaml", "format: json\n")
    done = cli("info", "--config-dir", "mine", code=2)
    assert "stage/info.yaml: its first line is not `# @package _global_`" in done.err


@pytest.mark.parametrize(
    ("group", "name"),
    [("extractor", "colour"), ("store", "csv"), ("backup", "csv"), ("backup", "none"), ("options", "ingest")],
)
def test_a_file_with_the_name_of_a_plugin_is_refused(
    cli: Cli, few: Path, tmp_path: Path, group: str, name: str
) -> None:
    write(tmp_path / "mine" / group / f"{name}.yaml", "bins: 8\n")
    done = cli("ingest", few, "--config-dir", "mine", code=2)
    assert f"{group}/{name}.yaml has the name of the plugin {group}={name} and would hide it: " in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GLOBAL + "k: 3\n", "experiment/x.yaml: ingest has no option 'k'"),
        (GLOBAL + "batch_size: many\n", "experiment/x.yaml: batch_size: Value 'many'"),
        (GLOBAL + "extractor: {binz: 3}\n", "fusion has no option 'binz': it has weights, parts"),
        (GLOBAL + "defaults: [override /extractor: colour]\nextractor: {binz: 3}\n", "did you mean bins?"),
        (GLOBAL + "defaults: [override /extractor: colr]\n", "no extractor 'colr' (did you mean colour?)"),
        ("batch_size: 3\n", "experiment/x.yaml: its first line is not `# @package _global_`"),
        ("batch_size: [\n", 'x.yaml", line 2'),
    ],
)
def test_what_is_wrong_in_an_experiment_is_a_line(
    cli: Cli, few: Path, tmp_path: Path, text: str, told: str
) -> None:
    write(tmp_path / "mine" / "experiment" / "x.yaml", text)
    done = cli("ingest", few, "--config-dir", "mine", "+experiment=x", code=2)
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bins: 7\n", "extractor/x.yaml does not say which plugin it is a preset of: begin it with `defaults: ["),
        ("defaults: [colour, _self_]\nbinz: 7\n", "extractor=colour has no option 'binz' (did you mean bins?)"),
        ("defaults: [colour, _self_]\nbins: many\n", "extractor/x.yaml: extractor.bins: Value 'many'"),
        ("", "extractor/x.yaml does not say which plugin it is a preset of"),
        ("defaults: [x, _self_]\n", "a preset of yours begins with itself: give it another name"),
        ("# caf\udce9\nbins: 7\n", "a YAML file is not UTF-8"),
        ("defaults: [colr, _self_]\n", "there is no extractor 'colr' (did you mean colour?)"),
    ],
)
def test_what_is_wrong_in_a_preset_is_a_line(cli: Cli, few: Path, tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path / "mine" / "extractor" / "x.yaml", text)
    done = cli("ingest", few, "--config-dir", "mine", "extractor=x", code=2)
    assert told in done.err
    assert len(done.err.splitlines()) == 1


def test_what_is_not_there_is_told(cli: Cli, few: Path, mine: Path) -> None:
    assert "there is no such folder" in cli("ingest", few, "--config-dir", "nowhere", code=2).err
    assert "IMGREC_CONFIG_DIR nowhere: there is" in cli("info", env={"IMGREC_CONFIG_DIR": "nowhere"}, code=2).err
    wrong = cli("ingest", few, "--config-dir", mine, "+experiment=my_rn", code=2)
    assert (
        "there is no experiment 'my_rn' (did you mean my_run?): available are image_recommender, my_run, three"
        in wrong.err
    )
    assert "name the folder that has experiment/x.yaml" in cli("ingest", few, "+experiment=x", code=2).err
