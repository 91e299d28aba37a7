"""Finds image files, reads them, and decodes them to RGB: one policy for every extractor.

What decoding does is part of every space (`contracts.DECODING_VERSION`):

* the format is told from the content, never from the name; plugins may add formats (`imgrec_decoders`);
* EXIF orientation is applied; embedded colour profiles are ignored;
* grey and palette become RGB, CMYK is converted, 16 bits become 8 (the high byte);
* transparency is composited on white; of several frames the first is taken;
* JPEG may be decoded at 1/2, 1/4 or 1/8, never below the side that the extractor asks for.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps

from imgrec import registry
from imgrec.contracts import Decoder, Image
from imgrec.errors import ImgrecError, UsageError

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .svg .tga "
    ".tif .tiff .webp".split()
)
"""What counts as an image file inside a folder, beside what decoders add (`suffixes`)."""

MAX_PIXELS = 2 * 89_478_485
"""Larger images are refused as decompression bombs: the limit at which Pillow itself refuses."""

MAX_BYTES = 2**29
"""Larger files are refused unread."""

NOT_OPENED = "cannot be opened"
"""How reasons begin that lie with the system, not with the file."""

NEEDS = "needs "
"""How reasons begin that lie with a library that is not installed."""

UNKNOWN = "not an image in a known format"
"""The reason for what no decoder knows, so far."""

DECODER = "decoder "
"""How reasons begin that lie with a decoder."""

warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


class UnreadableImageError(ImgrecError):
    """A file that is no image, or a broken one; the message is the reason, without the path."""


@dataclass(frozen=True)
class ImageFile:
    """A file found, not yet read."""

    path: str
    size: int
    mtime_ns: int
    problem: str | None = None
    """Why it cannot be read at all: a broken link, a device, no permission."""


def is_worth_another_try(reason: str) -> bool:
    """Whether a file that failed may be read another time although it has not changed."""
    return reason.startswith((NOT_OPENED, NEEDS, UNKNOWN, DECODER))


# --- finding ------------------------------------------------------------------------------------------------


def roots(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The folders and files of a source as absolute paths, without those that lie inside another.

    Raises:
        UsageError: there is none, or one does not exist.
    """
    given = list(source) if isinstance(source, Sequence) and not isinstance(source, str | bytes) else [source]
    if not given or not all(isinstance(each, str | os.PathLike) and os.fspath(each) for each in given):
        raise UsageError("source is empty: name a folder, a file or a list of them")
    for each in given:
        if not os.path.exists(each):
            raise UsageError(f"source {os.fspath(each)!r} does not exist")
    paths = {os.path.abspath(each) for each in given}
    # The folder of `/` is `/`.
    return sorted(path for path in paths if (up := os.path.split(path)[0]) == path or not is_inside(up, paths))


def is_inside(path: str, roots: Set[str]) -> bool:
    """Whether a path is one of the roots or lies below one; all absolute. As quick for many roots as for one.

    >>> is_inside("/photos/a.jpg", {"/photos"}), is_inside("/photos2/a.jpg", {"/photos"})
    (True, False)
    """
    while path not in roots:
        folder, _ = os.path.split(path)
        if folder == path:
            return False
        path = folder
    return True


@functools.cache
def _decoders() -> list[type[Decoder]]:
    """Of the formats that plugins add."""
    classes = [plugin.cls for plugin in registry.available(Decoder.kind).values()]
    return [cls for cls in classes if issubclass(cls, Decoder)]


@functools.cache
def suffixes() -> frozenset[str]:
    """What counts as an image file inside a folder; one that is named itself is taken whatever its suffix."""
    return SUFFIXES.union(*(decoder.suffixes for decoder in _decoders()))


def find(roots: Iterable[str]) -> Iterator[ImageFile]:
    """Every image file under the roots, folder by folder in the order of names.

    Hidden files and folders (`.name`) are passed over. Links to folders are followed once.
    """
    return map(_examine, paths(roots))


def paths(roots: Iterable[str]) -> Iterator[str]:
    """The paths of what `find` finds, which are had sooner than sizes and times."""
    seen: set[tuple[int, int]] = set()
    for root in roots:
        if Path(root).is_dir():
            yield from _paths_in(root, seen)
        else:
            yield root


def _paths_in(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:  # names only: a folder may hold millions
            listed = sorted(entry.name + os.sep if entry.is_dir() else entry.name for entry in entries)
    except OSError as error:
        log.warning("%s cannot be listed: %s", folder, error.strerror)
        return
    known, prefix = suffixes(), os.path.join(folder, "")
    for name in listed:
        if name.startswith("."):
            continue
        if name.endswith(os.sep):
            yield from _paths_in(prefix + name.rstrip(os.sep), seen)
        elif name[name.rfind(".") :].lower() in known:  # a name without a dot has no such end
            yield prefix + name


def _examine(path: str) -> ImageFile:
    try:
        status = os.stat(path)
    except OSError as error:
        return ImageFile(path, 0, 0, f"{NOT_OPENED}: {error.strerror}")
    problem = None if stat.S_ISREG(status.st_mode) else "not a regular file"
    return ImageFile(path, status.st_size, status.st_mtime_ns, problem)


# --- reading and decoding -----------------------------------------------------------------------------------


def read(path: str) -> tuple[bytes, str]:
    """A file's bytes and their digest (SHA-256, hexadecimal).

    Raises:
        UnreadableImageError: the file cannot be opened or read.
    """
    try:
        if (size := os.path.getsize(path)) > MAX_BYTES:
            raise UnreadableImageError(f"too large: {size:,} bytes")
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{NOT_OPENED}: {error.strerror}") from None
    return data, hashlib.sha256(data).hexdigest()


def decode(data: bytes, side: int | None = None) -> Image:
    """The image in a file's bytes: `uint8 (height, width, 3)`, RGB, upright.

    Args:
        data: the file's bytes.
        side: the shorter side in pixels that is enough, or None for full size. Which fraction is decoded
            depends on this and on the image's size alone.

    Raises:
        UnreadableImageError: with the reason.
    """
    if not data:
        raise UnreadableImageError("empty file")
    try:
        with _opened(data) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise UnreadableImageError(f"too large: {width} x {height} pixels")
            if picture.format in ("JPEG", "MPO"):
                image = _decode_jpeg(data, _reduction(min(width, height), side))
                if image is not None:
                    return image
            return _to_rgb(picture)
    except PIL.UnidentifiedImageError:
        raise UnreadableImageError(UNKNOWN) from None
    except PIL.Image.DecompressionBombError as error:
        raise UnreadableImageError(f"too large: {error}") from None
    except UnreadableImageError:
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # decoders raise anything on broken data
        told = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"broken image: {told}") from None


def _opened(data: bytes) -> PIL.Image.Image:
    """By the decoder that knows the format, else by Pillow."""
    head = data[:64]
    for decoder in _decoders():
        if _recognises(decoder, head):
            for library, command in decoder.missing_libraries().items():
                raise UnreadableImageError(f"{NEEDS}{library}: {command}")
            opened: object = decoder().open(data)
            if not isinstance(opened, PIL.Image.Image):
                told = f"{decoder.name} returned {type(opened).__name__}, not a PIL.Image.Image"
                raise UnreadableImageError(f"{DECODER}{told}")
            return opened
    return PIL.Image.open(io.BytesIO(data))


def _recognises(decoder: type[Decoder], head: bytes) -> bool:
    """Whether a decoder claims a file. One that fails to say costs a warning, and is not asked again."""
    try:
        return bool(decoder.recognises(head))
    except Exception as error:
        if decoder in _decoders():
            _decoders().remove(decoder)
            registry.warn_of(decoder, error)
        return False


def _reduction(shorter: int, side: int | None) -> int:
    """By how much a JPEG is reduced while it is decoded: 1, 2, 4 or 8."""
    return next((factor for factor in (8, 4, 2) if side and shorter >= factor * side), 1)


# REDUCED_GRAYSCALE_n is the bare reduction; together with COLOR_RGB it is "reduced, in RGB".
_JPEG_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def _decode_jpeg(data: bytes, reduction: int) -> Image | None:
    """By OpenCV, half as fast again as Pillow; None where it cannot, so that Pillow reads it or says why not."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _JPEG_FLAGS[reduction])  # type: ignore[return-value]
    except cv2.error:
        return None


def _to_rgb(picture: PIL.Image.Image) -> Image:
    PIL.ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        raise UnreadableImageError("pixels of 32 bits have no known range")
    if picture.mode.startswith("I"):  # 16 bits; of PNG and PPM some versions of Pillow make 32
        high = (np.asarray(picture).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, "white")
        picture = PIL.Image.alpha_composite(white, layer)
    return np.array(picture.convert("RGB"))
