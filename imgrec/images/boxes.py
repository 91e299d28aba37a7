"""Boxes, of which JPEG 2000, HEIF and AVIF files are made (ISO/IEC 14496-12, 4.2; ISO/IEC 15444-1, annex I)."""

from __future__ import annotations

from collections.abc import Iterator


def boxes(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The types and contents of the boxes in a file or a box; one that is cut has what there is of it."""
    view, at = memoryview(data), 0
    while at + 8 <= len(view):
        size, start = int.from_bytes(view[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(view[at + 8 : at + 16], "big"), at + 16
        elif size == 0:  # to the end
            size = len(view) - at
        if size < start - at:
            return
        yield bytes(view[at + 4 : at + 8]), view[start : at + size]
        at += size


def first(data: bytes | memoryview, kind: bytes) -> bytes:
    """The content of the first box of a type; empty if there is none."""
    return next((bytes(content) for each, content in boxes(data) if each == kind), b"")
