"""The records and failures that an ingest writes, and whether those of an earlier one still hold."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from imgrec import images
from imgrec.images import versions
from imgrec.kinds import Failure, ImageFile, Item, Record, Space

ALSO = " also "
"""Between the stamps of a record, the latest first."""

STAMPS = 4
"""How many stamps a record has at most.

Computers that share a disk may see other times of the same file (exFAT, SMB): each reads it once, and trusts its
own stamp from then on, as long as the content is the same.
"""


def record(item: Item, before: Record | None, spaces: Iterable[Space]) -> Record:
    """The record of an item that was read.

    Args:
        item: as the engine returned it.
        before: what its path had for a record.
        spaces: those of the ingest, in which its vectors are now of the present decoding.
    """
    file, current, stamp = item.file, {space.key for space in spaces}, item.file.stamp
    if before and before.digest == item.digest:
        current |= versions.spaces_of(before.path, before.stamp)
        stamp = stamp and ALSO.join([stamp, *(each for each in _stamps(before) if each != stamp)][:STAMPS])
    return Record(
        file.path,
        item.digest,
        file.size,
        file.mtime_ns,
        stamp=versions.noted(file.path, stamp, current),
        width=item.width,
        height=item.height,
        taken=item.taken,
        warning="; ".join(item.warnings) or None,
    )


def failure(item: Item) -> Failure:
    """The failure of an item that could not be read."""
    file = item.file
    return Failure(file.path, file.size, file.mtime_ns, item.reason or "", time.time(), _tried(file))


def is_same(known: Record, file: ImageFile) -> bool:
    """Whether a file is unchanged; without a stamp, size and mtime are trusted."""
    stamps = _stamps(known)
    if known.width is None and not stamps and file.stamp is not None:
        return False  # of an older imgrec, which kept neither stamps nor sizes
    if stamps and file.stamp is not None:
        return known.size == file.size and file.stamp in stamps
    return (known.size, known.mtime_ns) == (file.size, file.mtime_ns)


def _stamps(known: Record) -> list[str]:
    stamp = versions.stamp_of(known.stamp)
    return stamp.split(ALSO) if stamp else []


def outdated(records: Sequence[Record], spaces: Iterable[Space]) -> list[Space]:
    """The spaces in which the vector of a content, all of whose records are given, may be of older decoding."""

    def is_outdated(space: Space) -> bool:
        return all(versions.is_outdated(each.path, each.stamp, space.key) for each in records)

    return [space for space in spaces if records and is_outdated(space)]


def is_refused_again(failed: Failure, file: ImageFile) -> bool:
    """Whether a file would fail as it did: neither it nor what reads files has changed."""
    is_same = (failed.size, failed.mtime_ns, failed.stamp) == (file.size, file.mtime_ns, _tried(file))
    return is_same and not images.is_worth_another_try(failed.reason)


def _tried(file: ImageFile) -> str:
    """The stamp of a failure: the file's, and what failed to read it."""
    return f"{file.stamp or ''} tried by {versions.readers()}"
