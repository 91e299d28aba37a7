"""Pictures elsewhere beside the same in a folder: over 30 ms of latency, and in tar archives."""

from __future__ import annotations

import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import imgrec
from benchmarks.ingest import WEIGHTS, model, photographs
from benchmarks.report import Report
from faulty_storage import Faulty, elsewhere

COUNT = 2048
LATENCY = 0.03
ROUNDS = 3
KEYS = 100_000


def run(count: int = COUNT) -> Report:
    """Rounds of each kind in turn, of which the median counts."""
    weights = "ImageNet weights" if WEIGHTS.exists() else "random weights"
    report = Report(f"{count:,} JPEG files of 533 x 400, mobilenetv2_100 ({weights}), medians of {ROUNDS}")
    with tempfile.TemporaryDirectory() as folder:
        photos = photographs(Path(folder, "photos"), count)[0].parent
        shard = Path(folder, "shard.tar")
        with tarfile.open(shard, "w") as opened:
            for file in sorted(photos.iterdir()):
                opened.add(file, file.name)
        with elsewhere(Path(folder), LATENCY) as server:
            os.environ |= server.environment
            latency(report, photos, shard, server)
        reading(report, photos, shard)
    with elsewhere(KEYS) as server:
        listing(report, server)
    return report


def latency(report: Report, photos: Path, shard: Path, server: Faulty) -> None:
    """Ingests with mobilenetv2."""
    roots = {
        "a folder": str(photos),
        "s3:// over 30 ms": server.url("photos"),
        "a tar archive on s3:// over 30 ms": server.url("shard.tar"),
        "a tar archive": str(shard),
    }
    extractor = model()
    imgrec.ingest(next(iter(sorted(photos.iterdir()))), extractor, _store(photos.parent / "first"))  # it is loaded
    speeds: dict[str, list[float]] = {name: [] for name in roots}
    contents = {}
    for number in range(ROUNDS):
        for name, root in roots.items():
            store = _store(photos.parent / f"{number}-{name.replace('/', '')}.sqlite")
            start = time.perf_counter()
            count = imgrec.ingest(root, extractor, store).new
            speeds[name].append(count / (time.perf_counter() - start))
            contents[name] = _content(store)
    medians = {name: report.add(name, statistics.median(each), "images/s") for name, each in speeds.items()}
    for name, value in list(medians.items())[1:]:
        report.hold(f"{name} over a folder, images/s", value / medians["a folder"], at_least=0.85)
    wanted = contents["a folder"]
    same = sum(each == wanted for each in contents.values()) / len(contents)
    report.hold("digests and vectors, of all equal to those of a folder", same, at_least=1, unit="")


def reading(report: Report, photos: Path, shard: Path) -> None:
    """The processor's time alone, of pictures that the system has in memory."""
    for name, root in (("a folder", str(photos)), ("a tar archive", str(shard))):
        took = []
        for _ in range(ROUNDS):
            source = type(imgrec.source_of(root))()
            start = time.process_time()
            paths = [file.path for file in source.find(source.roots(root))]
            found = time.process_time()
            for path in paths:
                source.read(path)
            end = time.process_time()
            took.append(((found - start) * 1000 / len(paths), (end - found) * 1000 / len(paths)))
        list_ms, read_ms = (statistics.median(each) for each in zip(*took, strict=True))
        report.add(f"{name}: to find an image", list_ms, "ms of CPU")
        report.add(f"{name}: to read one", read_ms, "ms of CPU")
    report.hold("a tar archive: to read an image", read_ms, at_most=0.1, unit="ms of CPU")


def listing(report: Report, server: Faulty) -> None:
    """As many objects as a bucket lists, of which nothing is read."""
    os.environ |= server.environment
    source = imgrec.build("source", "remote")
    start = time.process_time()
    count = sum(1 for _ in source.find([server.url("n")]))
    report.add("to list an object of s3://", (time.process_time() - start) * 1000 / count, "ms of CPU")


def _store(file: Path) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(file))
    return store


def _content(store: imgrec.Store) -> dict[str, bytes]:
    with store:
        (space,) = store.spaces()
        digests, rows = store.vectors(space)
        vectors = dict(zip(digests, (row.tobytes() for row in rows), strict=True))
        return {
            Path(record.path).name: record.digest.encode() + vectors[record.digest] for record in store.records()
        }
