"""Whether a gallery is sound, and what can be put right."""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgrec import images
from imgrec.batches import chunks
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery import fitted, recorded
from imgrec.kinds import Batch, Record, Space, Store
from imgrec.kinds.differences import differences
from imgrec.kinds.store import only_writer
from imgrec.run import progress
from imgrec.search import approximate, files

CHANGED = "it has another content than when it was extracted"

AT_ONCE = 16_384
"""Vectors that are looked at together."""


@dataclass
class Finding:
    """What one check found."""

    check: str
    looked_at: int
    wrong: list[str] = field(default_factory=list)
    """A line for each thing that is wrong; it begins with the path where it is a file's."""

    fixed: int = 0
    """How many of these were put right."""

    @property
    def left(self) -> int:
        """How many are wrong still."""
        return len(self.wrong) - self.fixed


Repair = Callable[[], int]
"""What puts right what a check found; how many of it."""


def verify(
    store: Store,
    backup: Store | None = None,
    *,
    sample: int | None = 1000,
    fix: bool = False,
    seed: int = 0,
    show_progress: bool = False,
) -> list[Finding]:
    """Check a store, its files, what is derived of it, and its backup.

    Args:
        store: what `ingest` filled.
        backup: what shall hold the same.
        sample: how many files are read to compare their digests; None for all.
        fix: put right what can be derived. Records of files that have another content are dropped, and those of
            files with vectors that are no numbers, so that the next ingest extracts them; files that are gone are
            marked as missing; derived files are deleted; a backup is made equal to a store that is sound. What
            is not there to be read or extracted again is left alone.
        seed: of the sample.
        show_progress: a progress bar on stderr.

    Returns:
        A `Finding` for each check.

    Raises:
        UsageError: no such store or backup; both are one.
    """
    if backup is not None and Path(backup.location).absolute() == Path(store.location).absolute():
        raise UsageError(f"store and backup are both {store.location}: give backup.path=")
    findings: list[Finding] = []

    def check(name: str, function: Callable[..., Repair], *others: Any) -> None:
        """Do one check, and repair what it found; one that cannot be finished is wrong as well."""
        finding = Finding(name, 0)
        findings.append(finding)
        try:
            repair = function(finding, store, *others)
            if fix and finding.wrong:
                finding.fixed = repair()
        except (ImgrecError, OSError) as error:
            finding.wrong.append(f"cannot be checked: {error}")

    with store, only_writer(store, backup) if fix else store.snapshot():
        check("database", _database)
        check("rows", _rows)
        check("vectors", _vectors)
        check("files", _files)
        check("digests", _digests, sample, seed, show_progress)
        check("derived files", _cache)
        if backup is not None:
            is_sound = not any(finding.left for finding in findings)
            try:
                backup.open()
            except UsageError:  # there is none
                raise
            except ImgrecError as error:
                findings.append(Finding("backup", 0, [f"cannot be checked: {error}"]))
            else:
                with backup:
                    check("backup", _backup, backup, is_sound)
    return findings


def _nothing() -> int:
    return 0


def _database(finding: Finding, store: Store) -> Repair:
    """What only the store knows of itself."""
    finding.looked_at = sum(1 for _ in store.records()) + sum(1 for _ in store.failures())
    finding.wrong += list(store.problems())
    try:
        recorded.fusion_specs(store)
    except ImgrecError as error:
        finding.wrong.append(str(error))
    return _nothing


def _rows(finding: Finding, store: Store) -> Repair:
    """Every record has a vector, and every vector a record."""
    held = {digest for space in store.spaces() for digest in store.digests(space)}
    bare: list[Record] = []
    recorded = set()
    for record in store.records():
        finding.looked_at += 1
        recorded.add(record.digest)
        if record.digest not in held:
            bare.append(record)
    finding.wrong += [f"{record.path}: it has no vector" for record in bare]
    finding.wrong += [f"the content {digest} has vectors and no file" for digest in sorted(held - recorded)]
    return lambda: _forget(store, [record for record in bare if images.is_file(record.path)])


def _vectors(finding: Finding, store: Store) -> Repair:
    """Every vector that is listed is there, and its values are finite."""
    lines: Counter[str] = Counter()
    """For each content with such a vector, how many lines tell of it."""
    for space in store.spaces():
        for digests in chunks(sorted(store.digests(space)), AT_ONCE):
            finding.looked_at += len(digests)
            unreadable = _unreadable(store, space, digests)
            for record in store.records(digests=unreadable):
                finding.wrong.append(f"{record.path}: its vector in {space.key} cannot be read")
                lines[record.digest] += 1
            readable = sorted(set(digests).difference(unreadable))
            names, vectors = store.vectors(space, readable)
            wrong = {name for name, row in zip(names, vectors, strict=True) if not np.isfinite(row).all()}
            for record in store.records(digests=sorted(wrong)):
                finding.wrong.append(f"{record.path}: its vector in {space.key} has values that are not finite")
                lines[record.digest] += 1
            for digest in sorted(set(readable) - set(names)):
                finding.wrong.append(f"the content {digest} lacks its vector in {space.key}")
                lines[digest] += 1

    def repair() -> int:
        """A content goes as a whole or not at all: any file of it would keep the vector."""
        files: dict[str, list[Record]] = {}
        for record in store.records(digests=sorted(lines)):
            files.setdefault(record.digest, []).append(record)
        there = {name: some for name, some in files.items() if all(images.is_file(r.path) for r in some)}
        _forget(store, [record for some in there.values() for record in some])
        return sum(lines[digest] for digest in there)

    return repair


def _unreadable(store: Store, space: Space, digests: Sequence[str]) -> list[str]:
    """The contents whose vectors cannot be read, found by halves.

    Raises:
        ImgrecError: not only those of some contents.
    """
    try:
        store.vectors(space, digests)
    except ImgrecError:
        store.vectors(space, [])
        if len(digests) == 1:
            return list(digests)
        half = len(digests) // 2
        return [*_unreadable(store, space, digests[:half]), *_unreadable(store, space, digests[half:])]
    return []


def _files(finding: Finding, store: Store) -> Repair:
    """Every file that is not marked as missing is there."""
    gone = []
    for record in store.records():
        if not record.missing:
            finding.looked_at += 1
            if not images.is_there(record.path):
                gone.append(record)
    finding.wrong += [f"{record.path}: it is gone, and not marked as missing" for record in gone]

    def repair() -> int:
        for some in chunks(gone, 4096):
            store.write(Batch(records=[replace(record, missing=True) for record in some]))
        return len(gone)

    return repair


def _digests(finding: Finding, store: Store, sample: int | None, seed: int, show_progress: bool) -> Repair:
    """Files have the content that their records say."""
    records = sorted((r for r in store.records() if images.is_there(r.path)), key=lambda record: record.path)
    if sample is not None and sample < len(records):
        records = random.Random(seed).sample(records, sample)
    changed = []
    with progress("verify", len(records), shown=show_progress) as advance:
        for record in records:
            finding.looked_at += 1
            if problem := _problem(record):
                finding.wrong.append(f"{record.path}: {problem}")
                if problem == CHANGED:
                    changed.append(record)
            advance(1)
    return lambda: _forget(store, changed)


def _problem(record: Record) -> str | None:
    """What is wrong with a file that is there; None where its content is the one recorded."""
    try:
        _, digest = images.read(record.path)
    except images.UnreadableImageError as error:
        if str(error).startswith(images.NOT_OPENED):
            return f"it cannot be read: {str(error).removeprefix(f'{images.NOT_OPENED}: ')}"
        return CHANGED  # no file any more, but a folder or a pipe; or one too large for an image
    return None if digest == record.digest else CHANGED


def _forget(store: Store, records: Sequence[Record]) -> int:
    for some in chunks(records, 4096):
        store.write(Batch(forgotten=[record.path for record in some]))
    return len(records)


def _cache(finding: Finding, store: Store) -> Repair:
    """The files that searches map are those of the store as it is now."""
    bad = []
    whole = (files.check(files.whole(store, space)) for space in store.spaces())
    for folder, problem in itertools.chain(*whole, fitted.check(store), approximate.check(store)):
        finding.looked_at += 1
        if problem is not None:
            finding.wrong.append(f"{folder}: {problem}")
            bad.append(folder)

    def repair() -> int:
        for folder in bad:
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        return len(bad)

    return repair


# --- the backup ---------------------------------------------------------------------------------------------


def _backup(finding: Finding, store: Store, backup: Store, is_sound: bool) -> Repair:
    """The backup is sound and holds what the store holds, and no more."""
    damages = [f"{backup.location}: {problem}" for problem in backup.problems()]
    finding.wrong += damages
    listed = set(backup.spaces())
    other: dict[Space, set[str]] = {space: set() for space in store.spaces()}
    for found in differences(store, backup, AT_ONCE, by_value=True):
        finding.looked_at += len(found.rows) + sum(found.compared.values()) + sum(map(len, found.lacking.values()))
        finding.wrong += [f"{row.path}: the backup has it otherwise" for row in found.changed]
        for space, digests in other.items():
            digests.update(found.lacking.get(space, ()), found.unequal.get(space, ()))
    finding.wrong += _only_in_backup(store, backup)
    finding.wrong += [
        f"{backup.location}: it lacks the space {space.key}" for space in other if space not in listed
    ]
    for space, digests in other.items():
        finding.wrong += [f"the content {digest} has another vector in {space.key}" for digest in sorted(digests)]
    only_there = [
        f"the content {digest} has a vector in {space.key} that the store lacks: `imgrec restore` brings it back"
        for space in backup.spaces()
        for digest in sorted(backup.digests(space) - store.digests(space))
        if next(store.records(digests=[digest]), None)
    ]
    finding.wrong += only_there
    is_empty = next(store.records(), None) is None

    def repair() -> int:
        if not is_sound or is_empty:  # the backup may be all that is left
            return 0
        backup.copy_from(store, exactly=True)
        for space, digests in other.items():
            for some in chunks(sorted(digests), AT_ONCE):
                backup.write(Batch(vectors={space: store.vectors(space, some)}))
        return len(finding.wrong) - len(damages) - len(only_there)

    return repair


def _only_in_backup(store: Store, backup: Store) -> Iterator[str]:
    """Rows that a store does not have, and metadata and dismissals that are not the same in both."""
    for found in differences(backup, store, AT_ONCE, spaces=[]):
        yield from (
            f"{row.path}: the store does not have it" for row in found.changed if row.path not in found.others
        )
    for path in sorted(store.dismissed() ^ backup.dismissed()):
        yield f"{path}: it is forgotten on purpose in only one of both"
    ours, theirs = store.metadata(), backup.metadata()
    for name in sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)):
        yield f"the metadata {name}: the backup has it otherwise"
