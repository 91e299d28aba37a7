"""`make bench`, or one part of it: `make bench ONLY=startup`.

What is measured goes to stdout, and into `results.json` and `results.md` beside this file, which the README
here shows, part by part.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import Figure, Report, Target

PARTS = (
    "quality",
    "copies",
    "strangers",
    "ingest",
    "backbones",
    "process",
    "estimate",
    "scale",
    "search",
    "million",
    "graphs",
    "pruning",
    "index",
    "answer",
    "maps",
    "page",
    "remote",
    "sources",
    "engine",
    "startup",
    "plan",
)
"""Each is a module here, whose `run` returns a `Report`."""

RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    only = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in only if name not in PARTS]:
        sys.exit(f"there is no benchmark {unknown[0]}: there are {', '.join(PARTS)}")
    for name in only:
        report: Report = importlib.import_module(f"benchmarks.{name}").run()
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[name] = {
            "machine": machine(),
            "day": datetime.date.today().isoformat(),
            **dataclasses.asdict(report),
        }
        RESULTS.write_text(json.dumps({part: found[part] for part in PARTS if part in found}, indent=2) + "\n")
        RESULTS.with_suffix(".md").write_text(markdown())
        print(f"## {name}, on {machine()}\n\n{report.markdown()}\n", flush=True)


def machine() -> str:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = (re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()) or [cpu])[0]
    vectors = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if _has(flag)]
    return f"{cpu} ({', '.join(vectors)}), {os.cpu_count()} cores, Python {platform.python_version()}"


def _has(flag: str) -> bool:
    return Path("/proc/cpuinfo").exists() and f" {flag} " in Path("/proc/cpuinfo").read_text()


def markdown() -> str:
    """`results.json` for people."""
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text())
    parts = []
    for name, part in found.items():
        report = Report(
            part["about"],
            [Figure(**each) for each in part["figures"]],
            [Target(**each) for each in part["targets"]],
            part["notes"],
        )
        parts.append(f"## {name}\n\n{part['day']}, {part['machine']}. {report.markdown()}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
