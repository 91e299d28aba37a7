"""t-SNE of 50,000 vectors of 128 values, beside scikit-learn's of 10,000, which is extrapolated as n log n."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import imgrec
from benchmarks.report import Report

SMALL, LARGE, DIM = 10_000, 50_000, 128
NEAREST = 10
"""Neighbours that a good map keeps."""

ASKED = 1_000
"""Vectors whose neighbours are looked at."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """One map."""

    name: str
    count: int
    seconds: float
    kept: float
    """The share of the `NEAREST` neighbours in the vectors that are still among as many on the map."""


def run() -> Report:
    """Times, and how good the maps are."""
    maps = measure()
    theirs, ours = maps[0], maps[-1]
    report = Report(f"t-SNE of vectors of {DIM} values, in a hundred groups")
    for each in maps:
        report.add(f"{each.name}, {each.count:,} vectors", each.seconds, "s")
        report.add(f"of {NEAREST} neighbours kept, {each.name}, {each.count:,}", each.kept, "")
    expected = report.add(f"scikit-learn, {LARGE:,}, extrapolated", theirs.seconds * growth(SMALL, LARGE), "s")
    report.hold(f"t-SNE of {LARGE:,} over scikit-learn's", expected / ours.seconds, at_least=3.5)
    return report


def measure() -> list[Measured]:
    """scikit-learn's map of few vectors, and imgrec's of these and of many; compiled and cached beforehand."""
    from sklearn.manifold import TSNE

    vectors = in_groups(LARGE)
    imgrec.build("reducer", "tsne", n_iter=10).fit(vectors[:500])
    ours = imgrec.build("reducer", "tsne", metric="euclidean")
    few = vectors[:SMALL]
    return [
        measured("scikit-learn", few, lambda: TSNE(random_state=0).fit_transform(few)),
        measured("imgrec", few, lambda: ours.fit_transform(few)),
        measured("imgrec", vectors, lambda: ours.fit_transform(vectors)),
    ]


def measured(name: str, vectors: Floats, reduce: Callable[[], Floats]) -> Measured:
    """Time one map, and look how good it is."""
    start = time.perf_counter()
    reduced = reduce()
    return Measured(name, len(vectors), time.perf_counter() - start, kept(vectors, reduced))


def growth(few: int, many: int) -> float:
    """How much longer many take than few, as n log n."""
    return many * math.log(many) / (few * math.log(few))


def kept(vectors: Floats, reduced: Floats) -> float:
    """The share of neighbours that the map keeps, in a sample."""
    from sklearn.neighbors import NearestNeighbors

    asked = np.random.default_rng(1).choice(len(vectors), ASKED, replace=False)
    found = [
        NearestNeighbors(n_neighbors=NEAREST + 1).fit(each).kneighbors(each[asked], return_distance=False)
        for each in (vectors, reduced)
    ]
    shares = [len(np.intersect1d(a, b)) - 1 for a, b in zip(*found, strict=True)]  # each finds itself
    return float(np.mean(shares)) / NEAREST


def in_groups(count: int) -> Floats:
    """Vectors in a hundred groups, each of another shape and with the falling spectrum that photographs' have."""
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(1 + np.arange(DIM))).astype(np.float32)
    centres = rng.normal(size=(100, DIM)).astype(np.float32) * scale
    shapes = rng.gamma(1, size=(100, DIM)).astype(np.float32) * scale
    group = rng.integers(100, size=count)
    return centres[group] + shapes[group] * rng.standard_normal((count, DIM), dtype=np.float32)
