"""Decodes image files to RGB: one policy for every extractor.

These rules are part of every space (`kinds.extractor.DECODING_VERSION`):

* the format is one of `FORMATS`, or one that a plugin adds (`kinds.Decoder`), judged by content, not by name;
* EXIF orientation is applied; embedded colour profiles are ignored;
* grey and palette become RGB, CMYK is converted, 1 to 16 bits become 8 (of more, the high ones);
* transparency is composited on white; of several frames the first is taken, of a TIFF's pages no thumbnail;
* JPEG may be decoded at 1/2, 1/4 or 1/8, never below the side that the extractor asks for;
* what would need more memory than `MAX_MEMORY`, according to its header, is refused without decoding.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imgrec import registry
from imgrec.kinds import Decoder, Image

if TYPE_CHECKING:
    import PIL.Image
from imgrec.images import metadata
from imgrec.images.reasons import DECODER, NEEDS, UNKNOWN, UnreadableImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA")
"""The formats that Pillow may read, in this order. Of the thirty others, EPS files are programs that it runs."""

SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .svg .tga "
    ".tif .tiff .webp".split()
)
"""The suffixes of image files in folders, besides those that decoders add (`image_suffixes`)."""

MAX_PIXELS = 2 * 89_478_485
"""Larger images, after a JPEG's reduction, are refused as decompression bombs: Pillow's own limit."""

MAX_MEMORY = 840_000_000
"""Images that need more bytes for decoding, their file included, are refused."""

MAX_SCANS = 100
"""A JPEG of more scans is refused: each is a pass over the whole picture. 1 to 12 are usual."""


@functools.cache
def decoders() -> list[type[Decoder]]:
    """The decoders of plugins."""
    return list(registry.classes(Decoder).values())


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of image files in folders; a file that is named itself may have any."""
    return SUFFIXES.union(*(decoder.suffixes for decoder in decoders()))


def decode(data: bytes, side: int | None = None) -> Image:
    """The image in a file's bytes: `uint8 (height, width, 3)`, RGB, upright.

    Args:
        data: the file's bytes.
        side: the shorter side in pixels that is enough, or None for full size. The fraction that is decoded
            depends on this and the image's size only.

    Raises:
        UnreadableImageError: with the reason.
    """
    return Encoded.of(data).decode([side])[side]


@dataclass(frozen=True)
class Encoded:
    """An image file's bytes, and what its header says."""

    data: bytes
    format: str
    width: int
    """Of what is decoded, in pixels: before rotation, and whole tiles if the file is tiled."""

    height: int
    channels: int
    keeps_coefficients: bool = False
    """Whether it is a JPEG of several scans, held in memory as a whole at any fraction."""

    upright: tuple[int, int] = (0, 0)
    """Width and height of the upright image, in pixels."""

    taken: str | None = None
    """As in `Record`."""

    cost: int = 0
    """Bytes that decoding takes, the file's apart; for a JPEG see `memory`."""

    @classmethod
    def of(cls, data: bytes) -> Encoded:
        """Read the header of an image file.

        Raises:
            UnreadableImageError: with the reason.
        """
        if not data:
            raise UnreadableImageError("empty file")
        with _reasons(), _opened(data) as picture:
            width, height = _extent(picture)
            name, scans = picture.format or "", 0
            if name == "JPEG":
                scans = _scans(data)
                # At the least, Huffman's code takes a bit for each block of 64 pixels.
                if MAX_PIXELS < width * height > 512 * len(data):
                    raise UnreadableImageError(f"too large: {width} x {height} pixels of {len(data):,} bytes")
            elif width * height > MAX_PIXELS:
                raise UnreadableImageError(f"too large: {width} x {height} pixels")
            if scans > MAX_SCANS:
                raise UnreadableImageError(f"too large: a JPEG of {scans} scans, more than {MAX_SCANS}")
            about = metadata.of(picture)
            size = _stored_size(picture)
            upright = size[::-1] if about.is_turned else size
            cost = _BYTES_A_PIXEL.get(name, _BYTES_A_PIXEL_ELSE) * width * height
            cost = getattr(picture, "cost", cost)
            return cls(data, name, width, height, len(picture.getbands()), scans > 1, upright, about.taken, cost)

    def decode(self, sides: Collection[int | None]) -> dict[int | None, Image]:
        """The image for each side (see `decode`); sides that lead to the same size share an array.

        Raises:
            UnreadableImageError: with the reason.
        """
        if (needed := self.memory(sides)) > MAX_MEMORY:
            message = f"{self.width} x {self.height} pixels, which take {needed:,} bytes to decode"
            raise UnreadableImageError(f"too large: {message}")
        reductions = {side: self._reduction(side) for side in sides}
        if any(self.width * self.height > MAX_PIXELS * factor**2 for factor in reductions.values()):
            raise UnreadableImageError(f"too large: {self.width} x {self.height} pixels")
        images = {reduction: self._decode(reduction) for reduction in set(reductions.values())}
        return {side: images[reduction] for side, reduction in reductions.items()}

    def memory(self, sides: Collection[int | None]) -> int:
        """An upper estimate of the peak memory of decoding for some sides, in bytes, the file included."""
        if not sides:
            return len(self.data)
        pixels = self.width * self.height
        if self.format == "JPEG":
            coefficients = 2 * self.channels * pixels if self.keeps_coefficients else 0
            made = [pixels // reduction**2 for reduction in {self._reduction(side) for side in sides}]
            return len(self.data) + coefficients + 3 * sum(made) + 4 * max(made)
        return len(self.data) + self.cost

    def _reduction(self, side: int | None) -> int:
        return reduction(min(self.width, self.height), side) if self.format == "JPEG" else 1

    def _decode(self, reduction: int) -> Image:
        with _reasons():
            image = _decode_jpeg(self.data, reduction) if self.format == "JPEG" else None
            if image is not None:
                return image
            with _opened(self.data) as picture:
                picture.draft(None, (-(-self.width // reduction), -(-self.height // reduction)))
                return _to_rgb(picture)


_BYTES_A_PIXEL = {
    **dict.fromkeys(("PNG", "GIF", "BMP", "DIB", "PPM", "TGA"), 8),
    "TIFF": 10,
    "AVIF": 14,
    "WEBP": 17,
    "JPEG2000": 25,
}
"""Bytes a pixel while decoding, measured: Pillow's 4, the result's 3, and the format's buffers."""

_BYTES_A_PIXEL_ELSE = 12
"""For formats of plugins; HEIC takes 9."""


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever a decoder raises into an UnreadableImageError."""
    import PIL.Image

    try:
        yield
    except PIL.UnidentifiedImageError:
        raise UnreadableImageError(UNKNOWN) from None
    except PIL.Image.DecompressionBombError as error:
        raise UnreadableImageError(f"too large: {error}") from None
    except UnreadableImageError:
        raise
    except (Exception, SystemExit) as error:  # decoders raise anything on broken data
        message = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"broken image: {message}") from None


def _extent(picture: PIL.Image.Image) -> tuple[int, int]:
    """Width and height of what must be decoded: a TIFF's tile may be larger than the picture."""
    tags = getattr(picture, "tag_v2", {})
    return max(picture.width, int(tags.get(_TILE_WIDTH, 0))), max(picture.height, int(tags.get(_TILE_LENGTH, 0)))


def _stored_size(picture: PIL.Image.Image) -> tuple[int, int]:
    """Width and height before rotation; for a TIFF, Pillow's own are those after it."""
    tags = getattr(picture, "tag_v2", {})
    return int(tags.get(_WIDTH, picture.width)), int(tags.get(_LENGTH, picture.height))


_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323  # TIFF 6.0, sections 8 and 15


def _opened(data: bytes) -> PIL.Image.Image:
    """Open a file with the decoder that recognises it, else with Pillow."""
    import PIL.Image

    decoder = registry.recognising(decoders(), data[:64])
    if decoder is None:
        import PIL.JpegImagePlugin

        from imgrec.images import avif, jpeg2000, png, tiff_pixels

        if data.startswith(b"\xff\xd8\xff"):  # not by PIL.Image.open, which limits what is not yet reduced
            return PIL.JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        own = next((each for each in (avif, jpeg2000, png, tiff_pixels) if each.recognises(data)), None)
        return own.opened(data) if own else PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    for library, command in decoder.missing_libraries().items():
        raise UnreadableImageError(f"{NEEDS}{library}: {command}")
    opened: object = decoder().open(data)
    if not isinstance(opened, PIL.Image.Image):
        message = f"{decoder.name} returned {type(opened).__name__}, not a PIL.Image.Image"
        raise UnreadableImageError(f"{DECODER}{message}")
    return opened


def reduction(shorter: int, side: int | None) -> int:
    """The factor by which a JPEG is reduced while decoding: 1, 2, 4 or 8."""
    return next((factor for factor in (8, 4, 2) if side and shorter >= factor * side), 1)


_MARKER = re.compile(rb"\xff+([^\xff\x00\xd0-\xd7])")

_SCAN, _END, _WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_SEQUENTIAL = (0xC0, 0xC1, 0xC9)


def _scans(jpeg: bytes) -> int:
    """How many scans of a JPEG a decoder goes through (ITU-T T.81, annex B)."""
    position, scans, frame, components = 2, 0, 0, 0
    while found := _MARKER.search(jpeg, position):
        kind, position = found[1][0], found.end()
        if kind == _END:
            break
        if kind in _WITHOUT_LENGTH:
            continue
        segment = jpeg[position : position + 8]
        if kind in _FRAMES and not frame and len(segment) == 8:
            frame, components = kind, segment[7]
        if kind == _SCAN:
            scans += 1
            if frame in _SEQUENTIAL and segment[2:3] == bytes([components]):
                break  # this scan holds the whole picture; decoders read no other
        position += int.from_bytes(segment[:2], "big")
    return scans


def _decode_jpeg(data: bytes, reduction: int) -> Image | None:
    """Decode with OpenCV, half as fast again as Pillow; None if it fails, so that Pillow reads it or says why."""
    import cv2

    # REDUCED_GRAYSCALE_n is the bare reduction; together with COLOR_RGB it is "reduced, in RGB".
    flags = cv2.IMREAD_COLOR_RGB
    if reduction > 1:
        flags |= getattr(cv2, f"IMREAD_REDUCED_GRAYSCALE_{reduction}")
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)  # type: ignore[return-value]
    except cv2.error:
        return None


def _to_rgb(picture: PIL.Image.Image) -> Image:
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        raise UnreadableImageError("pixels of 32 bits have no known range")
    import PIL.ImageOps

    PIL.ImageOps.exif_transpose(picture, in_place=True)
    picture.load()
    image = np.empty((picture.height, picture.width, 3), np.uint8)
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):  # in bands, to save memory
        bottom = min(top + rows, picture.height)
        band = picture if rows >= picture.height else picture.crop((0, top, picture.width, bottom))
        image[top:bottom] = _band_to_rgb(band)
    return image


_BAND = 2**20
"""Pixels converted at a time."""


def _band_to_rgb(band: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """`(height, width, 3)`, or `(height, width, 1)` for 16-bit grey."""
    if band.mode.startswith("I"):  # 16 bits, stored in 32 by some versions of Pillow
        return (np.asarray(band) >> 8).astype(np.uint8)[:, :, None]
    if band.has_transparency_data:
        import PIL.Image

        layer = band.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, "white")
        band = PIL.Image.alpha_composite(white, layer)
    return np.asarray(band.convert("RGB"))
