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
    """Finds candidates for the nearest neighbours of queries; imgrec then measures their distances itself.

    It gets vectors in their metric's Euclidean form and compares them by Euclidean distance. It is kept in files,
    so that it may be larger than memory and is built once for many runs. `index=exact` means to use none.
    """

    kind: ClassVar[str] = "index"
    groups: ClassVar[tuple[Group, ...]] = (Group("index", none="exact"),)

    @abstractmethod
    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        """Write the files of an index; they must not depend on the sizes of the blocks.

        Args:
            blocks: all vectors in row order, `float32 (some, dim)` each; to be iterated over once.
            count: how many vectors these are, at least one.
            sample: some of the vectors, `float32 (m, dim)`, to train on.
            folder: empty.
        """

    @abstractmethod
    def open(self, folder: Path) -> Self:
        """Open the files that `build` wrote, large ones best memory-mapped, and return self.

        Raises:
            Exception: of any type, if the files are not what `build` wrote; the index is then rebuilt.
        """

    @abstractmethod
    def candidates(
        self, queries: Vectors, count: int, effort: int, usable: npt.NDArray[np.bool_] | None
    ) -> list[Numbers]:
        """Find the rows that are likely to be nearest to each query.

        Args:
            queries: `float32 (m, dim)`.
            count: how many to return at most; fewer if no more are found.
            effort: one of `efforts`.
            usable: `bool (n,)`: the rows that may be found; None for all.

        Returns:
            For each query distinct row numbers, `int64 (count or fewer,)`, in any order.
        """

    def efforts(self) -> Sequence[int]:
        """The search efforts that an open index offers, from least to most; by default just one."""
        return (1,)
