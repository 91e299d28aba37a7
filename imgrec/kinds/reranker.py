"""Rerankers search a second time, with a better query."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from imgrec.kinds.component import Component, Group
from imgrec.kinds.extractor import Vectors
from imgrec.options import option


@dataclass
class Reranker(Component):
    """Makes a better query from the first one and its results, for a second search.

    In a fusion it expands each part's vectors separately, with the images that all parts together found.

    >>> import numpy as np, imgrec
    >>> reranker = imgrec.build("reranker", "query_expansion", neighbours=1)
    >>> reranker.expand(np.array([1, 0], np.float32), np.array([[1, 1]], np.float32)).round(2)
    array([1.  , 0.26], dtype=float32)
    """

    kind: ClassVar[str] = "reranker"
    groups: ClassVar[tuple[Group, ...]] = (Group("rerank", none="none"),)

    neighbours: int = option(20, minimum=1, help="how many of the first answer are looked at")

    @abstractmethod
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        """The query of the second search.

        Args:
            query: `float32 (dim,)`; of unit length where the metric is cosine, unless it is zero.
            nearest: `float32 (m, dim)`: the first results, nearest first, from 1 row to `neighbours` rows.

        Returns:
            `float32 (dim,)`, finite; without negative values if the query and the results have none.
        """
