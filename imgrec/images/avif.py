"""AVIF: the crop that a file asks for, and alpha that libavif's strict rules refuse.

ISO/IEC 14496-12, 12.1.4.4 (clap); ISO/IEC 23008-12, 9.3 (ipma).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import PIL.Image

from imgrec.images.boxes import boxes, first
from imgrec.images.reasons import UnreadableImageError
from imgrec.images.samples import drawn, eight_bits, in_bands, on_white, sixteen_bits
from imgrec.kinds import Image


def recognises(data: bytes) -> bool:
    """Whether it is an AVIF, or a file of the kind that a decoder of HEIC has left alone."""
    return data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1", b"msf1")


def opened(data: bytes) -> PIL.Image.Image:
    """The picture, cropped, before it is turned."""
    picture: PIL.Image.Image
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=["AVIF"])
    except PIL.UnidentifiedImageError:
        # Some of libheif's and GIMP's have an alpha picture whose size is not told, which libavif refuses.
        picture = PIL.Image.open(io.BytesIO(_without_alpha(data)), formats=["AVIF"])
        lenient = drawn(picture.size, lambda: _by_opencv(data), 40 * picture.width * picture.height)
        lenient.info = picture.info
        picture = lenient
    box = _crop(data, picture.size)
    if box is None:
        return picture
    # What is cut off is decoded, too; the rest of the estimate is as for a whole AVIF.
    cost = 30 * picture.width * picture.height
    whole = picture
    cropped = drawn((box[2] - box[0], box[3] - box[1]), lambda: _on_white(whole.crop(box)), cost)
    cropped.info = picture.info
    return cropped


def _on_white(picture: PIL.Image.Image) -> Image:
    layer = picture.convert("RGBA")
    return np.asarray(PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


def _without_alpha(data: bytes) -> bytes:
    """The file with its alpha picture made one of an unknown coding, which is passed over."""
    meta = known = first(data, b"meta")
    for kind, content in boxes(first(meta[4:], b"iref")[4:]):
        if kind == b"auxl":
            entry = rb"(infe.{4}" + re.escape(bytes(content[:2])) + rb"..)...."
            meta = re.sub(entry, rb"\1none", meta, flags=re.DOTALL)
    return data.replace(known, meta, 1) if known else data


def _by_opencv(data: bytes) -> Image:
    import cv2

    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint8 or found.shape[2:] != (4,):
        raise UnreadableImageError("broken image: an AVIF whose alpha does not tell its size")

    def draw(rows: slice) -> Image:
        samples = sixteen_bits(found[rows], 8)  # type: ignore[arg-type]
        return eight_bits(on_white(samples[:, :, 2::-1], samples[:, :, 3:]), 16)

    return in_bands(found.shape[0], found.shape[1], draw)


def _crop(data: bytes, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of what is to be seen, if not all is."""
    content = next((content for kind, content in _properties(data) if kind == b"clap"), None)
    if content is None:
        return None
    if len(content) < 32:
        raise UnreadableImageError("broken image: an AVIF whose crop is cut")
    numbers = [int.from_bytes(content[i : i + 4], "big", signed=True) for i in range(0, 32, 4)]
    if 0 in numbers[1::2]:
        raise UnreadableImageError("broken image: an AVIF whose crop has no size")
    width, height, right, down = (Fraction(numbers[i], numbers[i + 1]) for i in range(0, 8, 2))
    # From the centre of the whole to the centre of what is seen.
    left, top = Fraction(size[0] - width) / 2 + right, Fraction(size[1] - height) / 2 + down
    box = (round(left), round(top), round(left + width), round(top + height))
    if not (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]):
        raise UnreadableImageError("broken image: an AVIF whose crop is outside of it")
    return None if box == (0, 0, *size) else box


def _properties(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The properties of the primary picture."""
    meta = first(data, b"meta")[4:]
    primary, of_items = first(meta, b"pitm"), first(meta, b"iprp")
    item = int.from_bytes(primary[4:], "big")
    known = list(boxes(first(of_items, b"ipco")))
    for kind, table in boxes(of_items):
        if kind == b"ipma":
            yield from (known[i - 1] for i in _associated(table, item) if 0 < i <= len(known))


def _associated(table: memoryview, item: int) -> Iterator[int]:
    """The numbers of an item's properties, from 1, by a table of all items'."""
    id_size, size = 2 if table[0] == 0 else 4, 2 if table[3] & 1 else 1
    at = 8
    for _ in range(int.from_bytes(table[4:8], "big")):
        if at + id_size >= len(table):
            return
        owner, count = int.from_bytes(table[at : at + id_size], "big"), table[at + id_size]
        at += id_size + 1
        for _ in range(count):
            if owner == item:
                yield int.from_bytes(table[at : at + size], "big") & (
                    0x7FFF if size == 2 else 0x7F
                )  # the first bit: essential
            at += size
