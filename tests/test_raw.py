"""Raw photographs: DNG files written here by hand (DNG 1.7, TIFF 6.0), so that every value is known."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from imgrec import images
from imgrec.kinds import Image
from imgrec.testing import check_decoder

rawpy = pytest.importorskip("rawpy", reason="needs the extra raw")

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
CODES = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SRATIONAL: "i"}

WHITE_LEVEL = 65535
XYZ_TO_SRGB = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)
"""In ten-thousandths (IEC 61966-2-1): a camera with this matrix sees linear sRGB."""

Tag = tuple[int, int, Sequence[int]]


def tiff(order: str, directory: Sequence[Tag], inner: Sequence[Tag] = (), blobs: Sequence[bytes] = ()) -> bytes:
    """A TIFF of a directory, one inside it, and strips; a tag's value `-1 - n` is where the strip `n` lies."""
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    inner_at = 8 + _size(directory)
    blobs_at = [inner_at + _size(inner)]
    for blob in blobs:
        blobs_at.append(blobs_at[-1] + len(blob) + len(blob) % 2)
    places = {-1 - n: at for n, at in enumerate(blobs_at)} | {INNER: inner_at}
    body = b"".join(blob + bytes(len(blob) % 2) for blob in blobs)
    return header + _packed(order, directory, 8, places) + _packed(order, inner, inner_at, places) + body


INNER = -1000


def _content(order: str, tag: Tag, places: dict[int, int]) -> bytes:
    _, kind, values = tag
    values = [places.get(value, value) for value in values]
    return struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)


def _size(directory: Sequence[Tag]) -> int:
    contents = [_content("<", (tag, kind, [0] * len(values)), {}) for tag, kind, values in directory]
    return 6 + 12 * len(directory) + sum(len(c) + len(c) % 2 for c in contents if len(c) > 4)


def _packed(order: str, directory: Sequence[Tag], start: int, places: dict[int, int]) -> bytes:
    entries, rest = b"", b""
    for tag, kind, values in sorted(directory):
        content = _content(order, (tag, kind, values), places)
        count = len(values) // (2 if kind in (RATIONAL, SRATIONAL) else 1)
        entries += struct.pack(f"{order}HHI", tag, kind, count)
        if len(content) <= 4:
            entries += content.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", start + 6 + 12 * len(directory) + len(rest))
            rest += content + bytes(len(content) % 2)
    return struct.pack(f"{order}H", len(directory)) + entries + bytes(4) + rest


def dng(
    colours: Image, *, orientation: int = 1, order: str = "<", preview: bytes = b"", is_dng: bool = True
) -> bytes:
    """A DNG of colours in linear sRGB, 16 bits, behind red, green and blue filters; the preview is a JPEG."""
    height, width = colours.shape[:2]
    mosaic = np.empty((height, width), np.uint16)
    for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[y::2, x::2] = colours[y::2, x::2, channel]
    sensor: list[Tag] = [
        (254, LONG, [0]),
        (256, LONG, [width]),
        (257, LONG, [height]),
        (258, SHORT, [16]),
        (259, SHORT, [1]),
        (262, SHORT, [32803]),
        (273, LONG, [-1]),
        (277, SHORT, [1]),
        (278, LONG, [height]),
        (279, LONG, [2 * mosaic.size]),
        (33421, SHORT, [2, 2]),
        (33422, BYTE, [0, 1, 1, 2]),
        (50714, LONG, [0]),
        (50717, LONG, [WHITE_LEVEL]),
    ]
    camera: list[Tag] = [
        (271, ASCII, b"imgrec\0"),
        (272, ASCII, b"by hand\0"),
        (274, SHORT, [orientation]),
        (306, ASCII, b"2024:05:31 18:04:09\0"),
        (50721, SRATIONAL, [each for value in XYZ_TO_SRGB for each in (value, 10_000)]),
        (50728, RATIONAL, [1, 1] * 3),
        (50778, SHORT, [21]),
    ]
    if is_dng:
        camera += [(50706, BYTE, [1, 4, 0, 0]), (50708, ASCII, b"imgrec by hand\0")]
    strip = mosaic.astype(f"{order}u2").tobytes()
    if not preview:
        return tiff(order, camera + sensor, blobs=[strip])
    with PIL.Image.open(io.BytesIO(preview)) as picture:
        size = picture.size
    first: list[Tag] = [
        (254, LONG, [1]),
        (256, LONG, [size[0]]),
        (257, LONG, [size[1]]),
        (258, SHORT, [8, 8, 8]),
        (259, SHORT, [7]),
        (262, SHORT, [6]),
        (273, LONG, [-2]),
        (277, SHORT, [3]),
        (278, LONG, [size[1]]),
        (279, LONG, [len(preview)]),
        (330, LONG, [INNER]),
    ]
    return tiff(order, camera + first, sensor, [strip, preview])


def linear(value: Any) -> Any:
    """Levels of sRGB as light (IEC 61966-2-1), of 65,535."""
    share = np.asarray(value) / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.rint(light * WHITE_LEVEL).astype(np.uint16)


def patches(levels: Sequence[Sequence[int]], side: int = 32) -> Image:
    """A row of patches of one colour each, in light."""
    row = np.repeat(np.array(levels), side, axis=0)
    return linear(np.repeat(row[None], side, axis=0))  # type: ignore[no-any-return]


LEVELS = [(255, 255, 255), (200, 100, 50), (30, 60, 90), (128, 128, 128), (255, 0, 0), (0, 0, 255)]


def jpeg(picture: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_are_those_of_the_scene(order: str) -> None:
    """A camera that sees linear sRGB; half the sensor's size, so that no colour is interpolated."""
    image = images.decode(dng(patches(LEVELS), order=order))
    assert image.shape == (16, 96, 3)
    right = np.repeat(np.array(LEVELS), 16, axis=0)
    assert np.abs(image.astype(int) - right).max() <= 1


HEADS = {
    "CR2": b"II*\0\x10\0\0\0CR\2\0",
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "CRW": b"II\x1a\0\0\0HEAPCCDR",
    "IIQ": b"II*\0\x40\0\0\0IIII",
    "MRW": b"\0MRM\0\0\0\0",
    "ORF": b"IIRO\x08\0\0\0",
    "RAF": b"FUJIFILMCCD-RAW 0201",
    "RW2": b"IIU\0\x18\0\0\0",
    "X3F": b"FOVb\0\0\3\0",
}


@pytest.mark.parametrize("form", HEADS)
def test_each_form_is_recognised(form: str) -> None:
    """By what the cameras' files begin with; what is cut off here is refused in a line."""
    assert imgrec.build("decoder", "raw").recognises(HEADS[form])
    with pytest.raises(images.UnreadableImageError, match=r"^broken image: "):
        images.decode(HEADS[form])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("preview", [b"", jpeg(PIL.Image.new("RGB", (60, 10)))])
def test_a_tiff_with_a_sensor_s_samples_is_recognised(order: str, preview: bytes) -> None:
    """As NEF, ARW, PEF and others are: their own samples, or those behind the preview."""
    assert imgrec.build("decoder", "raw").recognises(
        dng(patches(LEVELS), order=order, is_dng=False, preview=preview)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("with_preview", [False, True])
def test_it_is_upright(orientation: int, with_preview: bool) -> None:
    """As Pillow turns a PNG of these pixels that has this orientation in EXIF."""
    stored = np.repeat(np.array(LEVELS, np.uint8), 16, axis=0)[None].repeat(16, axis=0)
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PIL.Image.fromarray(stored).save(file, "PNG", exif=exif)
    preview = jpeg(PIL.Image.fromarray(stored)) if with_preview else b""
    data = dng(patches(LEVELS), orientation=orientation, preview=preview)
    image, right = images.decode(data), images.decode(file.getvalue())
    assert image.shape == right.shape
    assert np.abs(image.astype(int) - right).mean() < (8 if with_preview else 1)
    assert images.Encoded.of(data).upright == ((192, 32) if orientation < 5 else (32, 192))


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_preview_that_the_camera_has_turned_is_not_turned_again(orientation: int) -> None:
    top = PIL.Image.new("RGB", (32, 192), "blue")
    top.paste("red", (0, 0, 32, 96))
    image = images.decode(dng(patches(LEVELS), orientation=orientation, preview=jpeg(top)))
    assert image.shape == (192, 32, 3)
    assert np.abs(image[8, 16].astype(int) - (255, 0, 0)).max() < 8
    assert np.abs(image[-8, 16].astype(int) - (0, 0, 255)).max() < 8


GREEN = (10, 200, 30)


@pytest.mark.parametrize(
    ("preview", "side", "wanted", "is_preview"),
    [
        ((192, 32), None, (32, 192), True),
        ((192, 32), 16, (16, 96), True),  # a JPEG is decoded at a fraction
        ((96, 16), None, (16, 96), True),  # as good as half the sensor's
        ((60, 10), None, (16, 96), False),
        ((60, 10), 16, (16, 96), False),
        ((60, 10), 4, (5, 30), True),  # enough for this side
    ],
)
def test_the_preview_is_taken_where_it_is_large_enough(
    preview: tuple[int, int], side: int | None, wanted: tuple[int, int], is_preview: bool
) -> None:
    data = dng(patches([(255, 255, 255)] * 6), preview=jpeg(PIL.Image.new("RGB", preview, GREEN)))
    image = images.decode(data, side)
    assert image.shape == (*wanted, 3)
    assert np.abs(image.astype(int) - (GREEN if is_preview else (255, 255, 255))).max() <= 4


def test_a_damaged_preview_costs_nothing() -> None:
    preview = jpeg(PIL.Image.new("RGB", (192, 32), GREEN))
    data = dng(patches([(255, 255, 255)] * 6), preview=preview)
    at = data.index(preview)
    image = images.decode(data[: at + 200] + bytes(len(preview) - 200) + data[at + len(preview) :])
    assert (image == 255).all()


def test_what_the_header_tells() -> None:
    encoded = images.Encoded.of(dng(patches(LEVELS)))
    assert encoded.about.taken == "2024-05-31T18:04:09"
    assert encoded.memory([None]) > 12 * 192 * 32


def test_one_that_takes_too_much_memory_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dng(patches(LEVELS))
    monkeypatch.setattr("imgrec.images.decoding.MAX_MEMORY", images.Encoded.of(data).memory([None]) - 1)
    with pytest.raises(images.UnreadableImageError, match="192 x 32 pixels, which take"):
        images.decode(data)


def test_one_that_claims_to_be_larger_than_its_file_is_refused() -> None:
    data = bytearray(dng(patches(LEVELS)))
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, LONG, 1)) + 8
        data[at : at + 4] = struct.pack("<I", 10_000)
    with pytest.raises(images.UnreadableImageError, match="broken image: Input/output error"):
        images.decode(bytes(data))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_one_is_read_or_refused(drawn: st.DataObject) -> None:
    preview = jpeg(PIL.Image.new("RGB", (60, 10), GREEN))
    data = bytearray(dng(patches(LEVELS, side=8), preview=preview))
    for _ in range(drawn.draw(st.integers(1, 4))):
        data[drawn.draw(st.integers(0, 900))] = drawn.draw(st.integers(0, 255))
    cut = drawn.draw(st.none() | st.integers(0, len(data)))
    try:
        image = images.decode(bytes(data[:cut]))
    except images.UnreadableImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 3


def test_a_tiff_that_is_no_raw_photograph_is_left_to_pillow() -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), "red").save(file, "TIFF")
    assert not imgrec.build("decoder", "raw").recognises(file.getvalue())
    assert not imgrec.build("decoder", "raw").recognises(b"II*\0\xff\xff\xff\xff")


def test_it_keeps_its_contract() -> None:
    check_decoder(imgrec.build("decoder", "raw"), dng(patches(LEVELS)))


def test_a_folder_of_them_is_ingested(tmp_path: Path, store: imgrec.Store) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.dng", "b.NEF"):
        (tmp_path / "photos" / name).write_bytes(dng(patches(LEVELS)) + name.encode())
    report = imgrec.ingest(tmp_path / "photos", imgrec.build("extractor", "colour"), store)
    assert (report.new, report.passed_over) == (2, {})
    with store:
        assert {(record.width, record.height) for record in store.records()} == {(192, 32)}
