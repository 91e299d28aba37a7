"""Alterations of an image, after which a good search finds the original: a test that needs no labels.

They are what happens to pictures that are passed on: cut, mirrored, straightened, brightened, recompressed,
blurred and scaled down. Copy detection is tested by the like (Douze et al. 2009, *Evaluation of GIST descriptors
for web-scale image search*).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from imgrec.errors import ImgrecError
from imgrec.kinds import Image

Alteration = Callable[[Image, np.random.Generator], Image]
"""Makes a new image of one, `uint8 (height, width, 3)`, RGB, of 1x1 pixels or more, which it leaves as it is.

What it does at random it draws from the generator, so that one in the same state gives the same image.
"""

JPEG_SIDE = 65_500
"""The longest side in pixels that libjpeg writes."""


def crop(image: Image, rng: np.random.Generator) -> Image:
    """A rectangle of 70% of the width and height, about half of the area, anywhere in the image."""
    height, width = _scaled(image, 0.7)
    top = rng.integers(0, image.shape[0] - height, endpoint=True)
    left = rng.integers(0, image.shape[1] - width, endpoint=True)
    return image[top : top + height, left : left + width].copy()


def flip(image: Image, rng: np.random.Generator) -> Image:
    """Left and right exchanged. Nothing of it is random."""
    import cv2

    return cv2.flip(image, 1)  # type: ignore[return-value]


def rotation(image: Image, rng: np.random.Generator) -> Image:
    """Turned about its centre by -15 to 15 degrees, as a horizon is straightened.

    Of the turned image the largest rectangle of the same proportions is kept that has no empty corner: at 15
    degrees 82% of the width and height of a square, 74% of those of 3:2.
    """
    import cv2

    angle = rng.uniform(-15, 15)
    old_height, old_width = image.shape[:2]
    turn = math.radians(abs(angle))
    proportion = max(old_height, old_width) / min(old_height, old_width)
    height, width = _scaled(image, 1 / (math.cos(turn) + proportion * math.sin(turn)))
    matrix = cv2.getRotationMatrix2D(((old_width - 1) / 2, (old_height - 1) / 2), angle, 1)
    matrix[:, 2] += (width - old_width) / 2, (height - old_height) / 2
    # The border matters only where the rectangle was rounded up to whole pixels.
    return cv2.warpAffine(  # type: ignore[return-value]
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def brightness(image: Image, rng: np.random.Generator) -> Image:
    """All values multiplied by 0.6 to 1.5, and cut off at 255."""
    import cv2

    return cv2.convertScaleAbs(image, alpha=rng.uniform(0.6, 1.5))  # type: ignore[return-value]


def jpeg(image: Image, rng: np.random.Generator) -> Image:
    """Written as JPEG of quality 20 to 40 and read again.

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
    """Blurred by a Gaussian whose sigma is 1% of the shorter side. Nothing of it is random."""
    import cv2

    return cv2.GaussianBlur(image, (0, 0), 0.01 * min(image.shape[:2]))  # type: ignore[return-value]


def resize(image: Image, rng: np.random.Generator) -> Image:
    """Scaled down to 30 to 60% of the width and height, each pixel the mean of those that it covers."""
    import cv2

    height, width = _scaled(image, rng.uniform(0.3, 0.6))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _scaled(image: Image, factor: float) -> tuple[int, int]:
    """Height and width times a factor, in whole pixels, at least 1."""
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
"""All of them, by name."""
