"""Writers to Lance datasets, killed at random moments, and four at once: nothing is lost, nothing there twice."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np

import imgrec
from imgrec import Batch, Record, Space, Vectors
from imgrec.testing import check_store

SPACES = [Space(f"soak-{i}", "soak", {}, {}) for i in range(2)]

IMAGES = 20
"""Of a batch."""

Place = tuple[str, Mapping[str, str]]
"""The path of a store, and the variables that a process needs to open it."""


def run(kills: int = 200, seed: int = 0) -> str:
    """Kill so many writers in all, and let four write at once, in a folder and on both servers."""
    from object_storage import new_bucket, serving_moto, serving_seaweedfs

    random = Random(seed)
    with ExitStack() as stack:
        places: list[Place] = [(f"{stack.enter_context(tempfile.TemporaryDirectory())}/gallery", {})]
        for serving in (serving_moto, serving_seaweedfs):
            storage = stack.enter_context(new_bucket(stack.enter_context(serving())))
            places.append((storage.url("gallery"), storage.environment))
        batches = 0
        for number, (path, variables) in enumerate(places):
            batches += kill_many((path, variables), (kills + number) // len(places), random)
            batches += write_at_once((f"{path}-of-four", variables))
            check_contract((path, variables))
    return (
        f"{kills} writers of Lance datasets killed, 12 at once, in a folder and on S3: {batches:,} batches whole"
    )


def kill_many(place: Place, kills: int, random: Random) -> int:
    """Kill writers of a gallery, one after the other, and look each time; how many batches there are."""
    done = 0
    for _ in range(kills):
        with _writer(place, done, 10**6) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            assert first, process.stderr.read()
            time.sleep(0.2 * random.random())
            process.kill()
            done = max(int(line) for line in [first, *process.stdout.read().splitlines()])
        assert done <= whole_batches(place) <= done + 1
    return done


def write_at_once(place: Place, writers: int = 4, batches: int = 5) -> int:
    """Several processes write to a gallery; how many batches there are."""
    with _opened(place, create=True), ExitStack() as stack:
        each = [stack.enter_context(_writer(place, batches * i, batches)) for i in range(writers)]
        for process in each:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    assert whole_batches(place) == writers * batches
    return writers * batches


def check_contract(place: Place) -> None:
    """All checks of the kit."""
    path, variables = place
    with mock.patch.dict(os.environ, variables):
        check_store(lambda folder: imgrec.build("store", "lance", path=f"{path}-{folder.name}"))


def _writer(place: Place, first: int, count: int) -> subprocess.Popen[str]:
    """A process that writes batches, and prints how many there are after each."""
    path, variables = place
    return subprocess.Popen(
        [sys.executable, __file__, path, str(first), str(count)],
        env={**os.environ, **variables, "PYTHONPATH": str(Path(__file__).parent.parent)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@contextmanager
def _opened(place: Place, *, create: bool = False) -> Iterator[imgrec.Store]:
    path, variables = place
    with mock.patch.dict(os.environ, variables):
        store = imgrec.build("store", "lance", path=path)
        with store.open(create=create):
            yield store


def write(path: str, first: int, count: int) -> None:
    """Write batches, each as a draft before: other contents, whose vectors go with them."""
    with imgrec.build("store", "lance", path=path).open(create=True) as store:
        for number in range(first, first + count):
            for kind in ("draft", "final"):
                store.write(_batch(number, kind))
            print(number + 1, flush=True)


def whole_batches(place: Place) -> int:
    """How many batches a gallery consists of: each whole and there once, drafts too."""
    with _opened(place) as store:
        assert list(store.problems()) == []
        records = {record.path: record for record in store.records()}
        assert len(records) == sum(1 for _ in store.records())
        numbers, rest = divmod(len(records), IMAGES)
        assert rest == 0
        batches = []
        for number in range(numbers):
            (kind,) = {records[f"/{number}/{i}.jpg"].digest.partition("-")[0] for i in range(IMAGES)}
            batches.append(_batch(number, kind))
        for space in SPACES:
            parts = [batch.vectors[space] for batch in batches]
            wanted = dict(itertools.chain.from_iterable(zip(*part, strict=True) for part in parts))
            digests, vectors = store.vectors(space)
            assert len(digests) == len(wanted)
            assert np.array_equal(vectors, np.stack([wanted[digest] for digest in digests]))
        return numbers


def _batch(number: int, kind: str) -> Batch:
    digests = [f"{kind}-{number}-{i}" for i in range(IMAGES)]
    records = [Record(f"/{number}/{i}.jpg", digest, 1, 1) for i, digest in enumerate(digests)]
    return Batch(
        records, vectors={space: (digests, _vectors(number, kind, 4 + i)) for i, space in enumerate(SPACES)}
    )


def _vectors(number: int, kind: str, dim: int) -> Vectors:
    return np.random.default_rng(2 * number + (kind == "final")).normal(size=(IMAGES, dim)).astype(np.float32)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
