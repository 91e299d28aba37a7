"""What stages print where, and what they leave; which gallery they work on."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import pytest

import imgrec
from conftest import Cli
from imgrec import presets, registry
from imgrec.cli import help as helps
from imgrec.cli.completion import candidates
from imgrec.kinds import GROUPS, Stage
from imgrec.run.console import table


@pytest.fixture(autouse=True)
def _no_store_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMGREC_STORE", raising=False)
    monkeypatch.delenv("IMGREC_CONFIG_DIR", raising=False)


RUN = r"/.+/outputs/\S+"

PRINTED = {
    # The stage: its words, all of stdout, all of stderr.
    "ingest": ("few extractor=colour", r"outputs/gallery.sqlite: .*12 unchanged.*\n", ""),
    "recommend": ("few/china/china-0-0.jpg k=2", r"rank .*\n( .*\n){2}", rf"drawn in {RUN}/recommendations.png\n"),
    "visualise": ("reducer=pca", rf"{RUN}/map.png\n{RUN}/map.csv\n", ""),
    "evaluate": ("", r"colour, euclidean.*: 12 (.*\n)+.* bytes an image\n", rf"the 10 worst.*{RUN}/worst.png\n"),
    "duplicates": ("", r"no duplicates\n", r"duplicates are images within a distance of .*\n"),
    "export": ("", rf"{RUN}/gallery.parquet\n", r"12 images, with .*\n"),
    "import": ("{exported}", r"outputs/\S+: 0 new, 12 known, in imported-\S+\n", r"they claim .* proves\n"),
    "default": ("", r"outputs/gallery.sqlite: compared by colour-\S+\n", ""),
    "forget": ("*/china-0-0.jpg", r"outputs/gallery.sqlite: 1 image is forgotten; its file stays\. .*\n", ""),
    "info": ("", r"outputs/gallery.sqlite: 12 images(.*\n)+", ""),
    "failures": ("", r"outputs/gallery.sqlite: no file has failed\n", ""),
    "verify": ("", r"check .*\n(\w+ .*\n)+", ""),
    "restore": ("backup=csv", r"outputs/gallery.sqlite: 0 images restored from outputs/gallery-csv\n", ""),
    "plugins": ("", r"kind +name .*\n(\w+ .*\n)+", ""),
    "plan": ("9 source=few extractor=colour indexes=[] vectors=1000", r"task .*\n(\w+ .*\n)+", r"measured .*\n"),
    "new_plugin": ("foo", r"(imgrec-foo/\S+\n)+", r"next: .* install .*\n"),
    "compare": ("{run} {run}", r"differs: none\n\nfigures (.*\n)+", rf"side by side in {RUN}/compare.png\n"),
    "replay": ("{run}", r"identical\n", ""),
}  # fmt: skip


def test_all_stages_are_in_the_table() -> None:
    ours = {name for name, plugin in registry.available("stage").items() if plugin.distribution == "imgrec"}
    assert set(PRINTED) == ours - {"explore"}  # which goes on: tests/test_serving.py


@pytest.mark.parametrize("stage", PRINTED)
def test_results_are_on_stdout_and_the_rest_on_stderr(
    here: Cli, few: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    store, backup = (
        imgrec.build("store", n, path=p) for n, p in (("sqlite", STORE), ("csv", "outputs/gallery-csv"))
    )
    imgrec.ingest("few", imgrec.build("extractor", "colour"), store, backup)
    words, out, err = PRINTED[stage]
    run = ""
    if "{run}" in words:
        here("recommend", "few/china/china-0-0.jpg")
        run = str(next(few.parent.glob("outputs/2*/*")))
    if "{exported}" in words:
        imgrec.export_vectors(store, "exported.parquet")
    colour = registry.available("extractor")["colour"].cls
    extract = colour.extract  # type: ignore[attr-defined]

    def noisy(*args: object) -> object:
        print("noise of a library")
        return extract(*args)

    monkeypatch.setattr(colour, "extract", noisy)
    done = here(stage, *(word.format(run=run, exported="exported.parquet") for word in words.split()))
    assert re.fullmatch(out, done.out)
    assert re.fullmatch(err, done.err.replace("noise of a library\n", ""))
    left = [path.name for path in few.parent.glob("outputs/2*/*") if str(path) != run]
    keeps = registry.classes(Stage)[stage].keeps_record
    assert keeps == (stage not in ("default", "info", "failures", "plan", "plugins"))
    assert [name.rpartition("-")[2] for name in left] == ([stage] if keeps else [])


STORE = "outputs/gallery.sqlite"


@pytest.mark.parametrize("stage", ["info", "failures", "plugins"])
def test_what_only_looks_leaves_nothing_even_where_nothing_can_be_written(
    here: Cli, few: Path, stage: str
) -> None:
    imgrec.ingest("few", imgrec.build("extractor", "colour"), imgrec.build("store", "sqlite", path=STORE))
    before = sorted(few.parent.rglob("*"))
    here(stage, "format=json")
    here("info", "store.path=nope", code=2)
    assert sorted(few.parent.rglob("*")) == before
    here(stage, "hydra.run.dir=asked")  # unless it is asked for
    assert json.loads(Path("asked/run.json").read_text())["status"] == "done"


def test_columns_are_aligned_as_a_terminal_shows_them() -> None:
    """Chinese letters take two columns each, and an accent that is a letter of its own takes none."""
    name = "Ne\N{COMBINING ACUTE ACCENT}"
    assert table([["帽子", 1], ["hats", 2], [name, 3]]).splitlines() == ["帽子  1", "hats  2", f"{name}    3"]


def test_names_with_line_breaks(here: Cli, few: Path) -> None:
    (few / "china" / "china-0-1.jpg").rename(few / "china" / "two\nlines.jpg")
    here("ingest", few, "extractor=colour")
    query = few / "china" / "china-0-0.jpg"
    done = here("recommend", query, "format=paths0", "k=11")
    paths = done.out.removesuffix("\0").split("\0")
    assert str(few / "china" / "two\nlines.jpg") in paths
    assert sorted(paths) == sorted(str(path) for path in few.glob("*/*") if path != query)
    assert (
        "1 of these names has a line break: format=paths0" in here("recommend", query, "format=paths", "k=11").err
    )
    assert "line breaks" not in done.err
    printed = here("recommend", query, "k=11").out
    assert len(printed.splitlines()) == 12
    assert r"two\nlines.jpg" in printed
    stages = registry.classes(Stage).values()
    formats = [s.__dataclass_fields__["format"].metadata["choices"] for s in stages if hasattr(s, "format")]
    assert all("paths0" in each for each in formats if "paths" in each)


# --- choices --------------------------------------------------------------------------------------------------


def test_no_choice_is_offered_that_is_always_refused() -> None:
    """In help, completion and the tables; the kinds' own defaults are tried."""
    offered = presets.choices("projection")
    assert "tsne" not in offered
    assert "projection=tsne" not in helps.text("recommend")
    assert "projection.perplexity" not in helps.text("evaluate")
    assert candidates(["recommend", "q.png"], "projection=t") == []
    for name in offered:
        if name != "none" and not registry.available("reducer")[name].cls.missing_libraries():
            imgrec.build("reducer", name, **GROUPS["projection"].defaults)


def test_a_reducer_to_two_dimensions_is_no_projection_in_python_either(few: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    with pytest.raises(imgrec.UsageError, match="tsne draws maps only"):
        imgrec.recommend(few / "china" / "china-0-0.jpg", store, projection=imgrec.build("reducer", "tsne"))


# --- where paths begin, and which gallery -----------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["mine.sqlite", "~/mine.sqlite", "$HOME/mine.sqlite", "sqlite:mine.sqlite"])
def test_the_environment_names_the_gallery(
    here: Cli, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IMGREC_STORE", variable)
    here("ingest", few, "extractor=colour", "backup=csv")
    assert (tmp_path / "mine.sqlite").is_file()
    assert (tmp_path / "mine-csv" / "schema.json").is_file()  # the backup is beside it
    record = json.loads(next(tmp_path.glob("outputs/2*/*/run.json")).read_text())
    assert record["environment"] == {"IMGREC_STORE": variable}
    assert Path(record["configuration"]["store"]["path"]).name == "mine.sqlite"
    assert "mine.sqlite (IMGREC_STORE): 12 images" in here("info").out
    assert here("info", "format=json").json()["named_by"] == "IMGREC_STORE"
    assert "no gallery at" in here("info", "store.path=other.sqlite", code=2).err  # the command line wins
    here("ingest", few, "extractor=colour", "store.path=other.sqlite", "hydra.run.dir=second")
    assert json.loads(Path("second/run.json").read_text())["environment"] == {}
    assert imgrec.build("store", "sqlite").path == "outputs/gallery.sqlite"  # in Python it names nothing


def test_the_environment_names_a_gallery_of_another_kind(
    here: Cli, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGREC_STORE", "csv:table")
    here("ingest", few, "extractor=colour")
    assert Path("table/schema.json").is_file()
    assert "table (IMGREC_STORE): 12 images" in here("info").out
    here("ingest", few, "extractor=colour", "store=sqlite")  # chosen otherwise: its own place
    assert Path("outputs/gallery.sqlite").is_file()
    here("ingest", few, "extractor=colour", "store.path=own.sqlite")  # the variable is out of play altogether
    assert Path("own.sqlite").is_file()
    monkeypatch.setenv("IMGREC_STORE", "table")  # without a kind it is the place of whichever is chosen
    assert "table (IMGREC_STORE): 12 images" in here("info", "store=csv").out


def test_relative_paths_begin_at_the_working_directory(
    here: Cli, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the command line, of YAML files wherever these lie, and of environment variables."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nsource: few\nstore: {path: from-yaml.sqlite}\n"
    (tmp_path / "mine" / "experiment" / "e.yaml").write_text(text)
    (tmp_path / "work").mkdir()
    shutil.move(few, tmp_path / "work" / "few")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("IMGREC_CONFIG_DIR", "../mine")
    here("ingest", "extractor=colour", "+experiment=e")
    assert (tmp_path / "work" / "from-yaml.sqlite").is_file()
    monkeypatch.setenv("IMGREC_STORE", "../work/from-yaml.sqlite")
    assert "12 images" in here("info").out
    monkeypatch.chdir(tmp_path)
    assert "IMGREC_CONFIG_DIR ../mine: there is no such folder" in here("info", code=2).err


@pytest.mark.parametrize("code", [0, 2])
def test_what_a_process_logs_after_a_run_without_a_folder(code: int, few: Path, here: Cli) -> None:
    if code == 0:
        here("ingest", few, "extractor=colour")
    here("info", code=code)
    logging.getLogger("imgrec").error("later")  # an error, where a handler's file was in the folder that is gone
    assert not [each for each in logging.getLogger().handlers if isinstance(each, logging.FileHandler)]
