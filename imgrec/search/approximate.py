"""Approximate search: indexes find candidates for each term, which are measured in float64 as in an exact search.

How many of the nearest a search finds is measured on images of the gallery, and it makes the least effort that is
sure to find enough. Where none is, or few images may be found, the search is exact.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import math
import operator
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgrec import registry
from imgrec.errors import ImgrecError
from imgrec.kinds import Doubles, Form, Index, Vectors
from imgrec.search import exact, indexes
from imgrec.search.exact import Found, Mask, VectorField
from imgrec.search.indexes import Recall, TermIndex, named
from imgrec.search.pruning import Rows, pruning_index

log = logging.getLogger(__name__)

ASKED = 1_000
"""Images of a gallery that are asked for at the least, to measure how many of their nearest are found. The more
there are, the nearer is the lower bound to the truth, and the less effort is sure to be enough."""

LEAST_DEPTH = 10
"""How many of the nearest these look for; for a larger k it is twice, four times, ... as many."""

SURE = 0.975
"""How sure the lower bound of what is found is."""

WANTED = 4
"""How many candidates an index is asked for, for each of the nearest that is looked for."""

WIDEST = 128
"""A fusion asks for so many times as many candidates at most: what is near in the sum may be near in no term."""

WHOLE = 0.9
"""The share of images that may be found from which on it counts as all of them."""

WORTH = 0.25
"""The share of the greatest effort from which on a filter asks for too much: to look at what it leaves is less.
Where both cost the same, by faiss among a million, a filter leaves a little more than 1 %."""

AGED = 0.1
"""The share of images that may have changed since it was measured what is found."""


class ApproximateSearch:
    """Searches a gallery's images through indexes of their vectors.

    Args:
        fields: of the same images; their weighted distances are added.
        terms: the index of each, of one class and with the same options.
    """

    def __init__(self, fields: Sequence[VectorField], terms: Sequence[TermIndex]) -> None:
        self._fields, self._index, self._count = fields, terms[0].index, len(fields[0])
        self._folder = terms[0].folder
        self._searched = [_SearchedField(*each) for each in zip(fields, terms, strict=True)]
        compared = [
            [each.name, field.weight / fields[0].weight] for field, each in zip(fields, terms, strict=True)
        ]
        self._compared = json.dumps([compared, self._index.recall])
        self._recalls: dict[int, Recall] = {}
        self._measuring = threading.Lock()

    def nearest(self, queries: Sequence[Vectors], k: int, usable: Mask | None = None) -> list[Found]:
        """The images nearest to each query among the candidates of all indexes, as `exact.nearest` returns them.

        A query is searched exactly if it has fewer than k candidates although there are more images.

        Args:
            queries: for each field the queries' vectors, `float32 (m, dim)`.
            k: how many images at least, if there are as many.
            usable: `bool (images,)`: those that may be found; None for all.

        Raises:
            ImgrecError: an index failed.
        """
        left = self._count if usable is None else int(np.count_nonzero(usable))
        if left <= max(k, self._index.exact_up_to) or (efforts := self._efforts(k, left / self._count)) is None:
            return exact.nearest(self._fields, queries, k, usable)
        found = self._found(queries, None if left == self._count else usable, *efforts)
        short = [i for i, (rows, _) in enumerate(found) if len(rows) < k]
        if short:
            exactly = exact.nearest(self._fields, [targets[short] for targets in queries], k, usable)
            for i, each in zip(short, exactly, strict=True):
                found[i] = each
        return found

    @property
    def exact_because(self) -> str | None:
        """Why a search so far was exact, if no effort was sure to find enough."""
        for each in self._recalls.values():
            if each.effort is None:
                return _too_little(each, self._index)
        return None

    def about(self) -> list[dict[str, Any]]:
        """What was measured for the searches so far; JSON data."""
        return [dataclasses.asdict(each) for _, each in sorted(self._recalls.items())]

    def _efforts(self, k: int, share: float) -> tuple[list[int], int] | None:
        """The effort of each index, and how many candidates; None if the search is to be exact."""
        found = self.recall(k)
        if found.effort is None:
            return None
        if share >= WHOLE:
            return found.effort, found.candidates
        scaled = []
        for each, effort in zip(self._searched, found.effort, strict=True):
            offered = each.term.index.efforts()
            enough = [some for some in offered if effort / share <= some <= WORTH * offered[-1]]
            if not enough:
                return None
            scaled.append(enough[0])
        return scaled, found.candidates

    def _found(
        self, queries: Sequence[Vectors], usable: Mask | None, efforts: Sequence[int], count: int
    ) -> list[Found]:
        """For each query the candidates of all indexes, measured, nearest first."""
        by_field = [
            each.candidates(targets, count, effort, usable)
            for each, targets, effort in zip(self._searched, queries, efforts, strict=True)
        ]
        return [
            exact.measured(
                self._fields, query, images[0] if len(images) == 1 else functools.reduce(np.union1d, images)
            )
            for *images, query in zip(*by_field, zip(*queries, strict=True), strict=True)
        ]

    # --- how much is found --------------------------------------------------------------------------------------

    def recall(self, k: int) -> Recall:
        """What is found of the k nearest, by the least effort that finds enough; measured once, and kept."""
        depth = LEAST_DEPTH
        while depth < k:
            depth *= 2
        depth = min(depth, self._count - 1)
        with self._measuring:
            if depth not in self._recalls:
                self._recalls[depth] = found = self._kept_or_measured(depth)
                if found.effort is None:
                    reason = _too_little(found, self._index)
                    log.warning("index=%s is not used: %s, so the search is exact", self._index.name, reason)
            return self._recalls[depth]

    def _kept_or_measured(self, depth: int) -> Recall:
        name = hashlib.sha256(f"{self._compared} {depth}".encode()).hexdigest()[:12]
        kept = None if self._folder is None else indexes.recalls(self._folder).get(name)
        if kept is not None and kept.changed <= AGED * kept.of and self._offers(kept):
            return kept
        found = self._measured(depth)
        if self._folder is not None:
            indexes.keep_recall(self._folder, name, found)
        return found

    def _offers(self, kept: Recall) -> bool:
        """Whether the efforts that were kept are those of these indexes."""
        if kept.effort is None:
            return True
        offered = [each.term.index.efforts() for each in self._searched]
        are_theirs = len(kept.effort) == len(offered) and all(map(operator.contains, offered, kept.effort))
        return are_theirs and 1 <= kept.candidates <= WIDEST * WANTED * (kept.nearest + 1)

    def _measured(self, depth: int) -> Recall:
        """Ask for some images, each not to find itself, with more and more effort."""
        chosen = np.arange(self._count)
        if self._count > (asked := _asked(self._index.recall)):
            chosen = np.sort(np.random.default_rng(0).choice(self._count, asked, replace=False))
        queries = [np.array(field.of(chosen)) for field in self._fields]
        nearest = exact.nearest(self._fields, queries, depth + 1)
        limits = [_others(each, image)[depth - 1] for each, image in zip(nearest, chosen.tolist(), strict=True)]
        found = Recall(depth, None, 0, 0.0, 0.0, len(chosen), self._count)
        for efforts, width in self._rungs():
            count = WANTED * (depth + 1) * width
            shares = [
                np.count_nonzero(_others(each, image)[:depth] <= limit) / depth
                for each, image, limit in zip(
                    self._found(queries, None, efforts, count), chosen.tolist(), limits, strict=True
                )
            ]
            recall, at_least = float(np.mean(shares)), lower_bound(np.array(shares), depth)
            found = dataclasses.replace(found, candidates=count, recall=recall, at_least=at_least)
            if at_least >= self._index.recall:
                return dataclasses.replace(found, effort=efforts)
        return found

    def _rungs(self) -> Iterator[tuple[list[int], int]]:
        """Efforts from least to most; of a fusion with more and more candidates."""
        offered = [list(each.term.index.efforts()) for each in self._searched]
        is_fusion = len(offered) > 1
        for i in range(max(*map(len, offered), WIDEST.bit_length() if is_fusion else 0)):
            yield [each[min(i, len(each) - 1)] for each in offered], min(2**i, WIDEST) if is_fusion else 1


def _too_little(found: Recall, index: Index) -> str:
    return (
        f"it finds {found.recall:.4f} of the nearest {found.nearest}, at least {found.at_least:.4f}, and not "
        f"index.recall={index.recall:g}"
    )


def _others(found: Found, image: int) -> Doubles:
    """The distances of what was found, without the image that was asked for."""
    rows, distances = found
    others: Doubles = distances[rows != image]
    return others


def _asked(recall: float) -> int:
    """How many images are asked for: if all were found, as many must be enough to be sure of a recall below 1.

    >>> _asked(0.99), _asked(0.999), _asked(1)
    (1000, 3872, 1000)
    """
    return max(ASKED, math.ceil(1.05 * math.log(1 - SURE) / math.log(recall))) if 0 < recall < 1 else ASKED


def lower_bound(shares: Doubles, each: int) -> float:
    """A lower bound of a mean share that is sure to 97.5 %, for shares of so many neighbours each.

    It is the smaller of two. That of Clopper and Pearson is for as many neighbours as these are worth, as those of
    one image are found or missed together (E. Korn and B. Graubard, Confidence intervals for proportions with
    small expected number of positive counts estimated from survey data, Survey Methodology 24, 1998). Where few
    images miss any, they do not tell how much an image misses: so the other one bounds how many images miss any,
    and takes the mean of what those missed, with half an image more that misses all.

    >>> round(lower_bound(np.ones(400), 10), 4)
    0.9908
    >>> round(lower_bound(np.repeat([1, 0], [396, 4]), 10), 3)  # all neighbours of four images are missed
    0.975
    """
    missed = 1 - np.asarray(shares, np.float64)
    return min(_bound_by_neighbours(missed, each), _bound_by_images(missed))


def _bound_by_neighbours(missed: Doubles, each: int) -> float:
    mean, count = 1 - float(np.mean(missed)), float(len(missed) * each)
    if mean == 0:
        return 0.0
    if mean < 1 and len(missed) > 1:
        count /= max(1.0, float(np.var(missed, ddof=1)) / (mean * (1 - mean) / each))
    return _clopper_pearson(mean * count, count)


def _bound_by_images(missed: Doubles) -> float:
    images = int(np.count_nonzero(missed))
    that_miss = 1 - _clopper_pearson(len(missed) - images, len(missed))
    return float(1 - that_miss * (missed.sum() + 0.5) / (images + 0.5))


def _clopper_pearson(found: float, count: float) -> float:
    """The lower bound of a share of which `found` of `count` were seen."""
    from scipy.special import betaincinv

    return float(betaincinv(found, count - found + 1, 1 - SURE)) if found > 0 else 0.0


# --- one term -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SearchedField:
    """A field with the index of its vectors. Rows are the index's, images those of the field."""

    field: VectorField
    term: TermIndex

    @functools.cached_property
    def images(self) -> Rows | None:
        """`(rows,)`: the image of each row, -1 if it has none; None if they are the same."""
        if self.field.rows is None:
            return self.term.rows
        image_of = np.full(len(self.field.vectors), -1)
        image_of[self.field.rows] = np.arange(len(self.field.rows))
        if self.term.rows is None:
            return image_of
        return np.where(self.term.rows < 0, -1, image_of[self.term.rows])

    @functools.cached_property
    def zeros(self) -> Rows:
        """The images of zero vectors, where they are compared at unit length.

        The form of a zero vector is nearer to all others than its distance of 1 says, and would push out what is
        nearer: so the index is not asked for these, and some of them are candidates anyway.
        """
        if self.field.metric.form is not Form.UNIT:
            return np.empty(0, np.intp)
        squares = (self.field.known or pruning_index(self.field.vectors, ())).squares
        return np.flatnonzero((squares if self.field.rows is None else squares[self.field.rows]) == 0)

    def candidates(self, queries: Vectors, count: int, effort: int, usable: Mask | None) -> list[Rows]:
        """For each query the images that the index finds, without those that must not be found."""
        self.field.metric.check(queries)
        index = self.term.index
        forms, mask = np.ascontiguousarray(self.field.metric.as_euclidean(queries)), self._mask(usable)
        found = named(index, lambda: index.candidates(forms, count, effort, mask))
        if not (isinstance(found, list) and len(found) == len(queries)):
            raise _broken(index, f"{type(found).__name__} for {len(queries)} queries, not a list of as many")
        zeros = (self.zeros if usable is None else self.zeros[usable[self.zeros]])[:count]
        by_query = []
        for each in found:
            rows = self._checked(each)
            images = rows if self.images is None else self.images[rows]
            images = images[images >= 0 if usable is None else (images >= 0) & usable[images]]
            by_query.append(np.concatenate([images, zeros]))
        return by_query

    def _mask(self, usable: Mask | None) -> Mask | None:
        """The rows that the index may find; None for all."""
        if usable is None and self.field.rows is None and not len(self.zeros):
            return None
        allowed = np.ones(len(self.field), np.bool_) if usable is None else usable.copy()
        allowed[self.zeros] = False
        return allowed if self.images is None else (self.images >= 0) & allowed[self.images]

    def _checked(self, rows: object) -> Rows:
        """Check the rows that the index returned for a query against its contract."""
        if not (isinstance(rows, np.ndarray) and rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer)):
            seen = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
            raise _broken(self.term.index, f"{seen} of a query, not int64 (some,)")
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.term.count):
            raise _broken(self.term.index, f"rows {rows.min()} to {rows.max()} of {self.term.count}")
        return rows.astype(np.intp, copy=False)


def _broken(index: Index, seen: str) -> ImgrecError:
    return ImgrecError(f"index {index.name} of {registry.origin_of(index)} returned {seen}")
