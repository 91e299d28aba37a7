"""The images of a store that are most similar to a picture."""

from __future__ import annotations

import os
from typing import Any

from imgrec.gallery.gallery import opened
from imgrec.gallery.query import Query
from imgrec.gallery.results import Matches
from imgrec.gallery.selection import ALPHA
from imgrec.kinds import Extractor, Index, Reducer, Reranker, Store


def recommend(
    query: str | os.PathLike[str],
    store: Store,
    k: int = 5,
    metric: str | None = None,
    space: str | None = None,
    *,
    extractor: Extractor | None = None,
    projection: Reducer | None = None,
    smoothing: Reranker | None = None,
    rerank: Reranker | None = None,
    index: Index | None = None,
    include_self: bool = False,
    copies: bool = False,
    threshold: float | str | None = None,
    alpha: float = ALPHA,
    collapse: float | str | None = None,
    diversity: float = 0.0,
) -> Matches:
    """The k images of a store that are most similar to a query picture, the nearest first; a list of `Match`.

    Args:
        query: an image file, inside the gallery or not.
        store: filled by `ingest`.
        k: how many; fewer if the gallery has fewer.
        metric: the name of one, such as `euclidean` or `cosine`; None: those of a fusion's parts, else Euclidean.
        space: which space or fusion, if the store has several: its key or a prefix of it.
        extractor: chooses the space by identity, and extracts the query; for several, a `Fusion`.
        projection: a reducer, fitted on the gallery: vectors are projected before the search.
        smoothing: moves the gallery's vectors towards their own neighbours, and no queries.
        rerank: makes a better query for a second search.
        index: finds candidates approximately; None: the search is exact.
        include_self: whether the query's own content (the same bytes) may be found.
        copies: whether files of one content take a rank each; otherwise the others are a match's `copies`.
        threshold: the largest distance of a match, or `auto`; this and the others are those of `Gallery.search`.
        alpha: for `auto`, the share of good queries that may be refused.
        collapse: the distance up to which near-duplicates are folded into one match, or `auto`.
        diversity: from 0 to 1, how much matches should differ from each other.

    Raises:
        UsageError: there is no such query or store, the query is no image, the space is ambiguous, or k or
            another option out of its range.
    """
    how: Any = {"space": space, "extractor": extractor, "projection": projection, "smoothing": smoothing}
    which: Any = {"threshold": threshold, "alpha": alpha, "collapse": collapse, "diversity": diversity}
    asked = Query.of(query, include_self=include_self)
    with opened(store, metric, index=index, **how) as gallery:
        (matches,) = gallery.search([asked], k, copies=copies, rerank=rerank, **which)
    return matches
