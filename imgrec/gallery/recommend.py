"""The images of a store that are most similar to a picture."""

from __future__ import annotations

import os
from typing import Any

from imgrec.gallery.gallery import opened
from imgrec.gallery.query import Query, Text
from imgrec.gallery.results import Matches
from imgrec.kinds import Extractor, Index, Reducer, Reranker, Store


def recommend(
    query: str | os.PathLike[str] | Text,
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
) -> Matches:
    """The k images of a store that are most similar to a query, the nearest first; a list of `Match`.

    Args:
        query: an image file, inside the gallery or not; or a `Text`, where the extractor takes text.
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

    Raises:
        UsageError: there is no such query or store, the query is no image, the space is ambiguous, or k below 1.
    """
    how: Any = {"space": space, "extractor": extractor, "projection": projection, "smoothing": smoothing}
    with opened(store, metric, index=index, **how) as gallery:
        (matches,) = gallery.search([Query.of(query, include_self=include_self)], k, copies=copies, rerank=rerank)
    return matches
