"""Stores keep the records of image files and their vectors."""

from __future__ import annotations

import itertools
import logging
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from imgrec import locks
from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.kinds import places
from imgrec.kinds.component import Component, Group
from imgrec.kinds.differences import Differences, differences
from imgrec.kinds.extractor import Space, Vectors
from imgrec.options import option

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One image file of a gallery."""

    path: str
    """Absolute; only the methods of a store's plugin see it relative to its folder, where `paths=relative`."""

    digest: str
    """SHA-256 of the file's bytes, in hexadecimal: identifies the content, whatever its path."""

    size: int
    """In bytes."""

    mtime_ns: int
    """When the content last changed, in nanoseconds since 1970."""

    missing: bool = False
    """The file was gone when last looked for. It stays recorded, since a drive may be unplugged."""

    stamp: str | None = None
    """Its source's token for the file's state; None: size and mtime are trusted."""

    width: int | None = None
    """In pixels, upright. None if unknown: ingested by an older imgrec, or without a decoder."""

    height: int | None = None

    taken: str | None = None
    """When the photograph was taken, as ISO 8601 text in the camera's time, `2024-05-31T18:04:09`."""

    warning: str | None = None
    """What the decoder warned of while it decoded the image."""


@dataclass(frozen=True)
class Failure:
    """One file that could not be read, and why."""

    path: str
    size: int
    mtime_ns: int
    reason: str
    time: float
    """When reading was tried, in seconds since 1970."""

    stamp: str | None = None
    """As in `Record`."""


@dataclass
class Batch:
    """Changes that a store makes as one transaction: all of them or none.

    A record replaces the record, failure or dismissal of its path; so does a failure.
    """

    records: list[Record] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Paths whose record, failure or dismissal is removed, before the new ones are added."""

    vectors: dict[Space, tuple[list[str], Vectors]] = field(default_factory=dict)
    """For each space, row-aligned digests and vectors."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """Small JSON data by name, replacing what was kept under the name; None removes it."""

    dismissed: list[str] = field(default_factory=list)
    """Paths forgotten on purpose: their record or failure is removed, and an ingest skips the file."""

    def __bool__(self) -> bool:
        return any((self.records, self.failures, self.forgotten, self.dismissed, self.vectors, self.metadata))


@dataclass(kw_only=True)
class Store(Component):
    """Keeps records of image files, and vectors by the digest of the content that they describe.

    So a renamed file keeps its vectors, copies share them, and an edited file has none until it is extracted
    again. Vectors of contents that no record has are dropped.

    All paths that its methods take and return are absolute. With `paths=relative` those below `folder` are kept
    relative to it: a plugin need not care, as the paths that its methods are given are as they are to be kept, and
    those that they return are made absolute (`kinds.places`). The store's metadata say which way it is.

    >>> import tempfile, imgrec
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with imgrec.build("store", "sqlite", path=f"{folder}/gallery.sqlite").open(create=True) as store:
    ...         store.write(Batch(records=[Record("/photos/a.jpg", "00ff", 1234, 0)]))
    ...         print([record.path for record in store.records()])
    ['/photos/a.jpg']
    """

    kind: ClassVar[str] = "store"
    groups: ClassVar[tuple[Group, ...]] = (
        Group("store", variable="IMGREC_STORE"),
        Group("backup", none="none", beside="store"),
    )

    paths: str | None = option(
        None,
        choices=(places.ABSOLUTE, places.RELATIVE),
        help="how paths below the store's folder are kept: a change converts all of them with the next ingest; "
        "relative ones travel with it; null: as they are, absolute in a new store",
    )

    transaction_size: ClassVar[int] = 1
    """The smallest worthwhile transaction, in images: an ingest plans and writes at least so many at a time."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let a plugin's methods see paths as they are kept, and their callers absolute ones."""
        super().__init_subclass__(**kwargs)
        for name, around in places.AROUND.items():
            if name in vars(cls):
                setattr(cls, name, around(vars(cls)[name]))

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether a file or folder is a store of this kind, whose option `path` names it; by default never.

        `imgrec.open("gallery.sqlite")` asks all of them. Look at what is there, not at its name.
        """
        return False

    @property
    @abstractmethod
    def location(self) -> str:
        """Where it is, for messages."""

    @abstractmethod
    def open(self, *, create: bool = False) -> Self:
        """Open the store, creating it if `create` is set and nothing is there. Idempotent.

        Raises:
            NoStoreError: nothing is there.
            UsageError: what is there is not a store of this kind.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; `open` may follow."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Apply a batch, atomically and durably."""

    @abstractmethod
    def drop(self, space: Space) -> None:
        """Remove a space with its vectors, atomically and durably, if it is there; records stay."""

    @abstractmethod
    def records(
        self, *, paths: Sequence[str] | None = None, digests: Sequence[str] | None = None
    ) -> Iterator[Record]:
        """All records, or those of the given paths, or those of the given digests; in any order."""

    @abstractmethod
    def failures(self, *, paths: Sequence[str] | None = None) -> Iterator[Failure]:
        """All failures, or those of the given paths; in any order."""

    @abstractmethod
    def dismissed(self, *, paths: Sequence[str] | None = None) -> set[str]:
        """The paths that were forgotten on purpose: all, or those among the given ones."""

    @abstractmethod
    def spaces(self) -> list[Space]:
        """The spaces that hold vectors, in the order in which they were first written."""

    @abstractmethod
    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        """The digests that have a vector in a space: all, or those among the given ones."""

    @abstractmethod
    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Row-aligned digests and vectors of a space: all, or those of the given digests that it has.

        Of what a run is writing, only whole batches are seen.
        """

    def blocks(
        self, space: Space, digests: Sequence[str] | None = None, size: int = 2048
    ) -> Iterator[tuple[list[str], Vectors]]:
        """What `vectors` returns, at most `size` rows at a time and each once, in memory for these alone.

        Of what a run is writing, only whole batches are seen. The thread that reads it writes nothing meanwhile.
        By default it asks `vectors` for so many digests at a time; override it where one pass reads all.
        """
        with self.snapshot():
            for some in chunks(sorted(self.digests(space, digests)), size):
                yield self.vectors(space, some)

    def copies(self, digests: Sequence[str] | None = None) -> Iterator[tuple[str, int]]:
        """Contents, all or some, and how many files there are of each: records that are not missing.

        Each content comes once, in any order, and none of which all files are missing.
        """
        counts = Counter(record.digest for record in self.records(digests=digests) if not record.missing)
        return iter(counts.items())

    def metadata(self) -> dict[str, Any]:
        """Small JSON data by name, kept with the gallery; empty for a store that keeps none."""
        return {}

    def problems(self) -> Iterator[str]:
        """Internal damage that only the store itself can detect, a line each; by default none.

        For example damage that its reading methods do not notice, or orphaned rows; harmless leftovers of an
        interrupted write are not damage.
        """
        return iter(())

    def size(self) -> int | None:
        """Bytes on disk; None if unknown."""
        return None

    def revision(self, space: Space) -> str | None:
        """A token that changes with every write to a space's vectors or the records; None if there is none.

        Caches of what is derived from the vectors are valid as long as it is the same. It can name a folder.
        """
        return None

    def changes(self, space: Space, since: str) -> tuple[set[str], set[str]] | None:
        """How the vectors of a space have changed since a revision.

        Returns:
            Digests removed and digests added since. A replaced vector is in both; one that was added and removed
            since may be in the first. None if unknown: the revision is not one of this store's, or too old.
        """
        return None

    @property
    def cache_folder(self) -> Path | None:
        """The folder for such caches; None if there is none."""
        return None

    @property
    def lock_file(self) -> Path | None:
        """The lock file of writers, beside the store; None if they need no lock."""
        return None

    @property
    def folder(self) -> str | None:
        """The folder that it lies in, an absolute path: that of its lock file. None if it lies in none."""
        return None if (file := self.lock_file) is None else os.path.abspath(file.parent)

    @property
    def keeps(self) -> str:
        """How it keeps paths now: `absolute` or `relative`."""
        return places.RELATIVE if self.metadata().get(places.NOTE) == places.RELATIVE else places.ABSOLUTE

    def named(self, path: str) -> str:
        """An absolute path as a store with relative paths has it: one that leads over links into its folder.

        That begins with the folder then, as the working directory may be `/private/tmp` where `/tmp` was typed.
        """
        folder = self.folder
        if folder is None or "://" in path or places.kept(path, folder) != path or self.keeps == places.ABSOLUTE:
            return path
        real, start = (os.path.realpath(each) for each in (path, folder))
        if real == start:
            return folder
        below = places.kept(real, start)
        return path if below == real else places.whole(below, folder)

    def keep_paths(self, how: str | None = None) -> None:
        """Keep all paths absolute or relative from now on, in one transaction; by default as the option says.

        Raises:
            UsageError: the option asks for relative ones, and the store lies in no folder or keeps no metadata.
        """
        with self.writing():
            if (how := how or self.paths) in (None, self.keeps):
                return
            folder = self.folder
            if folder is None or type(self).metadata is Store.metadata:
                if self.paths == places.RELATIVE:
                    why = "lies in no folder" if folder is None else "keeps no metadata"
                    raise UsageError(f"store={self.name} {why}, so its paths can only be absolute")
                return
            records = [row for row in self.records() if places.kept(row.path, folder) != row.path]
            failures = [row for row in self.failures() if places.kept(row.path, folder) != row.path]
            dismissed = [path for path in sorted(self.dismissed()) if places.kept(path, folder) != path]
            paths = [*(row.path for row in records), *(row.path for row in failures), *dismissed]
            metadata = {places.NOTE: places.RELATIVE if how == places.RELATIVE else None}
            self.write(Batch(records, failures, forgotten=paths, dismissed=dismissed, metadata=metadata))
        if paths:
            log.warning("%s: %s paths below %s are kept %s now", self.location, f"{len(paths):,}", folder, how)

    def writing(self) -> AbstractContextManager[None]:
        """Hold the exclusive lock of writers, across processes and threads; `write` takes it for its own batch.

        Waits for another writer, whom a line on stderr names. Readers take no lock. It is re-entrant in a thread,
        and released when the process ends, however it ends.

        Raises:
            UsageError: nothing can be written where the store is.
        """
        return nullcontext() if self.lock_file is None else locks.only_writer(self.lock_file, self.location)

    def snapshot(self) -> AbstractContextManager[None]:
        """Read a consistent snapshot of the open store in this thread, whatever others write meanwhile.

        By default there is none: each read sees the store as it is by then.
        """
        return nullcontext()

    def copy_from(
        self, other: Store, *, exactly: bool = False, only_lacking: bool = False, batch_size: int = 32_768
    ) -> int:
        """Copy records, failures, vectors and metadata of `other` that are missing here or differ.

        Args:
            other: the store to copy from, open.
            exactly: forget what `other` does not hold, and keep paths as it does, as a backup does.
            only_lacking: keep what differs here, since it may be newer.
            batch_size: images a transaction.

        Returns:
            How many images were copied or completed.
        """
        # A backup travels as its store does, and so does what is restored, unless told otherwise.
        self.keep_paths(self.paths or (other.keeps if exactly or self._is_empty() else None))
        copied = 0
        for found in differences(other, self, batch_size):
            kept = self._kept(found) if only_lacking else {}
            rows = [row for row in found.rows if isinstance(row, Record)]
            wanted = {row.digest for row in rows if kept.get(row.path, row.digest) == row.digest}
            vectors = {}
            for space, digests in found.lacking.items():
                if some := [digest for digest in digests if digest in wanted]:
                    vectors[space] = other.vectors(space, some)
            changed = [row for row in found.changed if row.path not in kept]
            records = [row for row in changed if isinstance(row, Record)]
            failures = [row for row in changed if isinstance(row, Failure)]
            # One transaction, so that an interrupted copy leaves no image without its vector.
            self.write(Batch(records, failures, vectors=vectors))
            new, completed = (
                {row.path for row in records},
                {name for names, _ in vectors.values() for name in names},
            )
            copied += sum(row.path in new or row.digest in completed for row in rows)
        self._copy_small(other, exactly=exactly, only_lacking=only_lacking)
        if exactly:
            for space in set(self.spaces()).difference(other.spaces()):
                self.drop(space)
            self._forget_all_but(other, batch_size)
        return copied

    def _kept(self, found: Differences) -> dict[str, str | None]:
        """What this store holds under the paths compared: a digest, or None for a failure or dismissal."""
        kept: dict[str, str | None] = dict.fromkeys(self.dismissed(paths=[row.path for row in found.changed]))
        return kept | {path: getattr(row, "digest", None) for path, row in found.others.items()}

    def _is_empty(self) -> bool:
        return not (any(True for _ in self.records()) or any(True for _ in self.failures()) or self.dismissed())

    def _copy_small(self, other: Store, *, exactly: bool, only_lacking: bool) -> None:
        kept, given = ({**store.metadata(), places.NOTE: None} for store in (self, other))
        if only_lacking:
            given = {name: value for name, value in given.items() if name not in kept}
        metadata = {name: value for name, value in given.items() if kept.get(name) != value}
        gone = dict.fromkeys(kept.keys() - given.keys()) if exactly else {}
        dismissed = other.dismissed() - self.dismissed()
        if only_lacking:
            for rows in (self.records, self.failures):
                dismissed -= {row.path for row in rows(paths=sorted(dismissed))}
        self.write(Batch(dismissed=sorted(dismissed), metadata={**metadata, **gone}))

    def _forget_all_but(self, other: Store, batch_size: int) -> None:
        held = [row.path for row in self.records()] + [row.path for row in self.failures()]
        for paths in chunks([*held, *self.dismissed()], batch_size):
            theirs = {record.path for record in other.records(paths=paths)}
            theirs |= {failure.path for failure in other.failures(paths=paths)}
            theirs |= other.dismissed(paths=paths)
            self.write(Batch(forgotten=[path for path in paths if path not in theirs]))

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def only_writer(*stores: Store | None) -> Iterator[None]:
    """Hold the exclusive locks of several stores; see `Store.writing`."""
    with ExitStack() as stack:
        # Always in the same order: two runs that use each other's store as backup must not deadlock.
        for store in sorted(filter(None, stores), key=lambda each: Path(each.location).absolute()):
            stack.enter_context(store.writing())
        yield


def free_name(name: str) -> Path:
    """A path that does not exist yet: the name, or one with a number appended, `gallery-2`."""
    numbered = (Path(name if i == 1 else f"{name}-{i}") for i in itertools.count(1))
    return next(path for path in numbered if not os.path.lexists(path))
