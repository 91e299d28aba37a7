"""A perceptual hash by OpenCV's cosine transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import imgrec
from imgrec import Image, Vectors, each, option

FAINT = 1e-2
"""Coefficients so little above the median, of pixels up to 255, are rounding errors: blank images have no bits."""


@dataclass
class PHash(imgrec.Extractor):
    """Perceptual hash, 64 bits: which waves of light and dark an image has. For copies; compare by `hamming`.

    The grey image, at `4 * side_bits` pixels square, goes through a discrete cosine transform; each of the lowest
    frequencies, the constant ones left out, gives a bit: whether its coefficient is above their median. See
    C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, Hagenberg 2010, section 3.2.1.
    """

    name: ClassVar[str] = "phash"
    sees: ClassVar[str | None] = "light and dark"

    side_bits: int = option(8, minimum=2, maximum=64, help="frequencies each way: 8 make 64 bits")

    @property
    def side(self) -> int:
        """Twice the transformed square's, which is enough to average over."""
        return 8 * self.side_bits

    def extract(self, images: Sequence[Image]) -> Vectors:
        """Bits, `float32 (n, side_bits ** 2)` of 0 and 1, rows of frequencies from low to high."""
        return np.stack(each(self._bits, images))

    def _bits(self, image: Image) -> Vectors:
        import cv2

        side, size = self.side_bits, 4 * self.side_bits
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
        waves = cv2.dct(small)[1 : side + 1, 1 : side + 1]
        bits: Vectors = (waves > np.median(waves) + FAINT).ravel().astype(np.float32)
        return bits


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Extractor]]:
    """This plugin's components."""
    return [PHash]
