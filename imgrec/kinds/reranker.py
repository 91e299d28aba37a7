"""Rerankers move a vector towards its neighbours: queries before a second search, or the gallery's before any."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from imgrec.kinds.component import Component, Group, Progress, no_progress
from imgrec.kinds.extractor import Vectors
from imgrec.options import option


@dataclass
class Reranker(Component):
    """Makes a better query from the first one and its results, for a second search.

    In a fusion it expands each part's vectors separately, with the images that all parts together found. As
    `smoothing=` it does so once to each vector of the gallery, with the nearest others, and to no query.

    >>> import numpy as np, imgrec
    >>> reranker = imgrec.build("reranker", "query_expansion", neighbours=1)
    >>> reranker.expand(np.array([1, 0], np.float32), np.array([[1, 1]], np.float32)).round(2)
    array([1.  , 0.26], dtype=float32)
    """

    kind: ClassVar[str] = "reranker"
    groups: ClassVar[tuple[Group, ...]] = (
        Group("rerank", none="none"),
        Group("smoothing", none="none", defaults={"neighbours": 10}),
    )

    neighbours: int = option(20, minimum=1, help="how many of the nearest images are looked at")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress: Progress = no_progress
        """Set by callers that show the progress of smoothing."""

    @abstractmethod
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        """The query of the second search.

        Args:
            query: `float32 (dim,)`; of unit length where the metric is cosine, unless it is zero. For smoothing a
                vector of the gallery.
            nearest: `float32 (m, dim)`: the first results, nearest first, from 1 row to `neighbours` rows.

        Returns:
            `float32 (dim,)`, finite; without negative values if the query and the results have none.
        """
