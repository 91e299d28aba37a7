"""Sources find, stat and read image files in folders, archives or object storage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
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
    """When its content last changed, in nanoseconds since 1970; 0 if unknown."""

    stamp: str | None = None
    """Its source's token for the file's state; a new one means to read again. None: compare size and mtime."""

    problem: str | None = None
    """Why it cannot be read at all: a device, no permission, a store that does not answer."""


@dataclass
class Source(Component):
    """A place that image files come from, chosen by the paths that it recognises.

    A path is whatever names a file for its source: `/photos/a.jpg`, `/photos/2024.zip/a.jpg`, `s3://photos/a.jpg`,
    `s3://photos/1.tar!/a.jpg`. Below a root it begins with the root and a slash. A source has no options, so that
    a path alone identifies a file; one instance serves all threads. A path that no plugin's source recognises is a
    local file or folder.
    """

    kind: ClassVar[str] = "source"

    at_once: ClassVar[int] = 1
    """How many concurrent reads are worthwhile: the number of cores for a disk, more for a network."""

    is_inside_others: ClassVar[bool] = False
    """Whether its files lie inside those of other sources, as in archives; it is then chosen before these."""

    @classmethod
    def problem(cls) -> str | None:
        """A source has no options, and reads at least one file at a time."""
        if options := option_names(cls):
            return f"{cls.__name__} has options, {', '.join(options)}, and a source has none"
        is_right = isinstance(cls.at_once, int) and cls.at_once >= 1
        return (
            None if is_right else f"{cls.__name__}.at_once is a number of reads, 1 at least, not {cls.at_once!r}"
        )

    @classmethod
    @abstractmethod
    def recognises(cls, path: str) -> bool:
        """Whether a root, or a path that `find` yields, is this source's; called for every path, so be fast.

        A root may be relative here, as it was typed; later it is absolute, unless it is an address like `s3://`.
        """

    def roots(self, path: str) -> list[str]:
        """The roots that a user means by an absolute path: by default itself.

        Override it if a path may be a pattern or a list, or a root be written in two ways. A root means itself.

        Raises:
            UsageError: nothing is meant; of several roots, each may turn out to be gone.
        """
        return [path]

    @abstractmethod
    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        """Find every image file under some roots, each once, in a stable order.

        Image files are recognised by suffix (`imgrec.image_suffixes`); a root that is itself a file is included
        whatever its name. What no installed decoder reads, and what a user excludes, is left out afterwards.
        """

    def paths(self, roots: Sequence[str]) -> Iterator[str]:
        """The paths of what `find` finds.

        Override it if they are known sooner than sizes and times: then an ingest asks for them first, to count
        them, and for the rest as it goes on. Else `find` is gone through once, and kept.
        """
        return (file.path for file in self.find(roots))

    def skipping(self, is_excluded: Callable[[str], bool]) -> Source:
        """This source, to be searched without folders that are excluded; override it if it lists folder by folder.

        By default itself, since what is excluded is left out afterwards.

        Args:
            is_excluded: takes an absolute path, that of a folder with a slash at its end.
        """
        return self

    @abstractmethod
    def state(self, path: str) -> ImageFile | None:
        """A file or root as it is now; None only if it is certainly gone, not merely out of reach."""

    @abstractmethod
    def read(self, path: str) -> tuple[bytes, ImageFile]:
        """A file's bytes, and the state of the file that had exactly these bytes.

        Raises:
            UnreadableImageError: it cannot be read, or changed meanwhile; the message is the reason.
        """

    def read_part(self, path: str, start: int, size: int) -> tuple[bytes, ImageFile]:
        """Some bytes of a file of any kind, fewer where it ends, and the state of the file that had them.

        By default the whole is read; override it if a part can be read alone, so that archives may lie there.

        Raises:
            UnreadableImageError: as by `read`.
        """
        data, file = self.read(path)
        return data[start : start + size], file
