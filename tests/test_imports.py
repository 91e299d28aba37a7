"""What a run imports: nothing that it does not use."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import imgrec

HEAVY = ["torch", "timm", "openvino", "sklearn", "pandas", "matplotlib", "umap", "openTSNE", "scipy"]

REPORT = """
import json, sys
from imgrec.__main__ import main
code = main(sys.argv[1:])
sys.stderr.write("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


def modules(*words: str, cwd: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *words], capture_output=True, text=True, cwd=cwd, check=True, timeout=120
    )
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(names)


def test_a_colour_ingest_and_recommend_import_nothing_heavy(few: Path) -> None:
    assert modules("ingest", str(few), cwd=few.parent).isdisjoint(HEAVY)
    assert modules("recommend", str(few / "china" / "china-0-0.jpg"), cwd=few.parent).isdisjoint(HEAVY)
    copy = few.parent / "outside.jpg"
    copy.write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"\0")
    assert modules("recommend", str(copy), cwd=few.parent).isdisjoint(HEAVY)
    assert modules("info", cwd=few.parent).isdisjoint(HEAVY)


def test_help_and_plugins_import_nothing_heavy(tmp_path: Path) -> None:
    for words in (["--help"], ["visualise", "--help"], ["plugins"]):
        assert modules(*words, cwd=tmp_path).isdisjoint([*HEAVY, "rich"])


PLUGINS = sorted((Path(__file__).parent.parent / "plugins").glob("imgrec_*"))
"""Modules, and packages."""


@pytest.mark.parametrize("file", PLUGINS, ids=lambda file: file.stem)
def test_a_plugin_module_imports_numpy_and_imgrec_only(file: Path) -> None:
    code = f"import sys, {file.stem}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint([*HEAVY, "cv2", "PIL", "hydra", "omegaconf", "rich"])


@pytest.mark.parametrize("file", PLUGINS, ids=lambda file: file.stem)
def test_plugins_import_neither_each_other_nor_hydra(file: Path) -> None:
    imported = set()
    for module in sorted(file.rglob("*.py")) or [file]:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    assert imported.isdisjoint(({other.stem for other in PLUGINS} | {"hydra", "omegaconf"}) - {file.stem})


def test_import_imgrec_is_light_and_exports_what_it_says() -> None:
    code = "import sys, imgrec; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint([*HEAVY, "cv2", "hydra"])
    assert dir(imgrec) == sorted([*imgrec.__all__, "__doc__", "__version__"])
    assert len(set(imgrec.__all__)) == len(imgrec.__all__)
    for name in imgrec.__all__:
        assert getattr(imgrec, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_it"):
        imgrec.nothing_of_it  # noqa: B018
