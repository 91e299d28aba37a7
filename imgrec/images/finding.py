"""Finds image files in folders."""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from imgrec.errors import UsageError
from imgrec.images.decoding import decoders
from imgrec.images.reasons import NOT_OPENED, NOT_REGULAR

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .svg .tga "
    ".tif .tiff .webp".split()
)
"""What counts as an image file inside a folder, beside what decoders add (`suffixes`)."""


@dataclass(frozen=True)
class ImageFile:
    """A file found, not yet read."""

    path: str
    size: int
    mtime_ns: int
    problem: str | None = None
    """Why it cannot be read at all: a broken link, a device, no permission."""


def roots(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The folders and files of a source as absolute paths, without those that lie inside another.

    Raises:
        UsageError: there is none, or one does not exist.
    """
    given = list(source) if isinstance(source, Sequence) and not isinstance(source, str | bytes) else [source]
    if not given or not all(isinstance(each, str | os.PathLike) and os.fspath(each) for each in given):
        raise UsageError("source is empty: name a folder, a file or a list of them")
    for each in given:
        if not os.path.exists(each):
            raise UsageError(f"source {os.fspath(each)!r} does not exist")
    paths = {os.path.abspath(each) for each in given}
    # The folder of `/` is `/`.
    return sorted(path for path in paths if (up := os.path.split(path)[0]) == path or not is_inside(up, paths))


def is_inside(path: str, roots: Set[str]) -> bool:
    """Whether a path is one of the roots or lies below one; all absolute. As quick for many roots as for one.

    >>> is_inside("/photos/a.jpg", {"/photos"}), is_inside("/photos2/a.jpg", {"/photos"})
    (True, False)
    """
    while path not in roots:
        folder, _ = os.path.split(path)
        if folder == path:
            return False
        path = folder
    return True


@functools.cache
def suffixes() -> frozenset[str]:
    """What counts as an image file inside a folder; one that is named itself is taken whatever its suffix."""
    return SUFFIXES.union(*(decoder.suffixes for decoder in decoders()))


def find(roots: Iterable[str]) -> Iterator[ImageFile]:
    """Every image file under the roots, folder by folder in the order of names.

    Hidden files and folders (`.name`) are passed over. Links to folders are followed once.
    """
    return map(examine, paths(roots))


def paths(roots: Iterable[str]) -> Iterator[str]:
    """The paths of what `find` finds, which are had sooner than sizes and times."""
    seen: set[tuple[int, int]] = set()
    for root in roots:
        if Path(root).is_dir():
            yield from _paths_in(root, seen)
        else:
            yield root


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
    known = suffixes()
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


def examine(path: str) -> ImageFile:
    """A file with its size and time of change, or with what is wrong with it."""
    try:
        status = os.stat(path)
    except OSError as error:
        return ImageFile(path, 0, 0, f"{NOT_OPENED}: {error.strerror}")
    problem = None if stat.S_ISREG(status.st_mode) else NOT_REGULAR
    return ImageFile(path, status.st_size, status.st_mtime_ns, problem)
