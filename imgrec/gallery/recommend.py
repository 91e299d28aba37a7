"""The images of a store that are most similar to a picture."""

from __future__ import annotations

import os

from imgrec.gallery.gallery import opened
from imgrec.gallery.query import Query
from imgrec.gallery.results import Match
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
    rerank: Reranker | None = None,
    index: Index | None = None,
    include_self: bool = False,
) -> list[Match]:
    """The k images of a store that are most similar to a query picture, the nearest first.

    Args:
        query: an image file, inside the gallery or not.
        store: what `ingest` filled.
        k: how many; fewer where the gallery has fewer.
        metric: the name of one, such as `euclidean` or `cosine`; None: what parts of a fusion have of their own,
            else Euclidean.
        space: which space or fusion, where the store has several: its key or the beginning of it.
        extractor: the same, by identity; also the extractor that is then used for the query. Or several of them
            as a `Fusion`.
        projection: a reducer, fitted on the gallery: vectors are projected before the search.
        rerank: asks a second time with a better query.
        index: finds candidates approximately; None: the search is exact.
        include_self: let the query's own content (the same bytes) be found.

    Raises:
        UsageError: no such query or store; the query is no image; the space is not clear; k below 1.
    """
    with opened(store, metric, space=space, extractor=extractor, projection=projection, index=index) as gallery:
        (matches,) = gallery.search([Query.of(query, include_self=include_self)], k, rerank=rerank)
    return matches
