"""Image files by path, through whichever source recognises it."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.images import braces, suffixes
from imgrec.images.addresses import Addresses
from imgrec.images.exclusion import Exclusion
from imgrec.images.files import Files
from imgrec.images.reasons import NOT_OPENED
from imgrec.kinds import ImageFile, Source
from imgrec.paths import expanded
from imgrec.threads import ahead

T = TypeVar("T")


def source_of(path: str, *, inside_others: bool = True) -> Source:
    """The source of a path; all paths of a source share one instance.

    Args:
        path: of a root or a file.
        inside_others: whether a source of files inside others is asked, too; if not, an archive is a file.

    Raises:
        UsageError: a library that the source needs is not installed.
    """
    inner = registry.recognising(_inside_others(), path) if inside_others else None
    return _instance(inner or registry.recognising(_others(), path) or Files)


@functools.cache
def _inside_others() -> list[type[Source]]:
    return [cls for cls in registry.classes(Source).values() if cls.is_inside_others]


@functools.cache
def _others() -> list[type[Source]]:
    """Those of plugins first, which may have a better way to some addresses."""
    own = (Addresses, Files)
    known = registry.classes(Source).values()
    return [*(cls for cls in known if cls not in own and not cls.is_inside_others), Addresses]


@functools.cache
def _instance(cls: type[Source]) -> Source:
    return cls()


class Roots(list[str]):
    """The roots of a source, which have been looked for: they are not asked for again."""


def roots(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    may_be_gone: Callable[[str], bool] = lambda _: False,
) -> Roots:
    """The folders and files of a source as absolute paths, without those inside another.

    Args:
        source: as it was typed, or the roots that a call before has found.
        may_be_gone: whether an absolute path is taken although nothing is there, or it is out of reach.

    Raises:
        UsageError: there is none, or one does not exist or cannot be opened.
    """
    if isinstance(source, Roots):
        return source
    given = list(source) if isinstance(source, Sequence) and not isinstance(source, str | bytes) else [source]
    if not given or not all(isinstance(each, str | os.PathLike) and os.fspath(each) for each in given):
        raise UsageError("source is empty: name a folder, a file or a list of them")
    found: dict[str, None] = {}
    alone: dict[str, str] = {}
    for typed in (os.fspath(each) for each in given):
        path = absolute(expanded(typed))
        written = [path] if os.path.lexists(path) else braces.expanded(path)
        for name in written:
            meant = _meant(name)
            if len(meant) == 1:  # those of a list or pattern may be gone or damaged, as files in a folder
                alone[meant[0]] = typed if len(written) == 1 else name
            found |= dict.fromkeys(meant)
    for (root, typed), file in zip(alone.items(), each(state, alone), strict=True):
        _check_root(root, file, typed, may_be_gone)
    return Roots(outermost(found))


def _meant(path: str) -> list[str]:
    """The roots that a path means: those of a list may mean others again, for their sources."""
    source = source_of(path)
    return [
        root
        for each in source.roots(path)
        for root in ([each] if each == path or source_of(each) is source else _meant(each))
    ]


def _check_root(root: str, file: ImageFile | None, typed: str, may_be_gone: Callable[[str], bool]) -> None:
    problem = (file and file.problem) or ""
    if file is None and not may_be_gone(root):
        raise UsageError(f"source {typed!r} does not exist")
    is_away = source_of(root).recognises(root) and may_be_gone(root)  # as a drive is that is unplugged
    if problem.startswith(NOT_OPENED) and not is_away:
        raise UsageError(f"source {typed!r} {problem}")


def outermost(roots: Collection[str]) -> list[str]:
    """Absolute roots without those inside another, sorted."""
    known = set(roots)
    # The folder of `/` is `/`.
    return sorted(path for path in known if (up := os.path.split(path)[0]) == path or not is_inside(up, known))


def absolute(path: str | os.PathLike[str]) -> str:
    """A path that does not depend on the working directory: an address like `s3://` never does.

    >>> absolute("s3://photos/a.jpg")
    's3://photos/a.jpg'
    """
    path = os.fspath(path)
    return path if "://" in path else os.path.abspath(path)


def is_inside(path: str, roots: Set[str]) -> bool:
    """Whether a path is one of the roots or below one; all absolute. As fast for many roots as for one.

    >>> is_inside("/photos/a.jpg", {"/photos"}), is_inside("/photos2/a.jpg", {"/photos"})
    (True, False)
    """
    while path not in roots:
        folder, _ = os.path.split(path)
        if folder == path:
            return False
        path = folder
    return True


def find(roots: Sequence[str], exclusion: Exclusion | None = None) -> Iterator[ImageFile]:
    """Find every photograph under the roots, which are absolute: what is read here, and is not excluded.

    Raises:
        UsageError: as by `Exclusion`, whose patterns are by default none.
    """
    is_excluded, named = exclusion or Exclusion(roots), set(roots)
    for source, some in itertools.groupby(roots, source_of):
        for file in source.skipping(is_excluded).find(list(some)):
            if not is_excluded(file.path) and (file.path in named or suffixes.is_read(file.path)):
                yield file


def state(path: str) -> ImageFile | None:
    """A file as it is now; None only if it is certainly gone, not merely out of reach."""
    try:
        source = source_of(path)
    except UsageError as error:
        return ImageFile(path, 0, 0, problem=f"{NOT_OPENED}: {error}")
    if not source.recognises(path):  # of a plugin that is not installed any more
        return ImageFile(path, 0, 0, problem=f"{NOT_OPENED}: no installed plugin is a source of it")
    return source.state(path)


def each(function: Callable[[str], T], paths: Iterable[str]) -> Iterator[T]:
    """A function of each path, in order, for as many at a time as the paths' sources say."""
    for count, some in itertools.groupby(paths, _at_once):
        with ThreadPoolExecutor(count) as pool:
            yield from ahead(pool, function, some, 4 * count)


def are_there(paths: Iterable[str]) -> Iterator[bool]:
    """`is_there` of each path: of those elsewhere many at a time, as that is a request each."""
    for is_elsewhere, some in itertools.groupby(paths, lambda path: "://" in path):
        yield from (each if is_elsewhere else map)(is_there, some)


def _at_once(path: str) -> int:
    try:
        return source_of(path).at_once
    except UsageError:
        return 1


def is_there(path: str) -> bool:
    """Whether a path is a file, folder or device that can be reached now."""
    file = state(path)
    return file is not None and not (file.problem or "").startswith(NOT_OPENED)


def is_file(path: str) -> bool:
    """Whether a path is a readable file, judging by its state."""
    file = state(path)
    return file is not None and file.problem is None


def read(path: str) -> tuple[bytes, str]:
    """A file's bytes and their digest (SHA-256, hexadecimal).

    Raises:
        UnreadableImageError: the file cannot be opened or read, is no regular file, or changed meanwhile.
    """
    return read_as_found(path)[:2]


def read_as_found(path: str) -> tuple[bytes, str, ImageFile]:
    """As `read`, with the state of the file that had exactly these bytes."""
    data, file = source_of(path).read(path)
    return data, hashlib.sha256(data).hexdigest(), file
