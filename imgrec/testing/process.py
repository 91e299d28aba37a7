"""A script with which the checks test a component in a new Python process.

It reads a request from stdin and images from a folder, writes its report there, and imports nothing heavy itself.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def main() -> None:
    """Report the imported modules, an extractor's vectors and space, or a reducer's result."""
    folder, request = Path(sys.argv[1]), json.load(sys.stdin)
    module = _module(request["module"], request["file"])
    cls: Any = functools.reduce(getattr, request["class"].split("."), module)
    component: Any = None if request["task"] == "import" else _built(cls, request["options"])
    report = {"modules": sorted(sys.modules)}
    if request["task"] == "extract":
        import numpy as np

        from imgrec.kinds import Space

        with np.load(folder / "images.npz", allow_pickle=False) as images:
            np.save(folder / "vectors.npy", component.extract([images[str(i)] for i in range(len(images))]))
        report["space"] = Space.of(component).key  # type: ignore[assignment]
    if request["task"] == "reduce":
        import numpy as np

        with np.load(folder / "images.npz", allow_pickle=False) as given:
            labels = given["1"].tolist() if "1" in given else None
            np.save(folder / "vectors.npy", component.fit_transform(given["0"], labels))
    (folder / "report.json").write_text(json.dumps(report))


def _built(cls: Any, options: dict[str, Any]) -> Any:
    """Build a component from plain options; the registry builds nested components."""
    from imgrec.options import component_fields

    if not component_fields(cls):
        return cls(**options)
    from imgrec import registry

    return registry.composed(cls, options)


def _module(name: str, file: str) -> ModuleType:
    """Import a module by name, or by file for scripts and tests outside packages."""
    try:
        if name != "__main__":
            return importlib.import_module(name)
    except ModuleNotFoundError:
        pass
    spec = importlib.util.spec_from_file_location("component", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["component"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
