"""A search in a process of its own, to take turns with others: `searcher.py HOW FOLDER`.

It maps `vectors.npy` and `queries.npy` of the folder, makes its index, says how much CPU time that took, and then
answers requests: a line of JSON each, `{"first": 0, "last": 256, "together": true, "effort": null}`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 5
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Search = Callable[[Any, Any], Any]
"""Takes queries `(m, dim)` and an effort, a number or None, and returns the rows of the nearest of each."""


def proved(vectors: Any) -> Search:
    """imgrec's exact search, of the version that is imported."""
    from imgrec.kinds.metric import metric_of

    bounds, exact = (importlib.import_module(f"imgrec.search.{name}") for name in ("bounds", "exact"))
    where = bounds if hasattr(bounds, "pruning_index") else importlib.import_module("imgrec.search.pruning")
    field = exact.VectorField(vectors, metric_of("euclidean"), known=where.pruning_index(vectors))
    return lambda queries, _: [rows for rows, _ in exact.nearest([field], [queries], K)]


def at_5e234b1(vectors: Any) -> Search:
    """The exact search of that commit."""
    search: Any = importlib.import_module("imgrec.search")
    known = search.compress(vectors)
    return lambda queries, _: [
        rows for rows, _ in search.nearest_of_many(vectors, queries, K, "euclidean", compressed=known)
    ]


def faiss(vectors: Any) -> Search:
    import faiss

    faiss.omp_set_num_threads(CORES)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32)
    for start in range(0, len(vectors), 50_000):
        index.add(np.ascontiguousarray(vectors[start : start + 50_000]))

    def search(queries: Any, effort: Any) -> Any:
        index.hnsw.efSearch = effort
        return index.search(queries, K)[1]

    return search


def usearch(vectors: Any) -> Search:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="l2sq", dtype="f32")
    for start in range(0, len(vectors), 50_000):
        some = np.ascontiguousarray(vectors[start : start + 50_000])
        index.add(np.arange(start, start + len(some)), some, threads=CORES)

    def search(queries: Any, effort: Any) -> Any:
        index.expansion_search = effort
        found = index.search(queries, K, threads=CORES).keys
        return found.reshape(len(queries), -1)

    return search


WAYS = {"imgrec": proved, "5e234b1": at_5e234b1, "faiss": faiss, "usearch": usearch}


def main(how: str, folder: Path) -> None:
    vectors, queries = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    begun = time.process_time()
    search = WAYS[how](vectors)
    print(json.dumps({"built": time.process_time() - begun}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        some, effort = queries[asked["first"] : asked["last"]], asked["effort"]
        begun = time.perf_counter()
        groups = [some] if asked["together"] else some[:, None]
        found = [rows for group in groups for rows in search(group, effort)]
        seconds = time.perf_counter() - begun
        rows = [[int(row) for row in each[:K]] for each in found]
        print(json.dumps({"seconds": seconds, "rows": rows}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
