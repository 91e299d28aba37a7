"""Which images a change of the decoding rules concerns, so that no others are decoded anew.

A change of the pixels of all images raises `kinds.extractor.DECODING_VERSION`, which makes other spaces. One of
some formats gets a line in `CHANGES` instead: spaces stay, and the next ingest decodes the files of these suffixes
anew. A record of such a file notes behind its stamp the spaces whose vectors are of the present rules.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable

from imgrec.images import decoding

CHANGES: dict[int, frozenset[str]] = {
    # Depths, layouts, transparency, pages, crop boxes; orientation by EXIF alone, not by XMP.
    2: frozenset(".avif .heic .heics .heif .heifs .hif .j2k .jp2 .png .tif .tiff .webp".split()),
}
"""By version, the suffixes of the files whose pixels it may have changed: lower case, with the dot."""

CURRENT = max(CHANGES)

_NOTE = " decoding "


def of(path: str) -> int:
    """The last version that may have changed a file's pixels; without a suffix it may be of any format."""
    suffix = os.path.splitext(path)[1].lower()
    return max((version for version, suffixes in CHANGES.items() if not suffix or suffix in suffixes), default=1)


def noted(path: str, stamp: str | None, spaces: Iterable[str]) -> str | None:
    """A file's stamp as a record keeps it, with the keys of the spaces whose vectors are of the present rules.

    >>> noted("a.jpg", "12-34", ["hog-1"]), noted("a.png", "12-34", ["hog-1", "colour-2"])
    ('12-34', '12-34 decoding 2 colour-2 hog-1')
    """
    return stamp if (version := of(path)) == 1 else " ".join([f"{stamp or ''}{_NOTE}{version}", *sorted(spaces)])


def stamp_of(stamp: str | None) -> str | None:
    """A record's stamp without the note: its source's own."""
    return stamp and (stamp.partition(_NOTE)[0] or None)


def spaces_of(path: str, stamp: str | None) -> frozenset[str]:
    """The keys of the spaces that a record notes, if that was under the rules that hold for its file now."""
    version, *spaces = (stamp or "").partition(_NOTE)[2].split() or [""]
    return frozenset(spaces if version == str(of(path)) else ())


def is_outdated(path: str, stamp: str | None, space: str) -> bool:
    """Whether the vector of a record's file in a space may be of pixels that older rules gave."""
    return of(path) > 1 and space not in spaces_of(path, stamp)


@functools.cache
def readers() -> str:
    """What decides whether a file can be read at all: by another one, refused files are tried again."""
    import PIL

    usable = sorted(each.name for each in decoding.decoders() if not each.missing_libraries())
    return " ".join([str(CURRENT), f"Pillow-{PIL.__version__}", *usable])
