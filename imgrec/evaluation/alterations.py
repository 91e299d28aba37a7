"""Alterations of images, for a test without labels: a good search finds the original of an altered copy.

They are those that images undergo in use, as in benchmarks of copy detection (Douze et al. 2009, *Evaluation of
GIST descriptors for web-scale image search*): crop, flip, rotation, brightness, JPEG, blur and resize.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from imgrec.errors import ImgrecError
from imgrec.kinds import Image

Alteration = Callable[[Image, "np.random.Generator"], Image]
"""Returns an altered copy of a `uint8` RGB image of 1x1 pixels or more; all randomness is the generator's."""

JPEG_SIDE = 65_500
"""Maximum side of a JPEG in pixels."""

WARPED_SIDE = 32_766
"""Maximum side in pixels of an image that OpenCV 4 rotates."""


def crop(image: Image, rng: np.random.Generator) -> Image:
    """Crop to 70% of the width and height, about half of the area, at a random position."""
    height, width = _scaled(image, 0.7)
    top = rng.integers(0, image.shape[0] - height, endpoint=True)
    left = rng.integers(0, image.shape[1] - width, endpoint=True)
    return image[top : top + height, left : left + width].copy()


def flip(image: Image, rng: np.random.Generator) -> Image:
    """Mirror left to right; not random."""
    import cv2

    return cv2.flip(image, 1)  # type: ignore[return-value]


def rotation(image: Image, rng: np.random.Generator) -> Image:
    """Rotate about the centre by -15 to 15 degrees.

    The result is cropped to the largest rectangle of the same proportions without empty corners: at 15 degrees,
    82% of the width and height of a square image, 74% of those of a 3:2 image. Longer ones are scaled down first,
    to a side of 32,766 pixels.
    """
    import cv2

    if max(image.shape) > WARPED_SIDE:
        height, width = _scaled(image, WARPED_SIDE / max(image.shape))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    angle = rng.uniform(-15, 15)
    old_height, old_width = image.shape[:2]
    turn = math.radians(abs(angle))
    proportion = max(old_height, old_width) / min(old_height, old_width)
    height, width = _scaled(image, 1 / (math.cos(turn) + proportion * math.sin(turn)))
    matrix = cv2.getRotationMatrix2D(((old_width - 1) / 2, (old_height - 1) / 2), angle, 1)
    matrix[:, 2] += (width - old_width) / 2, (height - old_height) / 2
    # The border shows only where the rectangle was rounded up to whole pixels.
    return cv2.warpAffine(  # type: ignore[return-value]
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def brightness(image: Image, rng: np.random.Generator) -> Image:
    """Multiply all values by 0.6 to 1.5, clipped to 255."""
    import cv2

    return cv2.convertScaleAbs(image, alpha=rng.uniform(0.6, 1.5))  # type: ignore[return-value]


def jpeg(image: Image, rng: np.random.Generator) -> Image:
    """Compress as JPEG of quality 20 to 40.

    Raises:
        ImgrecError: a side is longer than `JPEG_SIDE`.
    """
    import cv2

    quality = int(rng.integers(20, 40, endpoint=True))
    height, width = image.shape[:2]
    if max(height, width) > JPEG_SIDE:
        raise ImgrecError(f"an image of {width}x{height} pixels cannot be JPEG: no side may exceed {JPEG_SIDE:,}")
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


def blur(image: Image, rng: np.random.Generator) -> Image:
    """Blur with a Gaussian whose sigma is 1% of the shorter side; not random."""
    import cv2

    return cv2.GaussianBlur(image, (0, 0), 0.01 * min(image.shape[:2]))  # type: ignore[return-value]


def resize(image: Image, rng: np.random.Generator) -> Image:
    """Scale down to 30 to 60% of the width and height by area averaging."""
    import cv2

    height, width = _scaled(image, rng.uniform(0.3, 0.6))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _scaled(image: Image, factor: float) -> tuple[int, int]:
    """Height and width times a factor, in whole pixels, each at least 1."""
    return max(1, round(factor * image.shape[0])), max(1, round(factor * image.shape[1]))


ALTERATIONS: dict[str, Alteration] = {
    "crop": crop,
    "flip": flip,
    "rotation": rotation,
    "brightness": brightness,
    "jpeg": jpeg,
    "blur": blur,
    "resize": resize,
}
"""All alterations by name."""
