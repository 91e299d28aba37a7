"""The default engine: threads of this process."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import imgrec
from imgrec import Extracted, Extractor, ImageFile, Item, Space

READ_AHEAD = 64_000_000
"""Maximum bytes of files read ahead."""

FILES_AHEAD = 256
"""Maximum number of files read ahead, enough to plan the next ones while others are extracted."""

DECODED_AHEAD = 96_000_000
"""Maximum bytes of images decoded ahead, per core. A larger single image is decoded within its batch."""

BATCH = 64_000_000
"""Maximum bytes of a batch's images, even if the batch is not full; three batches exist at a time."""


@dataclass
class Threads(imgrec.Engine):
    """Threads of this process: one per core to decode, one to extract, and as many to read as suit the source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._extractors: Mapping[Space, Extractor] = {}
        self._pools: list[ThreadPoolExecutor] = []

    def open(self, extractors: Mapping[Space, Extractor]) -> Self:
        """Store the extractors."""
        self._extractors = extractors
        return self

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        self._pools.append(ThreadPoolExecutor(threads))
        return self._pools[-1]

    def read(self, files: Iterable[ImageFile]) -> Iterator[Item]:
        """Read files ahead, with each source's own number of threads."""
        for source, some in itertools.groupby(files, lambda file: imgrec.source_of(file.path)):
            pool = self._pool(source.at_once)
            most = max(FILES_AHEAD, 4 * source.at_once)
            yield from imgrec.ahead(pool, imgrec.read_item, some, most, lambda file: file.size, READ_AHEAD)
            pool.shutdown()

    def extract(self, items: Iterable[Item], batch_size: int) -> Iterator[Extracted]:
        """Decode ahead on all cores, and extract a batch while the next one is decoded."""
        threads = imgrec.cores()
        most = threads * DECODED_AHEAD
        decode, extract = self._pool(threads), self._pool(1)
        decoded = imgrec.ahead(
            decode, functools.partial(imgrec.decode_item, most=most), items, 4 * threads, Item.memory, most
        )
        batches = imgrec.groups(decoded, batch_size, Item.memory, BATCH)
        work = functools.partial(imgrec.extract_items, self._extractors)
        yield from imgrec.ahead(extract, work, batches, 2, _memory, 2 * BATCH)

    def close(self, *, at_once: bool = False) -> None:
        """End the threads; `at_once` does not wait for those that are busy."""
        for pool in self._pools:
            pool.shutdown(wait=not at_once, cancel_futures=True)
        self._pools = []


def _memory(items: Iterable[Item]) -> int:
    return sum(item.memory() for item in items)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Engine]]:
    """This plugin's components."""
    return [Threads]
