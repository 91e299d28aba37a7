"""Histograms of oriented gradients by OpenCV and NumPy, as OpenCV 5 no longer has HOGDescriptor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import imgrec
from imgrec import Image, Vectors, each, option

ROUNDING = 1e-4
"""Gradients up to this length, of pixels from 0 to 255, are rounding errors of the blur: blank images have none"""

FAINT = 0.1
"""The minimum norm of a block, of pixels from 0 to 255, to be scaled to 1; blocks below it have no edges."""


@dataclass
class HOG(imgrec.Extractor):
    """Histograms of oriented gradients: which way edges run in each part of an image. Needs no model.

    The image is resized to a square of `window` pixels. Each pixel's gradient, taken from the channel where it is
    largest, votes for its orientation with its magnitude, interpolated between the two nearest bins and the four
    nearest cells. Blocks of cells, at a stride of one cell, are normalised to unit length. See N. Dalal and
    B. Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005. Their settings, no smoothing and
    clipping at 0.2, are best for detecting people, but worse for the similarity of whole photographs.

    Raises:
        UsageError: the window is not a multiple of the cell, or is smaller than a block.
    """

    sees: ClassVar[str | None] = "shapes"

    window: int = option(64, minimum=8, maximum=512, help="side of the square that an image becomes, in pixels")
    cell: int = option(8, minimum=2, maximum=256, help="side of a cell, in pixels")
    block: int = option(2, minimum=1, maximum=256, help="side of a block, in cells")
    orientations: int = option(9, minimum=2, maximum=36, help="bins of the half circle; of the whole if signed")
    signed: bool = option(False, help="tell dark to light from light to dark")
    fit: str = option(
        "pad", choices=("pad", "crop", "squash"), help="to a square: repeat the border, keep the centre, distort"
    )
    smoothing: float = option(
        1.0, minimum=0, maximum=32, help="standard deviation of the blur before gradients, in pixels of the window"
    )
    clip: float = option(
        1.0, minimum=0.01, maximum=1, help="limit of a block's values, scaled again after; 1: none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window % self.cell:
            raise imgrec.UsageError(
                f"hog.window is a multiple of hog.cell, and {self.window} is none of {self.cell}"
            )
        if self.block > (cells := self.window // self.cell):
            raise imgrec.UsageError(f"hog.block is at most {cells}, the cells of a side, not {self.block}")

    @property
    def side(self) -> int:
        """The window's side, so that images are never enlarged."""
        return self.window

    def extract(self, images: Sequence[Image]) -> Vectors:
        """Blocks by rows, `float32 (n, (window // cell - block + 1) ** 2 * block ** 2 * orientations)`."""
        return np.stack(each(lambda image: self._normalised(self._cells(image)), images))

    def _square(self, image: Image) -> Vectors:
        """The resized and smoothed image, `float32 (window, window, 3)`, from 0 to 255."""
        import cv2

        (height, width), side = image.shape[:2], self.window
        if self.fit == "crop":
            shorter = min(height, width)
            top, left = (height - shorter) // 2, (width - shorter) // 2
            image = image[top : top + shorter, left : left + shorter]
        shape = [side, side]
        if self.fit == "pad":
            shape = [max(1, round(side * length / max(height, width))) for length in (width, height)]
        small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        left, top = ((side - length) // 2 for length in shape)
        right, bottom = side - shape[0] - left, side - shape[1] - top
        square = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE).astype(np.float32)
        if self.smoothing:
            square = cv2.GaussianBlur(square, (0, 0), self.smoothing)  # type: ignore[assignment]
        return square

    def _cells(self, image: Image) -> Vectors:
        """Votes in each cell, `float32 (orientations, window // cell, window // cell)`."""
        import cv2

        square, pixels = self._square(image), np.arange(self.window**2)
        across, down = (
            cv2.Sobel(square, cv2.CV_32F, dx, 1 - dx, ksize=1, borderType=cv2.BORDER_REPLICATE).reshape(-1, 3)
            for dx in (1, 0)
        )
        strongest = (across**2 + down**2).argmax(axis=1)
        length, angle = cv2.cartToPolar(across[pixels, strongest], down[pixels, strongest])
        length[length <= ROUNDING] = 0
        place = angle.ravel() * np.float32(self.orientations / (2 * np.pi if self.signed else np.pi)) - np.float32(
            0.5
        )
        lower = np.floor(place)
        upper_share = place - lower
        lower_bin = lower.astype(np.intp) % self.orientations
        votes = np.zeros((self.orientations, self.window**2), np.float32)
        votes[lower_bin, pixels] = length.ravel() * (1 - upper_share)
        votes[(lower_bin + 1) % self.orientations, pixels] = length.ravel() * upper_share
        # A cell's share of a vote falls linearly to 0 at the centre of the next cell: along rows, then columns.
        centres = (np.arange(self.window // self.cell) + 0.5) * self.cell
        apart = np.abs(np.arange(self.window) + 0.5 - centres[:, None]) / self.cell
        shares = np.maximum(0, 1 - apart).astype(np.float32)
        return np.asarray(shares @ votes.reshape(-1, self.window, self.window) @ shares.T, np.float32)

    def _normalised(self, cells: Vectors) -> Vectors:
        """All blocks of an image, flattened in the order block, cell, orientation."""
        windows = np.lib.stride_tricks.sliding_window_view(cells, (self.block, self.block), axis=(1, 2))
        blocks = windows.transpose(1, 2, 3, 4, 0).reshape(-1, self.block**2 * self.orientations)
        blocks = _scaled(blocks, FAINT)
        if self.clip < 1:
            blocks = _scaled(
                np.minimum(blocks, np.float32(self.clip)), self.clip
            )  # blocks of unit length stay above this minimum
        return blocks.ravel()


def _scaled(blocks: Vectors, least: float) -> Vectors:
    """Scale blocks to length 1, or by 1 / `least` if they are shorter than that."""
    lengths = np.sqrt((blocks**2).sum(axis=1, keepdims=True))
    return blocks / np.maximum(lengths, np.float32(least))  # type: ignore[no-any-return]


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Extractor]]:
    """This plugin's components."""
    return [HOG]
