"""Search among 214,005 vectors of 1,024 values: the scan, the proved one, batches, and what else there is."""

from __future__ import annotations

import functools
import importlib.util
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report
from imgrec.gallery.each import AT_ONCE
from imgrec.kinds.metric import metric_of
from imgrec.search import exact
from imgrec.search.exact import Found, Mask, VectorField
from imgrec.search.pruning import PruningIndex, pruning_index

ROWS, DIM, K = 214_005, 1_024, 5
ROUNDS = 9
FEW = 0.01
"""The share of vectors that a narrow filter leaves."""

QUERIES = 1_000
"""Whose proved neighbours are compared with the whole scan's."""

EACH = 10_000
"""Queries of one run with `each=true`."""

Floats = npt.NDArray[np.float32]


def run() -> Report:
    """All ways in one process, on the same vectors; rounds take turns."""
    report = Report(f"{K} nearest of {ROWS:,} x {DIM:,} float32, Euclidean; one query, median of {ROUNDS}")
    rng = np.random.default_rng(0)
    vectors, queries = with_copies(like_real_ones(ROWS, rng), rng), like_real_ones(QUERIES, rng)
    start = time.perf_counter()
    known = pruning_index(vectors)
    report.add("compressing, once", time.perf_counter() - start, "s")
    one, many = queries[0], queries[:256]
    few = rng.random(ROWS) < FEW
    proved = functools.partial(_nearest, vectors, known)
    whole = functools.partial(_nearest, vectors, replace(known, levels=()))
    ways: dict[str, Callable[[], object]] = {
        "scipy cdist and argsort": lambda: _by_cdist(vectors, one),
        **_others(vectors, one),
        "one matrix-vector product": lambda: vectors @ one,
        "imgrec, whole scan": lambda: whole(one[None]),
        "imgrec, proved scan": lambda: proved(one[None]),
        "imgrec, whole scan, 256 at once, each": lambda: whole(many),
        "imgrec, proved scan, 256 at once, each": lambda: proved(many),
        f"imgrec, proved scan, a filter of {FEW:.0%}": lambda: proved(one[None], few),
        "imgrec, proved scan, 8 variants of a query, together": lambda: proved(queries[:8]),
    }
    times = _in_turns(ways)
    ms = {}
    for name, each in times.items():
        ms[name] = report.add(name, 1000 * statistics.median(each) / (len(many) if "256" in name else 1), "ms")
    scan, product = ms["imgrec, whole scan"], ms["one matrix-vector product"]
    report.hold("whole scan over cdist and argsort", ms["scipy cdist and argsort"] / scan, at_least=9)
    report.hold("whole scan, its time over one product's", scan / product, at_most=1.2)
    report.hold("proved scan over the whole scan", scan / ms["imgrec, proved scan"], at_least=5)
    at_once = ms["imgrec, whole scan, 256 at once, each"]
    asked = like_real_ones(EACH, rng)
    start = time.perf_counter()
    for some in np.split(asked, range(AT_ONCE, EACH, AT_ONCE)):
        proved(some)
    report.add(
        f"imgrec, proved scan, {EACH:,} queries in a run, {AT_ONCE:,} at once", time.perf_counter() - start, "s"
    )
    report.hold("256 queries at once over one at a time, whole scan", scan / at_once, at_least=5)
    filtered = ms[f"imgrec, proved scan, a filter of {FEW:.0%}"]
    report.hold("a filter's time over that of no filter", filtered / ms["imgrec, proved scan"], at_most=2)
    same = sum(
        np.array_equal(rows[:K], proved(query[None])[0][0][:K])
        for query, (rows, _) in zip(queries, whole(queries), strict=True)
    )
    report.hold(
        f"queries of {QUERIES:,} with the same {K} neighbours by both scans", same, at_least=QUERIES, unit=""
    )
    _join(report, vectors, known)
    return report


NEAR = 0.2
"""A distance that copies have, a fifth of that to the nearest other vector."""

COPIES = 2_000
"""Vectors that are copies of others, moved by up to twice that distance."""

BRUTE = 20_000
"""The vectors of which all pairs are measured by brute force as well."""


def _join(report: Report, vectors: Floats, known: PruningIndex) -> None:
    """All pairs of a gallery: `imgrec duplicates`, files and groups apart."""
    some = vectors[-BRUTE:]
    field = VectorField(some, metric_of("euclidean"), known=pruning_index(some))
    proved = {(image, row) for image, rows, _ in exact.pairs([field], NEAR) for row in rows.tolist()}
    measured = _pairs_by_brute_force(some)
    report.hold(
        f"pairs of {BRUTE:,} found, of the {len(measured):,} by brute force",
        len(proved & measured) - len(proved - measured),
        at_least=len(measured),
        unit="",
    )
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    field = VectorField(vectors, metric_of("euclidean"), known=known)
    count = sum(len(rows) for _, rows, _ in exact.pairs([field], NEAR))
    took = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    report.add(f"pairs within {NEAR}: {count:,}", took, "s")
    report.hold("all pairs of the gallery among themselves", took / 60, at_most=10, unit="min")
    report.hold("memory that these take beside what was there", more, at_most=1.5, unit="GB")


def _pairs_by_brute_force(vectors: Floats) -> set[tuple[int, int]]:
    """All pairs within `NEAR`, by products in float64; what rounding could decide is measured by itself."""
    doubles = vectors.astype(np.float64)
    squares = np.einsum("ij,ij->i", doubles, doubles)
    found = set()
    for start in range(0, len(doubles), 1_000):
        block = doubles[start : start + 1_000]
        apart = squares[start : start + 1_000, None] + squares[start:] - 2 * block @ doubles[start:].T
        for image, row in np.argwhere(apart <= NEAR**2 * (1 + 1e-9) + 1e-9).tolist():
            if image < row and np.linalg.norm(block[image] - doubles[start + row]) <= NEAR:
                found.add((start + image, start + row))
    return found


def with_copies(vectors: Floats, rng: np.random.Generator) -> Floats:
    """The same with `COPIES` of them replaced by copies of others near the end, moved by 0 to twice `NEAR`."""
    moves = rng.standard_normal((COPIES, DIM), dtype=np.float32)
    moves *= rng.uniform(0, 2 * NEAR, (COPIES, 1)).astype(np.float32) / np.linalg.norm(
        moves, axis=1, keepdims=True
    )
    vectors[-COPIES:] = vectors[-2 * COPIES : -COPIES] + moves
    return vectors


def _nearest(vectors: Floats, known: PruningIndex, queries: Floats, usable: Mask | None = None) -> list[Found]:
    return exact.nearest([VectorField(vectors, metric_of("euclidean"), known=known)], [queries], K, usable)


def like_real_ones(count: int, rng: np.random.Generator) -> Floats:
    """Vectors with the spectrum of MobileNet's of photographs, in a thousand groups."""
    i = np.arange(DIM)
    scale = np.sqrt(np.exp(-i / 250) / (i + 8)).astype(np.float32)
    fixed = np.random.default_rng(99)
    turned = (np.linalg.qr(fixed.normal(size=(DIM, DIM)))[0] * scale).T.astype(np.float32)
    groups = fixed.normal(size=(1_000, DIM)).astype(np.float32)
    made = np.empty((count, DIM), np.float32)
    for start in range(0, count, 16_384):
        rows = min(16_384, count - start)
        chosen = groups[rng.integers(len(groups), size=rows)]
        apart = rng.standard_normal((rows, DIM), dtype=np.float32)
        made[start : start + rows] = (chosen + 0.5 * apart) @ turned + np.float32(0.05)
    return made


def _in_turns(ways: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each way in each round; a first one warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: each[1:] for name, each in times.items()}


def _by_cdist(vectors: Floats, query: Floats) -> npt.NDArray[np.intp]:
    from scipy.spatial.distance import cdist

    return np.argsort(cdist(query[None], vectors)[0])[:K]


def _others(vectors: Floats, query: Floats) -> dict[str, Callable[[], Any]]:
    from sklearn.neighbors import NearestNeighbors

    fitted = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(vectors)
    ways: dict[str, Callable[[], Any]] = {"scikit-learn NearestNeighbors": lambda: fitted.kneighbors(query[None])}
    if importlib.util.find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatL2(vectors.shape[1])
        flat.add(vectors)
        ways["faiss flat"] = lambda: flat.search(query[None], K)
    if importlib.util.find_spec("usearch"):
        from usearch.index import search as exact

        ways["usearch exact"] = lambda: exact(vectors, query, K, "l2sq", exact=True)
    return ways
