"""Decoders open image files of formats that OpenCV and Pillow do not read by themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from imgrec.kinds.component import Component

if TYPE_CHECKING:
    import PIL.Image


@dataclass
class Decoder(Component):
    """Opens image files of a format that OpenCV and Pillow do not read by themselves.

    What it opens is then treated as every image: orientation, transparency and depth (see `images.decode`). A
    decoder has no options, so that pixels do not depend on a run.
    """

    kind: ClassVar[str] = "decoder"

    suffixes: ClassVar[Collection[str]] = ()
    """Suffixes of such files, lower case with their dot: what a folder is searched for."""

    @classmethod
    @abstractmethod
    def recognises(cls, head: bytes) -> bool:
        """Whether a file is of this format, from its first 64 bytes; asked of every file, so quick."""

    @abstractmethod
    def open(self, data: bytes) -> PIL.Image.Image:
        """The picture in a file's bytes; its size known, its pixels read when they are asked for where possible.

        Args:
            data: the whole file; `recognises` said yes to its beginning.

        Returns:
            An image of any mode: upright, or with its EXIF orientation.

        Raises:
            Exception: anything, for a broken file; its message is recorded as the reason.
        """
