"""Bodies of requests, counted while they come: bounded in bytes, in time, and all together."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MOST = 32_000_000
"""The largest body, in bytes."""

MOST_TOGETHER = 4 * MOST
"""Bytes of all bodies that are being read."""

LONGEST = 60.0
"""Seconds until all of a body is there."""

PAUSE = 10.0
"""Seconds without any of it."""


class Bodies:
    """Reads the bodies of requests.

    Args:
        most: bytes of one.
        longest: seconds until all of it is there.
        pause: seconds without any of it.
    """

    def __init__(self, most: int = MOST, longest: float = LONGEST, pause: float = PAUSE) -> None:
        self.most, self._longest, self._pause = most, longest, pause
        self._reading = 0

    async def read(self, request: Request) -> bytes:
        """The body of a request.

        Raises:
            HTTPException: it is too large or too slow, or there are too many at a time.
        """
        if int(request.headers.get("content-length", 0)) > self.most:
            raise self._too_large()
        parts: list[bytes] = []
        count = 0
        stream = request.stream()
        try:
            async with asyncio.timeout(self._longest):
                while True:
                    async with asyncio.timeout(self._pause):
                        part = await anext(stream, None)
                    if part is None:
                        return b"".join(parts)
                    count += len(part)
                    self._reading += len(part)
                    parts.append(part)
                    if count > self.most:
                        raise self._too_large()
                    if self._reading > MOST_TOGETHER:
                        raise HTTPException(503, "too many uploads at a time: try again", {"Retry-After": "2"})
        except TimeoutError:
            raise HTTPException(408, "the body came too slowly") from None
        except ClientDisconnect:
            raise HTTPException(400, "the body ended early") from None
        finally:
            self._reading -= count

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self.most:,} bytes")
