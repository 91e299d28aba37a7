"""Commands that install what is missing fit how the distribution concerned was installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import imgrec
from conftest import Cli, build_wheel
from imgrec import installation

ROOT = Path(__file__).parent.parent

METADATA = """Metadata-Version: 2.1
Name: imgrec-foo
Version: 1.0
Provides-Extra: faiss
Requires-Dist: numpy>=2.0
Requires-Dist: faiss-cpu>=1.8; extra == "faiss"
Requires-Dist: zstandard ; python_version > "3" and extra == 'faiss'
Requires-Dist: pytest; extra == "test"
"""


@pytest.fixture(autouse=True)
def pip_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


def installed(site: Path, monkeypatch: pytest.MonkeyPatch, origin: object, installer: str = "pip") -> None:
    """A distribution with the extra `faiss`, as an installer leaves it."""
    folder = site / "imgrec_foo-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(METADATA)
    (folder / "INSTALLER").write_text(f"{installer}\n")
    if origin is not None:
        (folder / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))
    monkeypatch.syspath_prepend(site)


GIT = {"vcs": "git", "commit_id": "9c1c2ca"}
LIBRARIES = "faiss-cpu>=1.8' zstandard (it is not known where imgrec-foo was installed from)"

ORIGINS: list[tuple[str, Any, str]] = [  # of the examples in PEP 610, where it has one
    ("pip", None, "'imgrec-foo[faiss]'"),
    ("uv", None, "'imgrec-foo[faiss]'"),
    ("conda", None, f"'{LIBRARIES}"),
    ("", None, f"'{LIBRARIES}"),
    ("pip", {"url": "URL", "dir_info": {"editable": True}}, "-e 'FOLDER[faiss]'"),
    ("pip", {"url": "URL", "dir_info": {}}, "'FOLDER[faiss]'"),
    ("pip", {"url": "URL/foo-1.0.zip", "archive_info": {}}, "'FOLDER/foo-1.0.zip[faiss]'"),
    ("pip", {"url": "URL/gone", "dir_info": {}}, f"'{LIBRARIES}"),
    ("pip", {"url": "URL/gone.whl", "archive_info": {}}, f"'{LIBRARIES}"),
    ("pip", {"url": "URL", "vcs_info": GIT}, "'imgrec-foo[faiss] @ git+URL@9c1c2ca'"),
    (
        "pip",
        {"url": "https://a.org/b.git", "vcs_info": GIT},
        "'imgrec-foo[faiss] @ git+https://a.org/b.git@9c1c2ca'",
    ),
    (
        "pip",
        {"url": "ssh://git@a.org/b.git", "vcs_info": {**GIT, "requested_revision": "main"}, "subdirectory": "c"},
        "'imgrec-foo[faiss] @ git+ssh://git@a.org/b.git@9c1c2ca#subdirectory=c'",
    ),
    ("pip", {"url": "https://a.org/b.whl", "archive_info": {}}, "'imgrec-foo[faiss] @ https://a.org/b.whl'"),
    ("uv", {"url": "URL", "dir_info": {"editable": True}}, "-e 'FOLDER[faiss]'"),
    ("pip", "{", f"'{LIBRARIES}"),
    ("pip", [1], f"'{LIBRARIES}"),
    ("pip", {"url": 3}, f"'{LIBRARIES}"),
    ("pip", {"url": "https://a.org/b.git", "vcs_info": {"vcs": "git"}}, f"'{LIBRARIES}"),
]


@pytest.mark.parametrize(("installer", "origin", "expected"), ORIGINS)
def test_an_extra_comes_from_where_its_distribution_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str, origin: Any, expected: str
) -> None:
    folder = tmp_path / "im grec ü"
    folder.mkdir()
    (folder / "foo-1.0.zip").touch()
    if isinstance(origin, dict):
        origin = json.loads(json.dumps(origin).replace("URL", folder.as_uri()))
    installed(tmp_path / "site", monkeypatch, origin, installer)
    expected = expected.replace("FOLDER", str(folder)).replace("URL", folder.as_uri())
    assert imgrec.install_command("imgrec-foo[faiss]") == f"pip install {expected}"


def test_libraries_and_whole_commands() -> None:
    assert imgrec.install_command("openTSNE") == "pip install openTSNE"
    assert imgrec.install_command("faiss-cpu>=1.8") == "pip install 'faiss-cpu>=1.8'"
    assert imgrec.install_command("notthere[extra]") == "pip install 'notthere[extra]'"
    assert imgrec.install_command("conda install faiss") == "conda install faiss"


def test_the_command_installs_into_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installation.pip_install() == "pip install"
    monkeypatch.setenv("PATH", str(tmp_path))  # as where an environment is not activated
    assert installation.pip_install() == f"{shlex.quote(sys.executable)} -m pip install"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as in an environment made by uv
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert installation.pip_install() == f"uv pip install --python {shlex.quote(sys.executable)}"
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert installation.pip_install() == "uv pip install"


@pytest.mark.parametrize("way", ["folder", "wheel", "repository"])
def test_pip_takes_the_command(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """What pip itself records of a plugin's installation leads to a command that pip carries out."""
    project = tmp_path / "plug in ü"
    shutil.copytree(
        ROOT / "tests" / "thirdparty" / "metric", project, ignore=shutil.ignore_patterns("__pycache__")
    )
    given = str(project)
    if way == "wheel":
        given = str(build_wheel(project, tmp_path / "wheels"))
    elif way == "repository":
        if tuple(map(int, importlib.metadata.version("pip").split(".")[:2])) < (24, 1):
            pytest.skip("this pip takes no repository of this machine in a requirement, only those with a host")
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "metric"]):
            subprocess.run([*git, *words], cwd=project, check=True)
        given = f"git+{project.as_uri()}"
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(site), given]
    subprocess.run(pip, check=True)
    monkeypatch.syspath_prepend(site)
    command = imgrec.install_command("imgrec-canberra[test]")
    done = subprocess.run(
        ["bash", "-c", f"{command} --dry-run --ignore-installed {' '.join(offline)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert "Would install imgrec-canberra" in done.stdout


def test_no_message_has_a_command_of_its_own() -> None:
    """imgrec is on no index, and its name could be taken there: all hints are made by `install_command`."""
    found = {
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for folder in ("imgrec", "plugins", "conf")
        for file in sorted((ROOT / folder).rglob("*.*"))
        if file.suffix in (".py", ".yaml", ".md") and file.name != "installation.py"
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install\b(?! -e )", line)
    }
    prose = "plugins/README.md: it is there after `pip install`: "
    assert [line for line in found if not line.startswith(prose)] == []
