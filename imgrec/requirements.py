"""What imgrec cannot run without: if it is absent, the command line says so in a line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

OLDEST = (3, 11)

NEEDED = {
    "hydra-core": "hydra",
    "omegaconf": "omegaconf",
    "pluggy": "pluggy",
    "filelock": "filelock",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "simplejpeg": "simplejpeg",
    "pillow": "PIL",
    "pandas": "pandas",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "openTSNE": "openTSNE",
    "matplotlib": "matplotlib",
    "rich": "rich",
    "pathspec": "pathspec",
    "pyyaml": "yaml",
}
"""Distributions, as in pyproject.toml, and the modules that they bring."""


def problem() -> str | None:
    """What is absent and what to do about it, in a line; None if nothing is."""
    if sys.version_info < OLDEST:
        return f"imgrec needs Python {'.'.join(map(str, OLDEST))} or newer, and this is {sys.version.split()[0]}"
    absent = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    if not absent:
        return None
    lacks = f"{sys.executable} lacks {', '.join(absent[:3])}{', ...' if absent[3:] else ''}"
    folder = Path(__file__).parent.parent
    if not (folder / "pyproject.toml").is_file():
        return f"{lacks}: install imgrec again, with its dependencies"
    return (
        f"{lacks}: take {folder}/.venv/bin/imgrec, which `make demo` installs, "
        f"or install them with {sys.executable} -m pip install -e {folder}"
    )


if Path(*sys.argv[:1]).stem in ("-m", "imgrec") and (found := problem()):  # python -m is still "-m" by now
    sys.stderr.write(f"imgrec: {found}\n")
    sys.exit(2)
