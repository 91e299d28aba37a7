"""Pictures on the web: the source of `https://` addresses, and of lists of them."""

from __future__ import annotations

import contextlib
import email.message
import email.utils
import functools
import hashlib
import os
import random
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.hookspecs import hookimpl
from imgrec.images import web
from imgrec.images.files import MAX_BYTES
from imgrec.images.reasons import CHANGED, NOT_OPENED, UnreadableImageError
from imgrec.kinds import ImageFile, Source
from imgrec.threads import ahead

PRIVATE_ADDRESSES = "IMGREC_PRIVATE_ADDRESSES"
"""The environment variable that lets addresses lead into the own network if it is `true`."""

SECONDS = 120.0
"""That a picture or a list may take."""

PAUSES = (0.25, 1.0, 4.0)
"""Seconds before each further try, where a server is busy."""

LIST = ".txt"


@dataclass
class Addresses(Source):
    """Pictures at `https://` addresses; one that ends with `.txt` is that of a list of addresses."""

    at_once: ClassVar[int] = 16

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Any address of the web."""
        return web.is_address(path)

    def roots(self, path: str) -> list[str]:
        """The address itself, or those that its list has a line each; `#` begins a comment.

        Raises:
            UsageError: the list cannot be read, or has none, or a line that is none.
        """
        if not path.partition("?")[0].lower().endswith(LIST):
            return [path]
        try:
            lines = _answer(path).body.decode("utf-8-sig").splitlines()
            told = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
            found = [urllib.parse.urljoin(path, line) for line in told]
        except (UnreadableImageError, ValueError) as error:
            raise UsageError(f"the list {web.without_password(path)} cannot be read: {error}") from None
        for each in found:
            if not web.is_address(each):
                raise UsageError(f"the list {path} has {each!r}, which is no https:// address")
            if (shown := web.without_password(each)) != each:
                raise UsageError(f"the list {path} has {shown!r}, with a password that would be recorded")
        if not found:
            raise UsageError(f"the list {path} has no addresses")
        return list(dict.fromkeys(found))

    def paths(self, roots: Sequence[str]) -> Iterator[str]:
        """The addresses themselves: nothing is asked of their servers."""
        return iter(dict.fromkeys(roots))

    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        """Ask for the state of each address, many at a time."""
        with ThreadPoolExecutor(self.at_once) as pool:
            yield from ahead(pool, self._found, self.paths(roots), 4 * self.at_once)

    def _found(self, path: str) -> ImageFile:
        return self.state(path) or ImageFile(path, 0, 0, problem=f"{NOT_OPENED}: nothing is there")

    def state(self, path: str) -> ImageFile | None:
        """What a server says of an address without sending it; None if it says that nothing is there."""
        try:
            return self._told(path)
        except web.GoneError:
            return None
        except UnreadableImageError as error:
            return ImageFile(path, 0, 0, problem=f"{NOT_OPENED}: {error}")

    def _told(self, path: str) -> ImageFile:
        """The answer to HEAD, or to a request of the first byte, where an address is signed for reading alone."""
        try:
            headers = _answer(path, method="HEAD").headers
            return _file(path, headers, _number(headers.get("Content-Length")))
        except web.RefusedError:
            found = _answer(path, headers={"Range": "bytes=0-0"})
            whole = found.headers.get("Content-Range", "").rpartition("/")[2]
            return _file(path, found.headers, _number(whole) or len(found.body))

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        """The bytes at an address, and their state as the same answer tells it."""
        found = self._read(path)
        return found.body, _file(path, found.headers, len(found.body))

    def _read(self, path: str, **request: Any) -> web.Answer:
        try:
            return _answer(path, **request)
        except UnreadableImageError as error:
            is_large = str(error).startswith(web.TOO_LARGE)
            raise error if is_large else UnreadableImageError(f"{NOT_OPENED}: {error}") from None

    def read_part(self, path: str, start: int, size: int) -> tuple[bytes, ImageFile]:
        """Ask for a range of bytes; a server that knows no ranges sends everything."""
        found = self._read(path, headers={"Range": f"bytes={start}-{start + size - 1}"})
        told, _, whole = found.headers.get("Content-Range", "").rpartition("/")
        if not told:
            return found.body[start : start + size], _file(path, found.headers, len(found.body))
        if not told.startswith(f"bytes {start}-"):
            raise UnreadableImageError(CHANGED)
        return found.body, _file(path, found.headers, _number(whole))


def _answer(path: str, **request: Any) -> web.Answer:
    """Read within the limits of a source, which has no options: the environment lets it into the own network.

    Raises:
        GoneError: nothing is there.
        UnreadableImageError: with the reason.
    """
    is_private = os.environ.get(PRIVATE_ADDRESSES, "").lower() == "true"
    limits: Any = {"max_bytes": MAX_BYTES, "seconds": SECONDS, "private_addresses": is_private}
    for pause in PAUSES:
        with contextlib.suppress(web.BusyError):
            return _once(path, **limits, **request)
        time.sleep(pause * random.uniform(0.5, 1.5))  # not all threads at the same moment
    return _once(path, **limits, **request)


def _once(path: str, **request: Any) -> web.Answer:
    """An answer, or the error without the advice that is for queries."""
    try:
        return web.answer(path, **request)
    except web.PrivateError as error:
        how = f"{PRIVATE_ADDRESSES}=true in the environment allows it"
        raise UnreadableImageError(f"{error.reason}: {how}") from None
    except web.AdvisedError as error:
        raise UnreadableImageError(error.reason) from None


def _file(path: str, headers: email.message.Message, size: int) -> ImageFile:
    """The stamp is a digest of what a server sends to tell states apart; None if it sends nothing."""
    tag, changed = headers.get("ETag", ""), headers.get("Last-Modified", "")
    stamp = hashlib.sha256(f"{tag} {changed}".encode()).hexdigest()[:16] if tag or changed else None
    return ImageFile(path, size, _nanoseconds(changed), stamp)


@functools.lru_cache(maxsize=64)
def _nanoseconds(date: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp()) * 1_000_000_000
    except ValueError:
        return 0


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() else 0


@hookimpl
def imgrec_components() -> list[type[Source]]:
    """The source of this module."""
    return [Addresses]
