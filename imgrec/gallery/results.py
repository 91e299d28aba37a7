"""What a gallery answers: the files of a query's neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgrec.kinds import Record

Filter = Callable[[Record], bool]
"""Whether an image file counts."""


@dataclass(frozen=True)
class Match:
    """One neighbour of a query."""

    rank: int
    """From 1, the nearest."""

    path: str
    distance: float
    """By the gallery's metric, computed in float64; of a fusion in usual distances, weighed and added."""

    label: str
    """The name of the folder that the image lies in."""

    shares: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    """In a fusion each term's share of the distance, from 0 to 1."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; `shares` only where there are terms."""
        data = {"rank": self.rank, "path": self.path, "distance": self.distance, "label": self.label}
        return {**data, "shares": dict(self.shares)} if self.shares else data


def label_of(path: str) -> str:
    """The label of an image: the name of its folder.

    >>> label_of("/photos/hat/1.jpg")
    'hat'
    """
    return Path(path).parent.name
