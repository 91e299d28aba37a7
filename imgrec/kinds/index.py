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
from imgrec.options import option

Numbers = npt.NDArray[np.int64]


@dataclass(kw_only=True)
class Index(Component):
    """Finds candidates for the nearest neighbours of queries; imgrec then measures their distances itself.

    It gets vectors in their metric's Euclidean form and compares them by Euclidean distance. It is kept in files,
    so that it may be larger than memory and is built once for many runs. `index=exact` means to use none.

    A row is the number of a vector, in the order in which it was built or updated, and never changes.
    """

    kind: ClassVar[str] = "index"
    groups: ClassVar[tuple[Group, ...]] = (Group("index", none="exact"),)

    recall: float = option(
        0.99,
        minimum=0,
        maximum=1,
        help="the share of the nearest that is to be found; the least effort that is sure to is used, else none",
    )
    exact_up_to: int = option(5_000, minimum=0, help="among so many images or fewer, all are looked at")

    @abstractmethod
    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        """Write the files of an index; they depend neither on the sizes of the blocks nor on threads.

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
        """The search efforts that an open index offers, from least to most; by default just one.

        Twice the effort looks at about twice as many rows. Where a filter leaves a tenth of the rows, imgrec asks
        for ten times the effort.
        """
        return (1,)

    def update(self, older: Path, gone: Numbers, blocks: Iterator[Vectors], folder: Path) -> bool:
        """Write the files of an index that was built before, with some rows less and new ones at the end.

        Args:
            older: the folder of that index; others may have it open, and it stays as it is.
            gone: distinct rows of it, `int64 (m,)`, which are found no more; their numbers are not used again.
            blocks: the vectors of the new rows, as for `build`; perhaps none.
            folder: empty.

        Returns:
            False, the default: it cannot do that, and is built anew.
        """
        return False
