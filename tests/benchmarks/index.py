"""`index=faiss` among a million vectors: what a query takes and finds, filters, changes; and its peers."""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

import imgrec
from benchmarks import peers, spectra
from benchmarks.ingest import CLOTHING
from benchmarks.report import Report
from benchmarks.strangers import ways
from imgrec.kinds.metric import metric_of
from imgrec.search import exact, indexes
from imgrec.search.approximate import ASKED, ApproximateSearch
from imgrec.search.exact import Mask, VectorField
from imgrec.search.pruning import pruning_index
from imgrec.search.tables import Source, VectorTable
from tables import table

COUNT, DIM, K = 1_000_000, 128, 5
QUERIES = 1_000
"""Fresh ones: none of them is in the gallery."""

ROUNDS = 5

SMALLER = 100_000
"""Vectors of each set where several sets, or peers, are compared."""

ENVIRONMENTS = Path(__file__).parent.parent.parent / ".envs"

Floats = npt.NDArray[np.float32]

EUCLIDEAN = metric_of("euclidean")


def run() -> Report:
    """One after another in this process, but for peers, each in its own."""
    report = Report(
        f"{COUNT:,} x {DIM} float32, Euclidean: points between MobileNet v2 vectors of 713 photographs, on their "
        f"principal axes. CPU time, of all threads"
    )
    if not CLOTHING.exists():
        report.notes.append("Not measured: ../shared is not there.")
        return report
    logging.disable(logging.WARNING)
    between = photographs()
    with tempfile.TemporaryDirectory() as folder:
        _million(report, between, Path(folder))
    _stated(report, {**spectra.MADE, "photographs": between})
    with tempfile.TemporaryDirectory() as folder:
        _bytes(report, between(SMALLER, DIM, np.random.default_rng(0)), Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        report.notes.append(_peers(between, Path(folder)))
    logging.disable(logging.NOTSET)
    return report


def photographs() -> spectra.Make:
    """Points between the vectors of the photographs of clothes."""
    with tempfile.TemporaryDirectory() as folder:
        store = imgrec.build("store", "sqlite", path=f"{folder}/g.sqlite")
        imgrec.ingest(CLOTHING, ways()["mobilenetv2"][0], store)
        with store:
            return spectra.between(store.vectors(store.spaces()[0])[1])


# --- a million ----------------------------------------------------------------------------------------------


def _million(report: Report, make: spectra.Make, folder: Path) -> None:
    vectors = make(COUNT + COUNT // 200, DIM, np.random.default_rng(0))
    queries = make(QUERIES, DIM, np.random.default_rng(1))
    names = np.array([f"{i:064x}".encode() for i in range(len(vectors))])
    whole, begun = _table(vectors[:COUNT], names[:COUNT]), _cpu()
    term = indexes.load(imgrec.build("index", "faiss"), _source(folder, "1", set()), whole, EUCLIDEAN)
    report.add("built", _cpu() - begun, "s of CPU")
    assert term.folder is not None
    report.add("lists.bin", (term.folder / "lists.bin").stat().st_size / 1e6, "MB")
    field = VectorField(whole.vectors, EUCLIDEAN, known=whole.pruning)
    search, begun = ApproximateSearch([field], [term]), _cpu()
    told = search.recall(K)
    report.add(f"recall measured on {ASKED:,} images", _cpu() - begun, "s of CPU")
    for name in ("recall", "at_least"):
        report.add(f"stated of the nearest 10, {name}", getattr(told, name), "")
    assert told.effort is not None
    report.add("effort, of 4,000 lists", told.effort[0], "")
    exactly, exact_ms = _timed(lambda: exact.nearest([field], [queries], K))
    found, ms = _timed(lambda: search.nearest([queries], K))
    report.add("exact scan, a query of 1,000 at once", exact_ms, "ms of CPU")
    report.hold("CPU a query of 1,000 at once", ms, at_most=0.25, unit="ms")
    _, alone = _timed(lambda: [search.nearest([query[None]], K) for query in queries])
    report.add("a query by itself", alone, "ms of CPU")
    report.hold(f"recall@{K} of {QUERIES:,} fresh queries", _recall(found, exactly), at_least=0.99, unit="")
    same, both = _same(found, exactly)
    report.hold(f"distances of {both:,} equal to the exact scan's, to the last bit", same, at_least=both, unit="")
    for share in (0.5, 0.1, 0.01, 0.001):
        _masked(report, search, field, queries[:200], np.random.default_rng(2).random(COUNT) < share, share)
    left = np.ones(len(vectors), np.bool_)
    left[np.random.default_rng(3).choice(COUNT, COUNT // 200, replace=False)] = False
    newer = _table(vectors[left], names[left])
    gone = {name.decode() for name in names[~left].tolist()}
    began = time.perf_counter()
    indexes.load(imgrec.build("index", "faiss"), _source(folder, "2", gone), newer, EUCLIDEAN)
    report.hold(
        "1 % of change: seconds until the index is current", time.perf_counter() - began, at_most=3, unit="s"
    )


def _masked(
    report: Report, search: ApproximateSearch, field: VectorField, queries: Floats, usable: Mask, share: float
) -> None:
    found, ms = _timed(lambda: [each for query in queries for each in search.nearest([query[None]], K, usable)])
    exactly = exact.nearest([field], [queries], K, usable)
    report.hold(f"a mask of {share:.1%}: recall@{K}", _recall(found, exactly), at_least=0.99, unit="")
    report.hold(f"a mask of {share:.1%}: CPU a query by itself", ms / len(queries) * QUERIES, at_most=3, unit="ms")
    assert all(usable[rows].all() for rows, _ in found)


def _source(cache: Path, revision: str, gone: set[str]) -> Source:
    """A source of vectors that are given anyway, in a store of which only this is asked."""
    store = SimpleNamespace(
        cache_folder=cache,
        revision=lambda _: revision,
        changes=lambda _, since: None if since == revision else (gone, set()),
    )
    return Source(cast("Any", store), cast("Any", None), "space")


def _table(vectors: Floats, names: npt.NDArray[np.bytes_]) -> VectorTable:
    usable = np.ones(len(vectors), np.bool_)
    return VectorTable(names, vectors, usable, len(vectors), "", pruning_index(vectors))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _timed(work: Any) -> tuple[Any, float]:
    """What a function returns, and milliseconds of CPU a query of `QUERIES`: the median of some rounds."""
    found, used = work(), []
    for _ in range(ROUNDS):
        begun = _cpu()
        work()
        used.append((_cpu() - begun) * 1000 / QUERIES)
    return found, statistics.median(used)


def _recall(found: Any, exactly: Any) -> float:
    """The share of the K nearest that is found; equally near ones count."""
    shares = [
        np.count_nonzero(far[:K] <= true[K - 1]) / K for (_, far), (_, true) in zip(found, exactly, strict=True)
    ]
    return float(np.mean(shares))


def _same(found: Any, exactly: Any) -> tuple[int, int]:
    """How many rows that both have found have the same distance to the last bit, and how many rows that are."""
    pairs = list[bool]()
    for (rows, far), (true, apart) in zip(found, exactly, strict=True):
        distance_of = dict(zip(true.tolist(), apart.tolist(), strict=True))
        pairs += [
            distance_of[row] == value for row, value in zip(rows.tolist(), far, strict=True) if row in distance_of
        ]
    return sum(pairs), len(pairs)


# --- what is stated, and bytes ------------------------------------------------------------------------------


def _stated(report: Report, sets: dict[str, spectra.Make]) -> None:
    for name, make in sets.items():
        vectors, queries = (
            make(count, DIM, np.random.default_rng(i)) for i, count in enumerate((SMALLER, QUERIES))
        )
        whole = _table(vectors, np.array([f"{i:064x}".encode() for i in range(SMALLER)]))
        field = VectorField(vectors, EUCLIDEAN, known=whole.pruning)
        with tempfile.TemporaryDirectory() as folder:
            term = indexes.load(
                imgrec.build("index", "faiss"), _source(Path(folder), "1", set()), whole, EUCLIDEAN
            )
            search = ApproximateSearch([field], [term])
            found, ms = _timed(lambda: search.nearest([queries], 10))  # noqa: B023 - called at once
        exactly = exact.nearest([field], [queries], 10)
        shares = [
            np.count_nonzero(far[:10] <= true[9]) / 10 for (_, far), (_, true) in zip(found, exactly, strict=True)
        ]
        stated = search.recall(10).recall
        report.add(f"`{name}`, {SMALLER:,}: stated recall", stated, "")
        report.add(f"`{name}`, {SMALLER:,}: a query", ms, "ms of CPU")
        off = abs(stated - float(np.mean(shares)))
        report.hold(f"`{name}`: stated recall, off the true one of fresh queries", off, at_most=0.01, unit="")


def _bytes(report: Report, vectors: Floats, folder: Path) -> None:
    import faiss

    import imgrec_faiss

    seen, threads, shard = set(), faiss.omp_get_max_threads(), imgrec_faiss.SHARD
    for i, (count, block, size) in enumerate(((1, 8_192, shard), (2, 1_000, shard), (2, 60_000, 4 * 8_192))):
        faiss.omp_set_num_threads(count)
        imgrec_faiss.SHARD = size
        (folder / str(i)).mkdir()
        blocks = (vectors[start : start + block] for start in range(0, len(vectors), block))
        imgrec.build("index", "faiss").build(blocks, len(vectors), vectors[::2], folder / str(i))
        files = sorted((folder / str(i)).iterdir())
        seen.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    faiss.omp_set_num_threads(threads)
    imgrec_faiss.SHARD = shard
    same = 4 - len(seen)
    report.hold(
        "builds with the same bytes: one thread, two, other blocks, merged of four shards",
        same,
        at_least=3,
        unit="",
    )


# --- peers --------------------------------------------------------------------------------------------------


def _peers(make: spectra.Make, folder: Path) -> str:
    """A table of all that install here, and of imgrec, on the same vectors at unit length."""
    vectors, queries = (
        _unit(make(count, DIM, np.random.default_rng(i))) for i, count in enumerate((SMALLER, 300))
    )
    usable = np.random.default_rng(2).random(SMALLER) < 0.1
    for name, array in (("vectors", vectors), ("queries", queries), ("usable", usable)):
        np.save(folder / f"{name}.npy", array)
    field = VectorField(vectors, EUCLIDEAN, known=pruning_index(vectors))
    true = {
        "found": exact.nearest([field], [queries], K),
        "filtered": exact.nearest([field], [queries], K, usable),
    }
    told = {"imgrec, `index=faiss`": _ours(vectors, queries, usable, folder)}
    for name in peers.PEERS:
        told[name] = _peer(name, folder)
    rows = []
    for name, each in told.items():
        if "problem" in each:
            rows.append([name, each["problem"], *[""] * 6])
            continue
        cells = [f"{name} {each['version']}", f"{each['build']:.1f} s", f"{each['bytes'] / 1e6:.0f} MB"]
        for what in ("found", "filtered"):
            if each[what] is None:
                cells += ["", ""]
                continue
            pairs = zip(each[what]["rows"], true[what], strict=True)
            recall = np.mean([len(set(some) & set(rows[:K].tolist())) / K for some, (rows, _) in pairs])
            forbidden = what == "filtered" and any(not usable[some].all() for some in each[what]["rows"])
            cells += [f"{recall:.3f}{', forbidden rows' if forbidden else ''}", f"{each[what]['cpu']:.2f} ms"]
        rows.append(cells)
    header = ["", "built, CPU", "bytes", f"recall@{K}", "CPU a query", "with 10 %", "CPU a query"]
    return f"Peers at {SMALLER:,} x {DIM}, as they come, one query at a time:\n\n{table(header, rows)}"


def _unit(vectors: Floats) -> Floats:
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _ours(vectors: Floats, queries: Floats, usable: Mask, folder: Path) -> dict[str, Any]:
    whole, begun = _table(vectors, np.array([f"{i:064x}".encode() for i in range(len(vectors))])), _cpu()
    term = indexes.load(imgrec.build("index", "faiss"), _source(folder, "1", set()), whole, EUCLIDEAN)
    search = ApproximateSearch([VectorField(vectors, EUCLIDEAN, known=whole.pruning)], [term])
    search.recall(K)
    assert term.folder is not None
    told: dict[str, Any] = {"version": imgrec.__version__, "build": _cpu() - begun}
    told["bytes"] = sum((term.folder / name).stat().st_size for name in ("lists.bin", "learned.npz"))
    for what, mask in (("found", None), ("filtered", usable)):
        begun = _cpu()
        rows = [search.nearest([query[None]], K, mask)[0][0][:K].tolist() for query in queries]
        told[what] = {"rows": rows, "cpu": 1000 * (_cpu() - begun) / len(queries)}
    return told


def _peer(name: str, folder: Path) -> dict[str, Any]:
    """What a peer tells, in an environment of its own."""
    for command in (*prepared(name), [python_of(name), peers.__file__, name, folder]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"problem": (done.stderr.strip().splitlines() or ["it failed"])[-1][:100]}
    told: dict[str, Any] = json.loads(done.stdout.rpartition("told: ")[2])
    return told


def python_of(peer: str) -> Path:
    """The Python of the environment that is made for a peer and kept."""
    return ENVIRONMENTS / f"peer-{peer}" / "bin" / "python"


def prepared(peer: str) -> Iterator[list[Any]]:
    """The commands that make a peer's environment."""
    python = python_of(peer)
    if not python.exists():
        yield [sys.executable, "-m", "venv", python.parent.parent]
    yield [python, "-m", "pip", "install", "-q", *peers.PEERS[peer][0]]
