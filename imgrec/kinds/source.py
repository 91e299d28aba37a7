"""Sources are where images come from: folders, archives, object storage. They find, state and read files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from imgrec.kinds.component import Component
from imgrec.options import option_names


@dataclass(frozen=True)
class ImageFile:
    """A file found, not yet read."""

    path: str
    size: int
    mtime_ns: int
    """When its content last changed, in nanoseconds since 1970; 0 where that is not known."""

    stamp: str | None = None
    """What its source knows its state by. Another one means that the file is read again; None: size and time of
    change tell enough."""

    problem: str | None = None
    """Why it cannot be read at all: a device, no permission, a store that does not answer."""


@dataclass
class Source(Component):
    """A place that image files come from. It is chosen by what it recognises, as decoders are.

    A path is whatever names a file for its source: `/photos/a.jpg`, `/photos/2024.zip/a.jpg`, `s3://photos/a.jpg`.
    Below a root it is the root, a slash, and more. A source has no options, so that a path says all; one object of
    it serves all threads. What no plugin's source recognises is a file or folder of this machine.
    """

    kind: ClassVar[str] = "source"

    at_once: ClassVar[int] = 1
    """How many reads pay at a time: as many as there are cores for a disk, more where each waits for a network."""

    @classmethod
    def problem(cls) -> str | None:
        """A source has no options, and reads one file at a time at the least."""
        if options := option_names(cls):
            return f"{cls.__name__} has options, {', '.join(options)}, and a source has none"
        is_right = isinstance(cls.at_once, int) and cls.at_once >= 1
        return (
            None if is_right else f"{cls.__name__}.at_once is a number of reads, 1 at least, not {cls.at_once!r}"
        )

    @classmethod
    @abstractmethod
    def recognises(cls, path: str) -> bool:
        """Whether a path is one of this source's: a root, or what `find` has; asked of every path, so quick.

        A root may be relative here, as somebody has typed it; later it is absolute, unless it is like `s3://`.
        """

    @abstractmethod
    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        """Every image file under some roots, each one once, in an order that stays the same.

        What is an image file is told by its suffix (`imgrec.image_suffixes`); a root that is a file itself is
        taken whatever it is called.
        """

    def paths(self, roots: Sequence[str]) -> Iterator[str]:
        """The paths of what `find` finds: for a source that has them sooner than sizes and times."""
        return (file.path for file in self.find(roots))

    @abstractmethod
    def state(self, path: str) -> ImageFile | None:
        """A file or root as it is now. None: it is gone for certain, and not only out of reach."""

    @abstractmethod
    def read(self, path: str) -> tuple[bytes, ImageFile]:
        """A file's bytes, and the state that belongs to just these bytes.

        Raises:
            UnreadableImageError: it cannot be read, or changed meanwhile; the message is the reason.
        """
