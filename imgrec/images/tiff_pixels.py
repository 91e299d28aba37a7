"""TIFF and BigTIFF (TIFF 6.0; its technical notes 1 and 2): pages, samples of 1 to 16 bits, strips and tiles.

Pillow knows some combinations of the tags, misreads others (planes of 16 bits, 0 as white at 16 bits, 12 bits),
and takes a thumbnail for the picture if it comes first. So strips and tiles are inflated by Pillow's libtiff, as
bytes, and what these mean is worked out here. Codings of other things (fax, JPEG) are left to Pillow.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import PIL.Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from imgrec.images.metadata import ORIENTATION
from imgrec.images.reasons import UnreadableImageError
from imgrec.images.samples import COST, Samples, drawn, eight_bits, on_white, sixteen_bits, without_ink
from imgrec.kinds import Image

(NEW_SUBFILE, SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER) = (
    254, 255, 256, 257, 258, 259, 262, 266,
)  # fmt: skip
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, SUB_IFDS = 320, 322, 323, 324, 325, 330
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, COEFFICIENTS, SUBSAMPLING, BLACK_WHITE = 332, 338, 339, 529, 530, 532

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
"""Channels of each photometric interpretation that is read."""

OTHER_PHOTOMETRICS = {
    4: "a mask",
    **dict.fromkeys((8, 9, 10), "CIE L*a*b*"),
    **dict.fromkeys((32803, 34892), "a sensor's raw data"),
    **dict.fromkeys((32844, 32845), "logarithms of light"),
}

NONE, LZW, DEFLATE, PACKBITS = 1, 5, (8, 32946), 32773
OF_BYTES = (NONE, LZW, *DEFLATE, PACKBITS, 34925, 50000)
"""Compressions of bytes, whatever these mean: none, LZW, Deflate, PackBits, LZMA, Zstandard."""

FAX, JPEG = (2, 3, 4, 32771), (6, 7)

ASSOCIATED, UNASSOCIATED = (1,), (2, 999)  # 999 is Corel Draw's

REDUCED, MASK = 1, 4  # bits of NewSubfileType

MAX_PAGES = 1000
"""Pages that are looked at for the first that is no thumbnail."""

_BAND = 2**20
"""Samples converted, and bytes inflated, at a time."""


def recognises(data: bytes) -> bool:
    """Whether it is a TIFF or BigTIFF; Pillow reads two wrong headers, too."""
    return data[:4] in (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+")


def opened(data: bytes) -> PIL.Image.Image:
    """The first page that is neither a thumbnail nor a mask, else the first page, as stored.

    Raises:
        UnreadableImageError: what it holds is not read, or it is broken.
    """
    data, tags = _main_page(data)
    page = _Page.of(data, tags)
    draw = page.draw if page.compression in OF_BYTES else page.draw_by_pillow
    picture = drawn((page.width, page.height), draw, page.cost())
    picture.info["page"] = tags.offset
    return picture


def _is_big(data: bytes) -> bool:
    return 43 in data[2:4]


# --- pages --------------------------------------------------------------------------------------------------


def _main_page(data: bytes) -> tuple[bytes, ImageFileDirectory_v2]:
    """A file whose first page is the main one, and that page's tags."""
    first = None
    for offset, tags in _pages(data):
        first = first or tags
        subfile = _number(tags, NEW_SUBFILE, REDUCED if _number(tags, SUBFILE, 1) == 2 else 0)
        if not subfile & (REDUCED | MASK):
            if first is tags:
                break
            at, form = (8, "Q") if _is_big(data) else (4, "I")
            order = "<" if data[:2] == b"II" else ">"
            return data[:at] + struct.pack(order + form, offset) + data[at + struct.calcsize(form) :], tags
    if first is None:
        raise UnreadableImageError("broken image: a TIFF without a page")
    return data, first


def _pages(data: bytes) -> Iterator[tuple[int, ImageFileDirectory_v2]]:
    """The pages of a file, each with its sub-pages behind it."""
    file = io.BytesIO(data)
    coming, seen = [_directory(data).next], set[int]()
    while coming:
        offset = coming.pop(0)
        if not 0 < offset < len(data) or offset in seen or len(seen) == MAX_PAGES:
            continue
        seen.add(offset)
        file.seek(offset)
        tags = _directory(data)
        tags.load(file)
        if WIDTH in tags:
            yield offset, tags
        coming = [*_numbers(tags, SUB_IFDS), *coming, tags.next]


def _directory(data: bytes) -> ImageFileDirectory_v2:
    """A directory to be loaded; where the first one is, is its `next`."""
    # Pillow takes a BigTIFF as such by the third byte only, which in a big-endian one is 0.
    header = b"II+\0" + data[4:16] if _is_big(data) else data[:8]
    return ImageFileDirectory_v2(header, data[:2])


def _numbers(tags: ImageFileDirectory_v2, tag: int, default: Sequence[int] = ()) -> tuple[int, ...]:
    found: Any = tags.get(tag, default)
    return tuple(int(each) for each in (found if isinstance(found, tuple | list) else (found,)))


def _number(tags: ImageFileDirectory_v2, tag: int, default: int) -> int:
    return next(iter(_numbers(tags, tag)), default)


# --- one page -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    """What the tags of a page say of its samples."""

    data: bytes
    tags: ImageFileDirectory_v2
    width: int
    height: int
    bits: int
    photometric: int
    compression: int
    samples: int
    """A pixel, whatever they mean."""

    planes: int
    """1, or one for each sample."""

    alpha: int | None
    """Which of the samples."""

    premultiplied: bool

    @classmethod
    def of(cls, data: bytes, tags: ImageFileDirectory_v2) -> _Page:
        width, height = _number(tags, WIDTH, 0), _number(tags, LENGTH, 0)
        compression, samples = _number(tags, COMPRESSION, NONE), _number(tags, SAMPLES, 1)
        if min(width, height, samples) < 1:
            raise UnreadableImageError("broken image: a TIFF of no pixels")
        bits = _depth(tags)
        # A missing photometric interpretation is taken as libtiff takes it.
        usual = WHITE_IS_ZERO if compression in FAX else RGB if samples >= 3 else BLACK_IS_ZERO
        photometric = _number(tags, PHOTOMETRIC, usual)
        if photometric not in COLOURS:
            what = OTHER_PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
            raise _unread(what)
        if samples < COLOURS[photometric]:
            raise UnreadableImageError(f"broken image: a TIFF of {samples} samples a pixel, which are too few")
        others = samples - COLOURS[photometric]
        # Without a word on what the fourth is, it is taken as alpha, as by Pillow and most others.
        extra = _numbers(tags, EXTRA_SAMPLES, [2] if photometric == RGB and others == 1 else [])[:others]
        known = [i for i, each in enumerate(extra) if each in ASSOCIATED + UNASSOCIATED]
        alpha = COLOURS[photometric] + known[0] if known else None
        premultiplied = bool(known) and extra[known[0]] in ASSOCIATED
        planes = samples if _number(tags, PLANAR, 1) == 2 else 1
        if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and others > len(extra):
            raise _unread(f"{samples} samples a pixel, of which none is named")
        page = cls(
            data, tags, width, height, bits, photometric, compression, samples, planes, alpha, premultiplied
        )
        page._refuse_what_is_not_read()
        return page

    def _refuse_what_is_not_read(self) -> None:
        """Refuse combinations of tags that have no meaning, or none that can be worked out here."""
        tags = self.tags
        if self.premultiplied and self.photometric not in (BLACK_IS_ZERO, RGB):
            raise _unread("associated alpha beside anything but RGB or grey with 0 as black")
        if self.photometric == CMYK and _number(tags, INK_SET, 1) != 1:
            raise _unread("inks other than CMYK")
        if self.compression not in OF_BYTES:
            self._refuse_unless_pillow_is_right()
        elif self.photometric == YCBCR:
            usual = not {COEFFICIENTS, BLACK_WHITE} & tags.keys()
            if self.bits != 8 or _numbers(tags, SUBSAMPLING, [2, 2]) != (1, 1) or not usual:
                raise _unread("YCbCr, unless in JPEG, or 8 bits without subsampling")
        if self._predictor() and (self._predictor() != 2 or self.bits not in (8, 16)):
            raise _unread(f"predictor {self._predictor()} at {self.bits} bits")

    def _refuse_unless_pillow_is_right(self) -> None:
        if self.data.startswith(b"MM\0+"):
            raise _unread("64-bit big-endian offsets and samples coded by fax or JPEG")
        if self.compression in FAX:
            if (self.bits, self.samples) != (1, 1) or self.photometric > BLACK_IS_ZERO:
                raise _unread("fax-coded pages of more than one bit a pixel")
        elif self.compression not in JPEG:
            raise _unread(f"compression {self.compression}")
        elif self.photometric == PALETTE:
            raise _unread("a JPEG-coded palette")
        elif self.bits != 8 or self.samples != COLOURS[self.photometric] or self.planes > 1:
            raise _unread("JPEG-coded samples other than 8 bits of grey, RGB, CMYK or YCbCr in one plane")

    def _predictor(self) -> int:
        """How samples are predicted from their neighbours, 0 if they are not."""
        found = _number(self.tags, PREDICTOR, 1)
        is_used = self.compression in OF_BYTES and self.compression not in (NONE, PACKBITS)
        return found if found != 1 and is_used else 0

    def _segment(self) -> tuple[int, int, bool]:
        """Width and height of a strip or tile, and whether it is a tile."""
        tile = _number(self.tags, TILE_WIDTH, 0), _number(self.tags, TILE_LENGTH, 0)
        if min(tile) > 0:
            return *tile, True
        return self.width, min(max(_number(self.tags, ROWS_PER_STRIP, self.height), 1), self.height), False

    def _row_bytes(self, width: int) -> int:
        return (width * (self.samples // self.planes) * self.bits + 7) // 8

    def cost(self) -> int:
        """An upper estimate of the memory that drawing takes, in bytes."""
        width, height, _ = self._segment()
        pixels = self.width * self.height
        if self.compression not in OF_BYTES:
            return 14 * pixels + len(self.data)
        inflated = 0 if self._is_plain() else self._row_bytes(width) * height * self.planes
        # Inflated bytes are held by libtiff and by Pillow, the compressed ones by a file made of them.
        return max(COST * pixels, 3 * pixels + 2 * inflated + (len(self.data) if inflated else 0)) + 32 * _BAND

    def _is_plain(self) -> bool:
        return self.compression == NONE and _number(self.tags, FILL_ORDER, 1) == 1

    def draw_by_pillow(self) -> Image:
        """The pixels of a page whose compressed bytes are no samples."""
        unturned, (start, size) = bytearray(self.data), (8, 20) if _is_big(self.data) else (2, 12)
        order: Any = "little" if self.tags.prefix == b"II" else "big"
        first = self.tags.offset + start
        count = int.from_bytes(unturned[self.tags.offset : first], order)
        for entry in range(first, min(first + size * count, len(unturned)), size):
            if int.from_bytes(unturned[entry : entry + 2], order) == ORIENTATION:
                unturned[entry : entry + 2] = (0xFFFF).to_bytes(2, order)  # a tag that Pillow does not know
        return np.asarray(TiffImageFile(io.BytesIO(unturned)).convert("RGB"))

    # --- samples --------------------------------------------------------------------------------------------

    def draw(self) -> Image:
        """The pixels."""
        image = np.empty((self.height, self.width, 3), np.uint8)
        for left, top, width, height, planes in self._blocks():
            step = max(1, _BAND // (width * self.samples))
            for start in range(0, min(height, self.height - top), step):
                rows = slice(start, min(start + step, height))
                samples = np.concatenate([self._unpacked(plane, rows, width) for plane in planes], axis=2)
                part = image[top + start : top + rows.stop, left : left + width]
                part[:] = self._rgb(samples[: part.shape[0], : part.shape[1]])
        return image

    def _blocks(self) -> Iterator[tuple[int, int, int, int, list[_Plane]]]:
        """Tiles, or strips in groups: left, top, width, height, and the planes' bytes."""
        width, height, is_tile = self._segment()
        across, down = -(-self.width // width), -(-self.height // height)
        offsets = _numbers(self.tags, TILE_OFFSETS if is_tile else STRIP_OFFSETS)
        counts = _numbers(self.tags, TILE_COUNTS if is_tile else STRIP_COUNTS)
        if len(offsets) < across * down * self.planes:
            raise UnreadableImageError("broken image: strips or tiles are missing")
        group = 1 if is_tile else max(1, _BAND // (self._row_bytes(width) * height))
        for first in range(0, across * down, group):
            left, top = first % across * width, first // across * height
            rows = height if is_tile else min(group * height, self.height - top)
            planes = []
            for plane in range(self.planes):
                start = plane * across * down + first
                some = range(start, start + -(-rows // height))
                found = [_slice(self.data, offsets[i], counts[i] if i < len(counts) else 0) for i in some]
                planes.append(self._inflated(found, width, rows, height))
            yield left, top, width, rows, planes

    def _inflated(self, segments: list[memoryview], width: int, rows: int, rows_each: int) -> _Plane:
        """Bytes by row, of strips that follow each other or of a tile."""
        row_bytes = self._row_bytes(width)
        if not self._is_plain():
            order = _number(self.tags, FILL_ORDER, 1)
            return _of_bytes(segments, row_bytes, rows, rows_each, self.compression, order)
        wanted = [row_bytes * min(rows_each, rows - i * rows_each) for i in range(len(segments))]
        if any(len(segment) < size for segment, size in zip(segments, wanted, strict=True)):
            raise UnreadableImageError("broken image: truncated strips or tiles")
        parts = [np.frombuffer(segment, np.uint8, size) for segment, size in zip(segments, wanted, strict=True)]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(rows, row_bytes)

    def _unpacked(self, plane: _Plane, rows: slice, width: int) -> Samples:
        """The samples of some rows of a plane."""
        if isinstance(plane, PIL.Image.Image):
            plane = np.asarray(plane.crop((0, rows.start, plane.width, rows.stop)))
        else:
            plane = plane[rows]
        shape = (len(plane), width, self.samples // self.planes)
        if self.bits in (8, 16):
            order = "<" if self.tags.prefix == b"II" else ">"
            found = np.ascontiguousarray(plane).view(f"{order}u{self.bits // 8}").reshape(shape)
        else:
            powers = (2 ** np.arange(self.bits)[::-1]).astype(np.uint16)
            each = np.unpackbits(plane, axis=1, count=shape[1] * shape[2] * self.bits)
            found = (each.reshape(*shape, self.bits) @ powers).astype(np.uint16)
        if self._predictor():
            found = np.cumsum(found, axis=1, dtype=f"u{self.bits // 8}")
        return cast("Samples", found)

    def _rgb(self, samples: Samples) -> Image:
        """`(height, width, 3)`, or `(height, width, 1)` for grey."""
        bits, colour = self.bits, samples[:, :, : COLOURS[self.photometric]]
        if self.photometric == PALETTE:
            bits, colour = 16, self._palette[samples[:, :, 0]]
        elif self.photometric == CMYK:
            bits, colour = 16, without_ink(sixteen_bits(colour, bits))
        elif self.photometric == YCBCR:
            colour = np.asarray(PIL.Image.fromarray(np.ascontiguousarray(colour), "YCbCr").convert("RGB"))
        elif self.photometric == WHITE_IS_ZERO:
            colour = 2**bits - 1 - colour
        if self.alpha is not None:
            alpha = sixteen_bits(samples[:, :, self.alpha : self.alpha + 1], self.bits)
            colour = on_white(sixteen_bits(colour, bits), alpha, premultiplied=self.premultiplied)
            bits = 16
        return eight_bits(colour, bits)

    @functools.cached_property
    def _palette(self) -> Samples:
        """`(colours, 3)`, of 16 bits."""
        values = np.array(_numbers(self.tags, COLOUR_MAP), np.uint16)
        if len(values) != 3 * 2**self.bits:
            raise UnreadableImageError("broken image: a palette of another size than its pixels' bits")
        # Some programs write 8 bits where 16 belong, which libtiff takes for what it is, too.
        return values.reshape(3, -1).T * np.uint16(1 if values.max() > 255 else 256)


_Plane = PIL.Image.Image | np.ndarray[Any, np.dtype[np.uint8]]


def _depth(tags: ImageFileDirectory_v2) -> int:
    """Bits a sample."""
    forms, depths = set(_numbers(tags, SAMPLE_FORMAT, [1])), set(_numbers(tags, BITS, [1]))
    if len(depths) > 1:
        raise _unread("samples of different depths")
    (bits,) = depths
    if bits > 16 or 3 in forms:
        raise UnreadableImageError(f"pixels of {bits} bits have no known range")
    if not forms <= {1, 4}:
        raise UnreadableImageError("signed or complex pixels have no known range")
    if bits < 1:
        raise UnreadableImageError("broken image: a TIFF of no bits")
    return bits


def _unread(what: str) -> UnreadableImageError:
    return UnreadableImageError(f"a TIFF of {what} is not read")


def _slice(data: bytes, offset: int, count: int) -> memoryview:
    """Some bytes of a file, to its end if their number is not known."""
    return memoryview(data)[offset : offset + count if count else None]


def _of_bytes(
    segments: list[memoryview], row_bytes: int, rows: int, rows_each: int, compression: int, order: int
) -> PIL.Image.Image:
    """Inflate strips: as a TIFF of one byte a pixel, which any libtiff reads as it is."""
    offsets = [8]
    for segment in segments:
        offsets.append(offsets[-1] + len(segment))
    tags = {WIDTH: [row_bytes], LENGTH: [rows], BITS: [8], SAMPLES: [1], PHOTOMETRIC: [BLACK_IS_ZERO],
            COMPRESSION: [compression], FILL_ORDER: [order], STRIP_OFFSETS: offsets[:-1],
            ROWS_PER_STRIP: [rows_each], STRIP_COUNTS: [len(each) for each in segments]}  # fmt: skip
    start = offsets[-1]
    further = start + 2 + 12 * len(tags) + 4
    entries, lists = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        entries += struct.pack("<HHI", tag, 4, len(values))
        entries += packed if len(values) == 1 else struct.pack("<I", further + len(lists))
        lists += packed if len(values) > 1 else b""
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + lists
    file = io.BytesIO(b"".join([b"II*\0", struct.pack("<I", start), *segments, directory]))
    picture = TiffImageFile(file)  # not PIL.Image.open, which would count bytes as pixels
    picture.load()
    return picture
