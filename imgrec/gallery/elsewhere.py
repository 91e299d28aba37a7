"""Queries from elsewhere: pictures that are no files, but come from the web or from standard input."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery.query import Item, PictureBytes, Query
from imgrec.images import web
from imgrec.options import Options, option

STDIN = "-"


@dataclass(kw_only=True)
class Elsewhere(Options):
    """The options of a stage whose queries may come from elsewhere; it inherits from this."""

    query_bytes: int = option(
        web.MAX_BYTES, minimum=1, help="of a query from http(s):// or standard input, at the most"
    )
    query_seconds: float = option(web.SECONDS, minimum=0.1, help="that a query from http(s):// may take")
    private_addresses: bool = option(
        False, help="let a query's http(s):// lead to this computer or one of the own network"
    )

    def pictures(self, items: Sequence[Item], option: str, repeats: Path | None = None) -> list[Item]:
        """Items of a query with those from elsewhere fetched; other ones as they are.

        Args:
            items: paths, addresses, and `-` for standard input.
            option: which they are of, `query` or `unlike`.
            repeats: the folder of the run that this one repeats, with what it has kept of them.

        Raises:
            UsageError: one cannot be fetched.
        """
        return [
            self._picture(each, option, number, repeats) if is_elsewhere(each) else each
            for number, each in enumerate(items, 1)
        ]

    def _picture(self, name: str, option: str, number: int, repeats: Path | None) -> Item:
        if repeats and (kept := sorted(repeats.glob(f"{option}-{number}.*"))):
            return PictureBytes(kept[0].read_bytes(), name)
        if name != STDIN:
            limits: Any = {"max_bytes": self.query_bytes, "seconds": self.query_seconds}
            return brought(name, option, private_addresses=self.private_addresses, **limits)
        if repeats:
            raise UsageError(f"{repeats} does not hold the picture any more that standard input had then")
        data = _standard_input(getattr(sys.stdin, "buffer", None), option, self.query_bytes)
        return PictureBytes(data, name)


def is_elsewhere(item: object) -> TypeGuard[str]:
    """Whether an item of a query is standard input, or an address of the web that no plugin's source reads."""
    if not isinstance(item, str):
        return False
    return item == STDIN or (web.is_address(item) and isinstance(images.source_of(item), images.Addresses))


def brought(item: Item, option: str = "query", **limits: Any) -> Item:
    """An item of a query, fetched if it is an address of the web.

    Args:
        item: any.
        option: for messages.
        limits: as of `images.web.fetch`.

    Raises:
        UsageError: it cannot be fetched.
    """
    if not is_elsewhere(item) or item == STDIN:
        return item
    try:
        return PictureBytes(web.fetch(item, **limits), item)
    except images.UnreadableImageError as error:
        raise UsageError(f"{option} {web.without_password(item)!r} cannot be read: {error}") from None


def keep(query: Query, folder: Path) -> None:
    """Write the pictures from elsewhere of a query to a run's folder, for a replay."""
    for name, items in (("query", query.items), ("unlike", query.unlike)):
        for number, item in enumerate(items, 1):
            if isinstance(item, PictureBytes):
                suffix = images.Encoded.of(item.data).format.lower()
                (folder / f"{name}-{number}.{suffix}").write_bytes(item.data)


@functools.lru_cache(maxsize=1)
def _standard_input(stream: BinaryIO | None, option: str, most: int) -> bytes:
    """All of standard input, read once for all jobs of a sweep."""
    if stream is None or stream.isatty():
        raise UsageError(f"{option}=- reads a picture from standard input, and this is a terminal: < img.jpg")
    data = stream.read(most + 1)
    if len(data) > most:
        raise UsageError(f"{option} '-' cannot be read: too large: more than {most:,} bytes")
    return data
