"""What the READMEs show works as it stands there: every command, every Python block, every link."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import Cli
from test_registry import install

ROOT = Path(__file__).parent.parent

PAGES = ("README.md", "conf", "imgrec", "plugins", "tests", "tests/benchmarks")
"""The READMEs: the first one, and those of folders."""

NOT_RUN = {
    "git clone ": "there is no address to clone from",
    "cd imgrec": "the checkout is this one",
    "make ": "the targets of the Makefile take minutes; CI runs them",
    "source .venv/bin/activate": "what Makefile makes; the tests run in it",
    "imgrec ingest photos extractor=mobilenetv2 extractor.checkpoint=": "test_timm.py does, on weights at hand",
    "imgrec ingest photos extractor=clip ": "its weights are on the network; test_clip.py does, on a small model",
    "imgrec recommend 'text=": "the same",
    "imgrec recommend coat.jpg 'text=": "the same",
    "imgrec ingest photos engine=ray": "test_ray.py does, on a cluster of its own and on one that is there",
    "imgrec -m evaluate photos --config-dir mine hydra/launcher=": "test_sweep.py does, by each launcher",
    "$ imgrec -m evaluate clothing ": "pictures.py does",
    "imgrec ingest s3://bucket/photos engine=ray": "test_ray.py does, from a bucket of a server that runs here",
    "imgrec recommend img.jpg store=lance store.path=s3://": "the same",
    "imgrec ingest 's3://": "there is no such bucket; test_remote.py has one",
    "imgrec evaluate labels=.cls": "the same; test_tar.py does",
    "imgrec ingest photos store=lance store.path=s3:": "there is no such bucket; test_lance.py has one",
    "export IMGREC_STORE=lance:": "the same",
    "imgrec explore": "it goes on; test_serving.py starts it",
    "curl ": "test_serving.py asks a server",
    "SPACE=$(curl ": "the same",
    "until curl ": "the same",
}
"""How commands begin that are not run here, and why."""

SUBSTITUTES = {
    "pip install -e 'imgrec-foo[test]'": (
        "pip install --quiet --no-index --no-deps --no-build-isolation --target site ./imgrec-foo"
    ),
    "pytest imgrec-foo": "python -m pytest imgrec-foo",  # it may be of another Python than this one
    "mobilenetv1": "hog",  # these want weights from the network
    "mobilenetv2": "hog",
    "reducer=umap": "reducer=pca",  # slow to begin with
    "reducer=tsne,umap": "reducer=lda,pca",
    "n_components=64": "n_components=8",  # of twelve images
    "n_components=32,64": "n_components=2,4",
    "n_trials=20": "n_trials=2",
    "sample=20000": "sample=10",
    "plan 100000000": "plan 100000000 vectors=1000",
}
"""What stands in for what takes too much here."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Of a few points, threads that wait for each other take most of the time."""


def page(name: str) -> Path:
    return ROOT / name if name.endswith(".md") else ROOT / name / "README.md"


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a page that are of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name).read_text(), re.DOTALL | re.MULTILINE)


def commands(name: str) -> list[str]:
    """Every command that a page shows: in its shell blocks, and after a prompt."""
    shown = "".join(blocks(name, "sh")).replace("\\\n", " ").splitlines()
    prompted = re.findall(r"^    (\$ .+)$", page(name).read_text(), re.MULTILINE)
    return [line for line in (*shown, *prompted) if line.strip()]


def python(name: str, beginning: str) -> str:
    """The Python block of a page that begins so."""
    (found,) = (block for block in blocks(name, "python") if block.startswith(beginning))
    return found


@pytest.fixture
def folder(few: Path, tmp_path: Path) -> Path:
    """A folder that has what the examples name: `photos` of `china` and `hat`, a picture, others."""
    (few / "flower").rename(few / "hat")
    (few / "china" / "china-0-0.jpg").rename(tmp_path / "img.jpg")
    for name in ("a", "b", "c"):
        shutil.copy(few / "china" / "china-0-1.jpg", tmp_path / f"{name}.jpg")
    shutil.copytree(few, tmp_path / "others")
    few.rename(tmp_path / "photos")
    return tmp_path


def as_run(command: str, folder: Path) -> str:
    """A command as it stands, but for what would take too much here, and with a run's folder for RUN."""
    line = re.sub(r" +#.*", "", command)
    for shown, run in SUBSTITUTES.items():
        line = line.replace(shown, run)
    if "imgrec visualise" in line and "reducer" not in line:
        line += " reducer.n_jobs=1"
    if re.search(r"\bRUN\b", line):
        recommended = max(folder.glob("outputs/2*/*-recommend"))
        line = re.sub(r"\bRUN\b", shlex.quote(str(recommended.relative_to(folder))), line)
    return line


def words_of(line: str) -> list[str] | None:
    """The arguments of a command that is `imgrec` alone, if a shell would do nothing but split them."""
    return shlex.split(line)[1:] if re.fullmatch(r"imgrec [^$`~*?|&;<>]+", line) else None


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_run(cli: Cli, folder: Path, name: str) -> None:
    """In the order of the page, by bash, in one folder; of the longest page those that need no shell by `cli`."""
    for text in blocks(name, "yaml"):
        file = folder / re.findall(r"^# (mine/.*)$", text, re.MULTILINE)[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "mymodel.py").write_text(python("README.md", "from dataclasses"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, **ONE_THREAD, "PATH": path, "PYTHONPATH": str(folder / "site")}
    for command in commands(name):
        if command.startswith(tuple(NOT_RUN)):
            continue
        line = as_run(command, folder)
        if name == "conf" and (words := words_of(line)):
            cli(*words, env=env)
            continue
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_what_is_not_run_is_still_there() -> None:
    shown = "\n".join(line for name in PAGES for line in commands(name))
    assert [each for each in (*NOT_RUN, *SUBSTITUTES) if each not in shown] == []


def test_every_python_block_is_run() -> None:
    """Each is one of those below."""
    assert {name: len(blocks(name, "python")) for name in PAGES} == {
        "README.md": 2,
        "conf": 0,
        "imgrec": 3,
        "plugins": 2,
        "tests": 0,
        "tests/benchmarks": 0,
    }


def test_the_plugin_in_twenty_lines(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = python("README.md", "from dataclasses")
    assert code == python("plugins", "from dataclasses")
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    env = install(tmp_path / "site", "imgrec_grey", code)
    cli("ingest", few, "extractor=grey", "extractor.power=2", env=env)
    assert "power=2.0" in cli("info", env=env).out
    (tmp_path / "test_grey.py").write_text(python("plugins", "import imgrec").replace("foo", "grey"))
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_grey.py"], cwd=tmp_path, env={**os.environ, **env}, check=True
    )
    cli("recommend", few / "china" / "china-0-0.jpg", env=env)


def told(code: str, folder: Path) -> list[str]:
    """The lines that a Python example prints."""
    code = code.replace('"tsne"', '"tsne", n_jobs=1')
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_python_example(folder: Path) -> None:
    lines = told(python("README.md", "import imgrec"), folder)
    assert lines[0].startswith("11 new")
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]
    assert (folder / "map.png").stat().st_size > 10_000


def test_the_longer_python_example(folder: Path) -> None:
    """Without the network: `colour` in the place of a neural extractor."""
    lines = told(
        python("imgrec", "import imgrec\n\nextractor").replace('"timm", model="resnet18"', '"colour"'), folder
    )
    assert lines[0].startswith("11 new")
    assert [line.split()[0] for line in lines[1:6]] == ["1", "2", "3", "4", "5"]
    shares = ast.literal_eval(lines[6])
    assert shares.keys() == {"colour", "resnet"}
    assert sum(shares.values()) == pytest.approx(1)
    assert (folder / "map.png").stat().st_size > 10_000
    assert 0 < float(lines[7]) <= 1
    assert "hat" in lines[8]
    (line,) = told(python("imgrec", "import imgrec\n\ngallery"), folder)
    assert line.startswith("6 {'hat'} ")
    assert line.endswith("<Map of 6 images with 1 labels>")
    if importlib.util.find_spec("pyarrow"):
        block = python("imgrec", "import json")
        before = "import imgrec; store = imgrec.build('store', 'sqlite', path='gallery.sqlite')\n"
        assert "colour" in told(before + block, folder)[-1]


def test_the_first_page_is_short_and_shows_its_pictures() -> None:
    assert page("README.md").stat().st_size <= 8_192
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", page("README.md").read_text())
    files = {ROOT / target for _, target in shown}
    assert all(len(alt) > 20 for alt, _ in shown)
    assert files == set((ROOT / ".github").glob("*.webp"))
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) <= 400_000


def test_the_first_page_lists_all_extras() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    listed = re.findall(r"^\| `'\.\[(\w+)\]'` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(extras.keys() - {"dev"})


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    text = page(name).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        assert "://" not in target, target
        to = page(name).parent / path if path else page(name)
        assert to.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", to.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}, target


def test_the_tables_of_speed_are_the_committed_measurements() -> None:
    from benchmarks.__main__ import RESULTS, markdown

    kept = RESULTS.with_suffix(".md").read_text()
    assert kept == markdown()
    assert kept in page("tests/benchmarks").read_text()
