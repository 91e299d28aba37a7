"""The images of a store that are most similar to a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgrec.gallery.gallery import opened
from imgrec.gallery.query import UNLIKE_WEIGHT, Query
from imgrec.gallery.results import Filter, Matches
from imgrec.gallery.selection import ALPHA
from imgrec.kinds import Extractor, Index, Reducer, Reranker, Store


def recommend(
    query: Any,
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
    combine: str = "mean",
    unlike: Any = (),
    unlike_weight: float = UNLIKE_WEIGHT,
    variants: str | None = None,
    colours: str | None = None,
    colour_weight: float = 0.5,
    where: Filter | Mapping[str, Any] | None = None,
    threshold: float | str | None = None,
    alpha: float = ALPHA,
    collapse: float | str | None = None,
    diversity: float = 0.0,
) -> Matches:
    """The k images of a store that are most similar to what is asked for, nearest first; a list of `Match`.

    Args:
        query: an image file, inside the gallery or not, its address `https://`, or its bytes; a `Text`, where
            the extractor takes text; or a list of these, empty for colours alone. `Query.of` takes the same.
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
        combine: how several pictures count: `mean`, images like their mean; `nearest`, like any of them.
        unlike: what to keep away from, one or several of the same.
        unlike_weight: how far, from 0 to below 1; see `resolving.pushed`.
        variants: `turns`, `crops` or `all`: the nearest of these variants of the picture counts.
        colours: names as CSS has them, or hexadecimal digits, with shares or without: `c03020:0.7,white:0.3`.
        colour_weight: how much they count beside a picture, between 0 and 1.
        where: the files that may be found: a function of a record, or options, `{"label": "hat"}`; None: all.
        threshold: the largest distance of a match, or `auto`; this and the others are those of `Gallery.search`.
        alpha: for `auto`, the share of good queries that may be refused.
        collapse: the distance up to which near-duplicates are folded into one match, or `auto`.
        diversity: from 0 to 1, how much matches should differ from each other.

    Raises:
        UsageError: there is no such query or store, the query is no image, the space is ambiguous, k or another
            option is out of its range, or options of `where` leave no image.
    """
    asked = Query.of(
        query,
        combine=combine,
        include_self=include_self,
        unlike=unlike,
        unlike_weight=unlike_weight,
        variants=variants,
        colours=colours,
    )
    how: Any = {"space": space, "extractor": extractor, "projection": projection, "smoothing": smoothing}
    which: Any = {"threshold": threshold, "alpha": alpha, "collapse": collapse, "diversity": diversity}
    if colours is not None:
        how["colour_weight"] = colour_weight if asked.items else 1
    with opened(store, metric, index=index, **how) as gallery:
        (matches,) = gallery.search([asked], k, where, copies=copies, rerank=rerank, **which)
    return matches
