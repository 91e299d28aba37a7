"""Queries: what is looked for, not yet resolved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgrec.errors import UsageError
from imgrec.kinds import Vectors
from imgrec.paths import expanded

COMBINE = ("mean", "nearest")


@dataclass(frozen=True)
class Known:
    """An item of a query whose vectors are known."""

    vectors: Mapping[str, Vectors]
    """For each term of the similarity `float32 (dim,)`, not yet projected; a single term is named ''."""

    digest: str | None = None
    """That of its content, if known."""


@dataclass(frozen=True)
class Text:
    """An item of a query in words, for spaces whose extractor takes text."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise UsageError("text is empty: say what is looked for")


@dataclass(frozen=True)
class Query:
    """What is looked for, not yet resolved: one item or several.

    >>> Query.of("a.jpg", "b.jpg").combine
    'mean'
    """

    items: tuple[str | Known | Text, ...]
    """Paths of pictures, items whose vectors are known, and texts."""

    combine: str = "mean"
    """How several items count: `mean` finds images like their mean vector, `nearest` like any one of them."""

    include_self: bool = False
    """Whether the query's own contents may be found."""

    def __post_init__(self) -> None:
        if self.combine not in COMBINE:
            raise UsageError(f"combine is one of {', '.join(COMBINE)}, not {self.combine!r}")
        if not self.items:
            raise UsageError("query is empty: name a picture")

    @classmethod
    def of(cls, *what: Any, combine: str = "mean", include_self: bool = False) -> Query:
        """A query of pictures, vectors and texts.

        Args:
            what: each the path of a picture; a vector `float32 (dim,)`, for a fusion a mapping of vectors by the
                names of its terms; a `Text`; or a sequence of these.
            combine: how several items count; see the class.
            include_self: whether the query's own contents may be found.

        Raises:
            UsageError: there is nothing to look for, or an item is none of these.
        """
        return cls(tuple(item for each in what for item in _items(each)), combine, include_self)


def as_queries(what: object) -> list[Query | Resolved]:
    """A list of queries, each as it is, or what `Query.of` makes of it.

    Raises:
        UsageError: this is one query, not several.
    """
    if isinstance(what, str | os.PathLike | Mapping | Query | Known | Text | Resolved) or (
        isinstance(what, np.ndarray) and what.ndim != 2
    ):
        raise UsageError(f"queries are several, and this is one: put it into a list, [{what!r:.60}]")
    if not isinstance(what, Iterable):
        raise UsageError(f"queries are a list, and this is {type(what).__name__}")
    return [each if isinstance(each, Query | Resolved) else Query.of(each) for each in what]


def _items(what: Any) -> list[str | Known | Text]:
    if isinstance(what, Query):
        raise UsageError(
            "a query is of pictures and vectors, and this one is of another query: take that as it is"
        )
    if isinstance(what, Known | Text):
        return [what]
    if isinstance(what, str | os.PathLike):
        return [expanded(os.fspath(what))]
    if isinstance(what, np.ndarray) and what.ndim == 1:
        return [Known({"": what.astype(np.float32)})]
    if isinstance(what, Mapping):
        return [Known({name: np.asarray(vector, dtype=np.float32) for name, vector in what.items()})]
    if isinstance(what, Sequence) or (isinstance(what, np.ndarray) and what.ndim == 2):
        return [item for each in what for item in _items(each)]
    raise UsageError(f"a query is of pictures and vectors, and this is {type(what).__name__}: {what!r:.60}")


@dataclass(frozen=True)
class Resolved:
    """A query with its vectors in a gallery."""

    vectors: Mapping[str, Vectors]
    """For each term `float32 (variants, dim)`, not yet projected; images like any of the variants are found."""

    contents: Sequence[str | None]
    """The digest of each variant's content; None if unknown, or if it is a mean."""

    digests: frozenset[str]
    """The query's contents."""

    left_out: frozenset[str]
    """Those of them that must not be found."""

    picture: str | None
    """The path of a picture to show for the query; None if it has none."""
