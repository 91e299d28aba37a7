"""What rankings are worth.

A query is answered well if images of its label come first. The figures are those of information retrieval
(Manning, Raghavan and Schütze, *Introduction to Information Retrieval*, 2008, chapter 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError


class Quality(NamedTuple):
    """How well one query was answered; all but `relevant` from 0 to 1."""

    precision: float
    """The share of relevant images among the first k, or among all where the ranking is shorter than k."""

    recall: float
    """The share of the gallery's relevant images that are among the first k."""

    average_precision: float
    """The mean, over the gallery's relevant images, of the precision at the rank of each."""

    hit: float
    """1 if any of the first k is relevant, else 0."""

    relevant: int
    """How many images of the gallery are relevant. If none is, all else is 0."""


FIGURES = ("precision_at_k", "recall_at_k", "map", "hit_rate")
"""The names of the means of `Quality`'s first four values; `map` is the mean average precision."""


def evaluate_rankings(rankings: Iterable[npt.NDArray[np.bool_]], k: int, relevant: Sequence[int]) -> list[Quality]:
    """What each ranking is worth.

    Average precision is that of `sklearn.metrics.average_precision_score`, but for images at equal distances: here
    they count in the order given, there as if all had the last one's rank.

    Args:
        rankings: for each query, of every image of the gallery, nearest first, whether it is relevant. The query
            itself, where it is of the gallery, is left out. Of a ranking that is cut off, what is missing counts
            as not found. They are taken one by one, so a generator needs the memory of one.
        k: how many of the first are looked at, from 1.
        relevant: for each query how many of the gallery's images are relevant, itself left out.

    Raises:
        ValueError: k below 1, other numbers of rankings and of `relevant`, or a ranking that has more relevant
            images than the gallery.

    >>> evaluate_rankings([np.array([True, False, True, False])], 2, [2])
    [Quality(precision=0.5, recall=0.5, average_precision=0.8333333333333333, hit=1.0, relevant=2)]
    """
    if k < 1:
        raise ValueError(f"k is at least 1, not {k}")
    return [_quality(ranking, k, count) for ranking, count in zip(rankings, relevant, strict=True)]


def _quality(ranking: npt.NDArray[np.bool_], k: int, relevant: int) -> Quality:
    ranks = np.flatnonzero(ranking) + 1
    if len(ranks) > relevant:
        raise ValueError(f"a ranking has {len(ranks)} relevant images, and the gallery only {relevant}")
    if not len(ranks):
        return Quality(0.0, 0.0, 0.0, 0.0, relevant)
    hits = int(np.count_nonzero(ranks <= k))
    return Quality(
        precision=hits / min(k, len(ranking)),
        recall=hits / relevant,
        average_precision=float((np.arange(1, len(ranks) + 1) / ranks).sum() / relevant),
        hit=float(hits > 0),
        relevant=relevant,
    )


def summary(
    per_query: Sequence[Quality], seed: int, confidence: float = 0.95, resamples: int = 2000
) -> dict[str, Any]:
    """Means over all queries, and how far they are to be trusted, ready for JSON.

    The intervals are percentiles of the means of queries drawn anew with replacement (the bootstrap: Efron 1979,
    Annals of Statistics 7). They tell what other queries of the kind would give, not what another gallery would.

    Args:
        per_query: of `evaluate_rankings`; queries without a relevant image count, as zeros.
        seed: of the draws.
        confidence: the share of the means that lies within an interval.
        resamples: how many draws.

    Returns:
        `queries`, how many; `without_relevant`, how many of them the gallery has nothing relevant for; each of
        `FIGURES`; and `confidence`, for each of them the interval's ends.

    Raises:
        UsageError: there are no queries.

    >>> found = evaluate_rankings([np.array([True, False]), np.array([False, True])], 1, [1, 1])
    >>> summary(found, seed=0)["map"], summary(found, seed=0)["confidence"]["map"]
    (0.75, [0.5, 1.0])
    """
    if not per_query:
        raise UsageError("there are no queries to evaluate")
    values = _values(per_query)
    count = len(values)
    rng = np.random.default_rng(seed)
    # How often each query is drawn, times its values: quicker than to gather the values themselves.
    drawn = (np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(resamples))
    means = np.stack([times @ values / count for times in drawn])
    ends = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return {
        "queries": count,
        "without_relevant": sum(each.relevant == 0 for each in per_query),
        **_means(values),
        "confidence": dict(zip(FIGURES, ends.T.tolist(), strict=True)),
    }


def by_class(per_query: Sequence[Quality], labels: Sequence[str]) -> list[dict[str, Any]]:
    """For each label, in order, its `label`, the number of its `queries` and their means by `FIGURES`.

    Args:
        per_query: of `evaluate_rankings`.
        labels: the label of each query.
    """
    values = _values(per_query)
    rows_of: dict[str, list[int]] = {}
    for row, (label, _) in enumerate(zip(labels, per_query, strict=True)):
        rows_of.setdefault(label, []).append(row)
    return [
        {"label": label, "queries": len(rows), **_means(values[rows])} for label, rows in sorted(rows_of.items())
    ]


def worst(per_query: Sequence[Quality], count: int = 10) -> list[int]:
    """The numbers of the queries answered worst, the worst first.

    That is by average precision, then by precision; of equal ones the first comes first.
    """
    order = sorted(range(len(per_query)), key=lambda i: (per_query[i].average_precision, per_query[i].precision))
    return order[:count]


def _values(per_query: Sequence[Quality]) -> npt.NDArray[np.float64]:
    """`float64 (queries, 4)`, in the order of `FIGURES`."""
    return np.array([each[: len(FIGURES)] for each in per_query]).reshape(-1, len(FIGURES))


def _means(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(FIGURES, values.mean(axis=0).tolist(), strict=True))
