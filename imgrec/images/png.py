"""PNG (ISO/IEC 15948): transparent colours in the depth of their pixels, and 16 bits with transparency in full.

Pillow does not scale the transparent colour with depths below 8, passes over it at 16, and has 8 bits of a colour.
"""

from __future__ import annotations

import io
from typing import cast

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngImageFile

from imgrec.images.reasons import UnreadableImageError
from imgrec.images.samples import Samples, drawn, eight_bits, in_bands, on_white
from imgrec.kinds import Image

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6


def recognises(data: bytes) -> bool:
    """Whether it is a PNG."""
    return data.startswith(b"\x89PNG\r\n\x1a\n")


def opened(data: bytes) -> PIL.Image.Image:
    """The first picture, as stored.

    Raises:
        UnreadableImageError: its header is not the first chunk.
    """
    picture = PIL.Image.open(io.BytesIO(data), formats=["PNG"])
    if data[12:16] != b"IHDR":
        raise UnreadableImageError("broken image: a PNG that does not begin with its header")
    depth, colour = data[24], data[25]
    key = picture.info.pop("transparency", None)
    if depth == 16 and (key is not None or colour in (GREY_ALPHA, RGBA)):
        deep = drawn(picture.size, lambda: _draw(data, colour, key), 16 * picture.width * picture.height)
        deep.info = picture.info
        return deep
    top = 2**depth - 1
    if colour == GREY and isinstance(key, int):
        # More bits than the pixels have are not looked at.
        picture.info["transparency"] = (key & top) * 255 // top
    elif key is not None:
        picture.info["transparency"] = tuple(value & top for value in key) if colour == RGB else key
    return picture


def _draw(data: bytes, colour: int, key: int | tuple[int, ...] | None) -> Image:
    """16 bits on white."""
    high, low = _halves(data, colour)

    def draw(rows: slice) -> Image:
        box = (0, rows.start, high.width, rows.stop)
        samples = _samples(high.crop(box), low.crop(box), colour)
        if key is None:
            light, alpha = samples[:, :, :-1], samples[:, :, -1:]
        else:
            light, alpha = samples, np.where((samples == key).all(axis=2, keepdims=True), 0, 65_535)
        return eight_bits(on_white(light, cast("Samples", alpha.astype(np.uint32))), 16)

    return in_bands(high.height, high.width, draw)


def _halves(data: bytes, colour: int) -> tuple[PIL.Image.Image, PIL.Image.Image]:
    """The high and the low bytes of each sample; together, where Pillow has a mode for that."""
    if colour in (GREY, GREY_ALPHA):
        # Grey and alpha of 16 bits are 4 bytes, as RGBA.
        both = _read(data, *(("I;16", "I;16B") if colour == GREY else ("RGBA", "RGBA")))
        return both, both
    mode = "RGB" if colour == RGB else "RGBA"
    # Told that the bytes of a sample come in the other order, Pillow takes the low one for the high one.
    return _read(data, mode, f"{mode};16B"), _read(data, mode, f"{mode};16L")


def _read(data: bytes, mode: str, raw: str) -> PIL.Image.Image:
    """The pixels in another mode than Pillow's own choice."""
    picture = PngImageFile(io.BytesIO(data))
    picture._mode = mode
    picture.tile = [tile._replace(args=raw) for tile in picture.tile]
    picture.load()
    return picture


def _samples(high: PIL.Image.Image, low: PIL.Image.Image, colour: int) -> Samples:
    first = np.asarray(high)
    if colour == GREY:
        return first.astype(np.uint32)[:, :, None]
    if colour == GREY_ALPHA:
        return np.ascontiguousarray(first).view(">u2").astype(np.uint32)
    both: Samples = first.astype(np.uint32) << 8 | np.asarray(low)
    return both
