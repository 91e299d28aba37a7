"""Pictures of decoders whose pixels are read when they are needed, and not before their size has been judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import PIL.Image


class LazyPicture(PIL.Image.Image):
    """A picture that knows its size, and reads its pixels when Pillow loads it."""

    def __init__(
        self,
        size: tuple[int, int],
        read: Callable[[tuple[int, int]], PIL.Image.Image],
        *,
        mode: str = "RGB",
        exif: bytes = b"",
        cost: int,
        reduces: bool = False,
    ) -> None:
        """Take what a file's header says.

        Args:
            size: width and height as stored, that is, before the EXIF orientation.
            read: reads the pixels. It takes the size that is enough, by default the whole one, and may return a
                smaller picture than the whole one if `reduces` is set.
            mode: Pillow's mode of the picture.
            exif: EXIF data, with an orientation if there is one to be applied.
            cost: the most memory that reading takes, in bytes, the file apart.
            reduces: whether less is read where a smaller size is enough.
        """
        super().__init__()
        self._mode, self._size, self._read, self._enough = mode, size, read, size
        self.cost, self.reduces = cost, reduces
        self._is_read = False
        if exif:
            self.info["exif"] = exif

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> None:
        """Say which size is enough, as for Pillow's own pictures."""
        self._enough = size or self._size

    def load(self) -> Any:
        """Read the pixels, once."""
        if not self._is_read:
            picture = self._read(self._enough)
            picture.load()
            self.im, self._mode, self._size, self._is_read = picture.im, picture.mode, picture.size, True
        return super().load()
