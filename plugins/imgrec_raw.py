"""Photographs as the sensor saw them, by rawpy, that is, LibRaw."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import imgrec

if TYPE_CHECKING:
    import PIL.Image

MAGIC = {
    0: (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb"),
    4: (b"ftypcrx ",),
    6: (b"HEAPCCDR",),
    8: (b"CR\2\0", b"IIII", b"MMMM"),
}
"""Beginnings of RAF, ORF, RW2, MRW, X3F; CR3; CRW; CR2 and IIQ. The others are TIFF files."""

TIFF = {b"II*\0": "<", b"MM\0*": ">"}
PHOTOMETRIC, SUB_IFDS, DNG_VERSION = 262, 330, 50706
CFA, LINEAR_RAW = 32803, 34892  # DNG 1.7, PhotometricInterpretation

MOST_DIRECTORIES, MOST_TAGS = 32, 1000
"""Those of a file in good order are far fewer."""

ORIENTATIONS = {0: 1, 1: 2, 3: 3, 2: 4, 4: 5, 6: 6, 7: 7, 5: 8}
"""LibRaw's `flip` as EXIF's orientation."""

ORIENTATION, EXIF, TAKEN = 0x0112, 0x8769, 0x9003

BYTES_A_PIXEL = 12
"""Of memory, for each pixel of the sensor: 3 were measured at half size, 8 for a progressive preview; samples of
three colours take 9 by their layout.
"""


@dataclass
class Raw(imgrec.Decoder):
    """Raw photographs of cameras: the preview in them if it is large enough, else half the sensor's size."""

    requires: ClassVar[Mapping[str, str]] = {"rawpy": "imgrec[raw]"}
    suffixes: ClassVar[Collection[str]] = tuple(
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .rw2 "
        ".rwl .sr2 .srf .srw .x3f".split()
    )

    @classmethod
    def recognises(cls, head: bytes) -> bool:
        """Whether it begins as a raw format, or is a TIFF with what a sensor's colour filters let through."""
        if any(head.startswith(each, at) for at, several in MAGIC.items() for each in several):
            return True
        return head[:4] in TIFF and any(
            DNG_VERSION in tags or {CFA, LINEAR_RAW}.intersection(tags.get(PHOTOMETRIC, ()))
            for tags in _directories(head)
        )

    def open(self, data: bytes) -> PIL.Image.Image:
        """The photograph in the sensor's orientation, with EXIF that tells how to turn it and its time."""
        with _opened(data) as raw:
            sizes, moment = raw.sizes, raw.other.timestamp
        return imgrec.LazyPicture(
            (sizes.width, sizes.height),
            lambda enough: _read(data, enough),
            exif=_exif(ORIENTATIONS.get(sizes.flip, 1), moment),
            cost=BYTES_A_PIXEL * sizes.raw_width * sizes.raw_height,
            reduces=True,
        )


def _directories(data: bytes) -> Iterator[dict[int, tuple[int, ...]]]:
    """The tags of interest of a TIFF's directories (TIFF 6.0, section 2), those inside others included."""
    order = TIFF[data[:4]]
    with contextlib.suppress(struct.error):  # cut off, or damaged
        offsets = [*struct.unpack_from(f"{order}I", data, 4)]
        for _ in range(MOST_DIRECTORIES):
            if not offsets:
                return
            start, tags = offsets.pop() + 2, {}
            (count,) = struct.unpack_from(f"{order}H", data, start - 2)
            for entry in range(start, start + 12 * min(count, MOST_TAGS), 12):
                tag, kind, length = struct.unpack_from(f"{order}HHI", data, entry)
                if tag in (PHOTOMETRIC, SUB_IFDS, DNG_VERSION):
                    code = {1: "B", 3: "H"}.get(kind, "I")
                    layout = f"{order}{min(length, MOST_DIRECTORIES)}{code}"
                    is_inside = struct.calcsize(layout) <= 4
                    at = entry + 8 if is_inside else struct.unpack_from(f"{order}I", data, entry + 8)[0]
                    tags[tag] = struct.unpack_from(layout, data, at)
            yield tags
            offsets += tags.get(SUB_IFDS, ())


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """A file of which only the header has been read."""
    import rawpy

    with rawpy.RawPy() as raw:
        try:
            raw.open_buffer(io.BytesIO(data))
            yield raw
        except rawpy.LibRawError as error:
            (reason,) = error.args or ("",)
            raise ValueError(reason.decode() if isinstance(reason, bytes) else reason) from None


def _read(data: bytes, enough: tuple[int, int]) -> PIL.Image.Image:
    """The preview, if its shorter side is enough or as good as half the sensor's; else that half."""
    import PIL.Image

    with _opened(data) as raw:
        half = raw.sizes.width // 2, raw.sizes.height // 2
        preview = _preview(raw)
        if preview is not None and min(preview.size) >= min(enough + half):
            preview.draft(None, enough)
            with contextlib.suppress(Exception):  # a damaged preview
                return _as_the_sensor(preview.convert("RGB"), raw.sizes)
        # The camera's white balance, sRGB's own curve, and brightness as LibRaw finds it.
        pixels = raw.postprocess(half_size=True, use_camera_wb=True, user_flip=0, gamma=(2.4, 12.92))
    return PIL.Image.fromarray(pixels)


def _preview(raw: Any) -> PIL.Image.Image | None:
    """The largest picture that the camera has put into the file, not yet decoded."""
    import PIL.Image
    import rawpy

    with contextlib.suppress(rawpy.LibRawError, OSError, PIL.Image.DecompressionBombError):
        found = raw.extract_thumb()
        if found.format == rawpy.ThumbFormat.JPEG:
            preview: PIL.Image.Image = PIL.Image.open(io.BytesIO(found.data), formats=("JPEG",))
        else:
            preview = PIL.Image.fromarray(found.data)
        # One that is larger than the sensor would take more memory than was counted.
        return preview if preview.width * preview.height <= raw.sizes.raw_width * raw.sizes.raw_height else None
    return None


def _as_the_sensor(preview: PIL.Image.Image, sizes: Any) -> PIL.Image.Image:
    """A preview in the sensor's orientation; a few cameras turn it although they leave the sensor's picture."""
    import PIL.Image

    if (preview.width > preview.height) == (sizes.width > sizes.height):
        return preview
    back = PIL.Image.Transpose.ROTATE_270 if sizes.flip == 5 else PIL.Image.Transpose.ROTATE_90
    return preview.transpose(back)


def _exif(orientation: int, moment: datetime) -> bytes:
    import PIL.Image

    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    if moment.timestamp() > 0:  # 0 where the file tells none
        exif.get_ifd(EXIF)[TAKEN] = f"{moment:%Y:%m:%d %H:%M:%S}"
    return exif.tobytes()


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Decoder]]:
    """This plugin's components."""
    return [Raw]
