"""Evaluation of a gallery: quality and cost of its answers, and the worst of them."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from imgrec.errors import UsageError
from imgrec.evaluation.figures import Quality, by_class, evaluate_rankings, summary
from imgrec.evaluation.queries import Queries, decoded_for, hits, picture, relevant
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity
from imgrec.kinds import Extractor, Image, Reranker
from imgrec.search import exact
from imgrec.threads import each

TIMED_IMAGES, TIMED_QUERIES = 64, 20


def evaluate(
    gallery: Gallery,
    queries: Queries,
    extractors: Sequence[Extractor],
    *,
    k: int = 5,
    rerank: Reranker | None = None,
    seed: int = 0,
    timed: Callable[[str], AbstractContextManager[None]] = lambda _: contextlib.nullcontext(),
) -> tuple[dict[str, Any], list[Quality]]:
    """Evaluate a gallery.

    Args:
        gallery: the gallery to search.
        queries: the queries, from `asked_of`.
        extractors: one for each term of the gallery's similarity.
        k: how many neighbours are considered.
        rerank: if given, expands each query for a second search.
        seed: of the bootstrap for confidence intervals.
        timed: context manager to time the phases `projection` and `rank`.

    Returns:
        The content of `results.json`, and the quality of each query's ranking.

    Raises:
        UsageError: a projection is supervised and there are no labels.
    """
    with timed("projection"):
        _check_labels(gallery.similarity, queries)
        learned = gallery.about_projections()
    with timed("rank"):
        per_query = evaluate_rankings(hits(gallery, queries, rerank), k, relevant(gallery, queries))
    found = {
        "space": gallery.similarity.stored_key,
        "metric": gallery.similarity.metric,
        "gallery": len(gallery.records),
        "asked": queries.about,
        "k": k,
        **summary(per_query, seed),
        queries.grouped_by: by_class(per_query, queries.groups),
        "projection": learned,
        "rerank": {"reranker": rerank.name, **rerank.plain_options()} if rerank else None,
        **_cost(gallery, queries, extractors, k),
    }
    return found, per_query


def answers(
    gallery: Gallery, queries: Queries, numbers: Sequence[int], *, k: int, rerank: Reranker | None, seed: int
) -> list[tuple[Image | None, str, list[tuple[str, bool]]]]:
    """Answer some of the queries.

    Args:
        gallery: the gallery to search.
        queries: all queries.
        numbers: indices of the queries to answer.
        k: how many neighbours to find.
        rerank: if given, expands each query for a second search.
        seed: of the alterations.

    Returns:
        For each query: its image, None if its file is gone; its name; and each neighbour's path and whether it is
        a hit.
    """
    key_at = dict(zip((record.path for record in gallery.records), queries.keys, strict=True))
    found = gallery.search([queries.asked[i] for i in numbers], k, copies=True, rerank=rerank)
    return [
        (
            picture(queries, i, seed),
            queries.names[i],
            [(match.path, key_at[match.path] == queries.wanted[i]) for match in matches],
        )
        for i, matches in zip(numbers, found, strict=True)
    ]


def _check_labels(similarity: Similarity, queries: Queries) -> None:
    """Reject supervised projections if there are no labels."""
    for term in similarity.terms:
        if term.projection is not None and term.projection.supervised and queries.grouped_by != "by_class":
            raise UsageError(
                f"projection={term.projection.name} learns from labels, and there are none: "
                "they are the names of two folders or more, or in labels=FILE.csv"
            )


def _cost(
    gallery: Gallery, queries: Queries, extractors: Sequence[Extractor], k: int
) -> dict[str, float | int | None]:
    """Speed of decoding and extracting a sample of files, median time per query, and bytes per image."""
    sides = {extractor.side for extractor in extractors}
    first = decoded_for(sides, gallery.records[0])
    for extractor in extractors if first else ():
        extractor.extract([first[extractor.side]])  # warm up: loading a model is not a cost per image
    start = time.perf_counter()
    decoded = each(lambda record: decoded_for(sides, record), gallery.records[:TIMED_IMAGES])
    there = [image for image in decoded if image]
    for extractor in extractors if there else ():
        extractor.extract([image[extractor.side] for image in there])
    seconds = time.perf_counter() - start
    times = []
    for query in zip(*gallery.targets(queries.asked[:TIMED_QUERIES]), strict=True):
        begun = time.perf_counter()
        exact.nearest(gallery.fields, [vector[None] for vector in query], k)
        times.append(time.perf_counter() - begun)
    return {
        "images_per_s": round(len(there) / seconds, 1) if there else None,
        "query_ms": round(1000 * statistics.median(times), 3),
        "bytes_per_image": sum(field.vectors.shape[1] * field.vectors.itemsize for field in gallery.fields),
    }
