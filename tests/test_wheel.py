"""The wheel holds all that a run needs, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import Cli

ROOT = Path(__file__).parent.parent


def test_what_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"imgrec"} | {file.name for file in (ROOT / "plugins").glob("imgrec_*")}
    assert {"imgrec/py.typed", "imgrec/conf/config.yaml", "imgrec/conf/stage/recommend.yaml"} <= set(names)
    assert "imgrec/templates/extractor/imgrec_lbp/__init__.py" in names
    pages = [name for name in names if name.endswith("README.md") and "/templates/" not in name]
    assert pages == ["imgrec/conf/README.md"]
    assert not [name for name in names if name.endswith(".webp")]
    assert not [name for name in names if "__pycache__" in name or ".egg-info" in name]
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
    where = "import imgrec, imgrec_colour; print(imgrec.__file__, imgrec_colour.__file__)"
    seen = subprocess.run(
        [sys.executable, "-c", where], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert seen.stdout.split() == [str(site / "imgrec" / "__init__.py"), str(site / "imgrec_colour.py")]
    cli("ingest", few, "backup=csv", env=env)
    assert cli("recommend", few / "china" / "china-0-0.jpg", "format=paths", env=env).out.count("\n") == 5
    assert "extractor=clip_vit_b32|colour" in cli("--help", env=env).out
