"""Evaluation of a gallery: quality and cost of its answers, and the worst of them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from imgrec.errors import UsageError
from imgrec.evaluation.figures import Quality, by_class, evaluate_rankings, summary
from imgrec.evaluation.folds import HeldOut, held_out
from imgrec.evaluation.queries import Queries, asked_of, decoded_for, picture, relevant
from imgrec.gallery import similarity as similarities
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.narrowing import filter_of, narrowed
from imgrec.gallery.results import Filter
from imgrec.kinds import Extractor, Image, Index, Record, Reducer, Reranker, Store
from imgrec.kinds.component import check_component
from imgrec.search import exact
from imgrec.search.exact import Mask
from imgrec.threads import each

TIMED_IMAGES, TIMED_QUERIES = 64, 20


Once = Callable[[str, Callable[[], Any]], Any]
"""Returns what has been found under a key before, or what a function finds now; JSON data."""


def evaluate(
    asked: HeldOut,
    queries: Queries,
    extractors: Sequence[Extractor],
    *,
    k: int = 5,
    rerank: Reranker | None = None,
    seed: int = 0,
    timed: Callable[[str], AbstractContextManager[None]] = lambda _: contextlib.nullcontext(),
    once: Once = lambda _, find: find(),
) -> tuple[dict[str, Any], list[Quality]]:
    """Evaluate a gallery.

    Args:
        asked: the gallery to search, from `held_out`.
        queries: the queries, from `asked_of`.
        extractors: one for each term of the gallery's similarity.
        k: how many neighbours are considered.
        rerank: if given, expands each query for a second search.
        seed: of the bootstrap for confidence intervals.
        timed: context manager to time the phase `rank`.
        once: keeps the speed of extractors for other evaluations with the same ones.

    Returns:
        The content of `results.json`, and the quality of each query's ranking.
    """
    gallery = asked.gallery
    learned = [each.about_projections() for each in asked.galleries]
    with timed("rank"):
        per_query = evaluate_rankings(hits(asked, queries, rerank, k), k, relevant(gallery, queries))
    found = {
        "space": gallery.similarity.stored_key,
        "metric": gallery.similarity.metric,
        "gallery": len(gallery.records),
        "asked": queries.about,
        "k": k,
        **summary(per_query, seed),
        queries.grouped_by: by_class(per_query, queries.groups),
        "folds": asked.folds,
        "projection": learned if asked.folds and any(learned) else learned[0],
        "smoothing": gallery.about_smoothing(),
        "rerank": {"reranker": rerank.name, **rerank.plain_options()} if rerank else None,
        "index": gallery.about_index(),
        "images_per_s": once(_sample_of(gallery, extractors), lambda: _images_per_s(gallery, extractors)),
        "query_ms": _query_ms(gallery, queries, k),
        "bytes_per_image": sum(field.vectors.shape[1] * field.vectors.itemsize for field in gallery.fields),
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
    smoothing: Reranker | None = None,
    rerank: Reranker | None = None,
    index: Index | None = None,
    where: Filter | Mapping[str, Any] | None = None,
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
        smoothing: moves the gallery's vectors towards their own neighbours, and no queries.
        rerank: makes better queries for a second search.
        index: finds candidates for the first k approximately; the whole rankings of `map` go on exactly.
        where: the images that the gallery consists of: a function of a record, or options, `{"label": "hat"}`;
            None: all. Images of `queries` are asked for whatever it says.
        seed: of the sample, the alterations and the confidence intervals.

    Returns:
        Figures by name, as in `results.json` of `imgrec evaluate`: `map`, `precision_at_k`, `recall_at_k` and
        `hit_rate` from 0 to 1, `confidence` with their 95% intervals, `by_class`, and what the answers cost.

    Raises:
        UsageError: there is no such store, the space is ambiguous, there are no labels that are needed, or no
            image is left.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, not {k!r}")
    if sample is not None and sample < 1:
        raise UsageError(f"sample is at least 1, not {sample!r}")
    where = filter_of(where)
    with contextlib.ExitStack() as stack:
        for name, each in (("store", store), ("queries", queries)):
            check_component(each, Store, name)
            if each is not None:
                stack.enter_context(each)
                stack.enter_context(each.snapshot())
        similarity = similarities.choose(store, space, extractor, projection, metric, smoothing)
        gallery = Gallery(store, similarity, where, index)
        if not gallery.records:
            narrowed([record for record in store.records() if not record.missing], where)
        extractors = [term.ready_extractor() for term in similarity.terms]
        apart = None if queries is None else Gallery(queries, similarity)
        asked = asked_of(gallery, extractors, labels=labels, sample=sample, apart=apart, seed=seed)
        ready = held_out(gallery, asked, rerank, seed)
        found, _ = evaluate(ready, asked, extractors, k=k, rerank=rerank, seed=seed)
        return found


def hits(asked: HeldOut, queries: Queries, rerank: Reranker | None, k: int = 0) -> list[Mask]:
    """For each query, whether each image of the gallery, nearest first, is a hit.

    Args:
        asked: the gallery to search.
        queries: an image is a hit if its key is the one that the query wants.
        rerank: if given, expands each query for a second search.
        k: how many are found by an index, if there is one.
    """
    key_of = np.array(queries.keys, dtype=object)
    found: dict[int, Mask] = {}
    for gallery, numbers in asked.of(range(len(queries.asked))):
        rankings = gallery.rankings([queries.asked[i] for i in numbers], rerank, by_index=k)
        found |= {i: key_of[rows] == queries.wanted[i] for i, rows in zip(numbers, rankings, strict=True)}
    return [found[i] for i in range(len(queries.asked))]


def answers(
    asked: HeldOut, queries: Queries, numbers: Sequence[int], *, k: int, rerank: Reranker | None, seed: int
) -> list[tuple[Image | None, str, list[tuple[str, bool]]]]:
    """Answer some of the queries.

    Args:
        asked: the gallery to search.
        queries: all queries.
        numbers: indices of the queries to answer.
        k: how many neighbours to find.
        rerank: if given, expands each query for a second search.
        seed: of the alterations.

    Returns:
        For each query: its image, None if its file is gone; its name; and each neighbour's path and whether it is
        a hit.
    """
    key_at = dict(zip((record.path for record in asked.gallery.records), queries.keys, strict=True))
    found = {
        i: matches
        for gallery, some in asked.of(numbers)
        for i, matches in zip(
            some, gallery.search([queries.asked[i] for i in some], k, copies=True, rerank=rerank), strict=True
        )
    }
    return [
        (
            picture(queries, i, seed),
            queries.names[i],
            [(match.path, key_at[match.path] == queries.wanted[i]) for match in found[i]],
        )
        for i in numbers
    ]


def _sample_of(gallery: Gallery, extractors: Sequence[Extractor]) -> str:
    """Names what is timed: extractors with all their options, and the images."""
    used = [[each.name, each.plain_options()] for each in extractors]
    digests = [record.digest for record in gallery.records[:TIMED_IMAGES]]
    return "speed-" + hashlib.sha256(json.dumps([used, digests], sort_keys=True).encode()).hexdigest()[:16]


def _images_per_s(gallery: Gallery, extractors: Sequence[Extractor]) -> float | None:
    """Speed of decoding and extracting a sample of files; None if they are gone.

    It is the better of two measurements, as what else the machine does can only slow them down. A first image
    comes before, since loading a model is not a cost per image.
    """
    sides = {extractor.side for extractor in extractors}

    def extracted(records: Sequence[Record]) -> int:
        decoded = [image for image in each(lambda record: decoded_for(sides, record), records) if image]
        for extractor in extractors if decoded else ():
            extractor.extract([image[extractor.side] for image in decoded])
        return len(decoded)

    extracted(gallery.records[:1])
    speeds = []
    for _ in range(2):
        start = time.perf_counter()
        count = extracted(gallery.records[:TIMED_IMAGES])
        speeds.append(count / (time.perf_counter() - start))
    return round(max(speeds), 1) or None


def _query_ms(gallery: Gallery, queries: Queries, k: int) -> float:
    """The median time of a search."""
    exactly = functools.partial(exact.nearest, gallery.fields)
    search = exactly if gallery.approximate is None else gallery.approximate.nearest
    times = []
    for query in zip(*gallery.targets(queries.asked[:TIMED_QUERIES]), strict=True):
        begun = time.perf_counter()
        search([vector[None] for vector in query], k)
        times.append(time.perf_counter() - begun)
    return round(1000 * statistics.median(times), 3)
