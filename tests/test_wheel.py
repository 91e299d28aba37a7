"""The wheel holds all that a run needs, and nothing of the tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from conftest import Cli

ROOT = Path(__file__).parent.parent


STRAYS = """
conf/.env conf/config.yaml~ conf/stage/.ingest.yaml.swp conf/stage/ingest.yaml.bak conf/notes.txt
build/lib/imgrec/__init__.py imgrec/build/lib/old.py imgrec.egg-info/PKG-INFO plugins/imgrec.egg-info/PKG-INFO
.env secrets.yaml imgrec/__pycache__/x.pyc imgrec/cli/main.py~ imgrec/cli/.#main.py imgrec/cli/main.py.orig
imgrec/.DS_Store imgrec/.ipynb_checkpoints/x.py plugins/notes.md plugins/mine.py plugins/imgrec_hog.py~
plugins/imgrec_timm/weights.safetensors plugins/imgrec_timm/.env plugins/imgrec_timm/tests/test_x.py
tests/thirdparty/notes.txt tests/thirdparty/extractor/.env tests/thirdparty/extractor/scratch.py
tests/thirdparty/extractor/build/lib/imgrec_lbp/__init__.py
tests/thirdparty/extractor/imgrec_lbp.egg-info/PKG-INFO tests/thirdparty/extractor/imgrec_lbp/__init__.py.bak
tests/thirdparty/extractor/tests/.test_lbp.py.swp outputs/gallery.sqlite
""".split()
"""What lies about in a checkout that is worked in."""


def in_wheel(tracked: str) -> str | None:
    """Where a tracked file is in a wheel; None if it is not."""
    if tracked.startswith("tests/thirdparty/"):
        return tracked.replace("tests/thirdparty", "imgrec/templates", 1)
    if tracked.startswith("conf/"):
        return f"imgrec/{tracked}"
    if tracked in ("imgrec/README.md", "plugins/README.md"):
        return None
    return tracked.removeprefix("plugins/") if tracked.startswith(("imgrec/", "plugins/")) else None


def test_tracked_files_are_packed_and_nothing_else(tmp_path: Path) -> None:
    """An sdist of a checkout full of strays, and the wheel that is built from it."""
    git = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode:
        pytest.skip("needs the repository: this is no clone")
    tracked = git.stdout.splitlines()
    checkout = tmp_path / "checkout"
    for name in tracked:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    for name in [*STRAYS, "imgrec/cli/main copy.py", "plugins/imgrec_hog (1).py"]:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("stray")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(checkout)]
    subprocess.run(command, check=True, capture_output=True)
    expected = {name for name in map(in_wheel, tracked) if name}
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    own = {"PKG-INFO", "LICENSE", "README.md", "pyproject.toml", ".gitignore"}
    assert packed == own | {name for name in tracked if in_wheel(name)}


def test_what_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    metadata = next(name for name in names if name.endswith("METADATA"))
    requires = [
        line.partition(": ")[2]
        for line in zipfile.ZipFile(wheel).read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist")
    ]
    base = {line.split(">")[0].split("=")[0] for line in requires if "extra ==" not in line}
    assert base.isdisjoint({"torch", "timm", "umap-learn"})


def test_it_runs_from_an_unrelated_folder(wheel: Path, cli: Cli, few: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    env = {"PYTHONPATH": str(site)}
    where = "import imgrec, imgrec_colour; print(imgrec.__file__, imgrec_colour.__file__, sep=chr(10))"
    seen = subprocess.run(
        [sys.executable, "-c", where], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert seen.stdout.splitlines() == [str(site / "imgrec" / "__init__.py"), str(site / "imgrec_colour.py")]
    cli("ingest", few, "backup=csv", env=env, fresh=True)
    assert (
        cli("recommend", few / "china" / "china-0-0.jpg", "format=paths", env=env, fresh=True).out.count("\n") == 5
    )
    assert "extractor=clip|clip_vit_b32|colour" in cli("--help", env=env, fresh=True).out
