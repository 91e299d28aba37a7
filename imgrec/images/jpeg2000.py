"""JPEG 2000 (ISO/IEC 15444-1): components of any depth.

Pillow is right up to 8 bits, but for the scale of fewer, and for grey; in deeper colours its white wraps to black.
These are decoded by OpenCV, which knows neither signed components nor grey with alpha.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import PIL.Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from imgrec.images.boxes import first
from imgrec.images.reasons import UnreadableImageError
from imgrec.images.samples import Samples, drawn, eight_bits, in_bands, on_white, sixteen_bits, without_ink
from imgrec.kinds import Image

START = b"\xff\x4f\xff\x51"
"""Of a codestream: its first marker, and the one of its size."""

CMYK, SRGB, GREY, SYCC = 12, 16, 17, 18  # annex I.5.3.3, and ISO/IEC 15444-2

COLOURS = {CMYK: 4, SRGB: 3, GREY: 1, SYCC: 3}

PROFILES = {b"GRAY": GREY, b"RGB ": SRGB, b"CMYK": CMYK}

ALPHA, PREMULTIPLIED, UNSPECIFIED = 1, 2, 65_535

_COST, _COST_EACH = 8, 6
"""Bytes a pixel, and more for each component, measured."""


def recognises(data: bytes) -> bool:
    """Whether it is a JP2 or JPX file, or a bare codestream."""
    return data.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", START))


def opened(data: bytes) -> PIL.Image.Image:
    """The picture.

    Raises:
        UnreadableImageError: no decoder reads what it holds, or it is broken.
    """
    header = _Header.of(data)
    picture = PIL.Image.open(io.BytesIO(data), formats=["JPEG2000"])
    if header.is_plain():
        return picture
    pixels = max(header.width * header.height, picture.width * picture.height)
    cost = (_COST + _COST_EACH * len(header.bits)) * pixels
    return drawn((header.width, header.height), lambda: _draw(data, header), cost)


@dataclass(frozen=True)
class _Header:
    """What the codestream and the boxes around it say."""

    stream: bytes
    """The codestream."""

    width: int
    height: int
    bits: tuple[int, ...]
    """Of each component."""

    is_signed: bool
    colour: int
    extra: int
    """What a component beyond the colours means; 0 if there is none."""

    palette: Samples | None
    """`(colours, 3)`, of 8 bits."""

    @classmethod
    def of(cls, data: bytes) -> _Header:
        outer = b"" if data.startswith(START) else first(data, b"jp2h")
        stream = data if data.startswith(START) else first(data, b"jp2c")
        size = stream[6 : 6 + 0xFFFF]
        if len(size) < 36 or stream[:4] != START:
            raise UnreadableImageError("broken image: a JPEG 2000 without its size")
        right, bottom, left, top = struct.unpack(">4I", size[2:18])
        count = int.from_bytes(size[34:36], "big")
        kinds = [size[i : i + 3] for i in range(36, 36 + 3 * count, 3)]
        if not kinds or len(kinds[-1]) < 3 or right <= left or bottom <= top:
            raise UnreadableImageError("broken image: a JPEG 2000 of no pixels")
        bits = tuple((each[0] & 0x7F) + 1 for each in kinds)
        palette = _palette(outer)
        shown = count if palette is None else palette.shape[1]
        colour = _colour(outer, shown)
        extra = _extra(outer, shown, COLOURS[colour])
        header = cls(
            stream, right - left, bottom - top, bits, any(each[0] & 0x80 for each in kinds), colour, extra, palette
        )
        header._refuse_what_is_not_read(is_subsampled=any(each[1:] != b"\1\1" for each in kinds))
        return header

    def _refuse_what_is_not_read(self, *, is_subsampled: bool) -> None:
        deep, count = max(self.bits) > 8, len(self.bits)
        if is_subsampled and (deep or self.colour != SYCC):
            raise _unread("subsampled components")
        if self.palette is not None and (count > 1 or deep):
            raise _unread("a palette for several components, or of more than 8 bits")
        if max(self.bits) > 16 or (deep and len(set(self.bits)) > 1):
            raise _unread("components of more than 16 bits, or of different ones above 8")
        if deep and count > 1 and (self.is_signed or count == 2 or self.colour in (CMYK, SYCC)):
            raise _unread("more than 8 bits that are signed, grey with alpha, CMYK or YCC")

    def is_scaled(self) -> bool:
        """Whether Pillow decodes it, and scales components to 8 or 16 bits."""
        return max(self.bits) <= 8 or len(self.bits) == 1

    def is_plain(self) -> bool:
        """Whether Pillow has it right."""
        return set(self.bits) == {8} and self.extra in (0, ALPHA) and self.palette is None and self.colour != CMYK


def _palette(outer: bytes) -> Samples | None:
    """The colours of a palette, a row each, if there is one."""
    table, mapped = first(outer, b"pclr"), first(outer, b"cmap")
    if not table:
        return None
    count, columns = int.from_bytes(table[:2], "big"), table[2]
    values = table[3 + columns :]
    in_order = b"".join(struct.pack(">HBB", 0, 1, column) for column in range(columns))
    if set(table[3 : 3 + columns]) != {7} or mapped != in_order or len(values) < count * columns:
        raise _unread("a palette of other than 8 bits, or in another order")
    return np.frombuffer(values, np.uint8, count * columns).reshape(count, columns)


def _colour(outer: bytes, count: int) -> int:
    """Which colours the first components are, of those that are read."""
    content = first(outer, b"colr")
    if content[:1] == b"\1":
        found = int.from_bytes(content[3:7], "big")
    elif content[:1] == b"\2":
        found = PROFILES.get(content[19:23], 0)
    else:
        found = GREY if count < 3 else SRGB
    if found not in COLOURS or COLOURS[found] > count:
        raise _unread(f"colour space {found}" if found else "an unknown colour space")
    return found


def _extra(outer: bytes, count: int, colours: int) -> int:
    """What the component beyond the colours is: alpha, unless the file says something else."""
    if count > colours + 1:
        raise _unread(f"{count} components")
    table = first(outer, b"cdef")
    kinds = {}
    for at in range(2, len(table) - 5, 6):
        channel, kind, what = struct.unpack(">3H", table[at : at + 6])
        kinds[channel] = kind
        if kind == 0 and what != channel + 1:
            raise _unread("components in another order than their colours'")
    if any(kinds.get(channel, 0) for channel in range(colours)):
        raise _unread("components in another order than their colours'")
    if count == colours:
        return 0
    return kinds.get(colours, ALPHA) or UNSPECIFIED


def _unread(what: str) -> UnreadableImageError:
    return UnreadableImageError(f"a JPEG 2000 of {what} is not read")


def _draw(data: bytes, header: _Header) -> Image:
    samples = _samples(data, header)
    return in_bands(header.height, header.width, lambda rows: _rgb(samples[rows], header))


def _rgb(samples: Samples, header: _Header) -> Image:
    depths = [samples.dtype.itemsize * 8 if header.is_scaled() else bits for bits in header.bits]
    parts = [
        sixteen_bits(np.right_shift(samples[:, :, i : i + 1], depth - bits), bits)
        for i, (depth, bits) in enumerate(zip(depths, header.bits, strict=True))
    ]
    if header.palette is not None:
        # A sample beyond the last colour is of that one, as for OpenJPEG.
        chosen = np.minimum(samples[:, :, 0] >> (8 - header.bits[0]), len(header.palette) - 1)
        parts = np.split(sixteen_bits(header.palette[chosen], 8), header.palette.shape[1], axis=2)
    colour = np.concatenate(parts[: COLOURS[header.colour]], axis=2)
    if header.colour == CMYK:
        colour = without_ink(colour)
    if header.extra in (ALPHA, PREMULTIPLIED):
        colour = on_white(colour, parts[-1], premultiplied=header.extra == PREMULTIPLIED)
    return eight_bits(colour, 16)


def _samples(data: bytes, header: _Header) -> Samples:
    """`(height, width, components)`: of Pillow scaled to 8 or 16 bits, of OpenCV in their own depth."""
    if not header.is_scaled():
        import cv2

        found = cv2.imdecode(np.frombuffer(_in_new_boxes(header), np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None or found.shape != (header.height, header.width, len(header.bits)):
            raise UnreadableImageError("broken image: OpenCV cannot decode this JPEG 2000")
        cv2.cvtColor(found, cv2.COLOR_BGR2RGB if len(header.bits) == 3 else cv2.COLOR_BGRA2RGBA, found)
        return found  # type: ignore[return-value]
    # Of the bare codestream, since by its boxes Pillow takes 9 bits for 8.
    picture = Jpeg2KImageFile(io.BytesIO(header.stream if len(header.bits) == 1 else data))
    return np.asarray(picture).reshape(picture.height, picture.width, -1)


def _in_new_boxes(header: _Header) -> bytes:
    """The codestream as a JP2 file in sRGB, since OpenCV complains of colour spaces that it does not know."""
    size = struct.pack(">IIHBBBB", header.height, header.width, len(header.bits), header.bits[0] - 1, 7, 0, 0)
    colour = struct.pack(">BBBI", 1, 0, 0, SRGB)
    inner = _box(b"ihdr", size) + _box(b"colr", colour)
    start = _box(b"jP  ", b"\r\n\x87\n") + _box(b"ftyp", b"jp2 " + bytes(4) + b"jp2 ")
    return start + _box(b"jp2h", inner) + _box(b"jp2c", header.stream)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
