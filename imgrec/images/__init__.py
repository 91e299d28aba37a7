"""Image files: found, read, and decoded to RGB by one policy for every extractor."""

from __future__ import annotations

from imgrec.images import versions, warned
from imgrec.images.addresses import Addresses
from imgrec.images.decoding import Encoded, decode, reduction
from imgrec.images.exclusion import Exclusion
from imgrec.images.files import filesystem
from imgrec.images.listing import Listing
from imgrec.images.reasons import CHANGED, NOT_OPENED, NOT_REGULAR, UnreadableImageError, is_worth_another_try
from imgrec.images.sources import (
    Roots,
    absolute,
    are_there,
    each,
    find,
    is_file,
    is_inside,
    is_there,
    outermost,
    read,
    read_as_found,
    roots,
    source_of,
    state,
)
from imgrec.images.suffixes import image_suffixes, passed_over

__all__ = [
    "CHANGED",
    "NOT_OPENED",
    "NOT_REGULAR",
    "Addresses",
    "Encoded",
    "Exclusion",
    "Listing",
    "Roots",
    "UnreadableImageError",
    "absolute",
    "are_there",
    "decode",
    "each",
    "filesystem",
    "find",
    "image_suffixes",
    "is_file",
    "is_inside",
    "is_there",
    "is_worth_another_try",
    "outermost",
    "passed_over",
    "read",
    "read_as_found",
    "reduction",
    "roots",
    "source_of",
    "state",
    "versions",
    "warned",
]
