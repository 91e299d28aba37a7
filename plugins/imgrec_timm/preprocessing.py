"""timm's evaluation transforms without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgrec import Image


@dataclass(frozen=True)
class Preprocessing:
    """Resizing and cropping as in timm's evaluation transform; normalisation is left to the runtime."""

    input_size: Sequence[int]
    """Height and width of the model's input."""

    mean: Sequence[float]
    std: Sequence[float]
    """Per channel, for values from 0 to 1."""

    interpolation: str
    crop_pct: float
    """The fraction of the shorter side that is kept."""

    crop_mode: str
    """`center`: crop the centre; `squash`: resize to the input's shape; `border`: pad to the input's shape."""

    exact: bool
    """Resize with Pillow as timm does; else with OpenCV, which is several times as fast."""

    def __post_init__(self) -> None:
        """Raise a ValueError for values out of range, which a model's own configuration may have."""
        if not all(side >= 1 for side in self.input_size):
            raise ValueError(f"an input size of {self.input_size}")
        if not all(abs(value) < math.inf for value in self.mean):
            raise ValueError(f"a mean of {self.mean}")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"a standard deviation of {self.std}")
        if not 0 < self.crop_pct < math.inf:
            raise ValueError(f"a crop of {self.crop_pct}")

    @property
    def side(self) -> int | None:
        """The shorter side that is enough; None if exact, which requires full size."""
        return None if self.exact else min(self._target)

    @property
    def _target(self) -> tuple[int, int]:
        height, width = (math.floor(side / self.crop_pct) for side in self.input_size)
        return height, width

    def __call__(self, image: Image) -> Image:
        """Preprocess an image of any size to `uint8 (height, width, 3)`."""
        tall, wide = self._resized_to(*image.shape[:2])
        return self._middle(self._by_pillow(image, tall, wide) if self.exact else _by_opencv(image, tall, wide))

    def _resized_to(self, height: int, width: int) -> tuple[int, int]:
        tall, wide = self._target
        if self.crop_mode == "squash":
            return tall, wide
        if self.crop_mode == "center" and tall == wide:
            if width <= height:
                return int(wide * height / width), wide
            return tall, int(tall * width / height)
        best = max if self.crop_mode == "border" else min
        ratio = best(height / tall, width / wide)
        return round(height / ratio), round(width / ratio)

    def _by_pillow(self, image: Image, tall: int, wide: int) -> Image:
        import PIL.Image

        way = PIL.Image.Resampling[self.interpolation.upper()]
        return np.asarray(PIL.Image.fromarray(image).resize((max(wide, 1), max(tall, 1)), way))

    def _middle(self, image: Image) -> Image:
        """Centre crop to the input size, padded if smaller."""
        height, width = self.input_size
        across, down = max(width - image.shape[1], 0), max(height - image.shape[0], 0)
        if across or down:
            fill = [round(255 * value) for value in self.mean] if self.crop_mode == "border" else [0, 0, 0]
            bordered = np.empty((image.shape[0] + down, image.shape[1] + across, 3), np.uint8)
            bordered[:] = np.array(fill, np.uint8)
            bordered[down // 2 :, across // 2 :][: image.shape[0], : image.shape[1]] = image
            image = bordered
        top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
        return np.ascontiguousarray(image[top : top + height, left : left + width])


def _by_opencv(image: Image, tall: int, wide: int) -> Image:
    """Shrink by an integer factor first, then smooth slightly and interpolate.

    On photographs, vectors are as close to Pillow's as with OpenCV's area resampling alone, which takes four times
    as long.
    """
    import cv2

    tall, wide = max(tall, 1), max(wide, 1)
    whole = min(image.shape[0] // tall, image.shape[1] // wide)
    if whole > 1:
        height, width = image.shape[0] // whole, image.shape[1] // whole
        image = cv2.resize(  # type: ignore[assignment]
            image[: height * whole, : width * whole], (width, height), interpolation=cv2.INTER_AREA
        )
    ratio = max(image.shape[0] / tall, image.shape[1] / wide)
    if ratio > 1:
        image = cv2.GaussianBlur(image, (3, 3), ratio / 3)  # type: ignore[assignment]
        return cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
    return cv2.resize(image, (wide, tall), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
