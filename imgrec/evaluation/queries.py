"""What is asked of a gallery, and what of its answers are hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgrec.gallery.gallery import Gallery
from imgrec.gallery.query import Known, Query
from imgrec.kinds import Record, Reranker, Vectors
from imgrec.search.exact import Mask


@dataclass
class Queries:
    """What is asked."""

    about: str
    records: Sequence[Record]
    asked: Sequence[Query]
    """One for each record."""

    wanted: Sequence[str]
    """For each query the key of the images that are hits."""

    alterations: Sequence[str] = ()
    """What was done to each, if anything was."""

    @property
    def groups(self) -> Sequence[str]:
        """What queries are told apart by: their alterations, or their labels."""
        return self.alterations or self.wanted

    @property
    def grouped_by(self) -> str:
        """`by_alteration` or `by_class`."""
        return "by_alteration" if self.alterations else "by_class"

    @property
    def names(self) -> list[str]:
        """For people."""
        return [f"{group}: {Path(r.path).name}" for group, r in zip(self.groups, self.records, strict=True)]


def known(records: Sequence[Record], vectors: Mapping[str, Vectors], *, is_content: bool = True) -> list[Query]:
    """Queries whose vectors are there.

    Args:
        records: one a query.
        vectors: for each term `float32 (n, dim)`, not yet projected.
        is_content: whether they are the records' own contents, which then are not found.
    """
    return [
        Query((Known({name: each[i] for name, each in vectors.items()}, record.digest if is_content else None),))
        for i, record in enumerate(records)
    ]


def hits(gallery: Gallery, queries: Queries, keys: Sequence[str], rerank: Reranker | None) -> list[Mask]:
    """For each query, image by image from the nearest on, whether it is a hit.

    Args:
        gallery: what is asked.
        queries: what is asked of it.
        keys: of the gallery's records: an image is a hit where its key is the one that the query wants.
        rerank: asks a second time.
    """
    key_of = np.array(keys, dtype=object)
    rankings = gallery.rankings(queries.asked, rerank)
    return [key_of[numbers] == wanted for numbers, wanted in zip(rankings, queries.wanted, strict=True)]


def relevant(gallery: Gallery, queries: Queries, keys: Sequence[str]) -> list[int]:
    """For each query, how many of the gallery's images are hits, those that it may not find left out."""
    counts = Counter(keys)
    own = Counter((record.digest, key) for record, key in zip(gallery.records, keys, strict=True))
    return [
        counts[wanted] - sum(own[digest, wanted] for digest in _own_digests(query))
        for query, wanted in zip(queries.asked, queries.wanted, strict=True)
    ]


def _own_digests(query: Query) -> set[str]:
    if query.include_self:
        return set()
    return {each.digest for each in query.items if isinstance(each, Known) and each.digest}
