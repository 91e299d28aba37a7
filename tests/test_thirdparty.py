"""Plugins of third parties as they come: distributions of their own, built, installed and used elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Warm
from conftest import Cli, build_wheel
from imgrec.kinds import KINDS

THIRDPARTY = Path(__file__).parent / "thirdparty"

DISTRIBUTIONS = sorted(file.parent.name for file in THIRDPARTY.glob("*/pyproject.toml"))
"""One for each kind, which `new_plugin` starts from, and others."""


def environment(folder: Path, *wheels: Path) -> Path:
    """A new environment with wheels in it; the interpreter.

    The libraries that they need are those of the environment that runs the tests, the packages under test are not.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(site, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, *map(str, wheels)], check=True)
    return python


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheels of imgrec and of all third parties."""
    folder = tmp_path_factory.mktemp("thirdparty")
    wheels = []
    for name in DISTRIBUTIONS:
        project = shutil.copytree(THIRDPARTY / name, folder / name)
        wheels.append(build_wheel(project, folder / f"{name}-wheel"))
    return environment(folder / "venv", wheel, *wheels)


def test_the_environment_has_the_wheel_and_not_this_checkout(python: Path, tmp_path: Path) -> None:
    modules = "imgrec, imgrec_lbp, imgrec_colour"
    where = f"import {modules}\nfor each in ({modules}): print(each.__file__)"
    seen = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(Path(file).is_relative_to(python.parent.parent) for file in seen.stdout.splitlines())


def test_an_extractor_of_a_third_party(cli: Cli, few: Path, python: Path) -> None:
    def run(*words: str | Path, code: int = 0) -> str:
        done = cli(*words, python=python, code=code)
        return done.out if code == 0 else done.err

    assert "|lbp|lbp_wide|" in run("--help")
    assert "extractor.margin=2.0  by how much brighter" in run("ingest", "--help")
    assert "lbp imgrec-lbp 0.1.0" in " ".join(run("+stage=plugins").split())
    assert "12 extracted" in run("ingest", few, "extractor=lbp", "extractor.radius=2")
    assert run("recommend", few / "china" / "china-0-0.jpg", "format=paths").count("\n") == 5
    swept = run("-m", "ingest", few, "extractor=colour,lbp", "store.path=swept.sqlite")
    assert swept.count("12 extracted") == 2
    assert "12 extracted" in run("ingest", few, "extractor=lbp_wide", "store.path=wide.sqlite")
    assert "radius=3, margin=6.0" in run("info", "store.path=wide.sqlite")
    line = "imgrec ingest photos extractor=lbp extractor.ra"
    typed = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    assert cli("-sc", "query=bash", env=typed, python=python).out == "extractor.radius=\n"
    assert "did you mean radius?" in run("ingest", few, "extractor=lbp", "extractor.radus=2", code=2)
    assert "did you mean lbp?" in run("ingest", few, "extractor=lpb", code=2)
    assert "extractor.radius is at least 1, not 0" in run(
        "ingest", few, "extractor=lbp", "extractor.radius=0", code=2
    )
    assert "'x' of type 'str' could not be converted" in run(
        "ingest", few, "extractor=lbp", "extractor.radius=x", code=2
    )


def test_a_store_and_a_reducer_of_third_parties(cli: Cli, few: Path, python: Path) -> None:
    cli("ingest", few, "store=npz", "backup=csv", python=python)
    found = cli("recommend", few / "china" / "china-0-0.jpg", "store=npz", "format=paths", python=python)
    assert found.out.count("\n") == 5
    drawn = cli("visualise", "store=npz", "reducer=jl", "reducer.orthogonal=false", python=python)
    assert (drawn.runs()[-1] / "map.png").stat().st_size > 5_000
    (few.parent / "outputs" / "gallery.npz").unlink()
    assert "12" in cli("restore", "store=npz", "backup=csv", python=python).out
    cli("ingest", few, "backup=npz", python=python)


def test_a_stage_of_a_third_party_is_as_a_built_in_one(cli: Cli, few: Path, python: Path, tmp_path: Path) -> None:
    def run(*words: str | Path, code: int = 0) -> str:
        done = cli(*words, python=python, code=code)
        return done.out if code == 0 else done.err

    # listed and helped
    assert re.search(r"^  outliers +List the images least similar to any other", run("--help"), re.M)
    helped = run("outliers", "--help")
    assert "k=5" in helped
    assert "store=csv|lance|npz|sqlite  (default sqlite)" in helped
    assert "store.path=outputs/gallery.sqlite" in helped
    # completed
    for line, found in {
        "imgrec outl": "outliers \n",
        "imgrec outliers stor": "store=\nstore.\n",
        "imgrec outliers store=n": "npz \n",
        "imgrec outliers store.p": "path=\n",
    }.items():
        typed = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_WORDBREAKS": ""}
        assert cli("-sc", "query=bash", env=typed, python=python).out.endswith(found.split("=")[-1])
    # run, in both spellings, checked and told
    run("ingest", few, "extractor=colour")
    found = run("outliers", "k=3")
    assert len(found.splitlines()) == 3
    assert run("+stage=outliers", "k=3") == found
    assert "k is at least 1, not 0" in run("outliers", "k=0", code=2)
    assert "outliers has no option 'q'" in run("outliers", "q=1", code=2)
    assert "there is no store 'sqlit' (did you mean sqlite?)" in run("outliers", "store=sqlit", code=2)
    assert "other.sqlite: make it with" in run("outliers", "store.path=other.sqlite", code=2)
    # recorded
    ran = cli("outliers", "store.path=outputs/gallery.sqlite", python=python).runs()[-1]
    assert run("replay", ran).startswith("identical")
    record = json.loads((ran / "run.json").read_text())
    assert record["stage"] == "outliers"
    assert record["plugins"] == {
        "stage=outliers": "imgrec-outliers 0.1.0",
        "store=sqlite": "imgrec 0.1.0",
        "extractor=colour": "imgrec 0.1.0",
    }
    assert record["components"] == {"store": "sqlite"}
    assert record["configuration"]["k"] == 5
    assert record["counts"] == {"images": 12}
    # swept, and with an experiment
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "two.yaml").write_text("# @package _global_\nk: 2\n")
    assert len(run("-m", "outliers", "k=1,2").splitlines()) == 3
    assert len(run("outliers", "+experiment=two", "--config-dir", "mine").splitlines()) == 2
    # a stage file of one's own has the last word
    (tmp_path / "mine" / "stage").mkdir()
    (tmp_path / "mine" / "stage" / "outliers.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /options/outliers@_global_\n  - /store: csv\n  - _self_\nk: 4\n"
    )
    assert "outputs/gallery-csv: make it with" in run("outliers", "--config-dir", "mine", code=2)


def test_an_extractor_that_holds_two_others(cli: Cli, few: Path, python: Path, tmp_path: Path) -> None:
    """Composed, checked, completed, swept, recorded, replayed, extracted by again: as a stage's components."""

    def run(*words: str | Path, code: int = 0) -> str:
        done = cli(*words, python=python, code=code)
        return done.out if code == 0 else done.err

    (module,) = (THIRDPARTY / "concat").glob("imgrec_*/*.py")
    assert len([line for line in module.read_text().splitlines() if line.strip()]) <= 20
    two = ("extractor=concat", "extractor.first=colour", "extractor.second=hog", "extractor.second.cell=16")
    assert "12 extracted" in run("ingest", few, *two)
    space = cli("info", "format=json", python=python).json()["spaces"][0]
    assert space["key"].startswith("concat-")
    assert space["options"]["second"]["options"]["cell"] == 16
    assert "12 unchanged" in run("ingest", few)  # by what was recorded
    assert "12 unchanged" in run("ingest", few, *two)
    other = run("ingest", few, *two[:3], "store.path=other.sqlite")
    assert "12 extracted" in other
    query = tmp_path / "outside.jpg"
    query.write_bytes(min(few.rglob("*.jpg")).read_bytes() + b"x")
    ran = cli("recommend", query, "format=json", python=python)
    assert ran.json()["matches"][0]["distance"] < 1e-3
    assert run("replay", ran.runs()[-1]).startswith("identical")
    record = cli("ingest", few, *two, python=python).record()
    assert record["components"]["extractor.second"] == "hog"
    assert record["configuration"]["extractor"]["second"]["cell"] == 16
    assert set(record["plugins"]) >= {"extractor=concat", "extractor=hog", "extractor=colour"}
    # checked
    told = run("ingest", few, *two[:3], "extractor.second.cel=3", code=2)
    assert "extractor.second=hog has no option 'cel' (did you mean cell?)" in told
    assert "concat needs first=" in run("ingest", few, "extractor=concat", "extractor.second=hog", code=2)
    assert "there is no extractor 'hug' (did you mean hog?)" in run(
        "ingest", few, *two[:2], "extractor.second=hug", code=2
    )
    # completed and swept
    for line, found in {
        "imgrec ingest x extractor=concat extractor.se": "extractor.second=",
        "imgrec ingest x extractor=concat extractor.second=ho": "hog ",
        "imgrec ingest x extractor=concat extractor.second=hog extractor.second.ce": "extractor.second.cell=",
    }.items():
        typed = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_WORDBREAKS": ""}
        assert cli("-sc", "query=bash", env=typed, python=python).out.splitlines()[0].endswith(found)
    swept = run("-m", "ingest", few, *two[:2], "extractor.second=hog,colour", "store.path=swept.sqlite")
    assert swept.count("12 extracted") == 2


def test_a_reducer_that_only_draws_is_ten_lines(cli: Cli, few: Path, python: Path) -> None:
    (module,) = (THIRDPARTY / "mds").glob("imgrec_*/*.py")
    code = module.read_text().partition("class MDS")[2].partition("@imgrec.hookimpl")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    cli("ingest", few, "extractor=colour", python=python)
    drawn = cli("visualise", "reducer=mds", python=python)
    assert (drawn.runs()[-1] / "map.png").stat().st_size > 5_000
    # it is no projection, and none is offered
    assert "reducer=jl|lda|logistic|mds|" in cli("--help", python=python).out
    assert "projection=jl|lda|logistic|pca|" in cli("--help", python=python).out
    assert "projection=mds" not in cli("recommend", "--help", python=python).out
    query = min(few.rglob("*.jpg"))
    for words in (("recommend", query), ("evaluate", few), ("-m", "evaluate", few)):
        refused = cli(*words, "projection=mds", python=python, code=2)
        assert "projection=mds: mds draws maps only, since it cannot place new vectors" in refused.err
    api = (
        "import imgrec, sys\n"
        "store, mds = imgrec.build('store', 'sqlite'), imgrec.build('reducer', 'mds')\n"
        "try:\n    imgrec.recommend(sys.argv[1], store, projection=mds)\n"
        "except imgrec.UsageError as error:\n    print(error)\n"
    )
    told = subprocess.run([python, "-c", api, query], capture_output=True, text=True, check=True, cwd=few.parent)
    assert told.stdout.startswith("mds draws maps only")


def test_a_metric_of_a_third_party(cli: Cli, few: Path, python: Path) -> None:
    cli("ingest", few, "extractor=colour", python=python)
    query = min(few.rglob("*.jpg"))
    found = cli("recommend", query, "metric=canberra", "format=json", python=python).json()
    assert found["metric"] == "canberra"
    assert len(found["matches"]) == 5
    assert "(canberra, chi2, cosine, " in cli("recommend", "--help", python=python).out
    assert "canberra" not in cli("visualise", "--help", python=python).out  # it has no Euclidean form
    told = cli("recommend", query, "metric=canbera", python=python, code=2).err
    assert "metric is one of canberra, chi2, " in told
    cli("ingest", few, "extractor=fusion", "extractor.weights={colour: 1, hog: 1}",
        "extractor.metrics={hog: canberra}", "store.path=fused.sqlite", python=python)  # fmt: skip
    fused = cli("recommend", query, "store.path=fused.sqlite", "format=json", python=python).json()
    assert fused["parts"]["hog"]["metric"] == "canberra"
    cli("-m", "evaluate", few, "metric=euclidean,canberra", python=python)


def test_an_index_of_a_third_party(cli: Cli, few: Path, python: Path, tmp_path: Path) -> None:
    (module,) = (THIRDPARTY / "index").glob("imgrec_*/*.py")
    assert len([line for line in module.read_text().splitlines() if line.strip()]) <= 80
    cli("ingest", few, "extractor=colour", python=python)
    query = min(few.rglob("*.jpg"))
    asked = ("recommend", query, "format=json")
    exact = cli(*asked, python=python).json()
    used = ("index=ivf", "index.exact_up_to=0", "index.recall=0.7")
    first = cli(*asked, *used, "index.lists=3", python=python)
    assert "index=ivf is built of 12 vectors, once" in first.err
    assert "approximate, by index=ivf: it finds 1.0000 of the nearest 10, at least 0.7354" in first.err
    found = first.json()
    about = found.pop("index")
    (measured,) = about.pop("measured")
    assert about == {"index": "ivf", "lists": 3, "seed": 0, "recall": 0.7, "exact_up_to": 0, "exact": None}
    assert measured.pop("at_least") == pytest.approx(0.025 ** (1 / 12), abs=1e-4)
    told = {"nearest": 10, "effort": [3], "candidates": 44, "recall": 1, "images": 12, "of": 12, "changed": 0}
    assert measured == told
    assert found == exact  # all lists were looked at, and imgrec measures
    assert cli(*asked, *used, "index.lists=3", python=python).err.count("built") == 0
    (listed,) = cli("info", "format=json", python=python).json()["indexes"]
    assert (listed["index"], listed["is_current"]) == ("ivf", True)
    assert listed["measured"][0]["effort"] == [3]
    assert "ivf, euclidean" in cli("info", python=python).out
    (kept,) = (tmp_path / "outputs").glob("*/indexes/*/*/ivf-*-euclidean")
    (kept / "vectors.npy").write_bytes(b"damaged")
    mended = cli(*asked, *used, "index.lists=3", python=python)
    assert "is built again: " in mended.err
    assert mended.json()["matches"] == exact["matches"]
    # another gallery, another index; the old one goes
    (few / "china" / "china-0-1.jpg").unlink()
    cli("ingest", few, python=python)
    assert "is built of 12 vectors" in cli(*asked, *used, python=python).err
    assert len(list((tmp_path / "outputs").glob("*/indexes/*/*/ivf-*"))) == 1
    # a metric that has no Euclidean form is searched exactly, and says so
    manhattan = cli(*asked, *used, "metric=manhattan", python=python)
    assert "index=ivf is not used: metric=manhattan has no Euclidean form, so the search is exact" in manhattan.err
    assert manhattan.json()["index"]["exact"] == "metric=manhattan has no Euclidean form"
    # a fusion takes the candidates of all its terms, a projection an index of its own
    cli("ingest", few, "store.path=fused.sqlite", python=python)
    fused = cli(*asked, "store.path=fused.sqlite", *used, python=python).json()
    (measured,) = fused["index"]["measured"]
    assert measured["effort"] == [11, 11]
    assert fused["matches"] == cli(*asked, "store.path=fused.sqlite", python=python).json()["matches"]
    projected = (*asked, "projection=pca", "projection.n_components=3")
    assert (
        cli(*projected, *used, python=python).json()["matches"] == cli(*projected, python=python).json()["matches"]
    )
    # listed, helped, refused
    assert "index=faiss|ivf|exact" in cli("--help", python=python).out
    assert "did you mean lists?" in cli(*asked, "index=ivf", "index.list=3", python=python, code=2).err
    # what is kept is verified, and mended
    for file in (tmp_path / "outputs").glob("*/indexes/*/*/*/lists.npz"):
        file.write_bytes(b"damaged")
    assert "gallery.sqlite: 1 " not in cli("verify", python=python, code=1).out
    cli("verify", "fix=true", python=python, code=None)
    cli("verify", python=python)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_its_own_tests_pass(python: Path, name: str) -> None:
    project = python.parent.parent.parent / name
    subprocess.run([python, "-m", "pytest", "-q", "-W", "error", project], check=True, cwd=project)


def test_the_extractor_is_of_25_lines_at_most() -> None:
    (module,) = (THIRDPARTY / "extractor").glob("imgrec_*/*.py")
    assert len([line for line in module.read_text().splitlines() if line.strip()]) <= 25


# --- a plugin to begin with ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def new_plugins(
    wheel: Path, python: Path, warm: Callable[[Path | str], Warm], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a new plugin of each kind, and `venv`, where all of them are installed."""
    folder = tmp_path_factory.mktemp("new_plugins")
    wheels = []
    for kind in KINDS:
        words = ["+stage=new_plugin", f"kind={kind}", f"name=my_{kind}"]
        done = warm(python).run(words, folder, dict(os.environ))
        project = folder / f"imgrec-my_{kind}"
        assert set(done.stdout.splitlines()) == {
            str(file.relative_to(folder)) for file in project.rglob("*") if file.is_file()
        }
        wheels.append(build_wheel(project, folder / "dist" / kind))
    environment(folder / "venv", wheel, *wheels)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_own_test_unchanged(new_plugins: Path, kind: str) -> None:
    project = new_plugins / f"imgrec-my_{kind}"
    taken = {"lbp", "LBP", "jl", "JL", "npz", "Npz", "rocchio", "Rocchio", "ff", "FF", "outliers", "Outliers"}
    taken |= {"canberra", "Canberra", "ivf", "IVF"}
    assert f"class My{kind.title()}(" in (project / f"imgrec_my_{kind}" / "__init__.py").read_text()
    words = {word for file in project.rglob("*.py") for word in file.read_text().replace("_", " ").split()}
    assert taken.isdisjoint(words)
    own = new_plugins / "venv" / "bin" / "python"
    subprocess.run([own, "-m", "pytest", "-q", "-W", "error", project], check=True, cwd=project)


def test_new_plugins_are_listed(cli: Cli, new_plugins: Path) -> None:
    listed = " ".join(cli("plugins", python=new_plugins / "venv" / "bin" / "python", fresh=True).out.split())
    assert all(f"my_{kind} imgrec-my_{kind} 0.1.0" in listed for kind in KINDS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("name=Foo", "lower-case letters and digits"),
        ("name=class", "means something else to Python"),
        ("name=null kind=store", "field 'name' is not Optional"),
        ("name=yes", "means something else to Python or YAML"),
        ("name=record kind=store", "is a word of what is written"),
        ("name=colour kind=reducer", "the module imgrec_colour is installed already"),
        ("name=a_", "lower-case letters and digits"),
        ("name=a-b", "lower-case letters and digits"),
        ("name=colour", "extractor=colour is there already (imgrec 0.1.0)"),
        ("name=mobilenet", "extractor=mobilenet is there already (a preset)"),
        (
            "name=foo kind=painter",
            f"kind is one of {', '.join(KINDS)}, not 'painter'",
        ),
        ("kind=extractor", "new_plugin needs name="),
        ("name=foo folder=full", "full is there already"),
        ("name=foo folder=full/x.txt/here", "cannot be written"),
    ],
)
def test_what_cannot_be_a_new_plugin_is_told(cli: Cli, tmp_path: Path, words: str, told: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.txt").touch()
    assert told in cli("+stage=new_plugin", *words.split(), code=2).err
    assert [file.name for file in tmp_path.rglob("*")] == ["full", "x.txt"]


def test_an_engine_of_a_third_party(cli: Cli, few: Path, python: Path, tmp_path: Path) -> None:
    """Found, chosen, helped, recorded; bad files are told as by threads, and Ctrl-C ends it."""
    (few / "china" / "bad.jpg").write_bytes(b"no picture")
    assert "engine=parallel|ray|threads  (default threads)" in cli("ingest", "--help", python=python).out
    words = ["ingest", few, "extractor=hog", "batch_size=5"]
    made = cli(*words, "engine=parallel", "engine.workers=2", "store.path=p.sqlite", python=python)
    assert "12 new, 0 unchanged, 0 moved, 0 missing, 1 failed" in made.out
    assert made.record()["plugins"]["engine=parallel"] == "imgrec-parallel 0.1.0"
    assert cli("replay", made.runs()[-1], python=python).out.startswith("identical")
    cli(*words, "store.path=t.sqlite", python=python)
    found = [
        cli("recommend", few / "china" / "china-0-0.jpg", f"store.path={name}.sqlite", python=python).out
        for name in "pt"
    ]
    assert found[0] == found[1]
    assert (
        "engine.workers is at least 1"
        in cli(*words, "engine=parallel", "engine.workers=0", python=python, code=2).err
    )


def test_a_source_of_a_third_party(cli: Cli, few: Path, python: Path, tmp_path: Path) -> None:
    """An archive is found, read, asked for, looked at, verified, replayed and evaluated as a folder is."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in sorted(few.rglob("*.jpg")):
            archive.write(file, file.relative_to(few))
    ingested = cli("ingest", "photos.zip", "extractor=colour", python=python)
    assert "12 new" in ingested.out
    assert "12 unchanged" in cli("ingest", "photos.zip", python=python).out
    inside = tmp_path / "photos.zip" / "china" / "china-0-0.jpg"
    found = cli("recommend", inside, python=python)
    assert len(found.out.splitlines()) == 1 + 5
    assert "are gone" not in found.err
    outside = cli("recommend", few / "china" / "china-0-0.jpg", python=python)
    assert outside.out == found.out
    assert "does not exist" in cli("recommend", f"{inside}.jpg", python=python, code=2).err
    assert "sound" not in cli("verify", "sample=null", python=python).err
    assert cli("replay", ingested.runs()[0], python=python).out.startswith("identical")
    assert cli("evaluate", "photos.zip", "sample=null", "format=json", python=python).json()["queries"] == 12
    (tmp_path / "photos.zip").rename(tmp_path / "elsewhere.zip")
    assert "5 of these files are gone" in cli("recommend", few / "china" / "china-0-0.jpg", python=python).err
    assert "12 wrong" not in cli("verify", "fix=true", python=python, code=None).out
    (tmp_path / "elsewhere.zip").rename(tmp_path / "photos.zip")
    assert "12 unchanged" in cli("ingest", "photos.zip", python=python).out
