"""Variants of a picture: turned, mirrored, cut. A query asks for all of them at once, and the nearest counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from imgrec.images import Encoded
from imgrec.kinds import Image

WHOLE = "whole"
"""The picture as it is, which is always the first variant."""

CROP = 0.7
"""The share of each side that a crop keeps, about half of the picture."""

Variant = Callable[[Image], Image]


def _turned(quarters: int, *, mirrored: bool = False) -> Variant:
    """A quarter is 90 degrees clockwise; mirrored, left to right, is what is turned then."""
    return lambda image: np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, -quarters))


def _cut(down: float, right: float) -> Variant:
    def cut(image: Image) -> Image:
        sides = [max(1, round(CROP * length)) for length in image.shape[:2]]
        top, left = (
            round(at * (length - side))
            for at, length, side in zip((down, right), image.shape, sides, strict=False)
        )
        return np.ascontiguousarray(image[top : top + sides[0], left : left + sides[1]])

    return cut


TURNS: Mapping[str, Variant] = {
    "turned 90": _turned(1),
    "turned 180": _turned(2),
    "turned 270": _turned(3),
    "mirrored": _turned(0, mirrored=True),
    "mirrored, turned 90": _turned(1, mirrored=True),
    "mirrored, turned 180": _turned(2, mirrored=True),
    "mirrored, turned 270": _turned(3, mirrored=True),
}
"""With the picture itself the eight orientations that EXIF knows; clockwise, in degrees."""

CROPS: Mapping[str, Variant] = {
    "centre": _cut(0.5, 0.5),
    "top left": _cut(0, 0),
    "top right": _cut(0, 1),
    "bottom left": _cut(1, 0),
    "bottom right": _cut(1, 1),
}

SETS: Mapping[str, Sequence[str]] = {"turns": [*TURNS], "crops": [*CROPS], "all": [*TURNS, *CROPS]}
"""What `variants=` names, besides the picture as it is."""


def names(wanted: str | None) -> list[str]:
    """The variants of a set, that as it is first; of None that alone."""
    return [WHOLE, *(SETS[wanted] if wanted else ())]


def side_of_crops(side: int | None) -> int | None:
    """The side to decode to, so that crops are as large as a picture that is decoded to `side`."""
    return None if side is None else math.ceil(side / CROP)


def made(encoded: Encoded, side: int | None, wanted: Sequence[str]) -> list[Image]:
    """Variants of a picture that is decoded once, each at least of the size that an extractor asks for.

    Raises:
        UnreadableImageError: with the reason.
    """
    larger = side_of_crops(side)
    images = encoded.decode({larger if name in CROPS else side for name in wanted})
    found = []
    for name in wanted:
        make = CROPS.get(name) or TURNS.get(name)
        image = images[larger if name in CROPS else side]
        found.append(make(image) if make else image)
    return found
