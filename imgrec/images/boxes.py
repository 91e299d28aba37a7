"""Boxes, of which JPEG 2000, HEIF and AVIF files are made (ISO/IEC 14496-12, 4.2; ISO/IEC 15444-1, annex I)."""

from __future__ import annotations

from collections.abc import Iterator


def spans(data: bytes | memoryview, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """The type of each box between two positions, and where its content begins and ends, if it is not cut."""
    at, end = start, len(data) if end is None else min(end, len(data))
    while at + 8 <= end:
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        elif size == 0:  # to the end
            size = end - at
        if size < start - at:
            return
        yield bytes(data[at + 4 : at + 8]), start, min(at + size, end)
        at += size


def boxes(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The types and contents of the boxes in a file or a box; one that is cut has what there is of it."""
    view = memoryview(data)
    return ((kind, view[start:end]) for kind, start, end in spans(view))


def first(data: bytes | memoryview, kind: bytes) -> bytes:
    """The content of the first box of a type; empty if there is none."""
    return next((bytes(content) for each, content in boxes(data) if each == kind), b"")
