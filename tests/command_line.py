"""Runs of the command line: each is a process of its own.

Most of a short run of `python -m imgrec` are imports, and a suite of a thousand runs would be at them for a
quarter of its time. So runs are forked from a process that has imported the libraries, and has done nothing else.
That a new interpreter comes to the same is shown by test_cli.py, by commands of the READMEs (test_readme.py), and
by the tests that start processes by themselves.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIBRARIES = (
    "PIL.ImageDraw",
    "cv2",
    "filelock",
    "hydra._internal.hydra",
    "hydra.compose",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas",
    "rich.progress",
    "sklearn.decomposition",
    "sqlite3",
)
"""What imgrec imports when it is needed. The libraries of neural networks take more memory than time."""

PACKAGES = ("imgrec.cli", "imgrec.drawing", "imgrec.stages", "hydra._internal.core_plugins")

SECONDS = 300
"""How long a run may take; a signal ends it then."""


def run_fresh(
    python: Path | str, words: list[str], cwd: Path, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `python -m imgrec` by a new interpreter."""
    return subprocess.run(
        [str(python), "-m", "imgrec", *words],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd=cwd,
        env=env,
        timeout=SECONDS,
        check=False,
    )


class Warm:
    """A process of some Python that forks runs of `python -m imgrec`."""

    def __init__(self, python: Path | str, env: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([str(python), __file__], stdin=pipe, stdout=pipe, text=True, env=env)
        self._folder = tempfile.TemporaryDirectory(prefix="imgrec-streams-")

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def run(self, words: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run `python -m imgrec` in a process forked from this one."""
        streams = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        for stream in streams:
            stream.write_bytes(b"")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"words": words, "cwd": str(cwd), "env": env, "streams": [*map(str, streams)]}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(
            words, code, *(file.read_text(errors="surrogateescape") for file in streams)
        )


def become(words: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> None:
    """Be what `python -m imgrec` would be, from a process that has just been forked."""
    signal.alarm(SECONDS)
    for number, file in enumerate((os.devnull, *streams)):
        opened = os.open(file, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.path[:1] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["imgrec", *words]
    runpy.run_module("imgrec", run_name="__main__", alter_sys=True)


def serve() -> None:
    """Fork a run for each line of stdin, and answer with its exit code."""
    packages = [importlib.import_module(name) for name in PACKAGES]
    modules = [
        found.name for each in packages for found in pkgutil.iter_modules(each.__path__, f"{each.__name__}.")
    ]
    plugins = [
        each.module for each in importlib.metadata.distribution("imgrec").entry_points.select(group="imgrec")
    ]
    for name in (*LIBRARIES, *modules, *plugins):
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become(**json.loads(line))
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
