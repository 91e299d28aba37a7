"""What a run imports: nothing that it does not use."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import imgrec

HEAVY = "torch faiss pyarrow timm open_clip openvino sklearn pandas matplotlib umap openTSNE scipy".split()

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


ROOT = Path(__file__).parent.parent

PLUGINS = sorted((ROOT / "plugins").glob("imgrec_*"))
"""Modules, and packages."""


@pytest.mark.parametrize("file", PLUGINS, ids=lambda file: file.stem)
def test_a_plugin_module_imports_numpy_and_imgrec_only(file: Path) -> None:
    code = f"import sys, {file.stem}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint([*HEAVY, "cv2", "PIL", "hydra", "omegaconf", "rich"])


@pytest.mark.parametrize("file", PLUGINS, ids=lambda file: file.stem)
def test_plugins_import_neither_each_other_nor_hydra(file: Path) -> None:
    imported = {name for module in sorted(file.rglob("*.py")) or [file] for name in top_level_imports(module)}
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


DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "hydra": "hydra-core",
    "lance": "pylance",
    "mlflow": "mlflow-skinny",
    "open_clip": "open_clip_torch",
    "pillow_heif": "pillow-heif",
    "sklearn": "scikit-learn",
    "textual_image": "textual-image",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}
"""Distributions that are called otherwise than the modules that they bring."""

BROUGHT = {
    "imgrec_clip": {"huggingface_hub"},
    "imgrec_lance": {"pyarrow"},
    "imgrec_timm": {"huggingface_hub", "safetensors"},
    "imgrec_umap": {"pynndescent"},
}
"""What libraries that are declared require themselves, and plugins import to work with these."""


def test_every_library_that_is_imported_is_declared() -> None:
    """In the dependencies, or in an extra: that of a plugin's own library, or of the module's name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = named(project["dependencies"])
    extras = {name: named(needed) for name, needed in project["optional-dependencies"].items()}
    undeclared = set()
    for file in sorted([*(ROOT / "imgrec").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]):
        plugin = file.relative_to(ROOT / "plugins").parts[0].removesuffix(".py") if "plugins" in file.parts else ""
        extra = extras.get(plugin.removeprefix("imgrec_") or file.stem, set())
        if plugin == "imgrec_timm":
            extra |= extras["openvino"]
        if file.parent.name == "serving":
            extra |= extras["explore"]
        imported = top_level_imports(file) - sys.stdlib_module_names - BROUGHT.get(plugin, set())
        wanted = {DISTRIBUTIONS.get(name, name).lower() for name in imported}
        undeclared |= {f"{file.relative_to(ROOT)}: {name}" for name in wanted - base - extra - {"imgrec", plugin}}
    assert undeclared == set()


def named(requirements: list[str]) -> set[str]:
    """The names of distributions in requirements."""
    return {re.split(r"[^\w.-]", each)[0].lower() for each in requirements}


def top_level_imports(file: Path) -> set[str]:
    """The packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
