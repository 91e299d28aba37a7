"""Reasons why a file cannot be read as an image."""

from __future__ import annotations

from imgrec.errors import ImgrecError

NOT_OPENED = "cannot be opened"
"""The prefix of reasons that lie with the system, not with the file."""

NEEDS = "needs "
"""The prefix of reasons that lie with a library that is not installed."""

NOT_REGULAR = "not a regular file"
"""The reason for a pipe, a socket, a device or a folder."""

UNKNOWN = "not an image in a known format"
"""The reason for a format that no installed decoder knows."""

DECODER = "decoder "
"""The prefix of reasons that lie with a decoder."""

CHANGED = "changed while it was read"
"""The reason for a file that was being written."""


class UnreadableImageError(ImgrecError):
    """A file that is not an image, or a broken one; the message is the reason, without the path."""


def is_worth_another_try(reason: str) -> bool:
    """Whether a file that failed may be readable next time although neither it nor what reads it has changed."""
    return reason.startswith((NOT_OPENED, DECODER, CHANGED))
