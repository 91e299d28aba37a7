"""Decodes image files to RGB: one policy for every extractor.

These rules are part of every space (`kinds.extractor.DECODING_VERSION`):

* the format is one of `FORMATS`, or one that a plugin adds (`kinds.Decoder`), judged by content, not by name;
* EXIF orientation is applied; embedded colour profiles, like all else beside the pixels, are ignored;
* grey and palette become RGB, CMYK is converted, 1 to 16 bits become 8 (of more, the high ones);
* transparency is composited on white; of several frames the first is taken, of a TIFF's pages no thumbnail;
* JPEG may be decoded at 1/2, 1/4 or 1/8, never below the side that the extractor asks for;
* what would need more memory than `MAX_MEMORY`, according to its header, is refused without decoding.
"""

from __future__ import annotations

import functools
import re
import threading
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
from imgrec.images import containers, formats, jpeg, libtiff, metadata, warned
from imgrec.images.metadata import Metadata
from imgrec.images.reasons import DECODER, NEEDS, UNKNOWN, UnreadableImageError

LOADING = threading.Lock()
"""Held while Pillow is imported: other threads can have a module a moment before its package has its name."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA")
"""The formats that Pillow may read, in this order. Of the thirty others, EPS files are programs that it runs."""

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

    about: Metadata = Metadata()

    cost: int = 0
    """Bytes that decoding takes, the file's apart; for a JPEG see `memory`."""

    reduces: bool = False
    """Whether it can be decoded at a fraction of its size."""

    @classmethod
    def of(cls, data: bytes) -> Encoded:
        """Read the header of an image file.

        Raises:
            UnreadableImageError: with the reason.
        """
        if not data:
            raise UnreadableImageError("empty file")
        container = containers.of(data)
        decoder = _decoder(data)
        with _reasons(), _opened(data, container, decoder) as picture:
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
            about = _metadata(picture, container, decoder)
            upright = about.size(picture.width, picture.height)
            cost = _BYTES_A_PIXEL.get(name, _BYTES_A_PIXEL_ELSE) * width * height
            cost = getattr(picture, "cost", cost)
            reduces = name == "JPEG" or getattr(picture, "reduces", False)
            bands = len(picture.getbands())
            return cls(data, name, width, height, bands, scans > 1, upright, about, cost, reduces)

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
        return 2 * len(self.data) + self.cost  # the file, and what a decoder sees of it

    def _reduction(self, side: int | None) -> int:
        return reduction(min(self.width, self.height), side) if self.reduces else 1

    def _decode(self, reduction: int) -> Image:
        return metadata.upright(self._stored(reduction), self.about.orientation)

    def _stored(self, reduction: int) -> Image:
        """The image before it is turned."""
        with _reasons():
            containers.check(self.data)
            if self.format == "JPEG":
                size = self.width, self.height
                return jpeg.decode(self.data, *size, reduction, lambda: containers.of(self.data).open())
            with _opened(self.data, containers.of(self.data), _decoder(self.data)) as picture:
                if self.reduces:
                    picture.draft(None, (-(-self.width // reduction), -(-self.height // reduction)))
                return _to_rgb(picture)


def _metadata(
    picture: PIL.Image.Image, container: containers.Container, decoder: type[Decoder] | None
) -> Metadata:
    """A picture's metadata: its container's own, or what a decoder that knows the format hands on."""
    own = metadata.of(container.exif, picture.info.get("page"))
    given = metadata.of([picture.info.get("exif") or b""])
    turned = given if "exif" in picture.info else own
    turns = decoder.turns if decoder else container.turns or turned is given
    return Metadata(turned.orientation if turns else 1, own.taken or given.taken)


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
    """Turn whatever a decoder raises into an UnreadableImageError; libtiff's reason is a complaint."""
    with LOADING:
        import PIL.Image

    libtiff.hear()
    with warned.heard() as complaints:
        try:
            yield
        except PIL.Image.DecompressionBombError as error:
            raise UnreadableImageError(f"too large: {error}") from None
        except UnreadableImageError:
            raise
        except (Exception, SystemExit) as error:  # decoders raise anything on broken data
            message = " ".join(str(error).split()) or type(error).__name__
            if "decoder error" in message and complaints:
                message = complaints[-1]
            raise UnreadableImageError(f"broken image: {message}") from None
    for complaint in complaints:
        warned.note(complaint)


def _extent(picture: PIL.Image.Image) -> tuple[int, int]:
    """Width and height of what must be decoded: a TIFF's tile may be larger than the picture."""
    tags = getattr(picture, "tag_v2", {})
    return max(picture.width, int(tags.get(_TILE_WIDTH, 0))), max(picture.height, int(tags.get(_TILE_LENGTH, 0)))


_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF 6.0, section 15


def _decoder(data: bytes) -> type[Decoder] | None:
    """The decoder of a plugin that recognises a file."""
    return registry.recognising(decoders(), data)


def _opened(data: bytes, container: containers.Container, decoder: type[Decoder] | None) -> PIL.Image.Image:
    """Open a file with the decoder that recognises it, else with Pillow."""
    import PIL.Image

    if decoder is None:
        import PIL.JpegImagePlugin

        from imgrec.images import avif, jpeg2000, png, tiff_pixels

        if data.startswith(b"\xff\xd8\xff"):  # not by PIL.Image.open, which limits what is not yet reduced
            return PIL.JpegImagePlugin.JpegImageFile(container.open())
        own = next((each for each in (avif, jpeg2000, png, tiff_pixels) if each.recognises(data)), None)
        try:
            return own.opened(container.whole) if own else PIL.Image.open(container.open(), formats=FORMATS)
        except PIL.UnidentifiedImageError:
            raise UnreadableImageError(_why_unknown(data, container)) from None
    for library, command in decoder.missing_libraries().items():
        raise UnreadableImageError(f"{NEEDS}{library}: {command}")
    opened: object = decoder().open(data)
    if not isinstance(opened, PIL.Image.Image):
        message = f"{decoder.name} returned {type(opened).__name__}, not a PIL.Image.Image"
        raise UnreadableImageError(f"{DECODER}{message}")
    return opened


def _why_unknown(data: bytes, container: containers.Container) -> str:
    """Why Pillow opens a file with none of its readers: each but the one whose format it is keeps its reason."""
    import PIL.Image

    for name in FORMATS:
        read, accepts = PIL.Image.OPEN.get(name, (None, None))
        if read and accepts and accepts(data[:16].ljust(16, b"\0")) is True:
            try:
                read(container.open(), "")
            except Exception as error:
                return f"broken image, or of a kind that is not read: {name}: {' '.join(str(error).split())}"
    if is_ := formats.described(data):
        return f"{is_}, which is not read"
    return UNKNOWN


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


def _to_rgb(picture: PIL.Image.Image) -> Image:
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        raise UnreadableImageError("pixels of 32 bits have no known range")
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
