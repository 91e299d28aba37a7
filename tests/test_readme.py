"""What the README shows works as it stands there."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Cli
from test_registry import install

README = (Path(__file__).parent.parent / "README.md").read_text()


def example(beginning: str) -> str:
    """The Python block that begins so."""
    (found,) = (
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if block.startswith(beginning)
    )
    return str(found)


def test_the_plugin_in_twenty_lines(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = example("from dataclasses")
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    env = install(tmp_path / "site", "imgrec_grey", code)
    cli("ingest", few, "extractor=grey", "extractor.power=2", env=env)
    assert "power=2.0" in cli("info", env=env).out
    test = example("import imgrec\nfrom imgrec.testing").replace("foo", "grey")
    (tmp_path / "test_grey.py").write_text(test)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_grey.py"], cwd=tmp_path, env={**os.environ, **env}, check=True
    )
    cli("recommend", few / "china" / "china-0-0.jpg", env=env)


def test_the_python_example(few: Path, tmp_path: Path) -> None:
    (few / "china" / "china-0-0.jpg").rename(tmp_path / "img.jpg")
    for name in ("a", "b"):
        shutil.copy(few / "china" / "china-0-1.jpg", tmp_path / f"{name}.jpg")
    (few / "flower").rename(few / "hat")
    few.rename(tmp_path / "photos")
    code = example("import imgrec\n\n").replace('"timm", model="resnet18"', '"colour"')
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("11 new")
    assert [line.split()[0] for line in lines[1:6]] == ["1", "2", "3", "4", "5"]
    shares = ast.literal_eval(lines[6])
    assert shares.keys() == {"colour", "resnet"}
    assert sum(shares.values()) == pytest.approx(1)
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert "hat" in lines[7]


def test_every_command_of_the_shell_section_is_accepted(cli: Cli, few: Path, tmp_path: Path) -> None:
    """As written, but for the extractors that want torch or the network."""
    (few / "china" / "china-0-0.jpg").rename(tmp_path / "img.jpg")
    (few / "flower").rename(few / "hat")
    few.rename(tmp_path / "photos")
    for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL):
        file = tmp_path / re.findall(r"^# (mine/.*)$", text, re.MULTILINE)[0]
        file.parent.mkdir(parents=True)
        file.write_text(text)
    section = README[README.index("## From the shell") : README.index("## From Python")]
    section = section.replace("\\\n", "")
    commands = re.findall(r"^ {4}(?:python -m )?imgrec (.+?)(?: +#.*)?$", section, re.MULTILINE)
    assert len(commands) >= 9
    for command in commands:
        words = shlex.split(re.sub(r" extractor=mobilenet\b", "", command).replace("mobilenetv1", "hog"))
        if "RUN" in words:
            recommended = next(run for run in cli("--version").runs() if run.name.endswith("-recommend"))
            words = [str(recommended) if word == "RUN" else word for word in words]
        cli(*[word.replace("reducer=umap", "reducer=pca") for word in words])


def test_the_tables_of_speed_are_the_committed_measurements() -> None:
    from benchmarks.__main__ import RESULTS, markdown

    told = RESULTS.with_suffix(".md").read_text()
    assert told == markdown()
    assert told in README
