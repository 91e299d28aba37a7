"""Why a file is no image, or none that can be read now."""

from __future__ import annotations

from imgrec.errors import ImgrecError

NOT_OPENED = "cannot be opened"
"""How reasons begin that lie with the system, not with the file."""

NEEDS = "needs "
"""How reasons begin that lie with a library that is not installed."""

NOT_REGULAR = "not a regular file"
"""The reason for a pipe, a socket, a device or a folder."""

UNKNOWN = "not an image in a known format"
"""The reason for what no decoder knows, so far."""

DECODER = "decoder "
"""How reasons begin that lie with a decoder."""

CHANGED = "changed while it was read"
"""The reason for a file that somebody was writing."""


class UnreadableImageError(ImgrecError):
    """A file that is no image, or a broken one; the message is the reason, without the path."""


def is_worth_another_try(reason: str) -> bool:
    """Whether a file that failed may be read another time although it has not changed."""
    return reason.startswith((NOT_OPENED, NEEDS, UNKNOWN, DECODER, CHANGED))
