"""Processes killed while they make the index of exact search, or update it: none that is wrong is used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import numpy as np

import imgrec
from imgrec.kinds import Batch, Record, Space
from imgrec.search import files

SPACE = Space("soak-0123456789ab", "soak", {}, {})
ROWS, DIM = 65_536, 128
CHANGED = 1_000
"""Rows that come and go before each kill."""

MAKE = """
import sys, imgrec
from imgrec.search import files
print("begun", flush=True)
with imgrec.build("store", "sqlite", path=sys.argv[1]) as store:
    files.prepare(files.whole(store, store.spaces()[0]))
"""


def run(kills: int = 40, seed: int = 0) -> str:
    """Kill so many, each after a change; now and then one lives, whose files are compared with the store."""
    random, rng, whole = Random(seed), np.random.default_rng(seed), 0
    with (
        tempfile.TemporaryDirectory() as folder,
        imgrec.build("store", "sqlite", path=f"{folder}/gallery.sqlite").open(create=True) as store,
    ):
        _change(store, range(ROWS), rng)
        seconds = _make(store)
        for number in range(kills):
            first = ROWS + number * CHANGED
            _change(store, range(first, first + CHANGED), rng)
            _make(store, seconds * random.random())
            if random.random() < 0.3:
                files.load(store, SPACE)
                _make(store)
                problems = [problem for _, problem in files.check(files.whole(store, SPACE))]
                assert problems == [None], problems
                left = [each.name for each in Path(f"{store.location}-index", SPACE.key).glob("[!.]*")]
                assert left == [store.revision(SPACE)], left
                whole += 1
                for each in Path(f"{store.location}-index", SPACE.key).glob(".new-*"):  # else an hour later
                    shutil.rmtree(each)
    return f"{kills} processes killed that made the index of exact search: {whole} whole ones found in between"


def _change(store: imgrec.Store, numbers: range, rng: np.random.Generator) -> None:
    names = [f"{i:064x}" for i in numbers]
    records = [Record(f"/{name}.jpg", name, 1, 1) for name in names]
    gone = [f"/{i - ROWS:064x}.jpg" for i in numbers if i >= ROWS]
    vectors = rng.standard_normal((len(names), DIM), dtype=np.float32)
    store.write(Batch(records, forgotten=gone, vectors={SPACE: (names, vectors)}))


def _make(store: imgrec.Store, killed_after: float | None = None) -> float:
    """The seconds that it took."""
    command = [sys.executable, "-c", MAKE, store.location]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = time.monotonic()
        if killed_after is not None:
            time.sleep(killed_after)
            process.kill()
        _, errors = process.communicate()
    assert killed_after is not None or not process.returncode, errors
    return time.monotonic() - start
