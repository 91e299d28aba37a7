from __future__ import annotations

from importlib.resources import files

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgrec import images
from imgrec.errors import ImgrecError
from imgrec.evaluation.alterations import ALTERATIONS, JPEG_SIDE
from imgrec.kinds import Image


@pytest.fixture(scope="module")
def photograph() -> Image:
    """427 rows, 640 columns. Not to be written to."""
    image = images.decode(files("sklearn.datasets.images").joinpath("china.jpg").read_bytes())
    image.flags.writeable = False
    return image


def altered(name: str, image: Image, seed: int = 0) -> Image:
    return ALTERATIONS[name](image, np.random.default_rng(seed))


def noise(height: int, width: int) -> Image:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    image.flags.writeable = False
    return image


def difference(image: Image, other: Image) -> float:
    """Mean absolute difference of values, 0 to 255."""
    return float(np.abs(image.astype(int) - other).mean())


def test_they_are_seven() -> None:
    assert list(ALTERATIONS) == ["crop", "flip", "rotation", "brightness", "jpeg", "blur", "resize"]


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_photograph_is_changed_but_not_written_to(name: str, photograph: Image) -> None:
    before = photograph.copy()
    for seed in range(5):
        found = altered(name, photograph, seed)
        assert found.dtype == np.uint8
        assert found.shape != photograph.shape or difference(found, photograph) > 1
        assert not np.shares_memory(found, photograph)
        found[:] = 0
    assert np.array_equal(photograph, before)


@pytest.mark.parametrize("name", ALTERATIONS)
def test_the_same_seed_gives_the_same_image_and_another_another(name: str, photograph: Image) -> None:
    assert np.array_equal(altered(name, photograph), altered(name, photograph))
    is_random = not np.array_equal(altered(name, photograph, 0), altered(name, photograph, 1))
    assert is_random == (name not in ("flip", "blur"))


@pytest.mark.parametrize("name", ALTERATIONS)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_images_of_any_size_stay_images(name: str, height: int, width: int, seed: int) -> None:
    found = altered(name, noise(height, width), seed)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert found.flags.c_contiguous
    assert 1 <= found.shape[0] <= height
    assert 1 <= found.shape[1] <= width


@pytest.mark.parametrize("name", ALTERATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (1, 40_000), (2, 2)])
def test_long_and_tiny_images(name: str, shape: tuple[int, int]) -> None:
    """What has one colour keeps it, or gets another as a whole: nothing comes in from beyond the edges."""
    plain = np.full((*shape, 3), 90, np.uint8)
    found = altered(name, plain)
    assert 1 <= found.shape[0] <= shape[0]
    assert 1 <= found.shape[1] <= shape[1]
    expected = found[0, 0, 0] if name == "brightness" else 90
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_a_crop_is_a_part_of_70_percent_and_may_lie_anywhere(photograph: Image) -> None:
    places = np.zeros((100, 200, 3), np.uint8)
    places[..., 0], places[..., 1] = np.arange(100)[:, None], np.arange(200)
    corners = set()
    for seed in range(200):
        found = altered("crop", places, seed)
        top, left, _ = found[0, 0].tolist()
        assert np.array_equal(found, places[top : top + 70, left : left + 140])
        corners.add((top, left))
    tops, lefts = zip(*corners, strict=True)
    assert (min(tops), max(tops)) == (0, 30)
    assert min(lefts) <= 2
    assert max(lefts) in range(58, 61)
    assert altered("crop", photograph).shape == (299, 448, 3)


def test_a_flip_exchanges_left_and_right(photograph: Image) -> None:
    assert np.array_equal(altered("flip", photograph), photograph[:, ::-1])


@pytest.mark.parametrize("shape", [(400, 400), (300, 600), (600, 300)])
def test_a_rotation_shows_no_corner_that_was_not_there(shape: tuple[int, int]) -> None:
    """A line through the centre turns by the angle, and a frame at the image's rim stays nearly out of sight."""
    height, width = shape
    image = np.zeros((*shape, 3), np.uint8)
    cv2.rectangle(image, (2, 2), (width - 3, height - 3), (0, 255, 0), -1)  # black outside
    cv2.line(image, (0, height // 2), (width, height // 2), (255, 0, 255), 3)
    angles = []
    for seed in range(30):
        found = altered("rotation", image, seed)
        assert found.shape[1] / found.shape[0] == pytest.approx(width / height, rel=0.01)
        is_black = found.max(axis=2) < 128
        assert is_black[3:-3, 3:-3].sum() == 0
        y, x = np.nonzero(found[..., 0] > 128)
        angles.append(np.degrees(np.arctan(np.polyfit(x, y, 1)[0])))
        assert np.hypot(*(np.array([x.mean(), y.mean()]) - (np.array(found.shape[1::-1]) - 1) / 2)) < 2
    assert -15.3 < min(angles) < -10
    assert 10 < max(angles) < 15.3


def test_brightness_multiplies_and_cuts_off(photograph: Image) -> None:
    gains = []
    for seed in range(50):
        found = altered("brightness", photograph, seed)
        gain = found[photograph == 100].mean() / 100
        assert np.abs(found - np.minimum(255, photograph * gain)).max() <= 3
        gains.append(gain)
    assert 0.59 <= min(gains) < 0.7
    assert 1.4 < max(gains) <= 1.51


def test_jpeg_keeps_red_red() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    assert difference(altered("jpeg", red), red) < 3


def test_jpeg_has_the_loss_of_quality_20_to_40(photograph: Image) -> None:
    def loss(quality: int) -> float:
        _, data = cv2.imencode(".jpg", photograph[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return difference(images.decode(data.tobytes()), photograph)

    losses = [difference(altered("jpeg", photograph, seed), photograph) for seed in range(30)]
    assert loss(42) < min(losses) < loss(30) < max(losses) < loss(18)


def test_an_image_too_long_for_jpeg_is_told_in_a_line() -> None:
    with pytest.raises(ImgrecError, match="70000x1 pixels cannot be JPEG: no side may exceed 65,500"):
        altered("jpeg", np.zeros((1, 70_000, 3), np.uint8))
    assert altered("jpeg", np.zeros((1, JPEG_SIDE, 3), np.uint8)).shape == (1, JPEG_SIDE, 3)


def test_blur_spreads_a_point_by_one_percent_of_the_shorter_side() -> None:
    point = np.zeros((400, 900, 3), np.uint8)
    point[198:203, 448:453] = 255
    found = altered("blur", point)[..., 0].astype(float)
    assert found.sum() == pytest.approx(25 * 255, rel=0.05)
    columns = found.sum(axis=0) / found.sum()
    variance = (columns * (np.arange(900) - 450) ** 2).sum()
    assert np.sqrt(variance - 2) == pytest.approx(4, rel=0.1)  # 2 is the variance of five pixels in a row


def test_resize_gives_30_to_60_percent_and_means(photograph: Image) -> None:
    widths = []
    for seed in range(50):
        found = altered("resize", photograph, seed)
        assert found.shape[1] / found.shape[0] == pytest.approx(640 / 427, rel=0.01)
        assert found.mean(axis=(0, 1)) == pytest.approx(photograph.mean(axis=(0, 1)), abs=1)
        widths.append(found.shape[1] / 640)
    assert 0.299 <= min(widths) < 0.35
    assert 0.55 < max(widths) <= 0.601
