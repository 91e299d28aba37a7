"""Metadata of image files."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image

# Exif 3.0 (CIPA DC-008), tables 4 and 7.
ORIENTATION, EXIF, TAKEN, OFFSET = 0x0112, 0x8769, 0x9003, 0x9011

SWAPPED = range(5, 9)
"""The orientations that swap width and height."""


@dataclass(frozen=True)
class Metadata:
    """The metadata that imgrec uses, from EXIF."""

    is_turned: bool = False
    """Whether width and height are swapped to make the picture upright."""

    taken: str | None = None
    """When it was photographed: ISO 8601, in the camera's own time, with its UTC offset if known."""


def of(picture: PIL.Image.Image) -> Metadata:
    """A picture's metadata; damaged ones are ignored."""
    import PIL.Image

    with contextlib.suppress(Exception):  # readers of damaged EXIF raise anything
        exif = PIL.Image.Image.getexif(picture)  # PNG overrides it, and would decode its pixels
        if exif:
            inner = exif.get_ifd(EXIF)
            return Metadata(exif.get(ORIENTATION) in SWAPPED, _time(inner.get(TAKEN), inner.get(OFFSET)))
    return Metadata()


def _time(text: object, offset: object) -> str | None:
    with contextlib.suppress(ValueError):
        moment = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        zone = str(offset).strip("\0 ")
        return moment.isoformat() + (zone if re.fullmatch(r"[+-]\d\d:\d\d", zone) else "")
    return None
