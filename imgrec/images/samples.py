"""Samples of any depth, in NumPy, to RGB of 8 bits; and pictures whose pixels are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from imgrec.images.lazy import LazyPicture
from imgrec.kinds import Image

Samples = npt.NDArray[np.unsignedinteger[Any]]
"""`(height, width, channels)`, from 0 to 2 ** bits - 1."""


def drawn(size: tuple[int, int], draw: Callable[[], Image], cost: int) -> LazyPicture:
    """An opaque picture that is drawn when its pixels are first needed.

    Args:
        size: width and height.
        draw: makes the pixels; of one channel, if they are grey.
        cost: how many bytes that takes at the most, with this picture.
    """

    def read(_: tuple[int, int]) -> PIL.Image.Image:
        pixels = draw()
        return PIL.Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))

    return LazyPicture(size, read, cost=cost)


def in_bands(height: int, width: int, draw: Callable[[slice], Image]) -> Image:
    """An image drawn some rows at a time, since what is between takes much more memory."""
    image = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        image[rows] = draw(rows)
    return image


_BAND = 2**18
"""Pixels drawn at a time."""

COST = 7
"""Bytes a pixel of a lazy picture and of its copy in 8 bits."""


def eight_bits(samples: Samples, bits: int) -> Image:
    """Samples of fewer bits are scaled, of more they lose the lower ones."""
    if bits < 8:
        top = 2**bits - 1
        table = np.array([(255 * value + top // 2) // top for value in range(top + 1)], np.uint8)
        return table[samples]
    return (samples >> (bits - 8)).astype(np.uint8) if bits > 8 else samples.astype(np.uint8, copy=False)


def sixteen_bits(samples: Samples, bits: int) -> Samples:
    """Samples scaled to 16 bits, in 32, in which products have room."""
    deep: Samples = (samples.astype(np.uint32) * 65_535 + (2**bits - 1) // 2) // (2**bits - 1)
    return deep


def on_white(colour: Samples, alpha: Samples, *, premultiplied: bool = False) -> Samples:
    """Samples of 16 bits composited on white; of alpha there is one channel."""
    clear = 65_535 - alpha
    light: Samples = (colour if premultiplied else colour * alpha // 65_535) + clear
    return np.minimum(light, np.uint32(65_535))


def without_ink(ink: Samples) -> Samples:
    """Cyan, magenta, yellow and black of 16 bits to red, green and blue, without a profile."""
    light: Samples = 65_535 - ink
    return light[:, :, :3] * light[:, :, 3:] // 65_535
