"""What tests share: real photographs, real processes, the shared weights where they are."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import imgrec
import tiles
from browser import browser, open_page
from command_line import Warm, run_fresh
from imgrec.cli.main import main
from object_storage import moto_server, object_storage, seaweedfs_server

__all__ = ["browser", "moto_server", "object_storage", "open_page", "seaweedfs_server"]

collect_ignore = ["thirdparty"]
"""Tested where they are installed: test_thirdparty.py."""

# What models are exported to is kept in a folder of the tests' own, which the workers share.
if "IMGREC_TEST_CACHE" not in os.environ:
    os.environ["IMGREC_TEST_CACHE"] = tempfile.mkdtemp(prefix="imgrec-cache-")
    atexit.register(shutil.rmtree, os.environ["IMGREC_TEST_CACHE"], ignore_errors=True)
os.environ["XDG_CACHE_HOME"] = os.environ["IMGREC_TEST_CACHE"]

# Threads that wait for work sleep: those of several workers would take the cores from each other by waiting.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# As for users: what a process of the command line has compiled, the next one does not compile again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A script's background jobs ignore Ctrl-C, and so would the processes that are to be interrupted here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SHARED = Path(__file__).parent.parent.parent / "shared"


def of_any_values(metrics: Iterable[str]) -> list[str]:
    """Those of vectors of any values: all but hamming, which is of bits."""
    return [name for name in metrics if name != "hamming"]


@dataclass
class Result:
    """What a process of the command line left."""

    code: int
    out: str
    err: str
    cwd: Path

    def json(self) -> Any:
        return json.loads(self.out)

    def runs(self) -> list[Path]:
        """Folders of runs, the oldest first."""
        return sorted(file.parent for file in self.cwd.glob("outputs/2*/*/run.json"))

    def record(self) -> Any:
        """The `run.json` of the last run."""
        return json.loads((self.runs()[-1] / "run.json").read_text())


Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def warm() -> Iterator[Callable[[Path | str], Warm]]:
    """For each Python the process that runs of its command line are forked from."""
    env = dict(os.environ)  # as it is before a test changes it
    with contextlib.ExitStack() as started:
        yield functools.cache(lambda python: started.enter_context(Warm(python, env)))


@pytest.fixture
def cli(tmp_path: Path, warm: Callable[[Path | str], Warm]) -> Cli:
    """Run `python -m imgrec` in a process of its own, in a temporary folder.

    It has imported its libraries before (see `Warm`), unless it is to be `fresh`: what changes which modules there
    are, or how Python starts, wants a new interpreter.
    """

    def run(
        *words: str | Path,
        code: int | None = 0,
        cwd: Path = tmp_path,
        env: dict[str, str] | None = None,
        python: Path | str = sys.executable,
        fresh: bool = False,
    ) -> Result:
        run_by = functools.partial(run_fresh, python) if fresh else warm(python).run
        done = run_by([*map(str, words)], cwd, {**os.environ, **(env or {})})
        result = Result(done.returncode, done.stdout, done.stderr, cwd)
        if code is not None:
            assert result.code == code, result.err
        return result

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line in this process, which is quicker, in a temporary folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path, code: int | None = 0) -> Result:
        capfd.readouterr()
        found = main([*map(str, words)])
        result = Result(found, *capfd.readouterr(), tmp_path)
        if code is not None:
            assert result.code == code, result.err
        return result

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty real tiles in two folders, `china` and `flower`. Not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    tiles.cut(folder, columns=5, rows=4)
    return folder


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Twelve tiles, to be changed at will."""
    folder = tmp_path / "few"
    tiles.cut(folder, columns=3, rows=2)
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """imgrec's wheel."""
    return build_wheel(Path(__file__).parent.parent, tmp_path_factory.mktemp("wheel"))


def build_wheel(project: Path, folder: Path) -> Path:
    """A project's wheel, made in a folder."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(params=["sqlite", "csv"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[imgrec.Store]:
    """An empty store of each kind, open."""
    with imgrec.build("store", request.param, path=str(tmp_path / "store")).open(create=True) as store:
        yield store


def shared(*parts: str) -> Path:
    """A file or folder of `../shared`; the test is skipped where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}, which is not here")
    return path


def shared_timm(model: str, **options: Any) -> imgrec.Extractor:
    """A timm extractor on one of the shared checkpoints."""
    pytest.importorskip("timm")
    return imgrec.build(  # type: ignore[no-any-return]
        "extractor",
        "timm",
        model=model,
        checkpoint=str(shared("weights", f"{model}.safetensors")),
        model_kwargs={"pad_type": "same"},
        mean=[0.5, 0.5, 0.5],
        std=[0.5, 0.5, 0.5],
        **options,
    )
