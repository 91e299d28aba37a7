"""Odd and hostile files, made here: what each is, and what is to become of it.

python tests/hostile.py FOLDER          makes them
"""

from __future__ import annotations

import io
import os
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

HUGE = 50_000


def encoded(picture: PIL.Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def photograph(width: int = 160, height: int = 120) -> PIL.Image.Image:
    """Smooth colours with some grain."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    grain = np.random.default_rng(0).integers(0, 20, (height, width))
    return PIL.Image.fromarray(np.stack([x, y, 90 + grain], axis=2).astype(np.uint8))


def truncated(format: str) -> bytes:
    data = encoded(photograph(), format)
    return data[: len(data) * 2 // 3]


# --- bombs: small files of many pixels ----------------------------------------------------------------------


def png(width: int, height: int, bits: int = 8, colour: int = 2, *, interlaced: bool = False) -> bytes:
    """A black PNG (ISO/IEC 15948), written line by line."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    line = bytes(1 + (width * bits * samples + 7) // 8)
    packer, packed = zlib.compressobj(1), []
    # Seven passes of an interlaced picture have other lines; no decoder gets to those of one that is too large.
    for _ in range(0 if interlaced else height):
        packed.append(packer.compress(line))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    body = b"".join([*packed, packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(width: int, height: int, *, tile: int = 0) -> bytes:
    """A black grey-scale TIFF 6.0 of one deflated strip, or of one tile that may be larger than the picture."""
    lines = tile or min(height, 2_000)
    packed = zlib.compress(bytes(tile or width) * lines, 1)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
    start = 8
    tags |= {322: tile, 323: tile, 324: start, 325: len(packed)} if tile else {}
    tags |= {} if tile else {273: start, 278: height, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", start + len(packed)) + packed + directory


def webp(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is larger than any picture in it can be."""
    small = encoded(PIL.Image.new("RGB", (16, 16)), "WEBP")
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas + small[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(width: int, height: int, frame: tuple[int, int] | None = None) -> bytes:
    """A GIF of a large logical screen, with one frame."""
    data = bytearray(encoded(PIL.Image.new("P", (8, 8)), "GIF"))
    at = data.index(b",\0\0\0\0\x08\0\x08\0")
    data[6:10] = struct.pack("<HH", width, height)
    if frame:
        data[at + 5 : at + 9] = struct.pack("<HH", *frame)
    return bytes(data)


def jpeg(width: int, height: int, scans: int = 0, **options: object) -> bytes:
    """A JPEG whose header tells another size than it has, with its last scan so many times more."""
    data = bytearray(encoded(photograph(), "JPEG", **options))
    at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    last = data[data.rindex(b"\xff\xda") : -2]
    return bytes(data[:-2] + last * scans + data[-2:])


def jpeg2000(width: int, height: int, *, in_box: bool) -> bytes:
    """A JPEG 2000 whose codestream, and perhaps the box around it, tells another size than it has."""
    data = bytearray(encoded(photograph(), "JPEG2000"))
    if in_box:
        at = data.index(b"ihdr")
        data[at + 4 : at + 12] = struct.pack(">II", height, width)
    at = data.index(b"\xff\x4f\xff\x51") + 4
    data[at + 4 : at + 12] = data[at + 20 : at + 28] = struct.pack(">II", width, height)
    return bytes(data)


# --- all of them --------------------------------------------------------------------------------------------

SUFFIXES = {"JPEG2000": "jp2"}

READ = ""
"""What is expected of a file that is an image, beside the reasons of those that are none."""

FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    # what is broken
    "zero-bytes.jpg": (lambda: b"", "empty file"),
    "random.jpg": (lambda: np.random.default_rng(7).bytes(50_000), "not an image in a known format"),
    "zeros.png": (lambda: bytes(50_000), "nothing but zeros"),
    "text.png": (lambda: b"no image at all", "not an image in a known format"),
    "drawing.svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing, which is not read"),
    "program.jpg": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "PostScript, which is",
    ),
    **{
        f"truncated.{SUFFIXES.get(format, format.lower())}": (partial(truncated, format), "broken")
        for format in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF")
    },
    # bombs
    "bomb.png": (lambda: png(HUGE, HUGE, 1, 0), "too large"),
    "bomb.tif": (lambda: tiff(HUGE, HUGE), "too large"),
    "bomb.webp": (lambda: webp(HUGE, HUGE), "too large|decoder object"),  # the latter by Pillow below 13
    "bomb.gif": (lambda: gif(HUGE, HUGE), "too large"),
    "bomb-of-a-frame.gif": (lambda: gif(8, 8, (HUGE, HUGE)), "too large"),
    "bomb.jpg": (lambda: jpeg(HUGE, HUGE), "too large"),
    "bomb.jp2": (lambda: jpeg2000(HUGE, HUGE, in_box=True), "too large|broken"),
    "bomb-in-the-stream.jp2": (lambda: jpeg2000(HUGE, HUGE, in_box=False), "too large|broken"),
    "bomb-of-a-tile.tif": (lambda: tiff(10, 10, tile=30_000), "too large"),
    "nearly-a-bomb.png": (lambda: png(13_300, 13_300), "too large"),
    "nearly-a-bomb-interlaced.png": (lambda: png(13_300, 13_300, interlaced=True), "too large"),
    "nearly-a-bomb-of-16-bits.png": (lambda: png(8_000, 8_000, 16, 6, interlaced=True), "too large"),
    "nearly-a-bomb.tif": (lambda: tiff(13_300, 13_300), "too large"),
    "nearly-a-bomb-progressive.jpg": (lambda: jpeg(13_300, 13_300, progressive=True), "too large"),
    "scans.jpg": (lambda: jpeg(160, 120, 5_000, progressive=True), "too large: a JPEG of 50.. scans"),
    # large, and read
    **{f"large-{i}.png": (partial(png, 9_900, 9_900 - i), READ) for i in range(3)},
    **{f"middling-{i}.png": (partial(png, 4_800, 4_800 - i), READ) for i in range(8)},
    "large-screen.gif": (lambda: gif(9_000, 9_000), READ),
    "large-grey.tif": (lambda: encoded(PIL.Image.new("L", (8_000, 8_000)), "TIFF"), READ),
    # odd, and read
    "one-pixel.png": (lambda: encoded(PIL.Image.new("RGB", (1, 1)), "PNG"), READ),
    "line.png": (lambda: encoded(PIL.Image.new("RGB", (1, 30_000)), "PNG"), READ),
    "line.jpg": (lambda: encoded(PIL.Image.new("RGB", (30_000, 1)), "JPEG"), READ),
    "png-inside.jpg": (lambda: encoded(photograph(), "PNG"), READ),
    "jpeg-inside.svg": (lambda: encoded(photograph(), "JPEG"), READ),
    "cmyk.jpg": (lambda: encoded(photograph().convert("CMYK"), "JPEG"), READ),
    "progressive.jpg": (lambda: encoded(photograph(), "JPEG", progressive=True), READ),
    "sixteen.png": (lambda: encoded(PIL.Image.new("I;16", (9, 9), 999), "PNG"), READ),
    "sixteen.tif": (lambda: encoded(PIL.Image.new("I;16", (9, 9), 999), "TIFF"), READ),
    "grey.jpg": (lambda: encoded(photograph().convert("L"), "JPEG"), READ),
    "palette.png": (lambda: encoded(photograph().convert("P"), "PNG"), READ),
    "alpha.png": (lambda: encoded(PIL.Image.new("RGBA", (9, 9), (9, 9, 9, 9)), "PNG"), READ),
    "stereo.mpo": (
        lambda: encoded(photograph(), "MPO", save_all=True, append_images=[PIL.Image.new("RGB", (9, 9))]),
        READ,
    ),
    "whole.jp2": (lambda: encoded(photograph(), "JPEG2000"), READ),
    "pages.tif": (
        lambda: encoded(photograph(), "TIFF", save_all=True, append_images=[PIL.Image.new("L", (9, 9))]),
        READ,
    ),
}
"""What regular files are called, what makes them, and how the reason reads, or READ."""

NAMES = {
    b"not-utf8-\xff\xfe.jpg": READ,
    b"new\nline.jpg": READ,
    b"broken-\xff\n\x1b[31m.jpg": "not an image",
    b"-dash =[bracket], \"quote' \t#&.jpg": READ,
    b"x" * 251 + b".jpg": READ,
    "日本語 ü 🐘.jpg".encode(): READ,
}
"""Odd names of files, each with a picture of its own."""


def _bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened, tempfile.TemporaryDirectory(dir="/tmp") as short:
        opened.bind(f"{short}/socket")  # a socket's path has 107 bytes at the most
        Path(short, "socket").rename(path)


def _touched(path: Path) -> Path:
    path.touch()
    return path


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pipe.jpg": (os.mkfifo, "not a regular file"),
    "device.jpg": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "unreadable.jpg": (lambda path: path.symlink_to("/proc/self/mem"), "cannot be opened|changed"),
    "socket.jpg": (_bound, "not a regular file"),
    "broken-link.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "cannot be opened: No such file"),
    "link-to-itself.jpg": (lambda path: path.symlink_to(path.name), "cannot be opened: Too many levels"),
    "12-GB.jpg": (lambda path: os.truncate(_touched(path), 12 * 2**30), "too large"),
}
"""What is no regular file, or no readable one."""


def make(folder: Path) -> dict[str, str]:
    """Make all of them; how the reason of each reads, by the path within the folder."""
    folder.mkdir()
    expected: dict[str, str] = {}
    for name, (content, reason) in FILES.items():
        (folder / name).write_bytes(content())
        expected[name] = reason
    for i, (raw, reason) in enumerate(NAMES.items()):
        picture = PIL.Image.new("RGB", (8, 8), (i * 40, 0, 0))
        (folder / os.fsdecode(raw)).write_bytes(b"x" if reason else encoded(picture, "PNG"))
        expected[os.fsdecode(raw)] = reason
    for name, (put, reason) in ODD.items():
        put(folder / name)
        expected[name] = reason
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(encoded(PIL.Image.new("RGB", (7, 7), "red"), "JPEG"))
    (folder / "folder.jpg" / "loop").symlink_to(folder)
    return {**expected, "folder.jpg/inside.jpg": READ}


if __name__ == "__main__":
    print(f"{len(make(Path(sys.argv[1])))} files in {sys.argv[1]}")
