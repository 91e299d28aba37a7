"""Queries from elsewhere: pictures that are no files, but come from the web or from standard input."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery.query import Picture
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

    def pictures(self, queries: Sequence[str], repeats: Path | None = None) -> list[str | Picture]:
        """Queries with those from elsewhere fetched; other ones as they are.

        Args:
            queries: paths, addresses, and `-` for standard input.
            repeats: the folder of the run that this one repeats, with what it has kept of them.

        Raises:
            UsageError: one cannot be fetched.
        """
        return [self._picture(each, number, repeats) for number, each in enumerate(queries, 1)]

    def _picture(self, query: str, number: int, repeats: Path | None) -> str | Picture:
        if query != STDIN and not is_fetched(query):
            return query
        if repeats and (kept := sorted(repeats.glob(f"query-{number}.*"))):
            return Picture(kept[0].read_bytes(), query)
        if query != STDIN:
            limits: Any = {"max_bytes": self.query_bytes, "seconds": self.query_seconds}
            return fetched(query, private_addresses=self.private_addresses, **limits)
        if repeats:
            raise UsageError(f"{repeats} does not hold the picture any more that standard input had then")
        return Picture(_standard_input(getattr(sys.stdin, "buffer", None), self.query_bytes), query)


def is_fetched(query: str) -> bool:
    """Whether a query is an address of the web that no plugin's source reads."""
    return web.is_address(query) and not images.source_of(query).recognises(query)


def fetched(address: str, **limits: Any) -> Picture:
    """The picture at an address.

    Args:
        address: `http://` or `https://`.
        limits: as of `images.web.fetch`.

    Raises:
        UsageError: it cannot be fetched.
    """
    try:
        return Picture(web.fetch(address, **limits), address)
    except images.UnreadableImageError as error:
        raise UsageError(f"query {web.without_password(address)!r} cannot be read: {error}") from None


def keep(items: Sequence[object], folder: Path) -> None:
    """Write the pictures from elsewhere among a query's items to a run's folder, for a replay."""
    for number, item in enumerate(items, 1):
        if isinstance(item, Picture):
            suffix = images.Encoded.of(item.data).format.lower()
            (folder / f"query-{number}.{suffix}").write_bytes(item.data)


@functools.lru_cache(maxsize=1)
def _standard_input(stream: BinaryIO | None, most: int) -> bytes:
    """All of standard input, read once for all jobs of a sweep."""
    if stream is None or stream.isatty():
        raise UsageError("query=- reads a picture from standard input, and this is a terminal: < img.jpg")
    data = stream.read(most + 1)
    if len(data) > most:
        raise UsageError(f"query '-' cannot be read: too large: more than {most:,} bytes")
    return data
