"""Takes out of an image file what does not make its pixels: EXIF, text, profiles, unknown tags.

Decoders see the rest. So no damage beside the pixels costs a picture, and nothing but `metadata` reads EXIF.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from imgrec.images import tiff, warned
from imgrec.images.boxes import spans


@dataclass(frozen=True)
class Container:
    """An image file without its metadata."""

    parts: Sequence[bytes | memoryview]
    """The file that a decoder is to see, in parts that share the original's memory."""

    exif: list[bytes | memoryview] = field(default_factory=list)
    """What may be EXIF: TIFF structures, perhaps behind the word `Exif`."""

    turns: bool = True
    """Whether EXIF tells how the picture is stored; in AVIF a property of the picture does, which Pillow reads."""

    @property
    def whole(self) -> bytes:
        """The file in one piece."""
        first = self.parts[0]
        return first if len(self.parts) == 1 and isinstance(first, bytes) else b"".join(self.parts)

    def open(self) -> BinaryIO:
        """The file, to be read."""
        if len(self.parts) == 1 and isinstance(self.parts[0], bytes):
            return io.BytesIO(self.parts[0])
        if sum(map(len, self.parts)) <= _SMALL:
            return io.BytesIO(b"".join(self.parts))
        return io.BufferedReader(_Joined(self.parts))


_SMALL = 1 << 20
"""Bytes that are copied sooner than read in parts."""


def of(data: bytes) -> Container:
    """Tell a file's pixels from its metadata; formats without any, and unknown ones, are left as they are."""
    readers: dict[bytes, Callable[[bytes], Container]] = {
        b"\xff\xd8\xff": _jpeg,
        b"\x89PNG\r\n\x1a\n": _png,
        b"RIFF": _webp,
        **dict.fromkeys(tiff.MAGIC, _tiff),
    }
    reader = next((reader for magic, reader in readers.items() if data.startswith(magic)), None)
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        reader = _avif
    with contextlib.suppress(IndexError):  # cut where a number should be
        return reader(data) if reader else Container([data])
    return Container([data])


class _Joined(io.RawIOBase):
    """Bytes in several parts, read as one file."""

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._starts = [0, *itertools.accumulate(map(len, self._parts))]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._starts[-1])[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        done = 0
        i = bisect.bisect_right(self._starts, self._at) - 1
        while done < len(buffer) and i < len(self._parts):
            start = self._at - self._starts[i]
            some = self._parts[i][start : start + len(buffer) - done]
            buffer[done : done + len(some)] = some
            done += len(some)
            self._at += len(some)
            i += 1
        return done


# --- JPEG: ITU-T T.81, annex B ---------------------------------------------------------------------------------

_APPLICATION = frozenset(range(0xE1, 0xF0)) - {0xEE}
"""Segments of applications, but for JFIF's and Adobe's, which tell what colours are."""

_COMMENT, _START_OF_SCAN = 0xFE, 0xDA


def _jpeg(data: bytes) -> Container:
    view, parts, exif, at = memoryview(data), [], list[bytes | memoryview](), 2
    kept = 0  # where what is not yet in `parts` begins
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        kind = data[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == _START_OF_SCAN or not 0xC0 <= kind <= 0xFE:
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind in _APPLICATION or kind == _COMMENT:
            if kind == 0xE1 and data[at + 4 : at + 8] == b"Exif":
                exif.append(view[at + 4 : end])
            parts.append(view[kept:at])
            kept = end
        at = end
    return Container([*parts, view[kept:]], exif) if parts else Container([data])


# --- PNG: ISO/IEC 15948 ----------------------------------------------------------------------------------------

_RAW_PROFILE = b"Raw profile type exif\0"
"""The keyword of the text in which ImageMagick kept EXIF before there was a chunk for it."""

_MOST_TEXT = 1 << 20


def check(data: bytes) -> None:
    """Warn of chunks of pixels with a wrong checksum, which Pillow does not look at; `tRNS` is left out anyway."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        wrong = {kind for kind, at, end in _chunks(data) if not kind[0] & 0x20 and not _is_whole(data, at, end)}
        for kind in sorted(wrong):
            warned.note(f"wrong checksum of {kind.decode(errors='replace')}")


def _is_whole(data: bytes, at: int, end: int) -> bool:
    return zlib.crc32(memoryview(data)[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, and where it begins and ends."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at, end
        at = end


def _png(data: bytes) -> Container:
    view, end = memoryview(data), 8
    parts, exif = [view[:8]], list[bytes | memoryview]()
    for kind, at, end in _chunks(data):
        if kind[0] & 0x20:  # ancillary: a picture is whole without it
            body = view[at + 8 : end - 4]
            if kind == b"eXIf":
                exif.append(body)
            elif kind in (b"zTXt", b"tEXt") and bytes(body[:22]) == _RAW_PROFILE:
                exif.append(_raw_profile(bytes(body[22:]), is_packed=kind == b"zTXt"))
            elif kind == b"tRNS":
                if _is_whole(data, at, end):
                    parts.append(view[at:end])
                else:
                    warned.note("transparency with a wrong checksum is ignored")
        else:
            parts.append(view[at:end])
    return Container([*parts, view[end:]], exif)


def _raw_profile(text: bytes, *, is_packed: bool) -> bytes:
    """EXIF from text: a line with its name, one with its length, then hexadecimal digits."""
    try:
        if is_packed:
            text = zlib.decompressobj().decompress(text[1:], _MOST_TEXT)
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii", "replace"))
    except (ValueError, zlib.error):
        return b""


# --- WebP: RFC 9649 --------------------------------------------------------------------------------------------

_WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")

_WEBP_FLAGS = 0x20 | 0x08 | 0x04
"""That there are a profile, EXIF, XMP."""


def _webp(data: bytes) -> Container:
    view, at, length = memoryview(data), 12, 4
    parts, exif = list[bytes | memoryview](), list[bytes | memoryview]()
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        following = at + 8 + size + size % 2
        if kind == b"EXIF":
            exif.append(view[at + 8 : at + 8 + size])
        if kind in _WEBP_PIXELS:
            body: bytes | memoryview = view[at:following]
            if kind == b"VP8X" and len(body) > 8:
                body = b"".join([body[:8], bytes([body[8] & ~_WEBP_FLAGS]), body[9:]])
            parts.append(body)
            length += following - at  # also of one that is cut, or it might pass for whole
        at = following
    return Container([data[:4], min(length, 2**32 - 1).to_bytes(4, "little"), data[8:12], *parts], exif)


# --- AVIF: ISO/IEC 14496-12, 8.11 ------------------------------------------------------------------------------

_META = (b"Exif", b"mime")
"""Types of items that are EXIF and XMP."""


def _avif(data: bytes) -> Container:
    """Items of metadata get a type that no decoder knows."""
    view = memoryview(data)
    parts, exif, kept = list[bytes | memoryview](), list[bytes | memoryview](), 0
    boxes = {kind: (start, end) for kind, start, end in spans(data, *_inside(data, b"meta"))}
    first, last = boxes.get(b"iinf", (0, 0))
    first += 6 if data[first : first + 1] == b"\0" else 8  # its count of items
    for kind, start, end in spans(data, first, last):
        number = 2 if data[start] < 3 else 4  # bytes
        at = start + 4 + number + 2
        if kind == b"infe" and data[at : at + 4] in _META and at + 4 <= end:
            parts += [view[kept:at], b"skip"]
            kept = at + 4
            if data[at : at + 4] == b"Exif":
                item = int.from_bytes(data[start + 4 : start + 4 + number], "big")
                exif.append(_item(data, boxes.get(b"iloc", (0, 0)), item))
    return Container([*parts, view[kept:]], exif, turns=False)


def _inside(data: bytes, wanted: bytes) -> tuple[int, int]:
    """Where the boxes inside a full box of the file begin and end."""
    return next(((start + 4, end) for kind, start, end in spans(data) if kind == wanted), (0, 0))


def _item(data: bytes, iloc: tuple[int, int], wanted: int) -> memoryview:
    """The content of an item that lies in one piece in the file; empty if it does not."""
    at, end = iloc
    version, sizes, base_size = data[at], data[at + 4], data[at + 5] >> 4
    at += 6
    number = 2 if version < 2 else 4
    count, at = int.from_bytes(data[at : at + number], "big"), at + number
    for _ in range(count):
        if at >= end:
            break
        item, at = int.from_bytes(data[at : at + number], "big"), at + number
        method = data[at + 1] & 15 if version else 0
        at += (2 if version else 0) + 2
        base, at = int.from_bytes(data[at : at + base_size], "big"), at + base_size
        extents, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        index = data[iloc[0] + 5] & 15 if version else 0
        width = index + (sizes >> 4) + (sizes & 15)
        if item == wanted and method == 0 and extents == 1:
            offset = base + int.from_bytes(data[at + index : at + index + (sizes >> 4)], "big")
            length = int.from_bytes(data[at + index + (sizes >> 4) : at + width], "big")
            return memoryview(data)[offset : offset + length]
        at += extents * width
    return memoryview(b"")


# --- TIFF 6.0, and BigTIFF -------------------------------------------------------------------------------------

_TIFF_PIXELS = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 317, 320),
        *(322, 323, 324, 325, 330, 332, 334, 336, 338, 339, 340, 341, 347, 529, 530, 531, 532),
        *(*range(512, 522), 32995, 32996, 32997, 50674, 50675, 50706, 50707),
    )
)
"""The tags without which pixels may be other ones."""


def _tiff(data: bytes) -> Container:
    """Each directory gets shorter: the tags left out may be damaged, or turn a picture that imgrec turns."""
    view, parts, kept = memoryview(data), list[bytes | memoryview](), 0
    for page in sorted(tiff.directories(data), key=lambda page: page.start):
        few = [each for each in page.entries if int.from_bytes(each[:2], page.order) in _TIFF_PIXELS]
        width = 8 if page.is_big else 4
        count = len(few).to_bytes(8 if page.is_big else 2, page.order)
        shorter = b"".join([count, *few, data[page.link : page.link + width]])
        if page.start < kept or page.link + width > len(data):  # one inside another, or cut
            return Container([data])
        parts += [view[kept : page.start], shorter]
        kept = page.start + len(shorter)
    return Container([*parts, view[kept:]], [view])
