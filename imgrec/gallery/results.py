"""The results of a search: the files nearest to a query."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgrec.kinds import Record

Filter = Callable[[Record], bool]
"""A predicate on image files."""


@dataclass(frozen=True)
class Match:
    """One neighbour of a query."""

    rank: int
    """From 1, the nearest."""

    path: str
    distance: float
    """By the gallery's metric, in float64; in a fusion the weighted sum of distances in units of the usual one."""

    label: str
    """The name of the image's folder."""

    shares: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    """In a fusion each term's share of the distance, from 0 to 1."""

    copies: tuple[str, ...] = ()
    """The paths of other files with the same content, if they share this rank."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; `shares` only for a fusion."""
        data = {
            "rank": self.rank,
            "path": self.path,
            "distance": self.distance,
            "label": self.label,
            "copies": list(self.copies),
        }
        return {**data, "shares": dict(self.shares)} if self.shares else data


def label_of(path: str) -> str:
    """The label of an image: the name of its folder.

    >>> label_of("/photos/hat/1.jpg")
    'hat'
    """
    return Path(path).parent.name
