"""Without its dependencies."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from imgrec import requirements

ROOT = Path(__file__).parent.parent


def test_they_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split("[<>=~! ;]", each)[0] for each in project["dependencies"]}
    assert set(requirements.NEEDED) == declared
    oldest = ".".join(map(str, requirements.OLDEST))
    assert project["requires-python"] == f">={oldest}"


def test_python_without_them_says_so_in_a_line(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    for words in (["--version"], ["ingest", "photos"], []):
        done = subprocess.run(
            [str(python), "-m", "imgrec", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"imgrec: {python} lacks hydra-core, omegaconf, pluggy, ...: take ")
        assert f"{python} -m pip install -e {ROOT}\n" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    imported = subprocess.run(
        [str(python), "-c", "import imgrec"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError" in imported.stderr  # from Python it is Python's own error


def test_one_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(requirements.NEEDED, "foo-bar", "foo_bar_of_nobody")
    assert (requirements.problem() or "").startswith(f"{sys.executable} lacks foo-bar: ")
    monkeypatch.setattr(requirements, "OLDEST", (4, 0))
    assert (requirements.problem() or "").startswith("imgrec needs Python 4.0 or newer, and this is 3.")


@pytest.mark.parametrize(("photos", "told"), [("nowhere", "does not exist"), ("", "there are no pictures")])
def test_a_demo_of_no_pictures_is_a_line(tmp_path: Path, photos: str, told: str) -> None:
    folder = tmp_path / photos
    done = subprocess.run(
        ["bash", "tests/demo.sh"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PHOTOS": str(folder), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("make demo: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
