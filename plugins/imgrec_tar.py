"""Tar archives, as WebDataset's shards are: `shard-0001.tar!/a.jpg`, wherever the archive lies.

An archive is read in blocks through the source of its own path, so that it may lie in a folder, in object storage
or at an address of the web. Where its files begin is listed once for each state of it. That reads all blocks, as
a tar archive has no directory, and so such lists are kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import posixpath
import re
import tarfile
import tempfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import imgrec
from imgrec import ImageFile, UnreadableImageError

log = logging.getLogger(__name__)

MARK = re.compile(r"\.tar(!(?=/|$)|$)", re.IGNORECASE)
"""Where the path of an archive ends."""

BLOCK = 1 << 20
"""Bytes that are read of an archive at a time."""

BLOCKS, LISTS = 64, 16
"""How many blocks, and lists of archives, are kept in memory: 100 MB with archives of 10,000 files."""

MAX_BYTES = 400_000_000
"""Larger files are refused unread."""

MOST_KEPT = 256_000_000
"""Bytes of all lists in the cache folder; the oldest go first."""

Members = Mapping[str, tuple[int, int]]
"""Where each regular file begins, and its size in bytes, by name."""

List = tuple[Members, str]
"""The files that were found in an archive, and what is wrong behind them; empty for nothing."""

SPARSE = -1
"""Where a file begins of which the archive lacks the holes."""

LISTING = 3
"""Of how archives are listed: lists that were kept by another way of it are not used."""

DAMAGE = (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError)
"""What `tarfile` raises where an archive is damaged or hostile."""

T = TypeVar("T")


@dataclass(frozen=True)
class Archive:
    """An archive in one state of it."""

    file: ImageFile
    members: Members
    problem: str
    """What is wrong behind these; empty for nothing."""

    def file_of(self, name: str) -> ImageFile:
        """One of its files, which changes whenever the archive does."""
        return replace(self.file, path=f"{self.file.path}!/{name}", size=self.members[name][1])


class Shared:
    """The results that were used last; who asks for one that is being made waits for it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: OrderedDict[object, Future[object]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The result of a key, made if it is not there; an error is not kept."""
        with self._lock:
            is_mine = key not in self._made
            future = self._made.setdefault(key, Future())
            self._made.move_to_end(key)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        if is_mine:
            try:
                future.set_result(make())
            except BaseException as error:
                self._made.pop(key, None)
                future.set_exception(error)
        return future.result()  # type: ignore[return-value]


@dataclass
class Tar(imgrec.Source):
    """Pictures in tar archives that are not compressed, such as WebDataset's shards."""

    is_inside_others: ClassVar[bool] = True
    at_once: ClassVar[int] = 16

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether it is an archive's, or leads into one."""
        found = MARK.search(path)
        return found is not None and (found[1] == "!" or not Path(path).is_dir())

    def __post_init__(self) -> None:
        super().__post_init__()
        self._blocks, self._lists = Shared(BLOCKS), Shared(LISTS)
        self._latest: dict[str, ImageFile] = {}
        """The last known state of each archive, by its path."""

    def roots(self, path: str) -> list[str]:
        """An archive's content as `a.tar!`, or a folder in it; of each archive, if its path is a pattern."""
        archive, inner = _parts(path)
        outer = imgrec.source_of(archive, inside_others=False)
        return [f"{each}!{inner and '/'}{inner}".rstrip("/") for each in outer.roots(archive)]

    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        """The pictures of each archive in the order in which they lie there; several are listed at a time."""
        known = imgrec.image_suffixes()
        with ThreadPoolExecutor(self.at_once) as pool:
            parts = list(dict.fromkeys(map(_parts, roots)))
            listed = imgrec.ahead(pool, self._found, [archive for archive, _ in parts], self.at_once)
            for (_, inner), archive in zip(parts, listed, strict=True):
                for name in archive.members:
                    is_inside = not inner or f"{name}/".startswith(f"{inner}/")
                    if is_inside and os.path.splitext(name)[1].lower() in known:
                        yield archive.file_of(name)

    def state(self, path: str) -> ImageFile | None:
        """A file's place in the archive as that is now; of a folder or the archive, whether it is there."""
        name, inner = _parts(path)
        file = imgrec.source_of(name, inside_others=False).state(name)
        if file is None or file.problem:
            return file and replace(file, path=path)
        try:
            archive = self._of(file)
        except UnreadableImageError as error:
            return replace(file, path=path, problem=str(error))
        if inner in archive.members:
            return archive.file_of(inner)
        if not inner or any(each.startswith(f"{inner}/") for each in archive.members):
            return ImageFile(path, 0, 0, problem=imgrec.NOT_REGULAR)
        if archive.problem:  # it may lie behind the damage, and an archive that is whole may come back
            return ImageFile(path, 0, 0, problem=f"{imgrec.NOT_OPENED}: the archive is cut off or damaged")
        return None

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        """A file's bytes, from blocks of the archive that are of the state in which it was listed."""
        name, inner = _parts(path)
        try:
            file = self._latest.get(name)
            return self._read(self._of(file) if file else self._now(name), inner)
        except UnreadableImageError as error:
            if str(error) != imgrec.CHANGED:
                raise
            return self._read(self._now(name), inner)

    def _read(self, archive: Archive, inner: str) -> tuple[bytes, ImageFile]:
        if inner not in archive.members:
            raise UnreadableImageError(f"{imgrec.NOT_OPENED}: it is not in the archive")
        start, size = archive.members[inner]
        if start == SPARSE:
            raise UnreadableImageError("packed without its holes: pack it without tar's option --sparse")
        if size > MAX_BYTES:
            raise UnreadableImageError(f"too large: {size:,} bytes")
        first, last = start // BLOCK, (start + size - 1) // BLOCK
        data = b"".join(self._block(archive.file, number) for number in range(first, last + 1))
        data = data[start - first * BLOCK :][:size]
        if len(data) != size:
            raise UnreadableImageError("the archive is cut off")
        return data, archive.file_of(inner)

    def _block(self, file: ImageFile, number: int) -> bytes:
        """A block of an archive in the state that is given.

        Raises:
            UnreadableImageError: it is not in this state any more, or cannot be read.
        """

        def made() -> bytes:
            source = imgrec.source_of(file.path, inside_others=False)
            data, now = source.read_part(file.path, number * BLOCK, BLOCK)
            if now != file:
                raise UnreadableImageError(imgrec.CHANGED)
            return data

        return self._blocks.get((file, number), made)

    def _found(self, name: str) -> Archive:
        try:
            return self._now(name)
        except UnreadableImageError as error:
            raise imgrec.ImgrecError(f"{name} {error}") from None

    def _now(self, name: str) -> Archive:
        """An archive as it is now.

        Raises:
            UnreadableImageError: it is gone, or cannot be read.
        """
        file = imgrec.source_of(name, inside_others=False).state(name)
        if file is None or file.problem:
            raise UnreadableImageError((file and file.problem) or f"{imgrec.NOT_OPENED}: there is no {name}")
        return self._of(file)

    def _of(self, file: ImageFile) -> Archive:
        archive = self._lists.get(file, lambda: self._archive(file))
        self._latest[file.path] = file
        return archive

    def _archive(self, file: ImageFile) -> Archive:
        archive = Archive(file, *_kept(file, self._listed))
        if archive.problem:
            log.warning("%s is cut off or damaged: %d files of it are found", file.path, len(archive.members))
        return archive

    def _listed(self, file: ImageFile) -> List:
        found: dict[str, tuple[int, int]] = {}
        problem = ""
        try:
            with tarfile.open(fileobj=io.BufferedReader(_Blocks(self._block, file), BLOCK), mode="r:") as opened:
                for each in opened:
                    _add(found, each)
                problem = _unread(opened)
        except DAMAGE as error:
            if not found:
                raise UnreadableImageError(f"{imgrec.NOT_OPENED} as a tar archive: {error}") from None
            problem = str(error) or type(error).__name__
        return found, problem


def _add(found: dict[str, tuple[int, int]], member: tarfile.TarInfo) -> None:
    """Add a regular file, or a hard link to one that came before: whatever unpacking would write."""
    if member.size < 0:  # it would lead back to itself
        raise tarfile.ReadError("negative size")
    name, target = _named(member.name), _named(member.linkname)
    if not name:
        return
    if member.isreg():
        found[name] = (SPARSE if member.issparse() else member.offset_data, member.size)
    elif member.islnk() and target in found:
        found[name] = found[target]


def _unread(opened: tarfile.TarFile) -> str:
    """What is wrong where an archive was listed to: `tarfile` takes a header that it cannot read for the end."""
    assert opened.fileobj is not None
    opened.fileobj.seek(opened.offset)
    return "invalid header" if opened.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0") else ""


class _Blocks(io.RawIOBase):
    """An archive as a file of Python's, which reads block by block."""

    def __init__(self, block: Callable[[ImageFile, int], bytes], file: ImageFile) -> None:
        self._block, self._file, self._at = block, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        number, start = divmod(self._at, BLOCK)
        if self._at >= self._file.size:
            return 0
        some = self._block(self._file, number)[start : start + len(buffer)]
        buffer[: len(some)] = some
        self._at += len(some)
        return len(some)


def _parts(path: str) -> tuple[str, str]:
    """An archive and the name of a file or folder in it, which may be empty.

    >>> _parts("s3://b/shard-1.tar!/2024/a.jpg"), _parts("/photos/shard-1.tar")
    (('s3://b/shard-1.tar', '2024/a.jpg'), ('/photos/shard-1.tar', ''))
    """
    end = MARK.search(path)
    assert end is not None, path
    return path[: end.start() + 4], path[end.end() :].strip("/")


def _named(name: str) -> str:
    """A member's name as unpacking would make it, below the archive's folder.

    >>> _named("./a.jpg"), _named("../photos/a.jpg"), _named("/home/me/../you/a.jpg")
    ('a.jpg', 'photos/a.jpg', 'home/you/a.jpg')
    """
    return posixpath.normpath(f"/{name}").lstrip("/")


# --- lists in the cache folder ----------------------------------------------------------------------------------


def _kept(file: ImageFile, listed: Callable[[ImageFile], List]) -> List:
    """The list of an archive as it is kept, or else made, and kept from now on."""
    if file.stamp is None or (folder := _folder()) is None:
        return listed(file)
    kept = folder / f"{hashlib.sha256(repr((LISTING, file)).encode('utf-8', 'surrogateescape')).hexdigest()}.z"
    with contextlib.suppress(OSError, ValueError, TypeError, zlib.error):
        members, problem = json.loads(zlib.decompress(kept.read_bytes()))
        return {name: (int(start), int(size)) for name, (start, size) in members.items()}, str(problem)
    made = listed(file)
    with contextlib.suppress(OSError):  # the disk may be full or read-only
        _keep(kept, zlib.compress(json.dumps(made).encode(), 1))
    return made


def _keep(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".new-", delete=False) as opened:
        opened.write(data)
    Path(opened.name).replace(file)
    held = sorted((each.stat().st_mtime_ns, each.stat().st_size, each) for each in file.parent.iterdir())
    too_many = sum(size for _, size, _ in held) - MOST_KEPT
    for _, size, each in held:
        if too_many <= 0:
            break
        each.unlink(missing_ok=True)
        too_many -= size


@functools.cache
def _folder() -> Path | None:
    try:
        import platformdirs
    except ImportError:  # it comes with the extras tar and remote
        return None
    return platformdirs.user_cache_path("imgrec") / "tar"


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Source]]:
    """This plugin's components."""
    return [Tar]
