from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import imgrec
from imgrec import images
from imgrec.errors import UsageError
from imgrec.kinds import Image, Space

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


@given(IMAGES, st.integers(1, 9))
def test_the_joint_histogram_counts_every_pixel_in_its_cell(image: Image, bins: int) -> None:
    counts = imgrec.build("extractor", "colour", bins=bins, normalise=False).extract([image])[0]
    cells = image.reshape(-1, 3).astype(int) * bins // 256
    expected = np.bincount(cells @ [bins * bins, bins, 1], minlength=bins**3)
    assert counts.tolist() == expected.tolist()


@given(IMAGES, st.integers(1, 9), st.sampled_from(["rgb", "hsv", "lab"]))
def test_separate_histograms_are_the_margins_of_the_joint_one(image: Image, bins: int, colour_space: str) -> None:
    options: dict[str, Any] = {"bins": bins, "colour_space": colour_space, "normalise": False}
    joint = imgrec.build("extractor", "colour", **options).extract([image])[0].reshape(bins, bins, bins)
    each = imgrec.build("extractor", "colour", joint=False, **options).extract([image])[0].reshape(3, bins)
    assert each.tolist() == [joint.sum(axis=axes).tolist() for axes in [(1, 2), (0, 2), (0, 1)]]


@given(st.lists(IMAGES, min_size=1, max_size=5), st.booleans())
def test_shares_add_up_and_batches_do_not_matter(images: list[Image], joint: bool) -> None:
    extractor = imgrec.build("extractor", "colour", joint=joint)
    vectors = extractor.extract(images)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors.sum(axis=1), 1 if joint else 3, rtol=1e-5)
    alone = np.concatenate([extractor.extract([image]) for image in images])
    assert np.array_equal(vectors, alone)


def test_by_default_125_values() -> None:
    assert imgrec.build("extractor", "colour").extract([np.zeros((3, 4, 3), np.uint8)]).shape == (1, 125)


def test_the_identity_is_what_changes_vectors() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"bins": 4},
        {"colour_space": "hsv"},
        {"joint": False},
        {"normalise": False},
    ]
    keys = {Space.of(imgrec.build("extractor", "colour", **change)).key for change in changes}
    assert len(keys) == 5
    assert Space.of(imgrec.build("extractor", "colour")) == Space.of(imgrec.build("extractor", "colour", bins=5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "at least 1"),
        ({"bins": "x"}, "takes int"),
        ({"bins": True}, "takes int"),
        ({"colour_space": "cmyk"}, "one of rgb, hsv, lab"),
        ({"colour_spice": "hsv"}, "did you mean colour_space"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        imgrec.build("extractor", "colour", **options)


def test_large_photographs_are_decoded_at_a_fraction_and_have_nearly_the_same_colours(tmp_path: Path) -> None:
    with files("sklearn.datasets.images").joinpath("china.jpg").open("rb") as file:
        PIL.Image.open(file).resize((1280, 854)).save(tmp_path / "large.jpg")
    data = (tmp_path / "large.jpg").read_bytes()
    extractor, whole = (imgrec.build("extractor", "colour", **options) for options in ({}, {"min_side": None}))
    small, full = (images.decode(data, each.side) for each in (extractor, whole))
    assert (small.shape, full.shape) == ((214, 320, 3), (854, 1280, 3))
    np.testing.assert_allclose(extractor.extract([small]), whole.extract([full]), atol=0.02)
    assert Space.of(extractor) != Space.of(whole)
