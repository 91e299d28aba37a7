"""Texture, by local binary patterns (Ojala, Pietikäinen and Mäenpää, 2002)."""

from dataclasses import dataclass

import numpy as np

import imgrec

NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]


@dataclass
class LBP(imgrec.Extractor):
    """Local binary patterns: which of its eight neighbours are brighter than a pixel, counted over the image."""

    name = "lbp"
    radius: int = imgrec.option(1, minimum=1, maximum=100, help="distance of the neighbours, in pixels")
    margin: float = imgrec.option(2.0, minimum=0, maximum=255, help="by how much brighter a neighbour is")

    def extract(self, images):
        patterns = [self._patterns(image).ravel() for image in images]
        return np.stack([np.bincount(each, minlength=256) / each.size for each in patterns]).astype(np.float32)

    def _patterns(self, image):
        grey, r = image.mean(axis=2, dtype=np.float32), self.radius
        padded, (height, width) = np.pad(grey, r, mode="edge"), grey.shape
        around = [padded[r + y * r :, r + x * r :][:height, :width] for y, x in NEIGHBOURS]
        return sum((pixels > grey + self.margin) * np.uint8(1 << bit) for bit, pixels in enumerate(around))


@imgrec.hookimpl
def imgrec_components():
    return [LBP]


@imgrec.hookimpl
def imgrec_conf_packages():
    return ["imgrec_lbp.conf"]
