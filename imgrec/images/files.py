"""Local files and folders: the source of paths that no other source recognises."""

from __future__ import annotations

import errno
import glob
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from imgrec.hookspecs import hookimpl
from imgrec.images.reasons import CHANGED, NOT_OPENED, NOT_REGULAR, UnreadableImageError
from imgrec.images.suffixes import image_suffixes
from imgrec.kinds import ImageFile, Source
from imgrec.threads import cores

log = logging.getLogger(__name__)

MAX_BYTES = 400_000_000
"""Larger files are refused unread."""


@dataclass
class Files(Source):
    """Local files and folders; hidden ones (`.name`) are skipped, links to folders are followed once."""

    at_once: ClassVar[int] = cores()

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Any path that is not an address like `s3://`."""
        return "://" not in path

    def __post_init__(self) -> None:
        super().__post_init__()
        self._is_skipped: Callable[[str], bool] = _is_hidden  # no option: a path alone identifies a file

    def skipping(self, is_excluded: Callable[[str], bool]) -> Files:
        """A source that lists no folder that is excluded; hidden ones are judged as the others."""
        source = Files()
        source._is_skipped = is_excluded
        return source

    def roots(self, path: str) -> list[str]:
        """A path that is there itself; else those that it matches as a pattern with `*`, `**`, `?` or `[]`."""
        return [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True)) or [path]  # noqa: PTH207

    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        """Find every image file, folder by folder in the order of names."""
        return map(_examined, self.paths(roots))

    def paths(self, roots: Sequence[str]) -> Iterator[str]:
        """The paths of image files, from listing folders only."""
        seen: set[tuple[int, int]] = set()
        for root in roots:
            if Path(root).is_dir():
                yield from _paths_in(root, self._is_skipped, seen)
            else:
                yield root

    def state(self, path: str) -> ImageFile | None:
        """A file's state by `os.stat`; without permission, or on a failing disk, it counts as there."""
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
        return _examined(path)

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        """A file's bytes, if its state is the same before and after reading."""
        return _read(path, 0, None)

    def read_part(self, path: str, start: int, size: int) -> tuple[bytes, ImageFile]:
        """Some bytes of a file, if its state is the same before and after reading."""
        return _read(path, start, size)


def _read(path: str, start: int, size: int | None) -> tuple[bytes, ImageFile]:
    """Bytes of a regular file, and its state; without a size all of them, if these are not too many."""
    if problem := _examined(path).problem:
        raise UnreadableImageError(problem)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableImageError(NOT_REGULAR)
            wanted = before.st_size if size is None else max(0, min(size, before.st_size - start))
            if wanted > MAX_BYTES:
                raise UnreadableImageError(f"too large: {wanted:,} bytes")
            file.seek(start)
            data = file.read(wanted + 1 if size is None else wanted)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise UnreadableImageError(f"{NOT_OPENED}: {error.strerror}") from None
    found = _of_status(path, after)
    if len(data) != wanted or found != _of_status(path, before):
        raise UnreadableImageError(CHANGED)
    return data, found


def filesystem(path: str) -> str | None:
    """Identifies the filesystem that holds a path, or would hold it if it were there; None if it is unknown.

    A drive that is unplugged takes its identity away with it; a folder that is deleted leaves it behind.
    """
    try:
        there = next(each for each in (Path(path), *Path(path).parents) if os.path.exists(each))
        return f"{os.statvfs(there).f_fsid:x}" if hasattr(os, "statvfs") else f"{os.stat(there).st_dev:x}"
    except (OSError, StopIteration):
        return None


def _paths_in(folder: str, is_skipped: Callable[[str], bool], seen: set[tuple[int, int]]) -> Iterator[str]:
    # No recursion: folders may be a thousand deep.
    levels = [(os.path.join(folder, ""), iter(_listed(folder, seen)))]
    while levels:
        prefix, names = levels[-1]
        for name in names:
            if not name.endswith(os.sep):
                yield prefix + name
            elif not is_skipped(prefix + name):
                levels.append((prefix + name, iter(_listed(prefix + name, seen))))
                break
        else:
            levels.pop()


def _is_hidden(path: str) -> bool:
    return os.path.split(path.rstrip(os.sep))[1].startswith(".")


def _listed(folder: str, seen: set[tuple[int, int]]) -> list[str]:
    """The image files and subfolders (with a separator at the end) of a folder, sorted; none if already seen."""
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
        # Without a dot the slice is one character, which is no known suffix.
        if name.endswith(os.sep) or (not name.startswith(".") and name[name.rfind(".") :].lower() in known)
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def _examined(path: str) -> ImageFile:
    try:
        return _of_status(path, os.stat(path))
    except OSError as error:
        return ImageFile(path, 0, 0, problem=f"{NOT_OPENED}: {error.strerror}")


def _of_status(path: str, status: os.stat_result) -> ImageFile:
    """A file's state; the stamp includes ctime, which changes even if an edited file's mtime is put back."""
    problem = None if stat.S_ISREG(status.st_mode) else NOT_REGULAR
    size, changed = status.st_size, status.st_mtime_ns
    return ImageFile(path, size, changed, f"{status.st_ctime_ns}-{changed}-{size}", problem)


def _without_waiting(path: str, flags: int) -> int:
    """Open without blocking: a pipe may have just replaced the file."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@hookimpl
def imgrec_components() -> list[type[Source]]:
    """The source of this module."""
    return [Files]
