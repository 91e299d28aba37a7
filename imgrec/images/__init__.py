"""Image files: found, read, and decoded to RGB by one policy for every extractor."""

from __future__ import annotations

from imgrec.images.decoding import Encoded, decode, reduction
from imgrec.images.finding import ImageFile, find, is_inside, paths, roots, suffixes
from imgrec.images.reading import read, read_as_found
from imgrec.images.reasons import CHANGED, NOT_OPENED, UnreadableImageError, is_worth_another_try

__all__ = [
    "CHANGED",
    "NOT_OPENED",
    "Encoded",
    "ImageFile",
    "UnreadableImageError",
    "decode",
    "find",
    "is_inside",
    "is_worth_another_try",
    "paths",
    "read",
    "read_as_found",
    "reduction",
    "roots",
    "suffixes",
]
