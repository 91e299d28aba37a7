"""Image files: found, read, and decoded to RGB by one policy for every extractor."""

from __future__ import annotations

from imgrec.images import versions, warned
from imgrec.images.decoding import Encoded, decode, image_suffixes, reduction
from imgrec.images.reasons import CHANGED, NOT_OPENED, NOT_REGULAR, UnreadableImageError, is_worth_another_try
from imgrec.images.sources import (
    absolute,
    find,
    is_file,
    is_inside,
    is_there,
    paths,
    read,
    read_as_found,
    roots,
    source_of,
    state,
)

__all__ = [
    "CHANGED",
    "NOT_OPENED",
    "NOT_REGULAR",
    "Encoded",
    "UnreadableImageError",
    "absolute",
    "decode",
    "find",
    "image_suffixes",
    "is_file",
    "is_inside",
    "is_there",
    "is_worth_another_try",
    "paths",
    "read",
    "read_as_found",
    "reduction",
    "roots",
    "source_of",
    "state",
    "versions",
    "warned",
]
