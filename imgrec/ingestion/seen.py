"""The paths that an ingest has found, in little memory, since they may be millions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np


class Seen:
    """A set of paths by their hashes, 8 bytes each.

    Two of a million paths share one with a chance of 3e-8, and hashes are other ones in each process.

    >>> seen = Seen()
    >>> seen.add(["a.jpg", "b.jpg"])
    >>> seen.has(["b.jpg", "c.jpg"])
    [True, False]
    """

    def __init__(self) -> None:
        self._new = array("q")
        self._sorted = np.empty(0, np.int64)

    def add(self, paths: Iterable[str]) -> None:
        """Add some paths."""
        self._new.extend(map(hash, paths))

    def has(self, paths: Sequence[str]) -> list[bool]:
        """Whether each path is in it."""
        if self._new:
            self._sorted = np.union1d(self._sorted, np.frombuffer(self._new, np.int64))
            self._new = array("q")
        hashes = np.array([hash(path) for path in paths], np.int64)
        if not len(self._sorted):
            return [False] * len(paths)
        places = np.searchsorted(self._sorted, hashes).clip(max=len(self._sorted) - 1)
        found: list[bool] = (self._sorted[places] == hashes).tolist()
        return found
