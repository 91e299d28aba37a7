"""Checks and repairs galleries."""

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
from imgrec.gallery import fitted, recorded, smoothing
from imgrec.kinds import Batch, Record, Space, Store, places
from imgrec.kinds.differences import differences
from imgrec.kinds.store import only_writer
from imgrec.run import progress
from imgrec.search import files, indexes

CHANGED = "it has another content than when it was extracted"

AT_ONCE = 16_384
"""Vectors checked at a time."""


@dataclass
class Finding:
    """The result of one check."""

    check: str
    looked_at: int
    wrong: list[str] = field(default_factory=list)
    """One line per problem; it begins with the path if it concerns a file."""

    fixed: int = 0
    """How many problems were repaired."""

    @property
    def left(self) -> int:
        """How many problems remain."""
        return len(self.wrong) - self.fixed


Repair = Callable[[], int]
"""Repairs the problems found by a check; returns how many."""


def verify(
    store: Store,
    backup: Store | None = None,
    *,
    sample: int | None = 1000,
    fix: bool = False,
    seed: int = 0,
    show_progress: bool = False,
) -> list[Finding]:
    """Check a store, its files, its cache and its backup.

    Args:
        store: a store filled by `ingest`.
        backup: a store that should be equal to it.
        sample: how many files are read to compare their digests; None for all.
        fix: repair what can be derived again. Records of changed files and of vectors that are not finite are
            dropped, so that the next ingest extracts them; files that are gone are marked as missing; broken cache
            files are deleted; the backup is made equal to a sound store. Nothing is dropped that cannot be read or
            extracted again.
        seed: of the sample.
        show_progress: show a progress bar on stderr.

    Returns:
        A `Finding` for each check.

    Raises:
        UsageError: no such store or backup, or both are the same.
    """
    if backup is not None and Path(backup.location).absolute() == Path(store.location).absolute():
        raise UsageError(f"store and backup are both {store.location}: give backup.path=")
    findings: list[Finding] = []

    def check(name: str, function: Callable[..., Repair], *others: Any) -> None:
        """Run one check and repair what it found; a check that raises counts as a problem."""
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
            except UsageError:  # there is no backup
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
    """The store finds no problems by its own checks."""
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
    """Every listed vector can be read, and its values are finite."""
    lines: Counter[str] = Counter()
    """The number of lines in `wrong` for each content with a bad vector."""
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
        """Forget a content only if all its files can be read again, as any other record would keep the vector."""
        files: dict[str, list[Record]] = {}
        for record in store.records(digests=sorted(lines)):
            files.setdefault(record.digest, []).append(record)
        there = {name: some for name, some in files.items() if all(images.is_file(r.path) for r in some)}
        _forget(store, [record for some in there.values() for record in some])
        return sum(lines[digest] for digest in there)

    return repair


def _unreadable(store: Store, space: Space, digests: Sequence[str]) -> list[str]:
    """The contents whose vectors cannot be read, by bisection.

    Raises:
        ImgrecError: the space as a whole cannot be read.
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
    """Every file not marked as missing exists."""
    kept = [record for record in store.records() if not record.missing]
    finding.looked_at += len(kept)
    there = images.are_there(record.path for record in kept)
    gone = [record for record, is_there in zip(kept, there, strict=True) if not is_there]
    for record, file in zip(gone, images.each(images.state, [record.path for record in gone]), strict=True):
        why = (file and file.problem) or "it is gone"  # a drive or bucket may only be out of reach
        finding.wrong.append(f"{record.path}: {why}, and not marked as missing")

    def repair() -> int:
        for some in chunks(gone, 4096):
            store.write(Batch(records=[replace(record, missing=True) for record in some]))
        return len(gone)

    return repair


def _digests(finding: Finding, store: Store, sample: int | None, seed: int, show_progress: bool) -> Repair:
    """Files have the content recorded."""
    by_path = {record.path: record for record in store.records()}
    there = zip(by_path.values(), images.are_there(by_path), strict=True)
    records = sorted((record for record, is_there in there if is_there), key=lambda record: record.path)
    if sample is not None and sample < len(records):
        records = random.Random(seed).sample(records, sample)
    changed = []
    with progress("verify", len(records), shown=show_progress) as advance:
        problems = images.each(lambda path: _problem(by_path[path]), [record.path for record in records])
        for record, problem in zip(records, problems, strict=True):
            finding.looked_at += 1
            if problem:
                finding.wrong.append(f"{record.path}: {problem}")
                if problem == CHANGED:
                    changed.append(record)
            advance(1)
    return lambda: _forget(store, changed)


def _problem(record: Record) -> str | None:
    """What is wrong with an existing file; None if its content is the one recorded."""
    try:
        _, digest = images.read(record.path)
    except images.UnreadableImageError as error:
        if str(error).startswith(images.NOT_OPENED):
            return f"it cannot be read: {str(error).removeprefix(f'{images.NOT_OPENED}: ')}"
        return CHANGED  # now a folder or pipe, or too large for an image
    return None if digest == record.digest else CHANGED


def _forget(store: Store, records: Sequence[Record]) -> int:
    for some in chunks(records, 4096):
        store.write(Batch(forgotten=[record.path for record in some]))
    return len(records)


def _cache(finding: Finding, store: Store) -> Repair:
    """Cache files agree with the store's current content."""
    from imgrec.drawing import map_file  # at use: it imports Pillow

    bad = []
    whole = [files.whole(store, space) for space in store.spaces()]
    plain = itertools.chain(*map(files.check, whole), *map(smoothing.check, whole))
    others = itertools.chain(fitted.check(store), indexes.check(store), map_file.check(store))
    for folder, problem in itertools.chain(plain, others):
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
    """The backup is sound and equal to the store."""
    damages = [f"{backup.location}: {problem}" for problem in backup.problems()]
    finding.wrong += damages
    listed = set(backup.spaces())
    other: dict[Space, set[str]] = {space: set() for space in store.spaces()}
    for found in differences(store, backup, AT_ONCE, by_value=True):
        finding.looked_at += len(found.rows) + sum(found.compared.values()) + sum(map(len, found.lacking.values()))
        finding.wrong += [f"{row.path}: the backup has a different record" for row in found.changed]
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
        if not is_sound or is_empty:  # the backup may be the only good copy
            return 0
        backup.copy_from(store, exactly=True)
        for space, digests in other.items():
            for some in chunks(sorted(digests), AT_ONCE):
                backup.write(Batch(vectors={space: store.vectors(space, some)}))
        return len(finding.wrong) - len(damages) - len(only_there)

    return repair


def _only_in_backup(store: Store, backup: Store) -> Iterator[str]:
    """Rows that only the backup has, and metadata and dismissed paths that differ."""
    for found in differences(backup, store, AT_ONCE, spaces=[]):
        yield from (
            f"{row.path}: the store does not have it" for row in found.changed if row.path not in found.others
        )
    for path in sorted(store.dismissed() ^ backup.dismissed()):
        yield f"{path}: it is dismissed in only one of store and backup"
    ours, theirs = ({**each.metadata(), places.NOTE: None} for each in (store, backup))
    for name in sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)):
        yield f"the metadata {name}: the backup has a different value"
