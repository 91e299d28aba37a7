"""Which of several copies of an image to keep, and why."""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgrec import images
from imgrec.errors import UsageError
from imgrec.kinds import Record
from imgrec.threads import each

log = logging.getLogger(__name__)

KEEP = ("largest", "oldest", "first")
"""How the image to keep is chosen, other than by a pattern."""

LOSSLESS = frozenset(".bmp .dng .pbm .pgm .png .pnm .ppm .tif .tiff".split())
"""Suffixes of files that lose nothing."""


@dataclass(frozen=True)
class Preference:
    """An order of images, the best to keep first, as a key and what each value of it says."""

    key: Callable[[Record], tuple[Any, ...]]
    reasons: Sequence[str]

    @classmethod
    def of(cls, keep: str, records: Sequence[Record]) -> Preference:
        """An order by its name, one of `KEEP`, or by a pattern of paths.

        Raises:
            UsageError: no path of the records is like the pattern.
        """
        largest = ("most pixels", "lossless", "most bytes", "first by path")

        def by_size(record: Record) -> tuple[Any, ...]:
            pixels = (record.width or 0) * (record.height or 0)
            is_lossless = Path(record.path).suffix.lower() in LOSSLESS
            return -pixels, not is_lossless, -record.size, record.path

        if keep == "largest":
            return cls(by_size, largest)
        if keep == "oldest":
            return cls(lambda record: (_time(record), *by_size(record)), ("oldest", *largest))
        if keep == "first":
            return cls(lambda record: (record.path,), ("first by path",))
        is_like = re.compile(fnmatch.translate(str(keep))).match
        if not any(is_like(record.path) for record in records):
            raise UsageError(f"keep={keep} is none of {', '.join(KEEP)}, and no path is like that pattern")
        return cls(
            lambda record: (is_like(record.path) is None, *by_size(record)), (f"its path is like {keep}", *largest)
        )

    def among_what_is_there(self, records: Sequence[Record]) -> Preference:
        """The same order, but files that are as they were ingested come first; a line tells of the others."""
        there = {record.path for record, is_so in zip(records, each(_is_there, records), strict=True) if is_so}
        if gone := len(records) - len(there):
            log.warning("%d of these files are gone or have changed: ingest again", gone)
        return Preference(
            lambda record: (record.path not in there, *self.key(record)), ("its file is there", *self.reasons)
        )

    def reason(self, kept: Record, others: Sequence[Record]) -> str:
        """What makes an image better to keep than each of some others."""
        one, keys = self.key(kept), sorted(map(self.key, others))
        decisive = next(i for i, (mine, its) in enumerate(zip(one, keys[0], strict=True)) if mine != its)
        return ", ".join(self.reasons[i] for i in range(decisive + 1) if any(key[i] != one[i] for key in keys))


def _is_there(record: Record) -> bool:
    """Whether a file is as it was when it was ingested."""
    file = images.state(record.path)
    return file is not None and (file.size, file.mtime_ns) == (record.size, record.mtime_ns)


def _time(record: Record) -> str:
    """When it was taken, else when the file was changed, as ISO 8601 text."""
    return record.taken or datetime.fromtimestamp(record.mtime_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
