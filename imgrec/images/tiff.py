"""Reads the directories of a TIFF structure, which EXIF is too, whatever state their neighbours are in.

TIFF 6.0, section 2; BigTIFF; Exif 3.0 (CIPA DC-008), 4.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAGIC = {
    b"II*\0": ("little", False),
    b"MM\0*": ("big", False),
    b"II+\0": ("little", True),
    b"MM\0+": ("big", True),
}

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes a value, by the type of an entry: of whole numbers and text."""

_TEXT = (2, 7)

_MOST_ENTRIES, _MOST_DIRECTORIES = 65_535, 4096


@dataclass(frozen=True)
class Directory:
    """A list of entries, each a tag with values."""

    data: bytes | memoryview
    start: int
    order: Literal["little", "big"]
    is_big: bool
    """Whether it is of BigTIFF, with 64 bits where TIFF has 32."""

    @property
    def entries(self) -> list[bytes]:
        """The entries as they are stored, those beyond the end of the data left out."""
        size, first = (20, self.start + 8) if self.is_big else (12, self.start + 2)
        count = min(self.number(self.start, first - self.start), _MOST_ENTRIES)
        end = min(first + size * count, len(self.data) - size + 1)
        return [bytes(self.data[at : at + size]) for at in range(first, end, size)]

    @property
    def following(self) -> int:
        """Where the next directory begins; 0 for the last one."""
        return self.number(self.link, 8 if self.is_big else 4)

    @property
    def link(self) -> int:
        """Where it tells so: behind its entries."""
        count = self.number(self.start, 8 if self.is_big else 2)
        return self.start + (8 + 20 * count if self.is_big else 2 + 12 * count)

    def number(self, at: int, size: int) -> int:
        """A whole number without a sign; beyond the end it is 0."""
        return int.from_bytes(self.data[at : at + size], self.order)

    def whole(self, tag: int) -> int | None:
        """The first value of a tag as a whole number, of any type that is one; None if there is none."""
        values = next((each for kind, each in self._values(tag) if kind not in _TEXT), b"")
        return int.from_bytes(values, self.order) if values else None

    def text(self, tag: int) -> str:
        """The text of a tag; empty if there is none."""
        found = next((each for kind, each in self._values(tag, most=64) if kind in _TEXT), b"")
        return found.split(b"\0")[0].decode("ascii", "replace").strip()

    def _values(self, tag: int, most: int = 1) -> Iterator[tuple[int, bytes]]:
        """The type and the first values of each entry of a tag whose values are there."""
        for entry in self.entries:
            if int.from_bytes(entry[:2], self.order) != tag:
                continue
            kind, width = int.from_bytes(entry[2:4], self.order), 8 if self.is_big else 4
            count, inside = int.from_bytes(entry[4 : 4 + width], self.order), entry[4 + width :]
            size = _SIZES.get(kind, 0)
            if size * count > width:  # too many to be in the entry itself, which says where they are
                at = int.from_bytes(inside, self.order)
                inside = bytes(self.data[at : at + size * min(count, most)])
            values = inside[: size * min(count, most)]
            if values and len(values) % size == 0:
                yield kind, values

    def inner(self, tag: int) -> Directory | None:
        """The directory that a tag points to."""
        at = self.whole(tag)
        return Directory(self.data, at, self.order, self.is_big) if at else None


def directories(data: bytes | memoryview) -> Iterator[Directory]:
    """The directories of a TIFF structure, one for each page; none if it is no such structure."""
    order, is_big = MAGIC.get(bytes(data[:4]), ("", False))
    seen = set[int]()
    at = int.from_bytes(data[8:16] if is_big else data[4:8], order) if order else 0  # type: ignore[arg-type]
    while at and at not in seen and at < len(data) and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        found = Directory(data, at, order, is_big)  # type: ignore[arg-type]
        yield found
        at = found.following
