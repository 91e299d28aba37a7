"""Places on a map for what is not on it: by the places of its nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgrec.kinds import Doubles

NEIGHBOURS = 15
"""How many of the nearest images say where a query belongs."""

STEPS = 100
"""Of the geometric median, which takes a few dozen."""


@dataclass(frozen=True)
class Place:
    """Where something is on a map, in the map's units."""

    x: float
    y: float

    spread: float = 0.0
    """Half of the neighbours, by weight, lie within this distance; 0 where the place is exact."""

    is_estimated: bool = False
    """Whether the neighbours say it, not the map itself."""

    def to_json(self) -> dict[str, float | bool]:
        """Plain data."""
        return {"x": self.x, "y": self.y, "spread": self.spread, "estimated": self.is_estimated}


def by_neighbours(positions: Doubles, distances: Doubles) -> Place:
    """The place of a query among its nearest neighbours: their geometric median, the nearer the heavier.

    A few neighbours in another corner of the map hardly move it, as they would the mean. By the algorithm of
    E. Weiszfeld, Sur le point pour lequel la somme des distances de n points donnés est minimum, 1937.

    Args:
        positions: `float64 (n, 2)`, of the neighbours on the map, n at least 1.
        distances: `float64 (n,)`, of the neighbours from the query, at least 0.

    >>> place = by_neighbours(np.array([[0, 0], [0, 2], [0, 1], [900, 1]]), np.array([1, 1, 1, 1.5]))
    >>> round(place.x), round(place.y), round(place.spread)
    (0, 1, 1)
    """
    least = max(float(distances.max()), 1.0) * 1e-9
    weights = 1 / np.maximum(distances, least)
    place = weights @ positions / weights.sum()
    size = max(float(np.abs(positions).max()), 1.0)
    for _ in range(STEPS):
        pull = weights / np.maximum(np.linalg.norm(positions - place, axis=1), 1e-9 * size)
        before, place = place, pull @ positions / pull.sum()
        if np.abs(place - before).max() <= 1e-6 * size:
            break
    apart = np.linalg.norm(positions - place, axis=1)
    order = np.argsort(apart)
    half = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    x, y, spread = (round(float(each), 3) for each in (*place, apart[order[half]]))
    return Place(x, y, spread, is_estimated=True)
