"""Pictures from the web: what an address is, and one answer of it, bounded in bytes and seconds."""

from __future__ import annotations

import email.message
import queue
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgrec.images.reasons import UnreadableImageError

MAX_BYTES = 50_000_000
SECONDS = 30.0
"""For everything together: names, connections, redirects and the picture."""

TOO_LARGE = "too large"
"""How the reason begins that lies with the picture, not with the way to it."""

HEADERS = {"User-Agent": "imgrec", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}


def is_address(path: str) -> bool:
    """Whether this is an address of the web, not a path."""
    return re.match(r"https?://", path, re.IGNORECASE) is not None


def without_password(address: str) -> str:
    """An address as it may be shown.

    >>> without_password("https://me:secret@example.org/a.jpg")
    'https://...@example.org/a.jpg'
    """
    return re.sub(r"(?<=//)[^/?#]*@", "...@", address)


@dataclass(frozen=True)
class Answer:
    """What a server sent."""

    body: bytes
    headers: email.message.Message
    """By names in any case."""


class GoneError(UnreadableImageError):
    """A server says that it has nothing at an address."""


class BusyError(UnreadableImageError):
    """A server says that it cannot answer just now."""


class RefusedError(UnreadableImageError):
    """A server does not answer such a request."""


class AdvisedError(UnreadableImageError):
    """A reason with advice for a query, which is none for a source."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}{advice}")
        self.reason = reason


class PrivateError(AdvisedError):
    """An address leads into the own network."""


def fetch(address: str, **limits: Any) -> bytes:
    """The bytes at an address, whatever they are: as `answer`, whose limits these are."""
    return answer(address, **limits).body


def answer(
    address: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BYTES,
    seconds: float = SECONDS,
    private_addresses: bool = False,
) -> Answer:
    """What is answered to a request of an address that begins with `http://` or `https://`.

    Args:
        address: without user and password.
        method: or `HEAD`, whose answer has no body.
        headers: besides the usual ones.
        max_bytes: more are refused, as soon as it is known that there are more.
        seconds: after these it is given up, whatever it waits for.
        private_addresses: whether the address, or a redirect, may lead to a computer that is not on the public
            internet: this one, those of the own network, a cloud's metadata.

    Raises:
        GoneError: nothing is there.
        BusyError: another try may succeed.
        UnreadableImageError: with the reason.
    """
    from imgrec.images.download import Download  # what it imports takes a fiftieth of a second

    request = (method, {**HEADERS, **(headers or {})})
    download = Download(*request, max_bytes, seconds, private_addresses=private_addresses)
    outcome: queue.Queue[Answer | Exception] = queue.Queue()
    # In a thread, since nothing else bounds the time that a name server takes.
    threading.Thread(target=lambda: outcome.put(download.run(address)), daemon=True).start()
    try:
        found = outcome.get(timeout=seconds)
    except queue.Empty:
        found = TimeoutError()
    finally:
        download.stop()
    if isinstance(found, TimeoutError):
        raise UnreadableImageError(f"no whole answer within {seconds:g} seconds")
    if isinstance(found, Exception):
        raise found
    return found
