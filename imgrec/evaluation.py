"""How good a search is: labels, and what rankings are worth by them.

A query is answered well if images of its label come first. The figures are those of information retrieval
(Manning, Raghavan and Schütze, *Introduction to Information Retrieval*, 2008, chapter 8).
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError
from imgrec.gallery.gallery import Gallery, label_of
from imgrec.gallery.query import Known, Query
from imgrec.kinds import Record, Reranker, Vectors
from imgrec.search.exact import Mask

# --- labels -------------------------------------------------------------------------------------------------

COLUMNS = ("path", "label")
"""What a CSV file of labels has; other columns are ignored."""


def labels_of(paths: Sequence[str], how: str) -> list[str] | None:
    """The label of each image, or None if there shall be none.

    Args:
        paths: the gallery's images, as absolute paths.
        how: `folder`, the name of each image's folder; `none`; `auto`, which is `folder` if that gives two labels
            or more, one of them to two images or more, else `none`; or a CSV file with the columns `path` and
            `label`. Its relative paths start at its own folder, and paths that are not in the gallery are ignored.

    Raises:
        UsageError: the file cannot be read, lacks a column, has no image of the gallery or two labels for one. Or
            an image has no label: left in, it would count as a mistake wherever it is found; left out, the
            gallery would be another.

    >>> labels_of(["/photos/hat/1.jpg", "/photos/hat/2.jpg", "/photos/shoe/1.jpg"], "auto")
    ['hat', 'hat', 'shoe']
    >>> labels_of(["/photos/1.jpg", "/photos/2.jpg"], "auto") is None
    True
    """
    if how == "none":
        return None
    if how in ("folder", "auto"):
        labels = [label_of(path) for path in paths]
        counts = Counter(labels)
        is_usable = len(counts) >= 2 and max(counts.values()) >= 2
        return labels if how == "folder" or is_usable else None
    label_at = _read_labels(how)
    unlabelled = [path for path in paths if not label_at.get(path)]
    if len(unlabelled) == len(paths):
        raise UsageError(f"labels: {how} has no image of the gallery; its relative paths start at its own folder")
    if unlabelled:
        raise UsageError(
            f"labels: {how} has no label for {len(unlabelled):,} of {len(paths):,} images, the first is "
            f"{unlabelled[0]}: add them, or evaluate a gallery of the labelled ones"
        )
    return [label_at[path] for path in paths]


def _read_labels(file: str) -> dict[str, str]:
    """The labels of a CSV file by absolute path."""
    if not os.path.exists(file):
        raise UsageError(f"labels is folder, none, auto or a CSV file, and there is no file {file!r}")
    folder = Path(file).parent
    label_at: dict[str, str] = {}
    try:
        with Path(file).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            rows = csv.DictReader(lines)
            header = rows.fieldnames or []
            absent = [column for column in COLUMNS if column not in header]
            if absent:
                raise UsageError(
                    f"labels: {file} lacks the column {absent[0]}; it has {', '.join(header) or 'none'}"
                )
            for row in rows:
                path = os.path.abspath(folder / (row["path"] or ""))  # a short line has None
                label = row["label"] or ""
                if label_at.setdefault(path, label) != label:
                    raise UsageError(f"labels: {file} has two labels for {path}: {label_at[path]!r} and {label!r}")
    except (OSError, csv.Error) as error:
        raise UsageError(f"labels: {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return label_at


# --- rankings -----------------------------------------------------------------------------------------------


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


# --- of many queries ----------------------------------------------------------------------------------------


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


# --- what is asked ------------------------------------------------------------------------------------------


@dataclass
class Queries:
    """What is asked."""

    about: str
    records: Sequence[Record]
    asked: Sequence[Query]
    """One for each record."""

    wanted: Sequence[str]
    """For each query the key of the images that are hits."""

    alterations: Sequence[str] = ()
    """What was done to each, if anything was."""

    @property
    def groups(self) -> Sequence[str]:
        """What queries are told apart by: their alterations, or their labels."""
        return self.alterations or self.wanted

    @property
    def grouped_by(self) -> str:
        """`by_alteration` or `by_class`."""
        return "by_alteration" if self.alterations else "by_class"

    @property
    def names(self) -> list[str]:
        """For people."""
        return [f"{group}: {Path(r.path).name}" for group, r in zip(self.groups, self.records, strict=True)]


def known(records: Sequence[Record], vectors: Mapping[str, Vectors], *, is_content: bool = True) -> list[Query]:
    """Queries whose vectors are there.

    Args:
        records: one a query.
        vectors: for each term `float32 (n, dim)`, not yet projected.
        is_content: whether they are the records' own contents, which then are not found.
    """
    return [
        Query((Known({name: each[i] for name, each in vectors.items()}, record.digest if is_content else None),))
        for i, record in enumerate(records)
    ]


def hits(gallery: Gallery, queries: Queries, keys: Sequence[str], rerank: Reranker | None) -> list[Mask]:
    """For each query, image by image from the nearest on, whether it is a hit.

    Args:
        gallery: what is asked.
        queries: what is asked of it.
        keys: of the gallery's records: an image is a hit where its key is the one that the query wants.
        rerank: asks a second time.
    """
    key_of = np.array(keys, dtype=object)
    rankings = gallery.rankings(queries.asked, rerank)
    return [key_of[numbers] == wanted for numbers, wanted in zip(rankings, queries.wanted, strict=True)]


def relevant(gallery: Gallery, queries: Queries, keys: Sequence[str]) -> list[int]:
    """For each query, how many of the gallery's images are hits, those that it may not find left out."""
    counts = Counter(keys)
    own = Counter((record.digest, key) for record, key in zip(gallery.records, keys, strict=True))
    return [
        counts[wanted] - sum(own[digest, wanted] for digest in _own_digests(query))
        for query, wanted in zip(queries.asked, queries.wanted, strict=True)
    ]


def _own_digests(query: Query) -> set[str]:
    if query.include_self:
        return set()
    return {each.digest for each in query.items if isinstance(each, Known) and each.digest}
