"""Graphs of neighbours among 1,000,000 vectors of 1,024 values: what faiss and usearch need for a recall of 0.99.

Beside part `million`, which searches the same vectors exactly. To build a graph takes most of an hour.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import index
from benchmarks.million import (
    CHECKOUT,
    DIM,
    ONE_BY_ONE,
    QUERIES,
    ROWS,
    TOGETHER,
    K,
    Searcher,
    make_vectors,
    started,
)
from benchmarks.report import Report

RECALL, EFFORTS = 0.99, (16, 32, 64, 128, 256, 512, 1024, 2048)
"""What the graphs are to find, and the efforts that are tried for it."""


def run() -> Report:
    """Each in a process of its own, one after the other."""
    report = Report(f"{K} nearest of {ROWS:,} x {DIM:,} float32, Euclidean, with the spectrum of real ones")
    for command in index.prepared("usearch"):
        subprocess.run(command, check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_vectors(folder)
        with started("imgrec", folder, CHECKOUT) as exact:
            _, true = exact.ask(0, QUERIES, together=True)
        for way, python in (("faiss", sys.executable), ("usearch", index.python_of("usearch"))):
            with started(way, folder, CHECKOUT, python) as graph:
                _graph(report, way, graph, true)
    return report


def _graph(report: Report, way: str, graph: Searcher, true: list[list[int]]) -> None:
    """What a graph needs for its recall; the least effort that reaches it."""
    name = f"{way} HNSW"
    report.add(f"{name}, built", graph.built, "s of CPU")
    recall = 0.0
    for effort in EFFORTS:
        _, found = graph.ask(0, QUERIES, together=True, effort=effort)
        pairs = zip(found, true, strict=True)
        recall = sum(len(set(some) & set(rows)) for some, rows in pairs) / (K * QUERIES)
        if recall >= RECALL:
            break
    one, _ = graph.ask(0, ONE_BY_ONE, together=False, effort=effort)
    many, _ = graph.ask(0, TOGETHER, together=True, effort=effort)
    told = f"recall {recall:.3f} by an effort of {effort}"
    report.add(f"{name}, {told}, one query", 1000 * one / ONE_BY_ONE, "ms")
    report.add(f"{name}, {told}, {TOGETHER} at once, each", 1000 * many / TOGETHER, "ms")
