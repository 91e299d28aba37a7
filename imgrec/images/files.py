"""The files and folders of this machine: the source of what no other source recognises."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from imgrec.hookspecs import hookimpl
from imgrec.images.decoding import image_suffixes
from imgrec.images.reasons import CHANGED, NOT_OPENED, NOT_REGULAR, UnreadableImageError
from imgrec.kinds import ImageFile, Source
from imgrec.threads import cores

log = logging.getLogger(__name__)

MAX_BYTES = 400_000_000
"""Larger files are refused unread."""


@dataclass
class Files(Source):
    """Files and folders of this machine; hidden ones (`.name`) are passed over, links to folders followed once."""

    at_once: ClassVar[int] = cores()

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Anything that is no address, as `s3://` is."""
        return "://" not in path

    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        """Every image file, folder by folder in the order of names."""
        return map(_examined, self.paths(roots))

    def paths(self, roots: Sequence[str]) -> Iterator[str]:
        """Their paths, from the folders alone."""
        seen: set[tuple[int, int]] = set()
        for root in roots:
            if Path(root).is_dir():
                yield from _paths_in(root, seen)
            else:
                yield root

    def state(self, path: str) -> ImageFile | None:
        """As `os.stat` tells it; one without the right to open it, or on a disk that fails, may be there."""
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
        return _examined(path)

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        """Its bytes; what it is stated by is asked before and after."""
        if problem := _examined(path).problem:
            raise UnreadableImageError(problem)
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    raise UnreadableImageError(NOT_REGULAR)
                if before.st_size > MAX_BYTES:
                    raise UnreadableImageError(f"too large: {before.st_size:,} bytes")
                data = file.read(before.st_size + 1)
                after = os.fstat(file.fileno())
        except OSError as error:
            raise UnreadableImageError(f"{NOT_OPENED}: {error.strerror}") from None
        found = _of_status(path, after)
        if len(data) != before.st_size or found != _of_status(path, before):
            raise UnreadableImageError(CHANGED)
        return data, found


def _paths_in(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    # No recursion: folders may be a thousand deep.
    levels = [(os.path.join(folder, ""), iter(_listed(folder, seen)))]
    while levels:
        prefix, names = levels[-1]
        for name in names:
            if name.endswith(os.sep):
                levels.append((prefix + name, iter(_listed(prefix + name, seen))))
                break
            yield prefix + name
        else:
            levels.pop()


def _listed(folder: str, seen: set[tuple[int, int]]) -> list[str]:
    """The image files and folders (these end with a separator) of one not seen before, in the order of names."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:  # names only: a folder may hold millions
            names = [entry.name + os.sep if _is_folder(entry) else entry.name for entry in entries]
    except OSError as error:
        log.warning("%s cannot be listed: %s", folder.rstrip(os.sep) or os.sep, error.strerror)
        return []
    known = image_suffixes()
    return sorted(
        name
        for name in names
        # A name without a dot has no such end.
        if not name.startswith(".") and (name.endswith(os.sep) or name[name.rfind(".") :].lower() in known)
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say
        return False


def _examined(path: str) -> ImageFile:
    try:
        return _of_status(path, os.stat(path))
    except OSError as error:
        return ImageFile(path, 0, 0, problem=f"{NOT_OPENED}: {error.strerror}")


def _of_status(path: str, status: os.stat_result) -> ImageFile:
    """The stamp has the time of any change, which also those change who edit a file and put its time back."""
    problem = None if stat.S_ISREG(status.st_mode) else NOT_REGULAR
    size, changed = status.st_size, status.st_mtime_ns
    return ImageFile(path, size, changed, f"{status.st_ctime_ns}-{changed}-{size}", problem)


def _without_waiting(path: str, flags: int) -> int:
    """Opens: for a pipe that has just taken a file's place, a plain open would wait for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@hookimpl
def imgrec_components() -> list[type[Source]]:
    """The source of this module."""
    return [Files]
