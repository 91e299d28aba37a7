"""HEIC and HEIF, the format of Apple's phones, by pillow-heif."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import imgrec

if TYPE_CHECKING:
    import PIL.Image

# Brands of files with HEVC-coded pictures (ISO/IEC 23008-12, 10).
BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
MOST_BRANDS = 16
OF_ANY_CODING = frozenset((b"mif1", b"mif2", b"msf1"))


@dataclass
class Heif(imgrec.Decoder):
    """HEIC and HEIF photographs, as phones take them."""

    requires: ClassVar[Mapping[str, str]] = {"pillow_heif": "imgrec[heif]"}
    turns: ClassVar[bool] = False
    suffixes: ClassVar[Collection[str]] = (".heic", ".heics", ".heif", ".heifs", ".hif")

    @classmethod
    def recognises(cls, head: bytes) -> bool:
        """Whether the `ftyp` box names an HEVC brand (ISO/IEC 14496-12, 4.3); AVIF is left to Pillow."""
        if head[4:8] != b"ftyp":
            return False
        end = min(int.from_bytes(head[:4], "big"), MOST_BRANDS * 4)
        brands = {head[i : i + 4] for i in (8, *range(16, end, 4))}
        return bool(brands & BRANDS) or (head[8:12] in OF_ANY_CODING and not brands & {b"avif", b"avis"})

    def open(self, data: bytes) -> PIL.Image.Image:
        """The primary picture, with rotation and mirroring applied by libheif."""
        import pillow_heif

        return pillow_heif.HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Decoder]]:
    """This plugin's components."""
    return [Heif]
