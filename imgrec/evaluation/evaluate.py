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
from imgrec.evaluation.queries import Queries, asked_of, decoded_for, hits, picture, relevant
from imgrec.gallery import similarity as similarities
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity
from imgrec.kinds import Extractor, Image, Reducer, Reranker, Store
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


def evaluate_store(
    store: Store,
    queries: Store | None = None,
    *,
    labels: str = "auto",
    k: int = 5,
    metric: str | None = None,
    sample: int | None = 1000,
    space: str | None = None,
    extractor: Extractor | None = None,
    projection: Reducer | None = None,
    rerank: Reranker | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure how well a store's similar images are found: by labels, or without any by altered copies.

    Args:
        store: filled by `ingest`.
        queries: another store, filled by the same extractors, whose images are asked for; None: the store's own.
        labels: `folder` (the name of each image's folder), `none`, `auto`, or a CSV file with the columns `path`
            and `label`.
        k: how many neighbours are looked at.
        metric: the name of one, such as `euclidean` or `cosine`; None: those of a fusion's parts, else Euclidean.
        sample: at most so many of the store's own images, or copies, are queries; None for all.
        space: which space or fusion, if the store has several: its key or a prefix of it.
        extractor: chooses the space by identity.
        projection: a reducer, fitted on the gallery: vectors are projected before the search.
        rerank: makes better queries for a second search.
        seed: of the sample, the alterations and the confidence intervals.

    Returns:
        Figures by name, as in `results.json` of `imgrec evaluate`: `map`, `precision_at_k`, `recall_at_k` and
        `hit_rate` from 0 to 1, `confidence` with their 95% intervals, `by_class`, and what the answers cost.

    Raises:
        UsageError: there is no such store, the space is ambiguous, or there are no labels that are needed.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, not {k!r}")
    if sample is not None and sample < 1:
        raise UsageError(f"sample is at least 1, not {sample!r}")
    with contextlib.ExitStack() as stack:
        for each in (store, queries):
            if each is not None:
                stack.enter_context(each)
                stack.enter_context(each.snapshot())
        similarity = similarities.choose(store, space, extractor, projection, metric)
        gallery = Gallery(store, similarity)
        extractors = [term.ready_extractor() for term in similarity.terms]
        apart = None if queries is None else Gallery(queries, similarity)
        asked = asked_of(gallery, extractors, labels=labels, sample=sample, apart=apart, seed=seed)
        found, _ = evaluate(gallery, asked, extractors, k=k, rerank=rerank, seed=seed)
        return found


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
