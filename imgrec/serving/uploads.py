"""Pictures that were uploaded: kept in memory by their content for a while, never written."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

from imgrec import images
from imgrec.gallery.query import Known
from imgrec.images.decoding import Encoded

MOST_KEPT = 96_000_000
"""Bytes of uploads that are kept; the oldest go first."""

MOST_PIXELS = 250_000_000
"""Of an upload: phones make 200 million."""

MOST_MEMORY = 200_000_000
"""Bytes that decoding an upload may take: a JPEG is read at a fraction of its size where that is enough."""


@dataclass(frozen=True)
class Upload:
    """A picture that was uploaded."""

    digest: str
    data: bytes
    known: dict[tuple[str, str | None], list[Known]] = field(default_factory=dict)
    """Its vectors, by similarity and variants that were asked for."""

    @property
    def name(self) -> str:
        """What it is called in results, where a file has its path."""
        return f"upload://{self.digest}"


class Uploads:
    """The latest uploads by their digests."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes) -> Upload:
        """Keep a picture.

        Raises:
            UnreadableImageError: it is none that is read here, or too large.
        """
        check_memory(data, [1])
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            upload = self._held.setdefault(digest, Upload(digest, data))
            self._held.move_to_end(digest)
            while len(self._held) > 1 and sum(len(each.data) for each in self._held.values()) > MOST_KEPT:
                self._held.popitem(last=False)
        return upload

    def get(self, digest: str) -> Upload | None:
        """An upload that is still kept."""
        with self._lock:
            if digest in self._held:
                self._held.move_to_end(digest)
            return self._held.get(digest)


def check_memory(data: bytes, sides: Collection[int | None]) -> None:
    """Refuse a picture whose decoding takes too much memory.

    Args:
        data: of its file.
        sides: the sides that are asked for, see `images.decode`.

    Raises:
        UnreadableImageError: it does.
    """
    encoded = Encoded.of(data)
    size = f"{encoded.width} x {encoded.height} pixels"
    if encoded.width * encoded.height > MOST_PIXELS:
        raise images.UnreadableImageError(f"too large: {size}")
    if (needed := encoded.memory(sides)) > MOST_MEMORY:
        raise images.UnreadableImageError(f"too large: {size}, which take {needed:,} bytes to decode")
