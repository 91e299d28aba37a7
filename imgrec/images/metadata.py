"""Metadata of image files: the one reader of EXIF, which takes what is whole of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from imgrec.images import tiff
from imgrec.kinds import Image

# Exif 3.0 (CIPA DC-008), tables 4 and 7.
ORIENTATION, EXIF, TAKEN, OFFSET = 0x0112, 0x8769, 0x9003, 0x9011

SWAPPED = range(5, 9)
"""The orientations that swap width and height."""


@dataclass(frozen=True)
class Metadata:
    """The metadata that imgrec uses, from EXIF."""

    orientation: int = 1
    """How the picture is stored, from 1 (upright) to 8."""

    taken: str | None = None
    """When it was photographed: ISO 8601, in the camera's own time, with its UTC offset if known."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (height, width) if self.orientation in SWAPPED else (width, height)


def of(exif: Iterable[bytes | memoryview], page: int | None = None) -> Metadata:
    """What EXIF tells; what is damaged is passed over.

    Args:
        exif: TIFF structures, perhaps behind the word `Exif`; what the first does not tell, the next may.
        page: where the directory of the page begins; None: that of the first.
    """
    orientation, taken = 1, None
    for each in exif:
        directory = _directory(each, page) if each else None
        if directory is None:
            continue
        found, inner = directory.whole(ORIENTATION), directory.inner(EXIF)
        if orientation == 1 and found and found <= 8:
            orientation = found
        if inner and not taken:
            taken = _time(inner.text(TAKEN), inner.text(OFFSET))
    return Metadata(orientation, taken)


def _directory(exif: bytes | memoryview, page: int | None) -> tiff.Directory | None:
    start = next((at for at in range(_MOST_BEFORE) if bytes(exif[at : at + 4]) in tiff.MAGIC), None)
    if start is None:
        return None
    first = next(tiff.directories(exif[start:]), None)
    return first if first is None or page is None else replace(first, start=page)


_MOST_BEFORE = 64
"""Bytes in which a structure has to begin; the word `Exif` may stand before it, also twice."""


def _time(text: str, offset: str) -> str | None:
    with contextlib.suppress(ValueError):
        zone = offset if re.fullmatch(r"[+-]\d\d:\d\d", offset) else ""
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").isoformat() + zone
    return None


def upright(image: Image, orientation: int) -> Image:
    """An image turned and mirrored so that it is upright.

    >>> upright(np.array([[[1] * 3, [2] * 3]], np.uint8), 6)[:, :, 0].tolist()
    [[1], [2]]
    """
    import cv2

    if orientation in (5, 7):
        image = image.transpose(1, 0, 2)
    turn = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 7: cv2.ROTATE_180, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    if orientation in (2, 4):
        return cv2.flip(image, orientation // 2 % 2)  # type: ignore[return-value]
    if orientation in turn:
        return cv2.rotate(image, turn[orientation])  # type: ignore[return-value]
    return np.ascontiguousarray(image)
