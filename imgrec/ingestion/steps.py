"""The steps of an ingest, which run concurrently: files are found, read, planned, extracted and written."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from imgrec import images
from imgrec.batches import chunks, groups
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery import recorded
from imgrec.ingestion import drives, rows
from imgrec.ingestion.report import IngestReport
from imgrec.ingestion.seen import Seen
from imgrec.kinds import (
    Batch,
    Engine,
    Extracted,
    Extractor,
    Failure,
    ImageFile,
    Item,
    Record,
    Space,
    Store,
    places,
)

log = logging.getLogger(__name__)

LOOKED_UP = 512
"""The least number of files that are looked up in the store together."""


def process(
    ingestion: Ingestion,
    files: Iterable[ImageFile],
    engine: Engine,
    batch_size: int,
    advance: Callable[[int], object],
) -> None:
    """Bring the stores up to date with files.

    This thread finds, plans and writes; the engine reads and extracts.

    Args:
        ingestion: what is done with them.
        files: as `images.find` yields them.
        engine: where they are read and extracted.
        batch_size: images that are extracted at once, and the least of a transaction.
        advance: a callback that takes the number of files done since the last call.
    """
    together = max(batch_size, ingestion.store.transaction_size)
    with contextlib.ExitStack() as stack:
        stack.push(lambda reason, *_: engine.close(at_once=reason is KeyboardInterrupt))
        engine.open(ingestion.spaces)
        while files:
            read = engine.read(ingestion.changed(files, advance))
            planned = ingestion.planned(groups(read, together, Item.memory, engine.planned_bytes))
            for transaction in joined(engine.extract(planned, batch_size), together):
                ingestion.write(transaction)
                advance(len(transaction.items))
            files = ingestion.take_put_off()


def joined(parts: Iterable[Extracted], count: int) -> Iterator[Extracted]:
    """Join what was extracted into transactions of at least `count` images, the last one aside."""
    waiting: list[Extracted] = []
    for part in parts:
        waiting.append(part)
        if sum(len(each.items) for each in waiting) >= count:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: Sequence[Extracted]) -> Extracted:
    if len(parts) == 1:
        return parts[0]
    vectors = {}
    for space in {space: None for part in parts for space in part.vectors}:
        digests, rows = zip(*(part.vectors[space] for part in parts if space in part.vectors), strict=True)
        vectors[space] = ([digest for some in digests for digest in some], np.concatenate(rows))
    return Extracted([item for part in parts for item in part.items], vectors)


class Ingestion:
    """The state that the steps of one ingest share."""

    def __init__(
        self,
        spaces: dict[Space, Extractor],
        stores: list[Store],
        report: IngestReport,
        exclusion: images.Exclusion,
        *,
        retry_failed: bool,
        bring_back: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.spaces, self.stores, self.report, self.retry_failed = spaces, stores, report, retry_failed
        self.exclusion, self._bring_back = exclusion, bring_back
        self.store = stores[0]  # written before its backup, which the next ingest makes equal to it
        self._failed_before = report.failed
        self._moved_from: set[str] = set()
        self._unreachable: set[str] = set()
        self.seen = Seen()
        """The paths that were found elsewhere, which are not asked for again: that is a request each."""

        self._put_off: list[ImageFile] = []
        self._on_their_way: dict[str, set[Space]] = {}
        """For each content that is being extracted, the spaces it is extracted into."""

        self._is_told = False

    def remember(self, chosen: Sequence[Extractor]) -> None:
        """Record each fusion, so that queries use all its terms, and the first space or fusion as the default."""
        specs = {_key(each): each.fusion_spec() for each in chosen}
        held, keys = self.store.metadata(), [space.key for space in self.store.spaces()]
        default = recorded.default_key(self.store) if keys else next(iter(specs))
        wanted = {recorded.DEFAULT: default} | {key: spec for key, spec in specs.items() if spec is not None}
        self._write(Batch(metadata={name: data for name, data in wanted.items() if held.get(name) != data}))
        if any(specs.values()) and wanted.keys() > self.store.metadata().keys():
            log.warning("store=%s keeps no metadata: give the fusion again with each query", self.store.name)
        for key in specs.keys() - {default, *held, *keys} if keys else ():
            log.warning(
                "images are still compared by %s: `space=%s` compares by the new one, `imgrec default %s` always",
                default,
                key,
                key,
            )

    def changed(self, files: Iterable[ImageFile], advance: Callable[[int], object]) -> Iterator[ImageFile]:
        """The files that are new, changed or lack vectors, without those forgotten on purpose."""
        for some in chunks(files, max(LOOKED_UP, self.store.transaction_size)):
            paths = [file.path for file in some]
            self.seen.add(file.path for file in some if "://" in file.path and not _is_out_of_reach(file.problem))
            records = {record.path: record for record in self.store.records(paths=paths)}
            failures = {failure.path: failure for failure in self.store.failures(paths=paths)}
            dismissed = self.store.dismissed(paths=paths)
            lacking = self._lacking([record.digest for record in records.values()])
            back = []
            for file in some:
                record, failure = records.get(file.path), failures.get(file.path)
                if record and self._is_done(record, file, lacking[record.digest]):
                    self.report.unchanged += 1
                    if record.missing:
                        back.append(replace(record, missing=False))
                elif failure and self._is_refused(failure, file):
                    self.report.failed += 1
                elif file.path in dismissed and not self._bring_back(file.path):
                    self.report.dismissed += 1
                else:
                    yield file
                    continue
                advance(1)
            self._write(Batch(records=back))

    def to_do(self, files: Iterable[ImageFile]) -> Iterator[ImageFile]:
        """The files that `changed` would yield; nothing is counted, told or written."""
        dry = copy.copy(self)
        dry.stores, dry.report, dry._is_told, dry.seen = [], IngestReport(), True, Seen()
        return dry.changed(files, lambda _: None)

    def _is_done(self, record: Record, file: ImageFile, lacking: Sequence[Space]) -> bool:
        """Whether a record holds for a file as it is, and as it is decoded now, in all spaces."""
        outdated = rows.outdated([record], [space for space in self.spaces if space not in lacking])
        if outdated and not self._is_told:
            self._is_told = True
            log.warning(
                "since this gallery was made, the decoding of some formats has changed: images that this may "
                "concern are decoded anew, and no others"
            )
        return rows.is_same(record, file) and not outdated and not lacking

    def _is_refused(self, failure: Failure, file: ImageFile) -> bool:
        return not self.retry_failed and rows.is_refused_again(failure, file)

    def planned(self, groups: Iterable[list[Item]]) -> Iterator[Item]:
        """Plan what to do with each file read: content that is known is not extracted again."""
        for some in groups:
            digests = [item.digest for item in some if item.digest]
            lacking = self._lacking(digests)
            known: dict[str, list[Record]] = {}
            for record in self.store.records(digests=digests):
                known.setdefault(record.digest, []).append(record)
            gone = self._gone_of(known, {item.file.path for item in some})
            unreachable = self._pass_over([item.file.path for item in some if _is_out_of_reach(item.reason)])
            for item in some:  # all of them before the first one is handed on, and something is written
                if item.digest and not lacking[item.digest]:
                    item.reason = None  # a library that is gone, say: not needed
                if item.reason is None:
                    older = rows.outdated(known.get(item.digest, []), self.spaces)
                    lacks = [space for space in self.spaces if space in lacking[item.digest] or space in older]
                    item.lacks = self._not_on_their_way(item.digest, lacks)
                    item.sides = {self.spaces[space].side for space in item.lacks}
                    self._find_move(item, known.get(item.digest, []), gone)
            yield from (item for item in some if item.file.path not in unreachable)

    def _not_on_their_way(self, digest: str, lacked: list[Space]) -> list[Space]:
        """The spaces that no other file of this content is being extracted into; they are now marked so."""
        under_way = self._on_their_way.setdefault(digest, set())
        lacks = [space for space in lacked if space not in under_way]
        under_way.update(lacks)
        return lacks

    def _pass_over(self, paths: Sequence[str]) -> set[str]:
        """Of files that cannot be opened, those that are not failures: recorded before, or gone by now.

        Recorded ones become missing but keep their vectors, since a drive may be unplugged.
        """
        recorded = {record.path for record in self.store.records(paths=paths)}
        self._unreachable |= recorded
        return recorded | {path for path in paths if images.state(path) is None}

    def _gone_of(self, known: Mapping[str, list[Record]], here: Set[str]) -> set[str]:
        """The paths of known contents at which nothing is any more; not asked are those that were just read."""
        paths = [each.path for records in known.values() for each in records if each.path not in here]
        return {path for path, is_gone in zip(paths, images.each(self._is_gone, paths), strict=True) if is_gone}

    def _find_move(self, item: Item, known: list[Record], gone: Set[str]) -> None:
        if any(record.path == item.file.path for record in known):
            item.counts_as = "unchanged"  # touched, or to be extracted into one more space
            return
        left = [each.path for each in known if each.path in gone and each.path not in self._moved_from]
        if left:
            item.counts_as, item.forgets = "moved", left[:1]
            self._moved_from.update(item.forgets)

    def _is_gone(self, path: str) -> bool:
        """Whether a recorded file is gone for certain, not on another computer that shares a travelling store."""
        folder = self.store.folder
        if folder is not None and self.store.keeps == places.RELATIVE and not images.is_inside(path, {folder}):
            return images.state(path) is None and images.is_there(os.path.split(path)[0])
        return images.state(path) is None

    def _lacking(self, digests: Sequence[str]) -> dict[str, list[Space]]:
        """For each content, the spaces in which it has no vector yet."""
        held = {space: self.store.digests(space, digests) for space in self.spaces}
        return {digest: [space for space in self.spaces if digest not in held[space]] for digest in digests}

    def write(self, batch: Extracted) -> None:
        """Write what was extracted as one transaction, and count it."""
        self._put_off_orphans(batch)
        self._share_warnings(batch)
        good = [item for item in batch.items if item.reason is None]
        bad = [item for item in batch.items if item.reason is not None]
        forgotten = [path for item in good for path in item.forgets]
        self._write(Batch(self._records(good), list(map(rows.failure, bad)), forgotten, batch.vectors))
        for item in bad:
            _warn(item, item.reason or "")
        for item in good:
            if item.warnings:
                self.report.damaged += 1
                _warn(item, f"read with damage: {'; '.join(item.warnings)}")
        for item in batch.items:
            counts_as = "failed" if item.reason is not None else item.counts_as
            setattr(self.report, counts_as, getattr(self.report, counts_as) + 1)
        self.report.extracted += sum(len(digests) for digests, _ in batch.vectors.values())

    def _records(self, items: Sequence[Item]) -> list[Record]:
        before = {each.path: each for each in self.store.records(paths=[item.file.path for item in items])}
        return [rows.record(item, before.get(item.file.path), self.spaces) for item in items]

    def note_decoding(self) -> None:
        """Note of the spaces that nothing of older decoding is left in them, so that searches need not look."""
        held = recorded.decodings(self.store)
        keys = [space.key for space in self.spaces if held.get(space.key) != images.versions.CURRENT]
        if keys and not any(recorded.is_outdated(record, keys) for record in self.store.records()):
            current = dict.fromkeys(keys, images.versions.CURRENT)
            self._write(Batch(metadata={recorded.DECODING: {**held, **current}}))

    def _share_warnings(self, batch: Extracted) -> None:
        """Give items that were not decoded, as their content is known, the warning that it had when it was."""
        warnings = {item.digest: item.warnings for item in batch.items if item.lacks and item.warnings}
        known = [item.digest for item in batch.items if not item.lacks]
        for record in self.store.records(digests=known) if known else ():
            if record.warning:
                warnings.setdefault(record.digest, [record.warning])
        for item in batch.items:
            item.warnings = item.warnings or warnings.get(item.digest, [])

    def _put_off_orphans(self, batch: Extracted) -> None:
        """Postpone items that lack a vector after all.

        The last other file of their content has changed since planning, or failed to be extracted.
        """
        for item in batch.items:
            self._on_their_way.pop(item.digest, None)
        kept = [item for item in batch.items if item.reason is None and len(item.lacks) < len(self.spaces)]
        lacking = self._lacking([item.digest for item in kept])
        new = {space: set(digests) for space, (digests, _) in batch.vectors.items()}
        orphans = {
            item.file
            for item in kept
            if any(item.digest not in new.get(space, ()) for space in lacking[item.digest])
        }
        batch.items = [item for item in batch.items if item.file not in orphans]
        self._put_off += orphans

    def take_put_off(self) -> list[ImageFile]:
        """Return the postponed files, to be read and planned again, and clear the list."""
        files, self._put_off = self._put_off, []
        return files

    def mark_missing(self, roots: Sequence[str], present: Sequence[str]) -> None:
        """Mark recorded files under the roots that are gone or excluded as missing; forget such failures.

        Args:
            roots: of the ingest.
            present: those of them that can be reached; nothing is asked for below others.
        """
        below, away, excluded = set(roots), set(roots) - set(present), 0
        gone: list[Record] = []
        unseen: list[Record] = []
        inside = (record for record in self.store.records() if images.is_inside(record.path, below))
        for some in chunks(inside, 4096):
            for record, is_seen in zip(some, self.seen.has([each.path for each in some]), strict=True):
                if is_seen and record.path not in self._unreachable:
                    continue  # found, so not excluded either
                if self.exclusion(record.path):
                    gone.append(record)
                    excluded += not record.missing
                elif record.path in self._unreachable or images.is_inside(record.path, away):
                    gone.append(record)
                else:
                    unseen.append(record)
        there = images.are_there(record.path for record in unseen)
        gone += (record for record, is_there in zip(unseen, there, strict=True) if not is_there)
        if excluded:
            log.warning("%s images are excluded now, so they count as missing", f"{excluded:,}")
        self.report.missing += len(gone)
        marked = (replace(record, missing=True) for record in gone if not record.missing)
        for some in chunks(marked, 4096):
            self._write(Batch(records=some))
        failed = [f.path for f in self.store.failures() if images.is_inside(f.path, below)]
        lost = [path for path, is_gone in zip(failed, self._are_gone(failed), strict=True) if is_gone]
        for paths in chunks(lost, 4096):
            self._write(Batch(forgotten=paths))

    def _are_gone(self, paths: Sequence[str]) -> Iterator[bool]:
        """Whether each path is excluded, or nothing is there for certain."""
        return images.each(lambda path: self.exclusion(path) or images.state(path) is None, paths)

    def forget_missing(self, roots: Sequence[str], *, force: bool) -> None:
        """Forget the missing files under the roots, except those that may still be there.

        Raises:
            UsageError: that is more than half of the gallery, or the drive that they were on may be away; and
                `force` is not set.
        """
        below, recorded = set(roots), 0
        marked: list[str] = []
        for record in self.store.records():
            recorded += 1
            if record.missing and images.is_inside(record.path, below):
                marked.append(record.path)
        missing: list[str] = []
        kept: list[str] = []
        for path, is_gone in zip(marked, self._are_gone(marked), strict=True):
            (missing if is_gone else kept).append(path)
        if kept:
            log.warning("%s missing images are not forgotten: they may be there, as %s", f"{len(kept):,}", kept[0])
        if 2 * len(missing) > recorded and not force:
            raise UsageError(
                f"{len(missing):,} of the gallery's {recorded:,} images are missing, and none was forgotten: "
                f"is a drive unplugged? force=true forgets them"
            )
        away = next((root for root in roots if drives.may_be_away(self.store, root)), None)
        if missing and away and not force:
            raise UsageError(
                f"{len(missing):,} images are missing, and none was forgotten: the drive of {away} may be "
                f"unplugged, or another one be in its place; force=true forgets them"
            )
        if missing:
            log.warning("forgetting %s missing images of %s", f"{len(missing):,}", f"{recorded:,}")
        for paths in chunks(missing, 4096):
            self._write(Batch(forgotten=paths))
        self.report.pruned += len(missing)

    def record_drives(self, roots: Sequence[str]) -> None:
        """Record on which drives the roots are, by which a later ingest tells deleted from unplugged."""
        self._write(Batch(metadata=drives.changes(self.store, roots)))

    def check_read(self, roots: Sequence[str], total: int) -> None:
        """Fail if none of a source's files could be read.

        Raises:
            ImgrecError: with the first file's reason.
        """
        if not total or self.report.failed - self._failed_before < total:
            return
        below = set(roots)
        inside = (failure for failure in self.store.failures() if images.is_inside(failure.path, below))
        if example := min(inside, key=lambda failure: failure.path, default=None):
            raise ImgrecError(f"none of the {total:,} files could be read: {example.path}: {example.reason}")

    def _write(self, batch: Batch) -> None:
        for store in self.stores:
            store.write(batch)


def _key(extractor: Extractor) -> str:
    """What a space or fusion is recorded by."""
    fusion_spec = extractor.fusion_spec()
    return Space.of(extractor).key if fusion_spec is None else recorded.fusion_key(fusion_spec)


def _warn(item: Item, message: str) -> None:
    path = item.file.path
    log.warning("%s: %s", path if path.isprintable() else ascii(path), message)


def _is_out_of_reach(reason: str | None) -> bool:
    return reason is not None and reason.startswith(images.NOT_OPENED)
