"""The work on one file of an ingest, and on a batch of them, the same in every engine and process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imgrec import images
from imgrec.extraction import extract
from imgrec.images import Encoded, warned
from imgrec.kinds import Extracted, Extractor, ImageFile, Item, Space


def read_item(file: ImageFile) -> Item:
    """Read a file and its header."""
    item = Item(file, reason=file.problem)
    if not file.problem:
        with warned.heard() as warnings:
            try:
                data, item.digest, item.file = images.read_as_found(file.path)
                item.encoded = Encoded.of(data)
                item.width, item.height = item.encoded.upright
                item.taken = item.encoded.about.taken
            except images.UnreadableImageError as error:
                item.reason = str(error)
        item.warnings += warnings
    return item


def read_again(item: Item) -> Item:
    """Read the bytes of an item again, in place, where an engine has lost them; it fails if they have changed."""
    again = read_item(item.file)
    item.encoded, item.reason = again.encoded, again.reason
    if again.digest != item.digest:
        item.encoded, item.reason = None, again.reason or images.CHANGED
    return item


def decode_item(item: Item, most: int | None = None) -> Item:
    """Decode an image for its sides, in place, unless that takes more than `most` bytes."""
    if item.encoded is None or (most is not None and item.memory() > most):
        return item
    encoded, item.encoded = item.encoded, None
    if item.sides:
        with warned.heard() as warnings:
            try:
                item.images = encoded.decode(item.sides)
                if not encoded.reduces:  # decoded in full, it has the size for certain
                    item.height, item.width = next(iter(item.images.values())).shape[:2]
            except images.UnreadableImageError as error:
                item.reason = str(error)
        item.warnings += (each for each in warnings if each not in item.warnings)
    return item


def extract_items(extractors: Mapping[Space, Extractor], items: Sequence[Item]) -> Extracted:
    """Extract a batch into the spaces that it lacks, decoding first what is not decoded yet.

    Raises:
        ImgrecError: an extractor failed, or broke its contract.
    """
    vectors = {}
    for item in items:
        decode_item(item)
    for space, extractor in extractors.items():
        todo = [item for item in items if item.reason is None and space in item.lacks]
        if todo:
            decoded = [item.images[extractor.side] for item in todo]
            found = extract(extractor, decoded, [item.file.path for item in todo])
            vectors[space] = ([item.digest for item in todo], found)
    for item in items:
        item.images = {}
    return Extracted(list(items), vectors)
