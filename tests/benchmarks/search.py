"""Search among 214,005 vectors of 1,024 values: the scan, the proved one, batches, and what else there is."""

from __future__ import annotations

import functools
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec import search
from tables import table

ROWS, DIM, K = 214_005, 1_024, 5
QUERIES = 1_000
"""Whose proved neighbours are compared with the whole scan's."""

Floats = npt.NDArray[np.float32]


def run() -> str:
    """A table of medians, each beside the loop of `cdist` and `argsort`, and how often both scans agreed."""
    return _report(measure())


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    seconds: dict[str, float]
    """The median time of one query, by the way it was answered."""

    same: int
    """Queries of which the proved scan found the neighbours of the whole scan."""

    compressing: float
    """Seconds."""


def measure() -> Figures:
    """All ways in one process, on the same vectors."""
    rng = np.random.default_rng(0)
    vectors, queries = like_real_ones(ROWS, rng), like_real_ones(QUERIES, rng)
    start = time.perf_counter()
    compressed = search.compress(vectors)
    compressing = time.perf_counter() - start
    one, many = queries[0], queries[:256]
    nearest = functools.partial(search.nearest_of_many, vectors, k=K, metric="euclidean")
    proved = functools.partial(nearest, compressed=compressed)
    whole = functools.partial(nearest, compressed=replace(compressed, levels=()))
    ways: dict[str, Callable[[], object]] = {
        "scipy cdist and argsort": lambda: _by_cdist(vectors, one),
        "one matrix-vector product": lambda: vectors @ one,
        "imgrec, whole scan": lambda: whole(one[None]),
        "imgrec, proved scan": lambda: proved(one[None]),
        "imgrec, whole scan, 256 at once, each": lambda: whole(many),
        "imgrec, proved scan, 256 at once, each": lambda: proved(many),
        **_others(vectors, one),
    }
    seconds = {}
    for name, way in ways.items():
        at_once = len(many) if "256" in name else 1
        seconds[name] = _median(way, 3 if at_once > 1 or "scipy" in name else 15) / at_once
    same = sum(
        np.array_equal(rows[:K], others[:K])
        for (rows, _), (others, _) in zip(
            whole(queries), (proved(query[None])[0] for query in queries), strict=True
        )
    )
    return Figures(seconds, same, compressing)


def _report(figures: Figures) -> str:
    base = figures.seconds["scipy cdist and argsort"]
    rows = [[name, f"{1000 * each:.1f} ms", f"{base / each:.1f} x"] for name, each in figures.seconds.items()]
    return (
        table(["one query", "median", "over cdist"], rows)
        + f"\n\nThe proved scan found the same {K} neighbours in {figures.same:,} of {QUERIES:,} queries. "
        + f"Compressing took {figures.compressing:.1f} s."
    )


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


def _median(way: Callable[[], object], rounds: int) -> float:
    times = []
    way()
    for _ in range(rounds):
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


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
