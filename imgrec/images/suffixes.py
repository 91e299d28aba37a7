"""The suffixes of pictures in folders: those that are read, and those that are only counted."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from imgrec.images.decoding import decoders

READ = frozenset(
    ".apng .avif .bmp .dib .gif .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .pbm .pgm .png .pnm .ppm "
    ".svg .tga .tif .tiff .webp".split()
)
"""The suffixes of files that are read without a plugin."""

NOT_READ = frozenset(
    ".ai .bpg .cdr .clip .cur .dcm .dds .djvu .dpx .emf .eps .exr .fits .flif .hdr .icns .ico .jng .jxr .kra .mng "
    ".ora .pam .pcd .pcx .pfm .psb .psd .pspimage .qoi .ras .sgi .svgz .wdp .wmf .xbm .xcf .xpm".split()
)
"""The suffixes of pictures that only a decoder of a third party reads."""


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of pictures in folders, which a source finds; a file that is named itself may have any."""
    return READ | _of_decoders().keys() | NOT_READ


def is_read(path: str) -> bool:
    """Whether a file's suffix is of a format that is read here."""
    suffix = suffix_of(path)
    return suffix in READ or _of_decoders().get(suffix, "not installed") is None


def suffix_of(path: str) -> str:
    """The suffix in lower case, with its dot; empty if there is none.

    >>> suffix_of("/photos/A.JPG"), suffix_of("/photos.old/a")
    ('.jpg', '')
    """
    return os.path.splitext(path)[1].lower()


@functools.cache
def _of_decoders() -> dict[str, str | None]:
    """The suffixes of decoders, each with the command that installs what it needs; None if nothing is missing."""
    found: dict[str, str | None] = {}
    for decoder in decoders():
        command = next(iter(decoder.missing_libraries().values()), None)
        for suffix in decoder.suffixes:
            found[suffix] = command if found.get(suffix, "not installed") is not None else None
    return found


def passed_over(counts: Mapping[str, int]) -> str:
    """What was passed over by suffix, as text: `2 .cr2 (COMMAND), 1 .psd (...)`; empty for nothing."""
    found = []
    for suffix, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        command = _of_decoders().get(suffix)
        found.append(f"{count:,} {suffix} ({command or 'no plugin reads it'})")
    return ", ".join(found)
