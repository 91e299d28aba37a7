"""The store of Lance datasets beside SQLite: in a folder, and on S3 servers that run on the same cores."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

import imgrec
from benchmarks.ingest import model, photographs
from benchmarks.report import Report
from benchmarks.scale import fill
from imgrec import Batch, Record, Space
from object_storage import ObjectStorage, new_bucket, serving_moto, serving_seaweedfs

IMAGES = 8192
"""One transaction, of photographs that differ in their last bytes alone."""

DIFFERENT = 256

BATCHES = {64: 24, 1024: 12, 8192: 4}
"""How many of each size."""

MILLION = 1_000_000

SPACE = Space("benchmark-0", "benchmark", {}, {})

CHILD = """
import json, re, sys, time
from pathlib import Path
from benchmarks.remote import MILLION, SPACE, fill_store, asked
import imgrec
with imgrec.build("store", sys.argv[1], path=sys.argv[2]).open(create=True) as store:
    start = time.perf_counter()
    fill_store(store, 32, 8192, -(-MILLION // 8192), as_ingest=True)
    print(json.dumps(time.perf_counter() - start))
with imgrec.build("store", sys.argv[1], path=sys.argv[2]).open() as store:
    start = time.perf_counter()
    assert len(asked(store, 8192, 0)) == 8192
    print(json.dumps(time.perf_counter() - start))
    assert list(store.problems()) == []
    print(sum(1 for _ in store.records()))
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def run() -> Report:
    """Servers are new, and none of their work is left out: they share the cores."""
    report = Report(f"{IMAGES:,} JPEG files of 300 x 400, mobilenetv2_100; rows of 128 values")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {"moto": serving_moto, "SeaweedFS": serving_seaweedfs}
        on = {name: stack.enter_context(new_bucket(stack.enter_context(each()))) for name, each in servers.items()}
        _add_rates(report, folder, on)
        _add_requests(report, on["moto"])
        _add_ingest(report, folder, on["SeaweedFS"])
    with tempfile.TemporaryDirectory() as place:
        _add_million(report, Path(place))
    return report


def _add_rates(report: Report, folder: Path, on: Mapping[str, ObjectStorage]) -> None:
    """Rows a second, of records and vectors that are new."""
    for size, count in BATCHES.items():
        for name, path in {
            "SQLite": f"{folder}/{size}.sqlite",
            "a folder": f"{folder}/{size}",
            **_urls(on, size),
        }.items():
            with _variables(on.get(name)), _opened("sqlite" if name == "SQLite" else "lance", path) as store:
                fill_store(store, 128, size, 1)
                start = time.perf_counter()
                fill_store(store, 128, size, count, first=1)
                report.add(f"{name}, batches of {size:,}", size * count / (time.perf_counter() - start), "rows/s")


def _urls(on: Mapping[str, ObjectStorage], size: int) -> dict[str, str]:
    return {name: storage.url(f"rates-{size}") for name, storage in on.items()}


def _add_requests(report: Report, moto: ObjectStorage) -> None:
    """What an ingest of mobilenetv2 asks and writes, transaction after transaction, counted at the server."""
    each = []
    with _variables(moto), _opened("lance", moto.url("requests")) as store:
        for number in range(12):
            before = moto.requests()
            fill_store(store, 1280, 8192, 1, first=number, as_ingest=True)
            each.append(moto.requests() - before)
    report.add("requests of the first transaction", each[0], "")
    report.hold(
        "requests of a transaction of 8,192 x 1,280, the most of 11 more", max(each[1:]), at_most=30, unit=""
    )


def _add_ingest(report: Report, folder: Path, storage: ObjectStorage) -> None:
    pictures = [photo.read_bytes() for photo in photographs(folder / "few", DIFFERENT, (300, 400))]
    fill(folder / "photos", pictures, IMAGES)
    extractor, rates = model(), {}
    imgrec.ingest(folder / "few", extractor, imgrec.build("store", "sqlite", path=f"{folder}/warm.sqlite"))
    for name, path in {"sqlite": f"{folder}/whole.sqlite", "lance": storage.url("whole")}.items():
        with _variables(storage):
            start = time.perf_counter()
            imgrec.ingest(folder / "photos", extractor, imgrec.build("store", name, path=path))
            rates[name] = report.add(f"ingest into {name}", IMAGES / (time.perf_counter() - start), "images/s")
    report.hold("ingest into S3 over SQLite", rates["lance"] / rates["sqlite"], at_least=0.8)


def _add_million(report: Report, folder: Path) -> None:
    """In a process of its own, whose peak of memory the system tells."""
    for name in ("sqlite", "lance"):
        command = [sys.executable, "-c", CHILD, name, str(folder / name)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "tests"}
        )
        seconds, asked, kept, peak = map(float, done.stdout.split())
        assert kept >= MILLION
        report.add(
            f"{kept:,.0f} rows of 32 values into {name}, asking as an ingest does", kept / seconds, "rows/s"
        )
        report.add(f"then opening it, and 8,192 records by path, {name}", asked, "s")
        report.add(f"peak memory of both, {name}", peak, "MiB")


def fill_store(
    store: imgrec.Store, dim: int, size: int, count: int, *, first: int = 0, as_ingest: bool = False
) -> None:
    """Write batches of rows, asking before what an ingest asks if that is wanted."""
    for number in range(first, first + count):
        batch = _batch(number, size, dim)
        if as_ingest:
            paths, (digests, _) = [record.path for record in batch.records], batch.vectors[SPACE]
            assert not [*store.records(paths=paths), *store.failures(paths=paths), *store.dismissed(paths=paths)]
            assert not [*store.digests(SPACE, digests), *store.records(digests=digests), *store.digests(SPACE, [])]
            assert not list(store.records(paths=paths))
        store.write(batch)


def asked(store: imgrec.Store, size: int, number: int) -> Sequence[Record]:
    """The records of a batch."""
    return list(store.records(paths=[record.path for record in _batch(number, size, 1).records]))


def _batch(number: int, size: int, dim: int) -> Batch:
    random = np.random.default_rng(number)
    text = random.bytes(32 * size).hex()
    digests = [text[start : start + 64] for start in range(0, len(text), 64)]
    records = [Record(f"/photos/{number:05}/{i:06}.jpg", digest, 100_000, 1) for i, digest in enumerate(digests)]
    return Batch(records, vectors={SPACE: (digests, random.normal(size=(size, dim)).astype(np.float32))})


@contextmanager
def _variables(storage: ObjectStorage | None) -> Iterator[None]:
    with mock.patch.dict(os.environ, storage.environment if storage else {}):
        yield


@contextmanager
def _opened(name: str, path: str) -> Iterator[imgrec.Store]:
    with imgrec.build("store", name, path=path).open(create=True) as store:
        yield store
