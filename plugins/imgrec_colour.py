"""Colour histograms by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import imgrec
from imgrec import Image, Vectors, each, option


@dataclass
class Colour(imgrec.Extractor):
    """Colour histogram: how much of an image has which colour. Fast, and needs no model.

    Every channel is divided into `bins` equal intervals. The joint histogram counts combinations (`bins` ** 3
    values), the other one each channel separately (3 * `bins` values); see M. J. Swain and D. H. Ballard, Color
    Indexing, IJCV 7 (1991).
    """

    sees: ClassVar[str | None] = "colours"

    bins: int = option(5, minimum=1, maximum=256, help="parts of each channel's range")
    colour_space: str = option("rgb", choices=("rgb", "hsv", "lab"), help="channels to count in")
    joint: bool = option(True, help="count combinations of the three channels, not each channel for itself")
    normalise: bool = option(True, help="shares that add up to 1 (for each channel where not joint), not counts")
    min_side: int | None = option(
        128,
        minimum=1,
        help="JPEGs may be decoded at a fraction of their size, no side below this; null: at full size",
    )

    @property
    def side(self) -> int | None:
        """A reduced size is enough: on photographs, it gives the same share of hits."""
        return self.min_side

    def extract(self, images: Sequence[Image]) -> Vectors:
        """Histograms, `float32 (n, bins ** 3)` or `(n, 3 * bins)`, in the order of the channels."""
        return np.stack(each(self._histogram, images))

    def _histogram(self, image: Image) -> Vectors:
        import cv2

        if self.colour_space == "hsv":
            image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # type: ignore[assignment]
        elif self.colour_space == "lab":
            image = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)  # type: ignore[assignment]
        counts: list[Vectors] = []
        for channels in [[0, 1, 2]] if self.joint else [[0], [1], [2]]:
            bins, ranges = [self.bins] * len(channels), [0, 256] * len(channels)
            counts.append(cv2.calcHist([image], channels, None, bins, ranges).ravel())  # type: ignore[arg-type]
        histogram = np.concatenate(counts)
        return histogram / np.float32(image.shape[0] * image.shape[1]) if self.normalise else histogram


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Extractor]]:
    """This plugin's components."""
    return [Colour]
