"""Figures for the quality of rankings.

They are those of information retrieval (Manning, Raghavan and Schütze, *Introduction to Information Retrieval*,
2008, chapter 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError


class Quality(NamedTuple):
    """The quality of one query's ranking; all values but `relevant` are from 0 to 1."""

    precision: float
    """The share of relevant images among the first k, or among all if the ranking is shorter."""

    recall: float
    """The share of the gallery's relevant images that are among the first k."""

    average_precision: float
    """The mean over the gallery's relevant images of the precision at each one's rank."""

    hit: float
    """1 if any of the first k is relevant, else 0."""

    relevant: int
    """How many images of the gallery are relevant; if none, all other values are 0."""


FIGURES = ("precision_at_k", "recall_at_k", "map", "hit_rate")
"""Names of the means of the first four values of `Quality`; `map` is the mean average precision."""


def evaluate_rankings(rankings: Iterable[npt.NDArray[np.bool_]], k: int, relevant: Sequence[int]) -> list[Quality]:
    """Compute the quality of each ranking.

    Average precision is that of `sklearn.metrics.average_precision_score` except for ties, which count in the
    order given here and at the last one's rank there.

    Args:
        rankings: for each query, whether each image of the gallery, nearest first, is relevant, without the
            query itself. In a truncated ranking, missing images count as not found. May be a generator.
        k: how many of the first images are considered, at least 1.
        relevant: for each query, how many of the gallery's images other than itself are relevant.

    Raises:
        ValueError: k is below 1, `rankings` and `relevant` differ in length, or a ranking has more relevant
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
    """Means over all queries with confidence intervals, ready for JSON.

    The intervals are percentiles of the bootstrap over queries (Efron 1979, Annals of Statistics 7). They cover
    the choice of queries, not that of the gallery.

    Args:
        per_query: from `evaluate_rankings`; queries without relevant images count as zeros.
        seed: of the bootstrap.
        confidence: the confidence level of the intervals.
        resamples: the number of bootstrap samples.

    Returns:
        `queries`, their number; `without_relevant`, the number of those without relevant images; each of
        `FIGURES`; and `confidence`, the bounds of each figure's interval.

    Raises:
        UsageError: there are no queries.

    >>> found = evaluate_rankings([np.array([True, False]), np.array([False, True])], 1, [1, 1])
    >>> summary(found, seed=0)["map"], summary(found, seed=0)["confidence"]["map"]
    (0.75, [0.5, 1.0])
    """
    if not per_query:
        raise UsageError("there are no queries to evaluate")
    values = _values(per_query)
    ends = _interval_of_means(values, seed, confidence, resamples)
    return {
        "queries": len(values),
        "without_relevant": sum(each.relevant == 0 for each in per_query),
        **_means(values),
        "confidence": dict(zip(FIGURES, ends.T.tolist(), strict=True)),
    }


class Behind(NamedTuple):
    """How far one way is behind another over the same queries: a mean and the bounds of its interval."""

    mean: float
    low: float
    high: float

    @property
    def is_tie(self) -> bool:
        """Whether the interval has 0: the queries do not tell the two apart."""
        return self.low <= 0 <= self.high


def behind(
    best: Sequence[float], other: Sequence[float], seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Behind:
    """How far a way is behind the best one, by the paired bootstrap over queries.

    Differences of the same queries vary less than the two means do, so this tells more ways apart than their
    intervals (Sakai 2006, Evaluating evaluation metrics based on the bootstrap, SIGIR).

    Args:
        best: a figure of each query.
        other: the same figure of the same queries, in the same order.
        seed: of the bootstrap.
        confidence: the confidence level of the interval.
        resamples: the number of bootstrap samples.

    Raises:
        ValueError: they differ in length, or there are no queries.

    >>> behind([0.9, 0.6, 0.8], [0.8, 0.5, 0.7], seed=0).is_tie, behind([0.9, 0.1], [0.1, 0.9], seed=0).is_tie
    (False, True)
    """
    if len(best) != len(other) or not len(best):
        raise ValueError(f"{len(best)} queries and {len(other)}: they must be the same, one at least")
    apart = np.subtract(best, other)[:, None]
    ((low,), (high,)) = _interval_of_means(apart, seed, confidence, resamples).tolist()
    return Behind(float(apart.mean()), low, high)


def _interval_of_means(
    values: npt.NDArray[np.float64], seed: int, confidence: float, resamples: int
) -> npt.NDArray[np.float64]:
    """The bounds of the means of `(queries, figures)` by the bootstrap, `(2, figures)`."""
    count, rng = len(values), np.random.default_rng(seed)
    # Multiplying values by how often they are drawn is faster than gathering them.
    drawn = (np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(resamples))
    means = np.stack([times @ values / count for times in drawn])
    ends: npt.NDArray[np.float64] = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return ends


def by_class(per_query: Sequence[Quality], labels: Sequence[str]) -> list[dict[str, Any]]:
    """For each label in sorted order: its `label`, the number of its `queries`, the means of `FIGURES`.

    Args:
        per_query: from `evaluate_rankings`.
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
    """Indices of the worst queries, worst first, by average precision, then precision, then index."""
    order = sorted(range(len(per_query)), key=lambda i: (per_query[i].average_precision, per_query[i].precision))
    return order[:count]


def _values(per_query: Sequence[Quality]) -> npt.NDArray[np.float64]:
    """`float64 (queries, 4)`, in the order of `FIGURES`."""
    return np.array([each[: len(FIGURES)] for each in per_query]).reshape(-1, len(FIGURES))


def _means(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(FIGURES, values.mean(axis=0).tolist(), strict=True))
