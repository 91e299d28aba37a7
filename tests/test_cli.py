"""The command line as people use it: real processes, in a folder of their own."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest

import tiles
from conftest import Cli
from imgrec import presets
from imgrec.cli import help
from imgrec.kinds import GROUPS

THREE_SPELLINGS = [
    (["+stage=ingest", "source=few", "extractor=colour"], ["+stage=recommend", "query={}"]),
    (["stage=ingest", "source=few", "extractor=colour"], ["stage=recommend", "query={}"]),
    (["ingest", "few", "extractor=colour"], ["recommend", "{}"]),
]


@pytest.mark.parametrize(("ingest", "recommend"), THREE_SPELLINGS)
def test_ingest_and_recommend(cli: Cli, few: Path, ingest: list[str], recommend: list[str]) -> None:
    done = cli(*ingest)
    assert "12 new" in done.out
    assert (few.parent / "outputs" / "gallery.sqlite").exists()
    query = few / "china" / "china-0-1.jpg"
    found = cli(*(word.format(query) for word in recommend), "format=json")
    result = found.json()
    assert list(result) == ["query", "space", "metric", "k", "matches"]
    assert (result["query"], result["metric"], result["k"]) == (str(query), "euclidean", 5)
    assert [match["rank"] for match in result["matches"]] == [1, 2, 3, 4, 5]
    assert list(result["matches"][0]) == ["rank", "path", "distance", "label", "copies"]
    assert str(query) not in {match["path"] for match in result["matches"]}
    assert result["matches"][0]["label"] == "china"


@pytest.mark.parametrize("words", ["recommend --help", "info", "plugins format=json", "ingest few extractor=colr"])
def test_runs_of_the_tests_are_as_those_of_a_new_interpreter(cli: Cli, words: str) -> None:
    forked, fresh = (cli(*words.split(), code=None, fresh=fresh) for fresh in (False, True))
    assert forked == fresh


def test_what_a_run_leaves(cli: Cli, few: Path) -> None:
    cli("ingest", few, "extractor=colour")
    done = cli("recommend", few / "flower" / "flower-0-0.jpg", "k=3", "seed=7")
    folder = done.runs()[-1]
    assert re.fullmatch(
        r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\d{6}-recommend", str(folder.relative_to(done.cwd))
    )
    assert {file.name for file in folder.iterdir()} >= {
        ".hydra",
        "run.json",
        "results.json",
        "recommendations.png",
    }
    record = done.record()
    assert (record["stage"], record["status"], record["error"], record["seed"]) == ("recommend", "done", None, 7)
    assert record["configuration"]["k"] == 3
    assert record["choices"]["store"] == "sqlite"
    assert set(record["plugins"]) == {"stage=recommend", "store=sqlite", "extractor=colour"}
    assert {"imgrec", "numpy", "python", "opencv-python-headless"} <= set(record["versions"])
    assert record["counts"] == {"gallery": 12, "matches": 3}
    assert set(record["timings"]) == {"query", "load", "search", "draw"}
    assert record["command"][1:] == ["recommend", str(few / "flower" / "flower-0-0.jpg"), "k=3", "seed=7"]
    assert "git" in record
    assert len(json.loads((folder / "results.json").read_text())["matches"]) == 3
    with PIL.Image.open(folder / "recommendations.png") as picture:
        assert picture.width > 900


def test_stdout_carries_results_only(cli: Cli, few: Path) -> None:
    done = cli("ingest", few, "extractor=colour")
    assert len(done.out.splitlines()) == 1
    assert "new" in (done.runs()[-1] / "imgrec.log").read_text()
    query = few / "china" / "china-0-0.jpg"
    paths = cli("recommend", query, "format=paths", "k=4").out.splitlines()
    assert len(paths) == 4
    assert all(Path(path).is_file() for path in paths)
    lines = cli("recommend", query, "k=2").out.splitlines()
    assert lines[0].split() == ["rank", "distance", "path"]
    assert len(lines) == 3


def test_a_query_outside_the_gallery_and_include_self(cli: Cli, few: Path, tmp_path: Path) -> None:
    cli("ingest", few)
    inside = few / "china" / "china-0-0.jpg"
    copy = tmp_path / "elsewhere.jpg"
    copy.write_bytes(inside.read_bytes())
    excluded = cli("recommend", copy, "format=json").json()["matches"]
    assert str(inside) not in {match["path"] for match in excluded}
    included = cli("recommend", copy, "format=json", "include_self=true").json()["matches"]
    assert (included[0]["path"], included[0]["distance"]) == (str(inside), 0)
    other = tmp_path / "outside.png"
    PIL.Image.open(inside).resize((70, 70)).save(other)
    assert cli("recommend", other, "format=json").json()["matches"][0]["label"] == "china"


def test_several_spaces_and_the_recorded_extractor(cli: Cli, few: Path) -> None:
    cli("ingest", few, "extractor=colour", "extractor.bins=3")
    query = few / "china" / "china-0-0.jpg"
    alone = cli("recommend", query, "format=json").json()
    assert alone["space"].startswith("colour-")
    assert "2 spaces" not in cli("info").out
    cli("ingest", few, "extractor=colour", "extractor.colour_space=hsv")
    assert cli("recommend", query, "format=json").json() == alone  # by the first one
    both = cli("recommend", query, "space=colour", code=2)
    assert "several spaces" in both.err
    assert "bins=3" in both.err
    assert "colour_space=hsv" in both.err
    assert both.err.count("\n") == 1
    chosen = cli("recommend", query, "format=json", "extractor=colour", "extractor.bins=3").json()
    assert chosen == alone
    assert cli("recommend", query, "format=json", f"space={alone['space'][:12]}").json() == alone
    # Without an extractor, ingest brings every space of the gallery up to date.
    PIL.Image.open(query).rotate(90).save(few / "china" / "more.jpg")
    assert "1 new, 12 unchanged, 0 moved, 0 missing, 0 failed, 2 extracted" in cli("ingest", few).out


@pytest.mark.parametrize(
    "name", ["a b.jpg", "a,b.jpg", "a=b.jpg", "[a].jpg", "it's.jpg", 'q"q.jpg', "Käse 山.jpg", "#&{}.jpg", "null",
             "${x}.jpg", "a\\b.jpg", "back\\'s.jpg", "(1).jpg", "~tilde.jpg", "+plus.jpg",
     "return\r.jpg", "line\n.jpg"],
)  # fmt: skip
def test_odd_names_work_as_source_and_as_query(cli: Cli, few: Path, name: str) -> None:
    odd = few.parent / f"odd {name}"
    odd.mkdir()
    for file in sorted(few.rglob("*.jpg"))[:3]:
        file.rename(odd / file.name)
    sorted(odd.iterdir())[0].rename(few.parent / name)
    assert "1 new" in cli("ingest", name).out
    assert "2 new" in cli("+stage=ingest", f"source={odd.name}").out
    for words in (["recommend", name], ["+stage=recommend", f"query={name}"]):
        result = cli(*words, "format=json", "include_self=true").json()
        assert result["query"] == str(few.parent / name)
        assert result["matches"][0]["path"] == str(few.parent / name)


def test_a_path_with_spaces_that_lacks_its_quotes(cli: Cli, few: Path, tmp_path: Path) -> None:
    few.rename(tmp_path / "my own photos")
    for words in (["ingest"], ["replay"]):
        done = cli(*words, "my", "own", "photos", code=2)
        assert done.err.splitlines() == ["imgrec: 'my own photos' is one path: write it in quotes"]


def test_a_list_of_sources(cli: Cli, few: Path) -> None:
    (few / "china").rename(few / "china, old")
    assert "12 new" in cli("+stage=ingest", f"source=['{few}/china, old',{few}/flower]").out
    assert "12 unchanged" in cli("ingest", few / "china, old", few / "flower").out


def test_no_stage_lists_the_stages(cli: Cli, tmp_path: Path) -> None:
    done = cli(code=2)
    for stage in ("ingest", "recommend", "visualise", "info", "plugins", "restore"):
        assert re.search(rf"^  {stage} +\w", done.err, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_help_of_a_choice(cli: Cli, tmp_path: Path) -> None:
    colour = cli("--help", "extractor=colour").out
    assert colour.startswith("extractor=colour: Colour histogram: ")
    assert re.search(r"^    extractor.bins=5 +\w", colour, re.MULTILINE)
    several = cli("extractor=colour,hog", "store=csv", "-h").out
    assert re.findall(r"^(\w+=\w+): ", several, re.MULTILINE) == ["extractor=colour", "extractor=hog", "store=csv"]
    assert re.search(r"^    projection.n_components=128 ", cli("--help", "projection=pca").out, re.MULTILINE)
    assert re.search(r"^    backup.path=\.\.\. +beside the store: ", cli("--help", "backup=csv").out, re.MULTILINE)
    projection = cli("--help", "projection=lda,pca").out  # its columns are aligned, whatever the group's defaults
    assert len(set(re.findall(r"^(    projection\.\S+ +)", projection, re.MULTILINE))) > 4
    assert len({len(each) for each in re.findall(r"^(    projection\.\S+ +)", projection, re.MULTILINE)}) == 1
    preset = cli("--help", "extractor=resnet18").out
    assert preset.startswith("extractor=resnet18: ResNet-18, 512 values.\n  a preset of extractor=timm: Any model")
    assert re.search(r"^    extractor.model=resnet18.a1_in1k +name, ", preset, re.MULTILINE)
    fusion = cli("--help", "extractor=handcrafted").out
    assert "extractor.projected_from=128 " in fusion
    assert "extractor.weights={hog: 0.75, colour: 0.25} " in fusion
    assert cli("--help", "rerank=none").out == "rerank=none: without\n"
    assert cli("--help", "metric=chi2").out.startswith("metric=chi2: The chi-squared distance")
    assert cli("--help", "decoder=heif").out.startswith("decoder=heif: HEIC and HEIF")
    assert "there is no extractor 'nosuch'" in cli("ingest", "--help", "extractor=nosuch", code=2).err
    told = cli("--help", "extractor=colr", code=2).err
    assert "there is no extractor 'colr' (did you mean colour?): there are clip, clip_vit_b32, colour, " in told
    (tmp_path / "mine" / "extractor").mkdir(parents=True)
    (tmp_path / "mine" / "extractor" / "coarse.yaml").write_text("defaults: [colour, _self_]\nbins: 2\n")
    (tmp_path / "mine" / "extractor" / "mostly.yaml").write_text(
        "defaults: [handcrafted, _self_]\nweights: {hog: 9}\n"
    )
    assert "weights={hog: 9, colour: 0.25}" in cli("--help", "extractor=mostly", "--config-dir", "mine").out
    (tmp_path / "mine" / "extractor" / "listed.yaml").write_text("[colour]\n")
    listed = cli("--help", "extractor=listed", "--config-dir", "mine", code=None)
    assert "Traceback" not in listed.err
    assert "extractor=colour: " in cli("ingest", "--help", "--config-dir", "mine").out
    assert "extractor.bins=2 " in cli("--help", "extractor=coarse", "--config-dir", "mine").out


def test_every_choice_of_every_group_has_help() -> None:
    for group in GROUPS:
        for name in presets.choices(group):
            assert help.text(None, words=[f"{group}={name}"]).startswith(f"{group}={name}: ")


def test_help_of_everything_and_of_a_stage(cli: Cli, tmp_path: Path) -> None:
    general = cli("--help").out
    assert "extractor=clip|clip_vit_b32|colour|dinov2_small" in general
    pages = re.findall(r"\S+\.md", general)
    assert pages == ["README.md", "conf/README.md", "plugins/README.md", "imgrec/README.md"]
    assert all((Path(__file__).parent.parent / page).exists() for page in pages)
    assert cli("new_plugin", "--help").out.endswith("\n\nTo read on, in the repository: plugins/README.md\n")
    stage = cli("+stage=visualise", "--help").out
    for option in (
        "reducer.perplexity=30.0",
        "highlight=null",
        "sample=null",
        "store.path=outputs/gallery.sqlite",
    ):
        assert option in stage
    assert stage.endswith("\n\nTo read on, in the repository: conf/README.md\n")
    assert "extractor=hog:" not in cli("ingest", "--help", "extractor=resnet18").out
    every = cli("recommend", "--help").out
    assert "\n  extractor=mobilenetv2: MobileNet v2, 1,280 values. (a preset of timm)\n" in every
    assert re.search(r"^  smoothing=neighbours: .*\(a preset of query_expansion\)$", every, re.MULTILINE)
    assert cli("--version").out == "imgrec 0.1.0\n"
    assert list(tmp_path.iterdir()) == []


def test_the_console_script_is_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("imgrec")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "imgrec 0.1.0\n"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery, and what can be wrong beside it. What leaves nothing may share it."""
    base = tmp_path_factory.mktemp("prepared")
    tiles.cut(base / "few", columns=3, rows=2)
    subprocess.run(
        [sys.executable, "-m", "imgrec", "ingest", "few", "extractor=colour", "hydra.run.dir=first"],
        cwd=base,
        check=True,
    )
    (base / "empty").mkdir()
    (base / "text.jpg").write_text("no image")
    (base / "text.sqlite").write_text("no database")
    return base


BAD = [
    ("recommend", "recommend needs query="),
    ("recommend nofile.jpg", "'nofile.jpg' does not exist"),
    ("recommend few", "is a folder"),
    ("recommend text.jpg", "cannot be read: not an image"),
    ("recommend {q} store.path=no.sqlite", "there is no gallery at /.*/no.sqlite"),
    ("recommend {q} store.path=text.sqlite", "not an imgrec store"),
    ("recommend {q} store=csv store.path=few", "not an imgrec store"),
    ("ingest", "ingest needs source="),
    ("ingest nowhere", "'nowhere' does not exist"),
    ("ingest empty", "no images in"),
    ("ingest few store.path=text.sqlite", "not an imgrec store"),
    ("ingest few store=csv store.path=few", "not an imgrec store"),
    ("recommend {q} k=0", "at least 1, not 0"),
    ("recommend {q} k=abc", "k=abc"),
    ("recommend {q} kk=3", "did you mean k\\?"),
    ("recommend {q} +foo=3", "no option 'foo'"),
    ("recommend {q} metric=euklid", "one of chi2, cosine"),
    ("recommend {q} extractor=foo", "available are .*colour.*timm"),
    ("recommend {q} extractor=colour extractor.bins=4", "no vectors of .*bins=4.*it has colour-"),
    ("recommend {q} extractor.bins=4", "bins was 5 and is 4"),
    ("recommend {q} extractor.bin=4", "did you mean bins\\?"),
    ("recommend {q} extractor=colour extractor.bin=4", "did you mean bins\\?"),
    ("recommend {q} space=foo", "no space 'foo'; it has colour-"),
    ("recommend {q} space=foo extractor=colour", "space=foo and extractor= are not of one space, colour-"),
    ("recommend a.jpg b.jpg", "query 'a.jpg' does not exist"),
    ("replay a b", "takes one value for run=, and these are 2: a b"),
    ("recommend {q} debug=maybe", "debug=maybe"),
    ("recommend {q} k=[", "not understood"),
    ("recommend {q} hydra.run.dir=text.jpg", "folder cannot be made"),
    ("recommend {q} hydra.run.dir=text.jpg/sub", "folder cannot be made"),
    ("ingest few reducer=pca", "no option 'reducer'"),
    ("ingest few extractor.bins=0", "at least 1"),
    ("visualise reducer=foo", "available are lda, logistic, pca, tsne, umap"),
    ("visualise reducer=pca reducer.n_components=3", "2 dimensions"),
    ("visualise highlight=*/foo/*", "matches none.*pattern of whole paths"),
    ("recommend {q} -k 3", "no flag -k: options are written k="),
    ("recommend {q} --k=3", "options are written k=3"),
    ("recommend {q} metric=cosine,euclidean", "several values want -m"),
    ("ingest few store=csv backup=csv store.path=new backup.path=./new", "store and backup are both"),
    ("visualise reducer=pca sample=1", "needs as many images"),
    ("restore", "choose a backup"),
    ("restore backup=csv", "there is no backup at"),
    ("foo", "no stage 'foo'"),
    ("ingest source=", "source is empty"),
    ("ingest source=null", "source"),
    ("ingest source=[few,null]", "source"),
    ("ingest few extractor=null", "cannot be null"),
    ("recommend {q} ~store", "recommend needs store="),
    ("visualise reducer=pca seed=5000000000", "at most 4294967295"),
    ("visualise reducer.perplexity=nan", "finite number"),
    ("visualise reducer.n_jobs=0", "number of threads"),
    ("visualise reducer.landmarks=14", "at least 15, not 14"),
    ("ingest few extractor=colour extractor.bins=2000", "at most 256"),
    ("recommend " + 300 * "x" + ".jpg", "does not exist"),
    ("recommend nofile.jpg hydra.run.dir=few", "does not exist"),
    ("recommend nofile.jpg hydra.run.dir=.", "does not exist"),
    ("recommend nofile.jpg hydra.run.dir=outputs", "does not exist"),
    ("ingest few backup=csv backup.path=text.jpg store.path=other.sqlite", "not an imgrec store|cannot be made"),
    ("stage=recomend", "did you mean recommend\\?"),
]


@pytest.mark.parametrize(("command", "message"), BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(cli: Cli, prepared: Path, command: str, message: str) -> None:
    _refused(cli, prepared, command, message)


def test_an_option_that_timm_does_not_take_gets_one_line(cli: Cli, prepared: Path) -> None:
    pytest.importorskip("timm")
    command = "ingest few extractor=timm extractor.model=x +extractor.model_kwargs.cache_dir=few"
    _refused(cli, prepared, command, "cache_dir is not taken")


def _refused(cli: Cli, prepared: Path, command: str, message: str) -> None:
    before = sorted(prepared.rglob("*"))
    done = cli(*command.format(q="few/china/china-0-0.jpg").split(), code=2, cwd=prepared)
    assert re.search(message, done.err), done.err
    assert re.fullmatch(r"imgrec: .*\n", done.err), done.err
    assert done.out == ""
    assert sorted(prepared.rglob("*")) == before


def test_more_neighbours_than_images_is_a_warning(cli: Cli, few: Path) -> None:
    cli("ingest", few)
    done = cli("recommend", few / "china" / "china-0-0.jpg", "k=100", "format=paths")
    assert len(done.out.splitlines()) == 11
    assert "only 11 images" in done.err


def test_a_run_that_fails_leaves_its_folder_with_the_error(cli: Cli, few: Path) -> None:
    for file in few.rglob("*.jpg"):
        file.write_text("broken")
    done = cli("ingest", few, code=1)
    assert "none of the 12 files" in done.err
    assert done.err.splitlines()[-1].startswith("imgrec: ")
    record = done.record()
    assert record["status"] == "failed"
    assert "none of the 12 files" in record["error"]


def test_debug_shows_the_traceback(cli: Cli, tmp_path: Path) -> None:
    for word in ("debug=true", "debug=True", "debug=yes"):
        assert "Traceback" in cli("recommend", "nofile.jpg", word, code=2).err


def test_a_sweep_runs_every_job_and_a_failing_one_is_told_at_the_end(cli: Cli, few: Path) -> None:
    cli("ingest", few)
    query = few / "china" / "china-0-0.jpg"
    done = cli("-m", "recommend", query, "k=2", "space=hog,nonsense,colour", code=1)
    assert done.out.count("rank") == 2
    assert "no space 'nonsense'" in done.err
    records = [json.loads(file.read_text()) for file in sorted(done.cwd.glob("outputs/sweeps/*/*/*/run.json"))]
    assert [record["status"] for record in records] == ["done", "failed", "done"]


def test_a_sweep_over_queries_and_a_comma_in_a_name(cli: Cli, few: Path) -> None:
    cli("ingest", few)
    first, second = few / "china" / "china-0-0.jpg", few / "flower" / "flower-0-0.jpg"
    assert cli("-m", "+stage=recommend", f"query={first},{second}", "k=1").out.count("rank") == 2
    comma = few.parent / "a,b.jpg"
    first.rename(comma)
    assert cli("-m", "+stage=recommend", f"query={comma}", "k=1,2").out.count("rank") == 2


def test_two_runs_at_once(cli: Cli, few: Path) -> None:
    words = [sys.executable, "-m", "imgrec", "ingest", str(few)]
    both = [subprocess.Popen(words, cwd=few.parent, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert "12 images, 12 contents" in cli("info").out
    for process in both:
        assert process.stdout is not None
        process.stdout.close()


def test_ctrl_c_keeps_what_was_done_and_the_next_run_goes_on(cli: Cli, tmp_path: Path) -> None:
    photographs = tmp_path / "many"
    photographs.mkdir()
    for i in range(3000):
        PIL.Image.new("RGB", (500, 500), (i % 256, i // 256, 0)).save(photographs / f"{i:04}.jpg")
    words = [sys.executable, "-m", "imgrec", "ingest", str(photographs), "batch_size=8"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "outputs" / "gallery.sqlite-wal"
    while process.poll() is None and not (log.exists() and log.stat().st_size > 2_000_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert time.monotonic() - asked < 5
    assert "interrupted" in err
    assert "Traceback" not in err
    new = int(re.search(r"([\d,]+) new", out)[1].replace(",", ""))  # type: ignore[index]
    assert 0 < new < 3000
    again = re.search(r"([\d,]+) new, ([\d,]+) unchanged", cli("ingest", photographs).out)
    assert again is not None
    kept = int(again[2].replace(",", ""))
    assert new <= kept <= new + 8  # the batch in flight may have been written, and not counted yet
    assert int(again[1].replace(",", "")) == 3000 - kept
    assert cli("ingest", photographs).out.endswith(
        "0 new, 3,000 unchanged, 0 moved, 0 missing, 0 failed, 0 extracted\n"
    )
    assert json.loads((cli("info").runs()[0] / "run.json").read_text())["status"] == "interrupted"


def test_output_to_a_reader_that_has_seen_enough(few: Path, cli: Cli) -> None:
    cli("ingest", few)
    command = f"{shlex.quote(sys.executable)} -m imgrec plugins format=json | head -c 1"
    done = subprocess.run(command, shell=True, cwd=few.parent, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[", "")
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m imgrec info | true"
    done = subprocess.run(["bash", "-c", command], cwd=few.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
