"""What an ingest says beforehand that it will take, beside what it then took."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.ingest import WEIGHTS, photographs
from benchmarks.report import Report

COUNT, DIFFERENT = 4_000, 400
"""Files; the pictures repeat with other bytes behind their end, which are other files to imgrec."""

CHILD = """
import json, re, sys, time
from dataclasses import asdict
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import imgrec
from benchmarks.ingest import model
extractor = model() if sys.argv[2] == "mobilenetv2" else imgrec.build("extractor", "colour")
found = []
store = imgrec.build("store", "sqlite", path=sys.argv[4])
is_told = sys.argv[5] == "told"
start = time.perf_counter()
before = (lambda told: bool(found.append(told))) if is_told else None
imgrec.ingest(sys.argv[3], extractor, store, before_from=0, before=before)
seconds = time.perf_counter() - start
peak = 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
told = asdict(found[0]) if is_told else {"seconds": seconds, "memory_bytes": peak}
print(json.dumps({**told, "taken": seconds, "size": 0 if is_told else Path(sys.argv[4]).stat().st_size}))
"""


def run(count: int = COUNT) -> Report:
    """Each in a process of its own: models are loaded twice."""
    weights = "ImageNet weights" if WEIGHTS.exists() else "random weights"
    report = Report(f"{count:,} JPEG files of three sizes, colour and mobilenetv2_100 ({weights})")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "photos")
        source.mkdir()
        for part, size in enumerate([(160, 213), (400, 533), (800, 1066)]):
            made = photographs(Path(folder, str(part)), DIFFERENT // 3, size)
            for i in range(part, count, 3):
                data = made[i % len(made)].read_bytes() + i.to_bytes(4, "big")
                (source / f"{i:05}.jpg").write_bytes(data)
        for name in ("colour", "mobilenetv2"):
            _child(name, source, Path(folder, "none.sqlite"), "told")  # a model is exported once, and cached
            told, took = (_child(name, source, Path(folder, f"{name}.sqlite"), how) for how in ("told", "done"))
            report.add(f"{name}: seconds told", told["seconds"], "s")
            report.add(f"{name}: seconds taken", took["taken"], "s")
            report.add(f"{name}: what the estimate itself took", told["taken"], "s")
            for what, said, was in (
                ("time", told["seconds"], took["taken"]),
                ("disk", told["disk_bytes"], took["size"]),
                ("memory", told["memory_bytes"], took["memory_bytes"]),
            ):
                report.hold(f"{name}: {what}, told and taken apart", max(said / was, was / said), at_most=1.5)
    return report


def _child(name: str, source: Path, store: Path, how: str) -> dict[str, Any]:
    tests = Path(__file__).parent.parent
    command = [sys.executable, "-c", CHILD, str(tests), name, str(source), str(store), how]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found
