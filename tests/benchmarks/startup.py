"""What plugins cost when nobody uses them: `--help` with twenty more of them installed, and without."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report
from test_registry import GOOD, install

ROUNDS = 15
PLUGINS = 20


def run() -> Report:
    """Medians of rounds that take turns, so that a busy machine is busy for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        # As users have it: compiled once.
        usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        usual["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        env: dict[str, str] = {}
        for i in range(PLUGINS):
            code = GOOD.replace("class Grey", f"class Grey{i}").replace("[Grey]", f"[Grey{i}]")
            env = install(Path(folder, "site"), f"imgrec_grey{i}", code)
        without = [sys.executable, "-m", "imgrec", "--help"]
        commands = {
            "python -c 'import numpy'": ([sys.executable, "-c", "import numpy"], {}),
            "imgrec --help": (without, {}),
            f"imgrec --help, {PLUGINS} more plugins": (without, env),
        }
        measured: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, (command, extra) in commands.items():
                start = time.perf_counter()
                done = subprocess.run(
                    command, env={**usual, **extra}, check=True, capture_output=True, text=True, cwd=folder
                )
                measured[name].append(time.perf_counter() - start)
                assert done.stdout.count("|grey") == (PLUGINS if extra else 0)
    report = Report(f"Processes from the shell to their end; median of {ROUNDS}")
    base = measured["imgrec --help"]
    for name, times in measured.items():
        report.add(name, 1000 * statistics.median(times), "ms")
    apart = statistics.median(one - other for one, other in zip(measured[name], base, strict=True))
    report.add(f"what {PLUGINS} more plugins cost", 1000 * apart, "ms")
    return report
