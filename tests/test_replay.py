"""Runs again from their records, and runs side by side; by the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec import registry
from imgrec.errors import UsageError
from imgrec.images import is_inside, roots


@contextmanager
def changed(file: Path) -> Iterator[Any]:
    """A JSON file's data, to be changed."""
    data = json.loads(file.read_text())
    yield data
    file.write_text(json.dumps(data))


@pytest.fixture
def recommended(cli: Cli, few: Path) -> Path:
    """The folder of a run of recommend, beside its gallery."""
    cli("ingest", "few", "extractor=colour")
    return cli("recommend", "few/china/china-0-0.jpg", "k=3").runs()[-1]


def test_the_same_data_gives_the_same_results(cli: Cli, few: Path, tmp_path: Path) -> None:
    ingested = cli("ingest", "few", "backup=csv", "extractor=colour", "extractor.bins=3").runs()[-1]
    recommended = cli("recommend", "few/china/china-0-0.jpg", "k=3").runs()[-1]
    drawn = cli("visualise", "reducer=tsne", "reducer.n_iter=250").runs()[-1]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "outputs").glob("gallery*")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for run in (ingested, recommended, drawn):
        done = cli("replay", run, cwd=elsewhere)
        assert done.out == "identical\n"
        assert (done.runs()[-1] / "again" / "run.json").exists()
    assert cli("+stage=replay", f"run={drawn.relative_to(tmp_path)}").out == "identical\n"
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "outputs").glob("gallery*")}


def test_an_ingest_that_came_later_and_a_gallery_that_is_gone(cli: Cli, few: Path, tmp_path: Path) -> None:
    ingested = cli("ingest", "few/china").runs()[-1]
    cli("ingest", "few")
    again = cli("ingest", "few/china").runs()[-1]
    assert cli("replay", ingested).out == cli("replay", again).out == "identical\n"
    (tmp_path / "outputs" / "gallery.sqlite").unlink()
    done = cli("replay", ingested)
    assert done.out == "identical\n"
    assert "vectors are not compared" in done.err


def test_a_fusion_and_its_projection_are_made_again(cli: Cli, few: Path) -> None:
    """With weights that the gallery has noted, and others; whatever is noted later."""
    words = ["extractor=fusion", "extractor.weights={colour: 1, hog: 2}", "extractor.metrics={hog: cosine}"]
    words += ["extractor.projections.hog=pca", "extractor.projections.hog.n_components=3"]
    query = "few/china/china-0-0.jpg"
    cli("ingest", "few", *words)
    noted = cli("recommend", query, "rerank=query_expansion").runs()[-1]
    others = cli("recommend", query, "extractor.weights={colour: 5}").runs()[-1]
    evaluated = cli("evaluate", "few", "k=2").runs()[-1]
    cli("ingest", "few", *words, "extractor.weights={colour: 9, hog: 1}")
    for run in (noted, others, evaluated):
        assert cli("replay", run).out == "identical\n"


def test_changed_data(cli: Cli, few: Path, recommended: Path) -> None:
    near = Path(json.loads((recommended / "results.json").read_text())["matches"][0]["path"])
    PIL.Image.open(few / "flower" / "flower-0-0.jpg").rotate(180).save(near)
    done = cli("replay", recommended, code=1)
    assert done.out.startswith("different\nresult: results.json: matches[0]")
    assert "data: the gallery has as many images, and not the same" in done.out
    assert done.err.splitlines()[-1].startswith("imgrec: the results are not those of ")
    assert json.loads((done.runs()[-1] / "results.json").read_text())["identical"] is False
    near.unlink()
    PIL.Image.new("RGB", (90, 90), "red").save(few / "china" / "china-0-0.jpg")
    lines = cli("replay", recommended, code=1).out.splitlines()
    assert f"data: 1 of 12 files are gone, such as {near}" in lines
    assert "data: the gallery's images were 12 and are 11" in lines
    assert "data: query has another content" in lines


def test_changed_results_and_other_versions(cli: Cli, recommended: Path) -> None:
    with changed(recommended / "run.json") as record:
        record["versions"]["numpy"] = "1.0"
        record["timings"]["search"] = 99
    lines = cli("replay", recommended).out.splitlines()
    assert lines[0] == "identical"
    assert [line.partition(" and is ")[0] for line in lines[1:]] == ["version: numpy was 1.0"]
    with changed(recommended / "results.json") as results:
        results["matches"][1]["distance"] += 1e-15
        results["images_per_s"] = 7
    lines = cli("replay", recommended, code=1).out.splitlines()
    assert lines[0] == "different"
    assert lines[1].startswith("result: results.json: matches[1].distance was ")
    assert len(lines) == 3


def test_changed_vectors(cli: Cli, recommended: Path, tmp_path: Path) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "outputs" / "gallery.sqlite")) as store:
        (space,) = store.spaces()
        names, vectors = store.vectors(space)
        vectors[0] += 0.25
        store.write(imgrec.Batch(vectors={space: (names, vectors)}))
    done = cli("replay", recommended, code=1)
    assert f"result: 1 of 12 vectors of {space.key} differ, by 0.25 at the most" in done.out


def test_other_weights(cli: Cli, recommended: Path) -> None:
    with changed(recommended / "run.json") as record:
        record["gallery"]["spaces"][0]["identity"]["weights"] = "00ff"
        record["gallery"]["spaces"][0]["identity"]["version"] = 0
        record["gallery"]["spaces"][0]["key"] = "colour-000000000000"
    assert cli("replay", recommended, code=1).out.splitlines() == [
        "different",
        "result: not made again: the vectors would be of another space",
        "version: colour-000000000000: version was 0 and is 1",
        "weights: colour-000000000000: weights was 00ff and is absent",
    ]


def _target(record: Any) -> None:
    record["configuration"]["store"]["_target_"] = "pathlib.Path.touch"


def _stage(record: Any) -> None:
    record["stage"] = "os"


def _plugin(record: Any) -> None:
    record["components"]["store"] = "os.system"


def _extractor(record: Any) -> None:
    record["gallery"]["spaces"][0]["extractor"] = "subprocess.run"


def _extractor_option(record: Any) -> None:
    record["gallery"]["spaces"][0]["options"]["_target_"] = "subprocess.run"


def _option(record: Any) -> None:
    record["configuration"]["kk"] = 3


def _value(record: Any) -> None:
    record["configuration"]["k"] = "${oc.env:HOME}"


def _list(record: Any) -> None:
    record["components"]["store"] = ["sqlite"]


def _options(record: Any) -> None:
    record["configuration"]["store"] = ["sqlite"]


def _gallery(record: Any) -> None:
    record["gallery"] = None


def _directory(record: Any) -> None:
    record["directory"] = "/nowhere"


def _failed(record: Any) -> None:
    record["status"] = "failed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_target, "store sqlite has no option '_target_'"),
        (_stage, "there is no stage 'os'"),
        (_plugin, "there is no store 'os.system'"),
        (_extractor, "there is no extractor 'subprocess.run'"),
        (_extractor_option, "extractor colour has no option '_target_'"),
        (_option, "recommend has no option 'kk' (did you mean k?)"),
        (_value, "recommend.k takes int, not '${oc.env:HOME}'"),
        (_list, "its components are no names"),
        (_options, "recommend.store holds options by name, not ['sqlite']"),
        (_gallery, "no gallery that the run worked on"),
        (_directory, "ran in /nowhere, which is gone"),
        (_failed, "a run that is failed, not done"),
    ],
)
def test_a_record_that_is_refused(recommended_once: Path, change: Callable[[Any], None], message: str) -> None:
    """In this process: `replay` as the stage calls it."""
    from imgrec.reproduction import replay
    from imgrec.run import Run

    record = json.loads((recommended_once / "run.json").read_text())
    change(record)
    folder = recommended_once.with_name(change.__name__)
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    again = folder / "again"
    again.mkdir()
    with pytest.raises(UsageError) as told:
        replay(folder, again, Run("replay", folder, [], {}))
    assert message in str(told.value)
    assert list(again.iterdir()) == []


@pytest.fixture(scope="module")
def recommended_once(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sys

    base = tmp_path_factory.mktemp("recorded")
    query = min(photos.rglob("*.jpg"))
    for words in (["ingest", photos, "extractor=colour"], ["recommend", query, "hydra.run.dir=run"]):
        subprocess.run(
            [sys.executable, "-m", "imgrec", *map(str, words)], cwd=base, check=True, capture_output=True
        )
    return base / "run"


def test_what_is_no_run_or_has_no_gallery(cli: Cli, few: Path) -> None:
    cli("ingest", "few")
    told, listed = (
        cli("info", "hydra.run.dir=told").cwd / "told",
        cli("plugins", "hydra.run.dir=listed").cwd / "listed",
    )
    for run, message in (
        ("nowhere", "there is no run"),
        ("few", "it has no run.json"),
        (told, "tells of no gallery"),
        (listed, "has no gallery"),
    ):
        runs = len(cli("--version").runs())
        done = cli("replay", run, code=2)
        assert message in done.err
        assert done.err.count("\n") == 1
        assert len(done.runs()) == runs


def test_a_stage_of_a_plain_configuration() -> None:
    built = registry.stage("ingest", {"source": "x"}, {"store": "csv", "default_extractor": "colour"})
    assert built.plugins() == {
        "extractor": None,
        "default_extractor": "colour",
        "store": "csv",
        "backup": None,
        "engine": None,
    }
    with pytest.raises(UsageError, match="ingest needs store="):
        registry.stage("ingest", {"source": "x"}, {"default_extractor": "colour"})
    with pytest.raises(UsageError, match="ingest needs source="):
        registry.stage("ingest", {}, {"store": "csv", "default_extractor": "colour"})
    with pytest.raises(UsageError, match="no backup is chosen"):
        registry.stage(
            "ingest", {"source": "x", "backup": {"path": "y"}}, {"store": "csv", "default_extractor": "colour"}
        )


def test_the_diff_of_the_working_directory(cli: Cli, few: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("one\n")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "notes.txt"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    clean = cli("ingest", "few").runs()[-1]
    assert not (clean / "git.diff").exists()
    (tmp_path / "notes.txt").write_text("two\n")
    dirty = cli("ingest", "few").runs()[-1]
    assert "-one\n+two\n" in (dirty / "git.diff").read_text()
    assert cli("replay", dirty).out == "identical\n"
    (tmp_path / "notes.txt").write_text("three\n")
    assert "version: git: tracked files differ" in cli("replay", dirty).out
    assert "version: git was " in cli("replay", clean).out


def test_roots_among_many_paths(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert roots([tmp_path / "a" / "b", tmp_path / "a"]) == [str(tmp_path / "a")]
    assert roots(["/", tmp_path]) == ["/"]
    assert is_inside("/a/b", {"/"})
    assert not is_inside("/ab", {"/a"})


def test_runs_side_by_side(cli: Cli, few: Path, recommended: Path) -> None:
    other = cli("recommend", "few/flower/flower-0-0.jpg", "k=4").runs()[-1]
    done = cli("+stage=compare", f"runs=[{recommended},{other}]")
    lines = [line.split() for line in done.out.splitlines()]
    assert ["differs", recommended.name, other.name] in lines
    assert ["configuration.k", "3", "4", "(+1)"] in lines
    assert ["counts.gallery", "12", "12"] in lines
    assert not [line for line in lines if line and line[0] == "configuration.metric"]
    picture = done.runs()[-1] / "compare.png"
    assert done.err.endswith(f"{picture}\n")
    with PIL.Image.open(picture) as drawn, PIL.Image.open(recommended / "recommendations.png") as one:
        assert drawn.width > 2 * min(one.width, 800)
    compared = json.loads((done.runs()[-1] / "compare.json").read_text())
    assert compared["differs"]["configuration.k"] == compared["figures"]["k"] == [3, 4]
    several = cli("compare", recommended, other, cli("info", "hydra.run.dir=told").cwd / "told")
    assert "configuration.k" in several.out
    assert "two runs or more, and these are 1" in cli("compare", other, code=2).err
    assert "it has no run.json" in cli("compare", other, few, code=2).err
