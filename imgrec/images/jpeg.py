"""Decodes JPEG with libjpeg-turbo, and says what it complains of.

OpenCV and Pillow use the same library, but lose its complaints or print them without the file's name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from imgrec.images import warned
from imgrec.images.reasons import UnreadableImageError
from imgrec.kinds import Image

_NO_END = "Premature end of JPEG file"
"""libjpeg's words where the data end before their end marker."""

_END = b"\xff\xd9"


def decode(data: bytes, width: int, height: int, reduction: int, opened: Callable[[], BinaryIO]) -> Image:
    """The picture as it is stored: `uint8 (height, width, 3)`, RGB, sides divided by the reduction, rounded up.

    Damage that leaves a picture is noted as a warning (`warned`).

    Args:
        data: the file.
        width: of the picture in full, in pixels.
        height: likewise.
        reduction: 1, 2, 4 or 8.
        opened: gives the file without metadata, for Pillow to read what simplejpeg does not.

    Raises:
        UnreadableImageError: the data end before the picture does, or are of no use at all.
    """
    import simplejpeg

    # The least that is asked for makes it choose just this reduction.
    sides = {} if reduction == 1 else {"min_width": -(-width // reduction), "min_height": -(-height // reduction)}

    def decoded(data: bytes, *, strict: bool = True) -> Image:
        image: Image = simplejpeg.decode_jpeg(data, strict=strict, **sides)
        return image

    with contextlib.suppress(ValueError):
        return decoded(data)
    data = opened().read()  # for libjpeg complains of profiles, too
    try:
        return decoded(data)
    except ValueError as error:
        complaint = str(error)
    try:
        image = _closed(decoded, data) if complaint == _NO_END else decoded(data, strict=False)
    except ValueError:  # an unusual sampling, say, or a complaint about the header
        image = _by_pillow(opened(), width // reduction, height // reduction, complaint)
        if complaint.startswith("tj"):  # what the interface lacks, no damage
            return image
    warned.note(complaint)
    return image


def _closed(decoded: Callable[[bytes], Image], data: bytes) -> Image:
    """The picture of a file that lacks its end marker, and nothing else of the picture."""
    try:
        return decoded(data + _END)
    except ValueError as error:
        raise UnreadableImageError(f"broken image: truncated: {_NO_END}: {error}") from None


def _by_pillow(file: BinaryIO, width: int, height: int, complaint: str) -> Image:
    import PIL.Image

    try:
        with PIL.Image.open(file, formats=("JPEG",)) as picture:
            picture.draft(None, (max(1, width), max(1, height)))
            return np.asarray(picture.convert("RGB"))
    except Exception as error:
        known = complaint if not complaint.startswith("tj") else " ".join(str(error).split())
        raise UnreadableImageError(f"broken image: {known}") from None
