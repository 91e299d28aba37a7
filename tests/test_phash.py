"""The perceptual hash, and the distance of bits."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

import imgrec
from imgrec.kinds.metric import metric_of
from imgrec.testing.extractor import picture, plain


def test_bits_are_those_of_scipys_transform_of_pillows_means() -> None:
    image = load_sample_image("china.jpg")[:416, :608]  # 13 x 19 pixels become one, so that means are exact
    (bits,) = imgrec.build("extractor", "phash").extract([image])
    red, green, blue = np.moveaxis(image.astype(np.float64), 2, 0)
    grey = np.round(0.299 * red + 0.587 * green + 0.114 * blue).reshape(32, 13, 32, 19).mean(axis=(1, 3))
    waves = scipy.fft.dctn(grey, norm="ortho")[1:9, 1:9]
    clear = np.abs(waves - np.median(waves)) > 0.1
    assert clear.sum() > 56
    assert bits.shape == (64,)
    assert np.array_equal(bits.reshape(8, 8)[clear], (waves > np.median(waves))[clear])


def test_copies_are_near_and_others_far() -> None:
    image = picture(240, 320, 1)
    small = np.asarray(PIL.Image.fromarray(image).resize((160, 120), PIL.Image.Resampling.BICUBIC))
    one, copy, light, other = imgrec.build("extractor", "phash").extract(
        [image, small, (image * 0.8).astype(np.uint8), picture(240, 320, 9)]
    )
    assert np.abs(one - copy).sum() <= 4
    assert np.abs(one - light).sum() <= 4
    assert np.abs(one - other).sum() >= 16


@pytest.mark.parametrize("side", [2, 8, 11])
def test_blank_images_have_no_waves(side: int) -> None:
    greys = [plain(0), plain(77), plain(255, 1, 1), plain(130, 999, 33)]
    vectors = imgrec.build("extractor", "phash", side_bits=side).extract(greys)
    assert vectors.shape == (4, side**2)
    assert not vectors.any()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80))
def test_hamming_counts_bits_that_differ(seed: int, dim: int) -> None:
    bits = np.random.default_rng(seed).integers(2, size=(20, dim))
    found = metric_of("hamming").distances(bits[0].astype(np.float64), bits.astype(np.float64))
    assert found.tolist() == [
        sum(a != b for a, b in zip(bits[0].tolist(), each, strict=True)) for each in bits.tolist()
    ]


@pytest.mark.parametrize("value", [0.5, -1, 2])
def test_hamming_refuses_what_are_no_bits(value: float) -> None:
    with pytest.raises(imgrec.UsageError, match="values other than 0 and 1"):
        metric_of("hamming").check(np.array([[0, 1, value]], np.float32))
