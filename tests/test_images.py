from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import shared
from imgrec import images
from imgrec.errors import UsageError
from imgrec.images import warned


def encoded(picture: PIL.Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def gradient(width: int = 40, height: int = 24) -> PIL.Image.Image:
    """Red grows to the right, green downwards: no orientation looks like another."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return PIL.Image.fromarray(np.stack([x, y, np.full_like(x, 90)], axis=2).astype(np.uint8))


def test_png_is_decoded_to_its_very_pixels() -> None:
    assert np.array_equal(images.decode(encoded(gradient(), "PNG")), np.asarray(gradient()))


def test_jpeg_has_the_pixels_that_pillow_sees() -> None:
    data = encoded(gradient(160, 96), "JPEG", quality=92)
    expected = np.asarray(PIL.Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(images.decode(data) - expected).max() <= 2


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(format: str, orientation: int) -> None:
    upright = gradient()
    undo = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options: Any = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    decoded = images.decode(encoded(stored, format, exif=exif, **options))
    assert decoded.shape == (24, 40, 3)
    assert np.abs(decoded.astype(int) - np.asarray(upright)).mean() < 3


def test_transparency_is_composited_on_white() -> None:
    picture = PIL.Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    picture.putpixel((1, 0), (0, 0, 255, 255))
    assert images.decode(encoded(picture, "PNG")).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_palette_with_transparency() -> None:
    picture = PIL.Image.new("P", (2, 1), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    assert images.decode(encoded(picture, "GIF", transparency=0)).tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_sixteen_bits_become_the_high_byte() -> None:
    deep = PIL.Image.fromarray(np.array([[0, 256, 65535]], np.uint16))
    for format in ("PNG", "TIFF"):
        assert images.decode(encoded(deep, format))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("values", [np.int32, np.float32])
def test_32_bits_have_no_known_range(values: type) -> None:
    deep = PIL.Image.fromarray(np.array([[0, 200]], values))
    with pytest.raises(images.UnreadableImageError, match="32 bits"):
        images.decode(encoded(deep, "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    format = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    decoded = images.decode(encoded(gradient().convert(mode), format))
    assert decoded.shape == (24, 40, 3)
    assert decoded.dtype == np.uint8


def test_first_frame_of_an_animation() -> None:
    frames = [PIL.Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.decode(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("width", "height", "side", "reduced"),
    [
        (800, 600, None, (600, 800)),
        (800, 600, 301, (600, 800)),
        (800, 600, 300, (300, 400)),
        (800, 600, 150, (150, 200)),
        (800, 600, 75, (75, 100)),
        (800, 600, 10, (75, 100)),
        (601, 801, 300, (401, 301)),
    ],
)
def test_a_jpeg_is_reduced_in_the_decoder_never_below_the_side(
    width: int, height: int, side: int | None, reduced: tuple[int, int]
) -> None:
    decoded = images.decode(encoded(gradient(width, height), "JPEG"), side)
    assert decoded.shape[:2] == reduced
    small = np.asarray(gradient(width, height).resize(reduced[::-1], PIL.Image.Resampling.BOX)).astype(int)
    assert np.abs(decoded - small).mean() < 3


@given(st.integers(1, 20_000), st.integers(1, 2_000))
def test_reduction_leaves_at_least_the_side(shorter: int, side: int) -> None:
    factor = images.reduction(shorter, side)
    assert factor in (1, 2, 4, 8)
    assert factor == 1 or shorter / factor >= side


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing, which is not read"),
        (b"\xff\xd8\xff\xe0rubbish", "not an image|broken"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(images.UnreadableImageError, match=reason):
        images.decode(data)


KINDS: dict[bytes, str] = {
    b"%PDF-1.7\n": "a PDF document",
    b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg>": "an SVG drawing",
    b"\xef\xbb\xbf<svg>": "an SVG drawing",
    b"<!DOCTYPE html><html>": "a web page",
    b"8BPS\0\1": "a Photoshop document",
    b"\0\0\0\x18ftypmp42\0\0\0\0": "a video",
    b"\0\0\0\x14ftypqt  \0\0\0\0": "a video",
    b"\x1aE\xdf\xa3\1\0": "a video",
    b"\0\0\1\xba": "a video",
    b"\0\0\1\0\1\0\x10\x10": "an icon",
    b"v/1\1\2\0\0\0": "OpenEXR",
    b"\0\5\x16\7\0\2\0\0": "Macintosh attributes",
    b"PK\3\4\x14\0": "an archive",
    b"\x1f\x8b\x08\0": "a compressed file",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00": "a pointer of Git LFS",
    bytes(5_000): "nothing but zeros",
}


@pytest.mark.parametrize("head", KINDS, ids=KINDS.values())
def test_a_file_of_a_kind_that_is_not_read_is_called_what_it_is(head: bytes) -> None:
    with pytest.raises(images.UnreadableImageError, match=KINDS[head]):
        images.decode(head)


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "JPEG"])
@pytest.mark.parametrize("length", [12, 16, 30, 60])
def test_a_file_that_ends_in_its_header_is_broken_and_not_unknown(format: str, length: int) -> None:
    with pytest.raises(images.UnreadableImageError, match="broken") as refused:
        images.decode(encoded(gradient(200, 200), format)[:length])
    assert "UnidentifiedImage" not in str(refused.value)
    assert "not an image" not in str(refused.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_file_is_refused(format: str) -> None:
    data = encoded(gradient(200, 200), format)
    with pytest.raises(images.UnreadableImageError):
        images.decode(data[: len(data) // 2])


def test_a_phones_200_megapixels_are_read_where_a_fraction_is_enough() -> None:
    data = encoded(PIL.Image.new("L", (12_240, 16_320), 77), "JPEG")
    assert images.Encoded.of(data).upright == (12_240, 16_320)
    decoded = images.decode(data, 128)
    assert decoded.shape == (2_040, 1_530, 3)
    assert np.abs(decoded.astype(int) - 77).max() <= 1
    assert images.decode(data, 3_000).shape == (4_080, 3_060, 3)
    with pytest.raises(images.UnreadableImageError, match="too large: 12240 x 16320 pixels"):
        images.decode(data)


def test_a_decompression_bomb_is_refused() -> None:
    bomb = encoded(PIL.Image.new("1", (30_000, 30_000)), "PNG")
    with pytest.raises(images.UnreadableImageError, match="too large"):
        images.decode(bomb)


@settings(max_examples=200)
@given(st.data())
def test_broken_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]))
    broken = bytearray(encoded(gradient(), format))
    for position in data.draw(st.lists(st.integers(0, len(broken) - 1), max_size=8)):
        broken[position] = data.draw(st.integers(0, 255))
    try:
        with warned.heard():
            decoded = images.decode(bytes(broken[: data.draw(st.integers(0, len(broken)))]))
    except images.UnreadableImageError as error:
        assert str(error)
    else:
        assert decoded.dtype == np.uint8
        assert decoded.ndim == 3


def test_folders_are_searched_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.webp", ".hidden/x.jpg", "._a.jpg", "notes.txt", "b/c/3.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [os.path.relpath(file.path, tmp_path) for file in images.find(images.roots(tmp_path))]
    assert found == ["a.webp", "b/1.png", "b/2.JPG", "b/c/3.tif"]


def test_link_loops_end_and_odd_files_have_a_problem(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "sub" / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    found = {Path(file.path).name: file.problem for file in images.find(images.roots(tmp_path))}
    assert found == {"broken.jpg": "cannot be opened: No such file or directory", "pipe.jpg": "not a regular file"}


def test_a_named_file_needs_no_suffix_and_nested_roots_count_once(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"x")
    (tmp_path / "a.jpg").write_bytes(b"x")
    roots = images.roots([tmp_path / "picture", tmp_path, tmp_path / "a.jpg"])
    assert roots == [str(tmp_path)]
    assert [file.path for file in images.find(images.roots(tmp_path / "picture"))] == [str(tmp_path / "picture")]


def test_a_source_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        images.roots(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="source 'moon://photos' cannot be opened: no installed plugin"):
        images.roots("moon://photos")


def test_odd_shared_files_are_read_by_their_content_or_refused() -> None:
    readable = 0
    for file in sorted(shared("photos", "odd").rglob("*.*")):
        if "corrupt" in file.name:
            with pytest.raises(images.UnreadableImageError):
                images.decode(file.read_bytes())
        else:
            assert images.decode(file.read_bytes()).shape[2] == 3
            readable += 1
    assert readable > 20
    assert "ukbench09380.svg" in {f.path.rsplit("/")[-1] for f in images.find([str(shared("photos", "odd"))])}


def test_pillow_is_imported_by_one_thread_at_a_time() -> None:
    """A package has the name of a module a moment after the module itself can be had; here the moment is long."""
    code = """
import io, sys, threading, time, types
from imgrec.images.decoding import Encoded
assert "PIL" not in sys.modules
import PIL
class Slow(types.ModuleType):
    def __setattr__(self, name, value):
        time.sleep(0.2 if name == "Image" else 0)
        super().__setattr__(name, value)
PIL.__class__ = Slow
failed = []
threading.excepthook = lambda caught: failed.append(caught.exc_value)
threads = [threading.Thread(target=lambda: Encoded.of(b"P5 1 1 255 x")) for _ in range(4)]
for thread in threads:
    thread.start()
    time.sleep(0.05)
for thread in threads:
    thread.join()
assert not failed, failed
"""
    subprocess.run([sys.executable, "-c", code], check=True)
