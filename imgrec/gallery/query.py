"""Queries: what is looked for, not yet resolved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np

from imgrec.errors import UsageError
from imgrec.gallery.variants import SETS
from imgrec.kinds import Vectors
from imgrec.paths import expanded

COMBINE = ("mean", "nearest")

UNLIKE_WEIGHT = 0.15
"""Rocchio's gamma where alpha is 1, as C. Manning, P. Raghavan and H. Schütze have them, Introduction to
Information Retrieval, 2008, section 9.1.1. J. Rocchio himself had, in 1971, a gamma as large as alpha."""


@dataclass(frozen=True)
class Known:
    """An item of a query whose vectors are known."""

    vectors: Mapping[str, Vectors]
    """For each term of the similarity `float32 (dim,)`, not yet projected; a single term is named ''."""

    digest: str | None = None
    """That of its content, if known."""


@dataclass(frozen=True)
class PictureBytes:
    """An item of a query whose bytes are known: no file of a source, or one that need not be read again."""

    data: bytes
    """Those of an image file."""

    name: str = "a picture"
    """Its address, or another name for messages."""

    @property
    def caption(self) -> str:
        """What is written below it: of an address the last part.

        >>> PictureBytes(b"", "https://example.org/photos/a.jpg?width=300").caption
        'a.jpg'
        """
        path = urlsplit(self.name).path if "://" in self.name else self.name
        return {"-": "standard input"}.get(self.name) or path.rstrip("/").rpartition("/")[2] or self.name


@dataclass(frozen=True)
class Text:
    """An item of a query in words, for spaces whose extractor takes text."""

    text: str

    caption: ClassVar[str] = "in words"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise UsageError("text is empty: say in words what is meant")


Item = str | PictureBytes | Known | Text
Shown = str | PictureBytes | Text
"""What is drawn for an item."""


@dataclass(frozen=True)
class Query:
    """What is looked for, not yet resolved: one item or several.

    >>> Query.of("a.jpg", "b.jpg").combine
    'mean'
    """

    items: tuple[Item, ...]
    """Paths and addresses of pictures, their bytes, items whose vectors are known, and texts."""

    combine: str = "mean"
    """How several items count: `mean` finds images like their mean vector, `nearest` like any one of them."""

    include_self: bool = False
    """Whether the query's own contents may be found."""

    unlike: tuple[Item, ...] = ()
    """What to keep away from; contents of these are never found."""

    unlike_weight: float = UNLIKE_WEIGHT
    """How far the query moves away from these, from 0 to below 1; see `resolving.pushed`."""

    variants: str | None = None
    """Which variants of its pictures are looked for as well, one of `variants.SETS`; None: none."""

    colours: str | None = None
    """Colours that count beside the items, or alone: `c03020:0.7,white:0.3`, see `gallery.colours`."""

    def __post_init__(self) -> None:
        if self.variants is not None and self.variants not in SETS:
            raise UsageError(f"variants is one of {', '.join(SETS)}, not {self.variants!r}")
        if self.variants and not all(isinstance(each, str | PictureBytes) for each in self.items or [None]):
            raise UsageError(f"variants={self.variants} are of pictures, and this query has others or none")
        if not 0 <= self.unlike_weight < 1:
            raise UsageError(f"unlike_weight is from 0 to below 1, not {self.unlike_weight!r}")
        if self.combine not in COMBINE:
            raise UsageError(f"combine is one of {', '.join(COMBINE)}, not {self.combine!r}")
        if not self.items and self.colours is None:
            raise UsageError("query is empty: name a picture")

    @classmethod
    def of(
        cls,
        *what: Any,
        combine: str = "mean",
        include_self: bool = False,
        unlike: Any = (),
        unlike_weight: float = UNLIKE_WEIGHT,
        variants: str | None = None,
        colours: str | None = None,
    ) -> Query:
        """A query of pictures, vectors and texts.

        Args:
            what: each the path of a picture, its address `https://`, or the bytes of its file; a vector
                `float32 (dim,)`, for a fusion a mapping of vectors by the names of its terms; a `Text`; or a
                sequence of these.
            combine: how several items count; see the class.
            include_self: whether the query's own contents may be found.
            unlike: what to keep away from: the same as `what`, one or several.
            unlike_weight: how far, from 0 to below 1; see `resolving.pushed`.
            variants: `turns`, `crops` or `all`: variants of its pictures that are looked for as well.
            colours: names as CSS has them, or hexadecimal digits, with shares or without: `c03020:0.7,white:0.3`.

        Raises:
            UsageError: there is nothing to look for, or an item is none of these.
        """
        items = tuple(item for each in what for item in _items(each))
        return cls(items, combine, include_self, tuple(_items(unlike)), unlike_weight, variants, colours)


def as_queries(what: object) -> list[Query | Resolved]:
    """A list of queries, each as it is, or what `Query.of` makes of it.

    Raises:
        UsageError: this is one query, not several.
    """
    if isinstance(what, str | bytes | os.PathLike | Mapping | Query | Known | PictureBytes | Text | Resolved) or (
        isinstance(what, np.ndarray) and what.ndim != 2
    ):
        raise UsageError(f"queries are several, and this is one: put it into a list, [{what!r:.60}]")
    if not isinstance(what, Iterable):
        raise UsageError(f"queries are a list, and this is {type(what).__name__}")
    return [each if isinstance(each, Query | Resolved) else Query.of(each) for each in what]


def _items(what: Any) -> list[Item]:
    if isinstance(what, Query):
        raise UsageError(
            "a query is of pictures and vectors, and this one is of another query: take that as it is"
        )
    if isinstance(what, Known | PictureBytes | Text):
        return [what]
    if isinstance(what, bytes | bytearray | memoryview):
        return [PictureBytes(bytes(what))]
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
    """The contents that must not be found."""

    pictures: Sequence[Shown] = ()
    """What to show for the query: paths of pictures, their bytes, texts."""

    unlike: Sequence[Shown] = ()
    """What to show of that which it keeps away from."""

    variants: Sequence[str] = ()
    """What each variant is of its picture; empty if none were asked for."""

    is_of_pictures: bool = True
    """Whether it is as far from images as these are from each other: of neither words nor colours."""
