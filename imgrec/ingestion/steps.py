"""The steps of an ingest: files are planned, read, decoded and extracted ahead of each other, and written."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from imgrec import images, registry
from imgrec.batches import chunks, groups
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery import similarity
from imgrec.images import Encoded, ImageFile
from imgrec.kinds import Batch, Extractor, Failure, Image, Record, Space, Store, Vectors
from imgrec.threads import ahead, cores

log = logging.getLogger(__name__)

# Memory, in bytes. What is larger than one of these is on its way alone: nothing is read or decoded beside it.
READ_AHEAD = 64_000_000
"""Of files that are read ahead, and again of those that are looked up in the store."""

DECODED_AHEAD = 96_000_000
"""Of images that are decoded ahead, for each core."""

BATCH = 64_000_000
"""Of a batch's images, which ends here even if it is not full; three are under way."""


@dataclass
class Summary:
    """What an ingest found, in numbers of files."""

    new: int = 0
    """Extracted, or found to be a copy of an image that was."""

    unchanged: int = 0
    moved: int = 0
    """Known by their content under a path that is no longer there."""

    missing: int = 0
    """Recorded below the source, and not there any more."""

    failed: int = 0
    """Could not be read; see the store's failures."""

    extracted: int = 0
    """Vectors made."""

    pruned: int = 0
    """Missing, and forgotten because it was asked for."""

    def __str__(self) -> str:
        counts = asdict(self)
        if not self.pruned:  # mostly nobody has asked for it
            del counts["pruned"]
        return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def process(job: Job, files: Iterable[ImageFile], batch_size: int, advance: Callable[[int], object]) -> None:
    """Bring the stores up to date with files.

    This thread looks for files, plans and writes; others read, decode and extract ahead of it.

    Args:
        job: what is done with them.
        files: as `images.find` has them.
        batch_size: images a transaction.
        advance: told how many files are done.
    """
    threads = cores()
    at_most = threads * DECODED_AHEAD
    pool, extraction = ThreadPoolExecutor(threads), ThreadPoolExecutor(1)

    def extracted(some: Iterable[ImageFile]) -> Iterator[_Extracted]:
        read = ahead(pool, _read, job.changed(some, advance), 4 * threads, lambda file: file.size, READ_AHEAD)
        planned = job.planned(groups(read, 2 * threads, _Item.memory, READ_AHEAD))
        decoded = ahead(pool, lambda item: _decode(item, at_most), planned, 4 * threads, _Item.memory, at_most)
        batches = groups(decoded, batch_size, _Item.memory, BATCH)
        return ahead(extraction, job.extracted, batches, 2, _memory, 2 * BATCH)

    with contextlib.ExitStack() as stack:
        for each in (pool, extraction):
            stack.push(functools.partial(_shut_down, each))
        while files:
            for batch in extracted(files):
                job.write(batch)
                advance(len(batch.items))
            files = job.take_put_off()


def _shut_down(pool: ThreadPoolExecutor, reason: object, *_: object) -> None:
    """End a pool. After Ctrl-C nobody waits for a batch that takes long."""
    pool.shutdown(wait=reason is not KeyboardInterrupt, cancel_futures=True)


# --- one file, one batch ------------------------------------------------------------------------------------


@dataclass
class _Item:
    """One file on its way through an ingest."""

    file: ImageFile
    encoded: Encoded | None = None
    """What was read, until it is decoded."""

    digest: str = ""
    reason: str | None = None
    """Why it cannot be read."""

    counts_as: str = "new"
    forgets: list[str] = field(default_factory=list)
    """The paths that it was moved from."""

    lacks: list[Space] = field(default_factory=list)
    """The spaces to extract it into."""

    sides: set[int | None] = field(default_factory=set)
    images: dict[int | None, Image] = field(default_factory=dict)
    """Decoded for each side that an extractor asks for."""

    def memory(self) -> int:
        """Bytes that it takes, or will take while it is decoded."""
        if self.encoded:
            return self.encoded.memory(self.sides)
        return sum(image.nbytes for image in {id(image): image for image in self.images.values()}.values())


def _memory(items: Iterable[_Item]) -> int:
    return sum(item.memory() for item in items)


def _read(file: ImageFile) -> _Item:
    item = _Item(file, reason=file.problem)
    if not file.problem:
        try:
            data, item.digest, item.file = images.read_as_found(file.path)
            item.encoded = Encoded.of(data)
        except images.UnreadableImageError as error:
            item.reason = str(error)
    return item


def _decode(item: _Item, at_most: int | None = None) -> _Item:
    """Decode an image, unless that takes more than `at_most` bytes."""
    if item.encoded and (at_most is None or item.memory() <= at_most):
        try:
            item.images = item.encoded.decode(item.sides)
        except images.UnreadableImageError as error:
            item.reason = str(error)
        item.encoded = None
    return item


@dataclass
class _Extracted:
    """A batch of files whose vectors are there."""

    items: list[_Item]
    vectors: dict[Space, tuple[list[str], Vectors]]


class Job:
    """What the steps of one ingest share."""

    def __init__(
        self, spaces: dict[Space, Extractor], stores: list[Store], summary: Summary, *, retry_failed: bool
    ) -> None:
        self.spaces, self.stores, self.summary, self.retry_failed = spaces, stores, summary, retry_failed
        self.store = stores[0]  # written before its backup, which is made equal to it when the next ingest begins
        self._failed_before = summary.failed
        self._moved_from: set[str] = set()
        self._unreachable: set[str] = set()
        self._put_off: list[ImageFile] = []

    def note(self, extractor: Extractor) -> None:
        """Have the stores know an extractor of several terms, so that a query is compared by all of them."""
        if (recipe := extractor.recipe()) is None:
            return
        name = similarity.note_of(recipe)
        if self.store.notes().get(name) != recipe:
            self._write(Batch(notes={name: recipe}))
        if name not in self.store.notes():
            log.warning("store=%s keeps no notes: give the fusion again with each query", self.store.name)

    def changed(self, files: Iterable[ImageFile], advance: Any) -> Iterator[ImageFile]:
        """The files that the store does not have as they are: by size and time of change."""
        for some in chunks(files, 512):
            paths = [file.path for file in some]
            records = {record.path: record for record in self.store.records(paths=paths)}
            failures = {failure.path: failure for failure in self.store.failures(paths=paths)}
            lacking = self._lacking([record.digest for record in records.values()])
            back = []
            for file in some:
                record, failure = records.get(file.path), failures.get(file.path)
                if record and _same(record, file) and not lacking[record.digest]:
                    self.summary.unchanged += 1
                    if record.missing:
                        back.append(Record(record.path, record.digest, record.size, record.mtime_ns))
                elif failure and _same(failure, file) and not self._is_tried_again(failure):
                    self.summary.failed += 1
                else:
                    yield file
                    continue
                advance(1)
            self._write(Batch(records=back))

    def _is_tried_again(self, failure: Failure) -> bool:
        return self.retry_failed or images.is_worth_another_try(failure.reason)

    def planned(self, groups: Iterable[list[_Item]]) -> Iterator[_Item]:
        """The files read, with what is to be done for each: content that is known is not extracted again."""
        for some in groups:
            digests = [item.digest for item in some if item.digest]
            lacking = self._lacking(digests)
            known: dict[str, list[Record]] = {}
            for record in self.store.records(digests=digests):
                known.setdefault(record.digest, []).append(record)
            unreachable = self._pass_over([item.file.path for item in some if _is_out_of_reach(item)])
            for item in some:
                if item.digest and not lacking[item.digest]:
                    item.reason = None  # a library that is gone, say: it is not needed
                if item.reason is None:
                    item.lacks = lacking[item.digest]
                    item.sides = {self.spaces[space].side for space in item.lacks}
                    self._tell_move(item, known.get(item.digest, []))
                if item.file.path not in unreachable:
                    yield item

    def _pass_over(self, paths: Sequence[str]) -> set[str]:
        """Of files that cannot be opened, those that are no failures: recorded before, or gone by now.

        What was extracted of them is kept, for a drive may be unplugged: they are missing.
        """
        recorded = {record.path for record in self.store.records(paths=paths)}
        self._unreachable |= recorded
        return recorded | {path for path in paths if _is_gone(path, follow_links=False)}

    def _tell_move(self, item: _Item, known: list[Record]) -> None:
        if any(record.path == item.file.path for record in known):
            item.counts_as = "unchanged"  # touched, or to be extracted into one more space
            return
        gone = [r.path for r in known if r.path not in self._moved_from and _is_gone(r.path)]
        if gone:
            item.counts_as, item.forgets = "moved", gone[:1]
            self._moved_from.update(item.forgets)

    def _lacking(self, digests: Sequence[str]) -> dict[str, list[Space]]:
        """For each content, the spaces in which it has no vector yet."""
        held = {space: self.store.digests(space, digests) for space in self.spaces}
        return {digest: [space for space in self.spaces if digest not in held[space]] for digest in digests}

    def extracted(self, items: list[_Item]) -> _Extracted:
        """A batch with its vectors, and without its pixels."""
        vectors = {}
        for item in items:
            _decode(item)  # what was too large to be decoded beside others
        for space, extractor in self.spaces.items():
            todo = [item for item in items if item.reason is None and space in item.lacks]
            if todo:
                decoded = [item.images[extractor.side] for item in todo]
                found = registry.extract(extractor, decoded, [item.file.path for item in todo])
                vectors[space] = ([item.digest for item in todo], found)
        for item in items:
            item.images.clear()
        return _Extracted(items, vectors)

    def write(self, batch: _Extracted) -> None:
        """Write a batch as one transaction, and count it."""
        self._put_off_orphans(batch)
        good = [item for item in batch.items if item.reason is None]
        bad = [item for item in batch.items if item.reason is not None]
        forgotten = [path for item in good for path in item.forgets]
        self._write(Batch([_record(item) for item in good], list(map(_failure, bad)), forgotten, batch.vectors))
        for item in bad:
            path = item.file.path
            log.warning("%s: %s", path if path.isprintable() else ascii(path), item.reason)
        for item in batch.items:
            counts_as = "failed" if item.reason is not None else item.counts_as
            setattr(self.summary, counts_as, getattr(self.summary, counts_as) + 1)
        self.summary.extracted += sum(len(digests) for digests, _ in batch.vectors.values())

    def _put_off_orphans(self, batch: _Extracted) -> None:
        """Leave out whose vector is gone since it was planned: the last other file of its content was changed."""
        kept = [item for item in batch.items if item.reason is None and len(item.lacks) < len(self.spaces)]
        lacking = self._lacking([item.digest for item in kept])
        orphans = {item.file for item in kept if set(lacking[item.digest]).difference(item.lacks)}
        batch.items = [item for item in batch.items if item.file not in orphans]
        self._put_off += orphans

    def take_put_off(self) -> list[ImageFile]:
        """The files that are to be read and planned another time."""
        files, self._put_off = self._put_off, []
        return files

    def mark_missing(self, roots: Sequence[str]) -> None:
        """Mark the recorded files under the roots that are not there any more; forget such failures.

        Raises:
            ImgrecError: a root itself is gone.
        """
        if lost := next((root for root in roots if not os.path.exists(root)), None):
            raise ImgrecError(f"source {lost} is gone: what was read of it is kept, the rest left as it was")
        below = set(roots)
        inside = (r for r in self.store.records() if images.is_inside(r.path, below))
        gone = [r for r in inside if r.path in self._unreachable or not os.path.exists(r.path)]
        self.summary.missing += len(gone)
        marked = (Record(r.path, r.digest, r.size, r.mtime_ns, missing=True) for r in gone if not r.missing)
        for some in chunks(marked, 4096):
            self._write(Batch(records=some))
        failed = (f.path for f in self.store.failures() if images.is_inside(f.path, below))
        for paths in chunks([path for path in failed if _is_gone(path, follow_links=False)], 4096):
            self._write(Batch(forgotten=paths))

    def forget_missing(self, roots: Sequence[str], *, force: bool) -> None:
        """Forget the recorded files under the roots that are missing; but for those that may be there still.

        Raises:
            UsageError: that is more than half of the gallery, and `force` is not set.
        """
        below, recorded = set(roots), 0
        missing: list[str] = []
        kept: list[str] = []
        for record in self.store.records():
            recorded += 1
            if record.missing and images.is_inside(record.path, below):
                (missing if _is_gone(record.path) else kept).append(record.path)
        if kept:
            log.warning("%s missing images are not forgotten: they may be there, as %s", f"{len(kept):,}", kept[0])
        if 2 * len(missing) > recorded and not force:
            raise UsageError(
                f"{len(missing):,} of the gallery's {recorded:,} images are missing, and none was forgotten: "
                f"is a drive unplugged? force=true forgets them"
            )
        if missing:
            log.warning("forgetting %s missing images of %s", f"{len(missing):,}", f"{recorded:,}")
        for paths in chunks(missing, 4096):
            self._write(Batch(forgotten=paths))
        self.summary.pruned += len(missing)

    def check_read(self, roots: Sequence[str], total: int) -> None:
        """Tell a source of which nothing could be read.

        Raises:
            ImgrecError: with the first file's reason.
        """
        if not total or self.summary.failed - self._failed_before < total:
            return
        below = set(roots)
        inside = (failure for failure in self.store.failures() if images.is_inside(failure.path, below))
        if example := min(inside, key=lambda failure: failure.path, default=None):
            raise ImgrecError(f"none of the {total:,} files could be read: {example.path}: {example.reason}")

    def _write(self, batch: Batch) -> None:
        for store in self.stores:
            store.write(batch)


def _is_out_of_reach(item: _Item) -> bool:
    return item.reason is not None and item.reason.startswith(images.NOT_OPENED)


def _same(known: Record | Failure, file: ImageFile) -> bool:
    return (known.size, known.mtime_ns) == (file.size, file.mtime_ns)


def _record(item: _Item) -> Record:
    return Record(item.file.path, item.digest, item.file.size, item.file.mtime_ns)


def _failure(item: _Item) -> Failure:
    return Failure(item.file.path, item.file.size, item.file.mtime_ns, item.reason or "", time.time())


def _is_gone(path: str, *, follow_links: bool = True) -> bool:
    """Whether there is no such file: one without the right to open it, or on a disk that fails, may be there."""
    try:
        os.stat(path, follow_symlinks=follow_links)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
