"""Reads files, with what tells whether they change."""

from __future__ import annotations

import hashlib
import os
import stat

from imgrec.images.finding import ImageFile, examine
from imgrec.images.reasons import CHANGED, NOT_OPENED, NOT_REGULAR, UnreadableImageError

MAX_BYTES = 400_000_000
"""Larger files are refused unread."""


def read(path: str) -> tuple[bytes, str]:
    """A file's bytes and their digest (SHA-256, hexadecimal).

    Raises:
        UnreadableImageError: the file cannot be opened or read, is no regular file, or changed meanwhile.
    """
    return read_as_found(path)[:2]


def read_as_found(path: str) -> tuple[bytes, str, ImageFile]:
    """`read`, and the size and time of change that belong to just these bytes."""
    if problem := examine(path).problem:
        raise UnreadableImageError(problem)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableImageError(NOT_REGULAR)
            if before.st_size > MAX_BYTES:
                raise UnreadableImageError(f"too large: {before.st_size:,} bytes")
            data = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise UnreadableImageError(f"{NOT_OPENED}: {error.strerror}") from None
    if len(data) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnreadableImageError(CHANGED)
    return data, hashlib.sha256(data).hexdigest(), ImageFile(path, after.st_size, after.st_mtime_ns)


def _without_waiting(path: str, flags: int) -> int:
    """Opens: for a pipe that has just taken a file's place, a plain open would wait for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
