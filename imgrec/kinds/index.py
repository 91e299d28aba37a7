"""Indexes find candidates among the vectors of a space without looking at all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from imgrec.kinds.component import Component, Group
from imgrec.kinds.extractor import Vectors

Numbers = npt.NDArray[np.int64]


@dataclass
class Index(Component):
    """Finds likely neighbours of queries among many vectors; which of them are nearest, imgrec measures itself.

    It sees vectors in their metric's Euclidean form, and finds by Euclidean distance. What it makes lies in files
    of a folder, so that it may be larger than memory, and is built once for many runs. `index=exact` is none of
    these: a search that finds all.
    """

    kind: ClassVar[str] = "index"
    groups: ClassVar[tuple[Group, ...]] = (Group("index", none="exact"),)

    @abstractmethod
    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        """Make the files of an index, the same ones whatever the sizes of blocks.

        Args:
            blocks: all vectors in the order of their rows, `float32 (some, dim)` each; they come once.
            count: how many vectors these are, at least one.
            sample: some of the vectors, `float32 (m, dim)`, to learn from.
            folder: empty.
        """

    @abstractmethod
    def open(self, folder: Path) -> Self:
        """Be ready to search what `build` made in a folder; large files are best mapped.

        Raises:
            Exception: anything, where the files are not what `build` made: they are made again.
        """

    @abstractmethod
    def candidates(
        self, queries: Vectors, count: int, effort: int, usable: npt.NDArray[np.bool_] | None
    ) -> list[Numbers]:
        """For each query the rows that are likely among its nearest.

        Args:
            queries: `float32 (m, dim)`.
            count: how many are wanted. Fewer come where no more are found, never more.
            effort: one of `efforts`.
            usable: `bool (n,)`: the rows that may be found; None for all.

        Returns:
            For each query the numbers of different rows, `int64 (count or fewer,)`, in any order.
        """

    def efforts(self) -> Sequence[int]:
        """How hard it may look, from least to most, once it is open; by default there is one way."""
        return (1,)
