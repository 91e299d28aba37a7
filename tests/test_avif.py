"""AVIF and HEIC whose boxes change what is seen: crops, turns, and alpha that libavif refuses."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgrec import images
from imgrec.kinds import Image

WIDTH, HEIGHT = 96, 64


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def inside(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def with_properties(data: bytes, *properties: bytes) -> bytes:
    """The file with further properties of its first picture."""
    meta = dict(inside(data))[b"meta"]
    parts = dict(inside(meta[4:]))
    known, table = (dict(inside(parts[b"iprp"]))[kind] for kind in (b"ipco", b"ipma"))
    count = len(list(inside(known)))
    assert table[:4] == bytes(4)
    assert table[8:10] == b"\0\1"
    more = bytes(
        0x80 | (count + 1 + i) for i in range(len(properties))
    )  # the first bit: it may not be passed over
    end = 11 + table[10]
    table = table[:10] + bytes([table[10] + len(more)]) + table[11:end] + more + table[end:]
    parts[b"iprp"] = box(b"ipco", known + b"".join(properties)) + box(b"ipma", table)
    parts[b"iloc"] = moved(parts[b"iloc"], sum(map(len, properties)) + len(more))
    new = box(b"meta", meta[:4] + b"".join(box(*each) for each in parts.items()))
    return data.replace(box(b"meta", meta), new, 1)


def moved(places: bytes, by: int) -> bytes:
    """The content of an `iloc` box whose pictures lie farther behind: of one extent each, in 32 bits."""
    head = 6 if places[0] else 4  # bytes of an entry before what it counts from, which may be of no size
    assert places[4] == 0x44
    head += (places[5] >> 4) + 2  # and how many extents there are
    out = bytearray(places)
    for i in range(int.from_bytes(places[6:8], "big")):
        at = 8 + i * (head + 8) + head
        out[at : at + 4] = (int.from_bytes(places[at : at + 4], "big") + by).to_bytes(4, "big")
    return bytes(out)


def crop(left: int, top: int, width: int, height: int) -> bytes:
    """A `clap` box, which says how far the centre of the crop is from the centre of the picture."""
    right, down = 2 * left + width - WIDTH, 2 * top + height - HEIGHT
    return box(b"clap", struct.pack(">8i", width, 1, height, 1, right, 2, down, 2))


def turn(quarters: int) -> bytes:
    """An `irot` box: anticlockwise."""
    return box(b"irot", bytes([quarters]))


def picture(channels: int = 3) -> Image:
    """Smooth, each corner another colour."""
    x, y = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    return np.stack([x, y, 255 - x, 255 - y][:channels], axis=2).astype(np.uint8)


def avif(pixels: Image) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "AVIF", quality=100, subsampling="4:4:4")
    return file.getvalue()


def heic(pixels: Image) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(PIL.Image.fromarray(pixels)).save(file, quality=100, chroma=444)
    return file.getvalue()


def on_white(pixels: Image) -> npt.NDArray[np.float64]:
    alpha = pixels[:, :, 3:] / 255
    return np.asarray(pixels[:, :, :3] * alpha + 255 * (1 - alpha))


def differ(decoded: Image, expected: npt.NDArray[np.generic]) -> float:
    assert decoded.shape == expected.shape
    return float(np.abs(decoded - expected.astype(float)).max())


FILES = {"avif": avif(picture()), "avif with alpha": avif(picture(4))}

edges = st.tuples(st.integers(0, WIDTH), st.integers(0, WIDTH), st.integers(0, HEIGHT), st.integers(0, HEIGHT))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FILES)), edges.filter(lambda e: e[0] < e[1] and e[2] < e[3]), st.integers(0, 3))
def test_a_crop_of_an_avif_is_applied_and_then_its_turn(
    name: str, edges: tuple[int, int, int, int], quarters: int
) -> None:
    left, right, top, bottom = edges
    data = with_properties(FILES[name], crop(left, top, right - left, bottom - top), turn(quarters))
    whole = picture().astype(float) if name == "avif" else on_white(picture(4))
    expected = np.rot90(whole[top:bottom, left:right], quarters)
    assert differ(images.decode(data), expected) <= 4
    assert images.Encoded.of(data).upright == expected.shape[1::-1]


@pytest.mark.parametrize("quarters", range(4))
def test_a_crop_of_a_heic_is_applied_and_then_its_turn(quarters: int) -> None:
    data = with_properties(heic(picture()), crop(10, 6, 40, 30), turn(quarters))
    expected = np.rot90(picture()[6:36, 10:50], quarters)
    assert differ(images.decode(data), expected) <= 4
    assert images.Encoded.of(data).upright == expected.shape[1::-1]


@pytest.mark.parametrize(
    "content",
    [crop(-10, 0, 40, 30), crop(0, 0, 400, 30), crop(0, 0, 0, 30), box(b"clap", bytes(32))],
)
def test_a_crop_that_leaves_the_picture_is_refused(content: bytes) -> None:
    with pytest.raises(images.UnreadableImageError, match=r"broken image: .*crop"):
        images.decode(with_properties(avif(picture()), content))


def alpha_without_size(pixels: Image, *properties: bytes) -> bytes:
    """As older versions of libheif wrote it: the alpha picture is not associated with a size."""
    data = with_properties(avif(pixels), *properties)
    at = data.rindex(b"ipma")
    entry = data.index(b"\0\2\4", at)  # the second item has four properties, the first of them its size
    return data[: entry + 3] + b"\0" + data[entry + 4 :]


@pytest.mark.skipif(
    "AVIF:                        NO" in cv2.getBuildInformation(), reason="this OpenCV reads no AVIF"
)
@pytest.mark.parametrize("quarters", range(4))
def test_alpha_of_no_size_is_read_although_libavif_refuses_it(quarters: int) -> None:
    data = alpha_without_size(picture(4), crop(10, 6, 40, 30), turn(quarters))
    with pytest.raises(PIL.UnidentifiedImageError):
        PIL.Image.open(io.BytesIO(data))
    assert differ(images.decode(data), np.rot90(on_white(picture(4))[6:36, 10:50], quarters)) <= 4


def test_an_avif_that_is_cut_is_refused() -> None:
    for data in (avif(picture()), avif(picture(4)), alpha_without_size(picture(4))):
        for share in (0.1, 0.5, 0.9, 0.99):
            with pytest.raises(images.UnreadableImageError):
                images.decode(data[: int(share * len(data))])


@pytest.mark.parametrize("quarters", range(4))
def test_libheif_sees_the_same(quarters: int, tmp_path: Path) -> None:
    tool = next((each for each in ("heif-dec", "heif-convert") if shutil.which(each)), None)
    if tool is None:
        pytest.skip("needs libheif's own tool")
    data = with_properties(avif(picture()), crop(10, 6, 40, 30), turn(quarters))
    (tmp_path / "a.avif").write_bytes(data)
    done = subprocess.run([tool, "a.avif", "a.png"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if "not been built in" in done.stderr or "Unsupported" in done.stderr:
        pytest.skip("libheif's tool reads no AVIF here")
    assert done.returncode == 0, done.stderr
    assert differ(images.decode(data), np.asarray(PIL.Image.open(tmp_path / "a.png"))) <= 4


@pytest.mark.parametrize("depth", ["8", "10", "12"])
@pytest.mark.parametrize("channels", [3, 4])
def test_an_avif_of_every_depth(depth: str, channels: int, tmp_path: Path) -> None:
    if not shutil.which("avifenc"):
        pytest.skip("needs avifenc")
    PIL.Image.fromarray(picture(channels)).save(tmp_path / "a.png")
    command = ["avifenc", "-d", depth, "-y", "444", "--min", "0", "--max", "0", "-s", "8", "a.png", "a.avif"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    expected = on_white(picture(4)) if channels == 4 else picture()
    assert differ(images.decode((tmp_path / "a.avif").read_bytes()), expected) <= 4
