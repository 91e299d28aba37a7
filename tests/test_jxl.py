"""JPEG XL: files that `cjxl` 0.7 wrote of pixels known by hand, and the library's own."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import imgrec
from imgrec import images
from imgrec.kinds import Image
from imgrec.testing import check_decoder

pylibjxl = pytest.importorskip("pylibjxl", reason="needs the extra jxl")

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [128, 128, 128], [255, 255, 255]]])
ALPHA = np.array([[255, 0, 128], [64, 192, 255]])

WRITTEN = {
    "8 bits": "/woIQBBQXAgIAgEAjABLEqVChSRWAecdAACARW46AHgATwe8r29vb3/67eNvX29fDw==",
    "10 bits": "/woIQBRQXAgIAgEAoABLEqVChSRWA+cdAAAAgEVuOgD4AfDTh/D6+ttvv/2nf/vjv/31218/",
    "16 bits": (
        "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAABKanhsY/8KCED8ABQXAggCAQDMAEsSpUKFJFoBm8O9v0EM6QDg"
        "/wEA/D/9H4Dw/r7+v/2//b/9/+n/t/+P/7/9f/2//X/9Pw=="
    ),
    "grey, 8 bits": "/woIQBAUFwIIAgEARABLEqVChSTW6BEAv8PXpz8wDw==",
    "grey, 16 bits": (
        "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAAAtanhsY/8KCED8AMWFCAIBAFwASxKlQoUk2tBDAPB3+P/6//T/"
        "Bwjm7wE="
    ),
    "8 bits, transparent": ("/woIQLCguBAICBAAqABLEqVChSRWAecdAACAovf5AZAb6NUG9fHp6ekHP/35v4+nj8enX6D9AXI="),
    "grey, 8 bits, transparent": "/woIQLAoLgQICBAAcABLEqVChSTWQNwdAACA0GvD10dfYD1fX+D6B8YB",
}
"""`cjxl -q 100 -e 1` of `COLOURS`, their red alone where it is grey, and `ALPHA`, scaled to the depth."""

ANIMATION = "/wogQMEAAopLAggCCAAAPABLEqVCBVIsA/sPAPhrPgUIAgQAQABLEqVCBVJsBfYfAPi3hQoI"


@pytest.mark.parametrize("form", WRITTEN)
def test_values_are_as_they_were_written(form: str) -> None:
    right = COLOURS[:, :, :1].repeat(3, axis=2) if "grey" in form else COLOURS
    if "transparent" in form:  # on white
        right = np.rint((right * ALPHA[:, :, None] + 255 * (255 - ALPHA[:, :, None])) / 255)
    image = images.decode(base64.b64decode(WRITTEN[form]))
    assert np.abs(image.astype(int) - right).max() <= 1


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_lossless_pixels_come_back(drawn: st.DataObject) -> None:
    shape = drawn.draw(array_shapes(min_dims=2, max_dims=2, max_side=40))
    pixels = drawn.draw(arrays(np.uint8, (*shape, 3)))
    assert (images.decode(pylibjxl.encode(pixels, lossless=True)) == pixels).all()


def jpeg(orientation: int) -> bytes:
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    tiles = np.kron(COLOURS, np.ones((16, 16, 1))).astype(np.uint8)
    PIL.Image.fromarray(tiles).save(file, "JPEG", quality=95, subsampling=0, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_once(orientation: int) -> None:
    """Made from a JPEG it has the orientation twice, for the decoder and in EXIF."""
    written = pylibjxl.jpeg_to_jxl(jpeg(orientation))
    assert "exif" in pylibjxl.decode(written, metadata=True)[1]
    image, right = images.decode(written), images.decode(jpeg(orientation))
    assert image.shape == right.shape
    assert np.abs(image.astype(int) - right).mean() < 1
    assert images.Encoded.of(written).upright == right.shape[1::-1]


def test_an_animation_is_refused() -> None:
    """Its first frame is wanted, and the library gives the last."""
    with pytest.raises(images.UnreadableImageError, match="an animation, of which"):
        images.decode(base64.b64decode(ANIMATION))


def test_one_that_takes_too_much_memory_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pylibjxl.encode(np.zeros((50, 60, 3), np.uint8))
    needed = images.Encoded.of(data).memory([None])
    assert needed > 30 * 50 * 60
    monkeypatch.setattr("imgrec.images.decoding.MAX_MEMORY", needed - 1)
    with pytest.raises(images.UnreadableImageError, match="60 x 50 pixels, which take"):
        images.decode(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_one_is_read_or_refused(drawn: st.DataObject) -> None:
    data = bytearray(pylibjxl.jpeg_to_jxl(jpeg(6)))
    for _ in range(drawn.draw(st.integers(1, 4))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    cut = drawn.draw(st.none() | st.integers(0, len(data)))
    try:
        image: Image = images.decode(bytes(data[:cut]))
    except images.UnreadableImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 3


def test_it_keeps_its_contract() -> None:
    check_decoder(imgrec.build("decoder", "jxl"), pylibjxl.jpeg_to_jxl(jpeg(1)))


def test_a_folder_of_them_is_ingested(tmp_path: Path, store: imgrec.Store) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jxl").write_bytes(base64.b64decode(WRITTEN["8 bits"]))
    report = imgrec.ingest(tmp_path / "photos", imgrec.build("extractor", "colour"), store)
    assert (report.new, report.passed_over) == (1, {})
