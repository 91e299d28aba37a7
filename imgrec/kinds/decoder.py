"""Decoders open image files of formats that OpenCV and Pillow do not read by themselves."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from imgrec.kinds.component import Component
from imgrec.options import option_names

if TYPE_CHECKING:
    import PIL.Image


@dataclass
class Decoder(Component):
    """Opens image files of a format that OpenCV and Pillow do not read by themselves.

    Orientation, transparency and bit depth are then handled as for any image (see `images.decode`). A decoder has
    no options, so that pixels do not depend on a run.
    """

    kind: ClassVar[str] = "decoder"

    suffixes: ClassVar[Collection[str]] = ()
    """The suffixes by which such files are found in folders: lower case, with the dot."""

    turns: ClassVar[bool] = True
    """Whether EXIF tells how the pictures that `open` returns are stored; False if they are upright."""

    @classmethod
    def problem(cls) -> str | None:
        """A decoder has no options, and its suffixes are lower case with a dot."""
        if options := option_names(cls):
            return f"{cls.__name__} has options, {', '.join(options)}, and a decoder has none"
        is_right = not isinstance(cls.suffixes, str) and all(
            isinstance(each, str) and re.fullmatch(r"\.[^.A-Z]+", each) for each in cls.suffixes
        )
        return None if is_right else f"{cls.__name__}.suffixes are lower case with their dot, not {cls.suffixes!r}"

    @classmethod
    @abstractmethod
    def recognises(cls, head: bytes) -> bool:
        """Whether a file is of this format, judging by its bytes; called for every file, so look at few."""

    @abstractmethod
    def open(self, data: bytes) -> PIL.Image.Image:
        """Open the picture in a file's bytes; its size must be known, its pixels are best read lazily.

        `imgrec.LazyPicture` does so. Its `cost` is the memory that decoding takes at most, by which what takes too
        much is refused; without one 12 bytes a pixel are counted.

        Args:
            data: the whole file, whose beginning `recognises` has accepted.

        Returns:
            An image of any mode: upright, or with EXIF that tells how it is stored, as bytes in `info["exif"]`.

        Raises:
            Exception: of any type, for a broken file; its message is recorded as the reason.
        """
