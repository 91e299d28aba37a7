"""Small pictures for the page, made on demand by imgrec's own decoder and kept in a cache of bounded size."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from imgrec import images
from imgrec.drawing.pictures import in_square
from imgrec.images.decoding import Encoded

SIDES = (48, 96, 256)
"""The sides that thumbnails are fitted to, in pixels."""

SHOWN = 2_048
"""The side that a picture shown by itself is fitted to."""

MOST_BYTES = 512_000_000
"""Of the cache; the oldest thumbnails are removed first."""

KEPT = 0.9
"""The share of the cache that is left by a removal, so that not each new one makes one."""

HEAVY = 100_000_000
"""Bytes of memory from which on pictures are decoded one at a time."""

_heavy = threading.Lock()


class Thumbnails:
    """A cache of thumbnails by the digests of their pictures; it may be deleted at any time.

    Args:
        folder: where they are kept; None: nowhere.
        most: bytes of all of them.
    """

    def __init__(self, folder: Path | None, most: int = MOST_BYTES) -> None:
        self._folder, self._most = folder, most
        self._bytes: int | None = None
        """Of all of them; None: not counted yet."""

        self._lock = threading.Lock()

    def get(self, digest: str, side: int, read: Callable[[], bytes]) -> bytes:
        """A thumbnail as WebP.

        Args:
            digest: of the picture's content, in hexadecimal.
            side: one of `SIDES`.
            read: the bytes of the picture's file, called if it is not kept.

        Raises:
            UnreadableImageError: the picture cannot be read.
        """
        if self._folder is None:
            return as_webp(read(), side)
        file = self._folder / digest[:2] / f"{digest}-{side}.webp"
        with contextlib.suppress(OSError):
            return file.read_bytes()
        made = as_webp(read(), side)
        with contextlib.suppress(OSError):  # the disk may be full or read-only
            self._keep(file, made)
        return made

    def _keep(self, file: Path, made: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(made)
            Path(name).replace(file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        with self._lock:
            self._bytes = (
                sum(size for _, size, _ in self._all()) if self._bytes is None else self._bytes + len(made)
            )
            if self._bytes > self._most:
                self._remove_oldest()

    def _remove_oldest(self) -> None:
        """Remove thumbnails until there is room for more. Others that share the cache may do so as well."""
        held = sorted(self._all())
        self._bytes = sum(size for _, size, _ in held)
        for _, size, path in held:
            if self._bytes <= KEPT * self._most:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink()
            self._bytes -= size

    def _all(self) -> list[tuple[int, int, str]]:
        """When each was made, in nanoseconds, its size in bytes, and its path."""
        found = []
        assert self._folder is not None
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    state = os.stat(path)
                    found.append((state.st_mtime_ns, state.st_size, path))
        return found


def as_webp(data: bytes, side: int) -> bytes:
    """A picture fitted to a square, as WebP without anything else that its file has.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    encoded = Encoded.of(data)
    is_heavy = encoded.memory([side]) > HEAVY
    with _heavy if is_heavy else contextlib.nullcontext(), images.warned.heard():  # the ingest told of damage
        image = encoded.decode([side])[side]
    if side == SHOWN:
        side = min(side, max(image.shape[:2]))  # shown by itself, nothing is enlarged
    file = io.BytesIO()
    in_square(image, side).save(file, "WEBP", quality=80, method=2)
    return file.getvalue()
