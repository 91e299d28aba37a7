"""The results of a search: the files nearest to a query."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgrec.kinds import Record

if TYPE_CHECKING:
    from imgrec.gallery.query import Shown
    from imgrec.gallery.similarity import Similarity

Filter = Callable[[Record], bool]
"""A predicate on image files."""


@dataclass(frozen=True)
class Match:
    """One neighbour of a query."""

    rank: int
    """From 1, the nearest, or of a varied answer the first chosen."""

    path: str
    distance: float
    """By the gallery's metric, in float64; in a fusion the weighted sum of distances in units of the usual one."""

    label: str
    """The name of the image's folder."""

    shares: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    """In a fusion each term's share of the distance, from 0 to 1."""

    copies: tuple[str, ...] = ()
    """The paths of other files with the same content, if they share this rank."""

    variant: str | None = None
    """Which variant of the query's picture is so near; None if none were asked for."""

    near_copies: tuple[str, ...] | None = None
    """The paths of near-duplicates that it stands for, nearest to it first; None if none were folded."""

    typicality: float | None = None
    """The share of the gallery's images whose own nearest one is at least as far; None if not asked for."""

    digest: str = dataclasses.field(default="", compare=False)
    """Of its content, SHA-256 in hexadecimal."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; `shares` only for a fusion, `variant` and the others only where asked for; no `digest`."""
        data = {
            "rank": self.rank,
            "path": self.path,
            "distance": self.distance,
            "label": self.label,
            "copies": list(self.copies),
        }
        if self.variant is not None:
            data["variant"] = self.variant
        if self.near_copies is not None:
            data["near_copies"] = list(self.near_copies)
        if self.typicality is not None:
            data["typicality"] = self.typicality
        return {**data, "shares": dict(self.shares)} if self.shares else data


class Matches(list[Match]):
    """The neighbours of a query, nearest first. A notebook shows them as a contact sheet."""

    query: Sequence[Shown] = ()
    """The pictures of the query."""

    unlike: Sequence[Shown] = ()
    """Those that it keeps away from."""

    similarity: Similarity | None = None
    """What they were compared by."""

    def _repr_png_(self) -> bytes:
        """The contact sheet that a notebook shows."""
        from imgrec.drawing.contact_sheet import contact_sheet
        from imgrec.gallery import titles

        subtitle = titles.title(self.similarity) if self.similarity else ""
        data = io.BytesIO()
        contact_sheet(self.query, self, data, subtitle, self.unlike)
        return data.getvalue()

    @classmethod
    def of(
        cls, matches: Iterable[Match], query: Sequence[Shown], unlike: Sequence[Shown], similarity: Similarity
    ) -> Matches:
        """Some matches, with what they are of."""
        found = cls(matches)
        found.query, found.unlike, found.similarity = query, unlike, similarity
        return found


def label_of(path: str) -> str:
    """The label of an image: the name of its folder.

    >>> label_of("/photos/hat/1.jpg")
    'hat'
    """
    return os.path.split(os.path.split(path)[0])[1]  # a search asks for many: a Path takes four times as long
