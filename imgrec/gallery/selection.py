"""Which of the images nearest to a query are its answer: thresholds, near-duplicates folded, and variety."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from imgrec.errors import UsageError
from imgrec.kinds import Doubles
from imgrec.options import Options, option
from imgrec.search.pruning import Rows

AUTO = "auto"

POOL = 100
"""Of how many nearest images a varied answer is made; more if k is larger."""

ALPHA = 0.05


@dataclass(kw_only=True)
class Selection(Options):
    """The options that choose from the images nearest to a query. A stage that takes them inherits from it.

    Near-duplicates are folded first, then what is too far is left out, and of the rest a varied answer is made.
    """

    threshold: Any = option(
        None,
        help="no match beyond this distance; auto: none farther than images of the gallery are from each other",
    )
    alpha: float = option(ALPHA, help="for threshold=auto: the share of good queries that may be refused")
    collapse: Any = option(
        None,
        help="fold near-duplicates up to this distance apart into one match; auto: a distance of the gallery's",
    )
    diversity: float = option(
        0.0, minimum=0, maximum=1, help="how much matches should differ from each other: 0 not at all, 1 only that"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "collapse"):
            value = getattr(self, name)
            is_distance = isinstance(value, float | int) and not isinstance(value, bool) and value >= 0
            if not (value is None or value == AUTO or is_distance):
                raise UsageError(f"{type(self).title()}.{name} is auto or a distance from 0 on, not {value!r:.60}")
        if not 0 < self.alpha < 1:
            raise UsageError(f"{type(self).title()}.alpha is between 0 and 1, not {self.alpha}")
        if self.alpha != ALPHA and self.threshold != AUTO:
            raise UsageError("alpha= has no effect without threshold=auto")

    @property
    def selection(self) -> dict[str, Any]:
        """The options with their values, as `Gallery.search` takes them."""
        return {spec.name: getattr(self, spec.name) for spec in fields(Selection)}


@dataclass(frozen=True)
class Selected:
    """What was chosen for a query."""

    rows: Rows
    distances: Doubles
    """From the query."""

    near: Mapping[int, Rows] | None = None
    """The near-duplicates that a row stands for, nearest to it first; None if none were folded."""

    is_ordered: bool = False
    """Whether the order of rows is that of ranks; else it is that of distances, ties in the order of paths."""

    def of(self, chosen: Any) -> Selected:
        """Some of them: a mask, a slice or positions."""
        near = self.near and {row: self.near[row] for row in self.rows[chosen].tolist() if row in self.near}
        return Selected(self.rows[chosen], self.distances[chosen], near, self.is_ordered)

    def all_rows(self) -> set[int]:
        """All rows, near-duplicates too."""
        return {row for some in (self.rows, *(self.near or {}).values()) for row in some.tolist()}

    def near_copies(self, row: int, paths_of: Mapping[int, Sequence[str]]) -> tuple[str, ...] | None:
        """The paths of a row's near-duplicates; None if none were folded."""
        if self.near is None:
            return None
        near: list[int] = self.near[row].tolist() if row in self.near else []
        return tuple(path for each in near for path in paths_of[each])


def collapsed(
    nearest: Callable[[int, Rows], Selected],
    near: Callable[[Rows], Sequence[Rows]],
    count: int,
) -> Selected:
    """The nearest rows, each standing for its near-duplicates, which are left out however far they are.

    Going from the nearest row on, each that is not yet left out is chosen, and all near to it are left out.

    Args:
        nearest: given a number and rows to leave out, at least so many of the nearest others, if there are any
            more, in the order in which they are to be gone through.
        near: for each row the rows near to it, itself among them, nearest first.
        count: how many to choose at most.
    """
    rows: list[int] = []
    distances: list[float] = []
    folded: dict[int, Rows] = {}
    gone = np.empty(0, np.intp)
    while len(rows) < count:
        found = nearest(count - len(rows), gone)
        if not len(found.rows):
            break
        by_row = found.rows.tolist(), found.distances.tolist(), near(found.rows)
        for row, distance, others in zip(*by_row, strict=True):
            if len(rows) < count and row not in gone:
                fresh = others[~np.isin(others, gone) & (others != row)]
                rows.append(row)
                distances.append(distance)
                if len(fresh):
                    folded[row] = fresh
                gone = np.concatenate([gone, fresh, [row]])
    return Selected(np.array(rows, np.intp), np.array(distances, np.float64), folded, is_ordered=True)


def varied(distances: Doubles, apart: Callable[[int], Doubles], count: int, diversity: float) -> list[int]:
    """Choose by maximal marginal relevance: near to the query, and far from what is chosen already.

    J. Carbonell and J. Goldstein, The use of MMR, diversity-based reranking for reordering documents and
    producing summaries, SIGIR 1998. Their lambda is 1 - diversity. A similarity is minus the distance here. Any
    other one that falls by the same amount with each unit of distance gives the same choice, as the cosine does,
    which is 1 minus cosine distance: so no scale has to be chosen, whatever the metric.

    Args:
        distances: from the query, nearest first.
        apart: the distances of all from one of them.
        count: how many to choose at most.
        diversity: from 0, which keeps the order, to 1.

    Returns:
        Positions in the order of choice; of equally good ones the first is chosen.

    >>> points = np.array([1.0, 1.1, -1.5])
    >>> varied(abs(points), lambda i: abs(points - points[i]), 3, 0.5)
    [0, 2, 1]
    """
    chosen: list[int] = []
    left, least = np.ones(len(distances), np.bool_), np.full(len(distances), math.inf)
    while len(chosen) < min(count, len(distances)):
        gain = diversity * least if chosen and diversity else 0.0
        score = np.where(left, gain - (1 - diversity) * distances, -math.inf)
        best = int(np.argmax(score)) if chosen else 0
        chosen.append(best)
        left[best] = False
        if diversity:
            least = np.minimum(least, apart(best))
    return chosen
