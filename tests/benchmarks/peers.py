"""One of the peers of `index=faiss`, run by the Python of an environment that has it: `peers.py NAME FOLDER`.

It reads `vectors.npy`, `queries.npy` and `usable.npy` from the folder, all of unit length, and prints JSON.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

K, BATCH = 5, 5_000

Search = Callable[[Any, bool], Any]
"""Returns the row numbers of the nearest of one query; the second argument says whether only usable rows count.

None where it cannot.
"""


def usearch(folder: Path, vectors: Any, _: Any) -> Search:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="l2sq", dtype="f32")
    index.add(np.arange(len(vectors)), vectors)
    index.save(str(folder / "usearch"))

    def search(query: Any, is_filtered: bool) -> Any:
        if is_filtered:
            return None  # it has no filter in Python
        return index.search(query, K).keys

    return search


def lancedb(folder: Path, vectors: Any, usable: Any) -> Search:
    import lancedb
    import pyarrow as pa

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    rows = pa.table({"row": np.arange(len(vectors)), "usable": usable, "vector": column})
    table = lancedb.connect(str(folder)).create_table("images", rows)
    table.create_index(metric="l2", vector_column_name="vector")

    def search(query: Any, is_filtered: bool) -> Any:
        asked = table.search(query).limit(K).refine_factor(10)
        if is_filtered:
            asked = asked.where("usable", prefilter=True)
        return asked.to_arrow()["row"].to_numpy()

    return search


def milvus(folder: Path, vectors: Any, usable: Any) -> Search:
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(str(folder / "milvus.db"))
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("usable", DataType.BOOL)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    how = client.prepare_index_params()
    how.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 16, "efConstruction": 200})
    client.create_collection("images", schema=schema, index_params=how)
    for start in range(0, len(vectors), BATCH):
        some = range(start, min(start + BATCH, len(vectors)))
        client.insert("images", [{"id": i, "usable": bool(usable[i]), "vector": vectors[i]} for i in some])
    client.flush("images")
    client.load_collection("images")

    def search(query: Any, is_filtered: bool) -> Any:
        only = "usable == true" if is_filtered else ""
        (found,) = client.search("images", data=[query], limit=K, filter=only)
        return [each["id"] for each in found]

    return search


def qdrant(folder: Path, vectors: Any, usable: Any) -> Search:
    import qdrant_edge as edge

    how = edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Euclid)
    shard = edge.EdgeShard.create(str(folder / "qdrant"), edge.EdgeConfig(vectors=how))
    for start in range(0, len(vectors), BATCH):
        some = range(start, min(start + BATCH, len(vectors)))
        points = [edge.Point(i, vectors[i].tolist(), {"usable": "yes" if usable[i] else "no"}) for i in some]
        shard.update(edge.UpdateOperation.upsert_points(points))
    while shard.optimize():
        pass
    only = edge.Filter(must=[edge.FieldCondition(key="usable", match=edge.MatchValue("yes"))])

    def search(query: Any, is_filtered: bool) -> Any:
        asked = edge.Query.Nearest(query.tolist())
        found = shard.search(edge.SearchRequest(asked, K, filter=only if is_filtered else None))
        return [each.id for each in found]

    return search


def autofaiss(folder: Path, vectors: Any, usable: Any) -> Search:
    """As clip-retrieval's `clip_index` calls it; what needs no torch."""
    import faiss
    from autofaiss import build_index

    index, _ = build_index(
        vectors,
        index_path=str(folder / "image.index"),
        index_infos_path=str(folder / "image.json"),
        max_index_memory_usage="4G",
        current_memory_available="8G",
        nb_cores=2,
    )
    faiss.omp_set_num_threads(2)

    def search(query: Any, is_filtered: bool) -> Any:
        _, rows = index.search(
            query[None], 40 if is_filtered else K
        )  # what was found is filtered, as by its back end
        return rows[0][usable[rows[0]]][:K] if is_filtered else rows[0]

    return search


PEERS: dict[str, tuple[Sequence[str], Callable[[Path, Any, Any], Search]]] = {
    "usearch": (["usearch", "numpy"], usearch),
    "lancedb": (["lancedb"], lancedb),
    "milvus-lite": (["milvus-lite", "pymilvus"], milvus),
    "qdrant-edge": (["qdrant-edge-py", "numpy"], qdrant),
    "clip-retrieval": (["autofaiss", "faiss-cpu", "pyarrow<16", "pandas<3"], autofaiss),
}
"""By name: the distributions that it needs, the first its own, and what builds it and returns its search."""


def main(name: str, given: Path) -> None:
    (distribution, *_), made = PEERS[name]
    vectors, queries, usable = (np.load(given / f"{each}.npy") for each in ("vectors", "queries", "usable"))
    folder = given / name
    folder.mkdir()
    begun = _cpu()
    search = made(folder, vectors, usable)
    built = _cpu() - begun
    told: dict[str, Any] = {"version": importlib.metadata.version(distribution), "build": built}
    told["bytes"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    for what, is_filtered in (("found", False), ("filtered", True)):
        if search(queries[0], is_filtered) is None:
            told[what] = None
            continue
        begun, began = _cpu(), time.perf_counter()
        rows = [np.asarray(search(query, is_filtered)).tolist() for query in queries]
        each = 1000 * (time.perf_counter() - began) / len(queries), 1000 * (_cpu() - begun) / len(queries)
        told[what] = {"rows": rows, "ms": each[0], "cpu": each[1]}
    print("told: " + json.dumps(told))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
