"""Targets: what a search looks for, the variants of all queries at once, and how their finds are merged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from imgrec.kinds import Vectors
from imgrec.search.exact import Found


@dataclass(frozen=True)
class Targets:
    """What is searched for: the vectors of the variants of all queries, query by query."""

    vectors: Sequence[Vectors]
    """For each term `float32 (variants of all queries, dim)`."""

    counts: Sequence[int]
    """How many variants each query has."""

    digests: Sequence[frozenset[str]]
    """The contents that each query must not find."""

    names: Sequence[Sequence[str]]
    """What the variants of each query are; empty if it asked for none."""

    def ends(self) -> list[int]:
        """The offsets at which each query's variants begin, and the end of the last."""
        return [0, *itertools.accumulate(self.counts)]

    def each(self) -> Iterator[Targets]:
        """Each query by itself."""
        for i, (start, end) in enumerate(itertools.pairwise(self.ends())):
            yield Targets(
                [some[start:end] for some in self.vectors],
                self.counts[i : i + 1],
                self.digests[i : i + 1],
                self.names[i : i + 1],
            )

    def by_query(self, found: Sequence[Found]) -> Iterator[tuple[Sequence[Found], frozenset[str]]]:
        """For each query what its variants found, and the contents that it must not find."""
        for (start, end), digests in zip(itertools.pairwise(self.ends()), self.digests, strict=True):
            yield found[start:end], digests


def least(found: Sequence[Found]) -> Found:
    """Merge several results: each row once at its least distance, nearest first."""
    rows, distances = (np.concatenate([each[i] for each in found]) for i in range(2))
    order = np.lexsort((rows, distances))
    rows, distances = rows[order], distances[order]
    _, first = np.unique(rows, return_index=True)
    first.sort()
    return rows[first], distances[first]


def cut(found: Found, k: int) -> Found:
    """The k nearest rows, and all that tie with the k-th."""
    rows, distances = found
    near = distances <= distances[k - 1] if len(rows) > k else slice(None)
    return rows[near], distances[near]
