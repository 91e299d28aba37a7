"""JPEG XL, by pylibjxl, which holds the reference decoder."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import imgrec

if TYPE_CHECKING:
    import PIL.Image

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"  # ISO/IEC 18181-2, 9.1

BYTES_A_PIXEL, WITH_ALPHA = 33, 45
"""Of memory, as measured with libjxl 0.11: modular coding takes the most, and no header tells it."""


@dataclass
class JXL(imgrec.Decoder):
    """JPEG XL pictures."""

    requires: ClassVar[Mapping[str, str]] = {"pylibjxl": "imgrec[jxl]"}
    suffixes: ClassVar[Collection[str]] = (".jxl",)

    @classmethod
    def recognises(cls, head: bytes) -> bool:
        """Whether it begins as a codestream or as a container."""
        return head.startswith((CODESTREAM, CONTAINER))

    def open(self, data: bytes) -> PIL.Image.Image:
        """The picture, with its orientation applied by the decoder; EXIF, which repeats it, is passed over."""
        found = _codec().probe(data)
        if found["have_animation"]:
            raise imgrec.UnreadableImageError("an animation, of which the decoder gives the last frame only")
        size = found["width"], found["height"]
        mode = ("RGB" if found["color_channels"] == 3 else "L") + ("A" if found["has_alpha"] else "")
        cost = (WITH_ALPHA if found["has_alpha"] else BYTES_A_PIXEL) * size[0] * size[1]

        def read(_: tuple[int, int]) -> PIL.Image.Image:
            import PIL.Image

            return PIL.Image.fromarray(_codec().decode(data))

        return imgrec.LazyPicture(size, read, mode=mode, cost=cost)


@functools.cache
def _codec() -> Any:
    """One decoder for all threads, which are imgrec's own."""
    import pylibjxl

    return pylibjxl.JXL(threads=1, pool_size=imgrec.cores())


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Decoder]]:
    """This plugin's components."""
    return [JXL]
