"""What a process of the cluster does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import imgrec
from imgrec import Engine, Extracted, Extractor, ImageFile, Item, Space


class Worker:
    """Reads, decodes and extracts by threads, as on a single machine."""

    def __init__(self, extractors: Mapping[Space, Extractor], threads: int, folder: str) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # those of imgrec, of models and of BLAS
        with contextlib.suppress(OSError):
            os.chdir(folder)  # options may hold relative paths
        self._extractors = extractors

    def check(self) -> None:
        """Make sure that vectors are of the same spaces here.

        Raises:
            UsageError: an extractor has other weights, or other defaults, than where the ingest runs.
        """
        for space, extractor in self._extractors.items():
            if Space.of(extractor) != space:
                raise imgrec.UsageError(
                    f"extractor {extractor.name} is another one on {os.uname().nodename}: "
                    "it needs the same weights and libraries on each machine of the cluster"
                )

    def read(self, files: Sequence[ImageFile]) -> tuple[list[Item], dict[str, Any]]:
        """Files as items without their bytes, and what is encoded in these by digest."""
        with self._threads() as threads:
            items = list(threads.read(files))
        chunk = {item.digest: item.encoded for item in items if item.encoded}
        for item in items:
            item.encoded = None
        return items, chunk

    def extract(self, items: Sequence[Item], batch_size: int, *chunks: Mapping[str, Any]) -> list[Extracted]:
        """Items that were planned, extracted; those whose bytes are in no chunk are read again."""
        held = {digest: encoded for chunk in chunks for digest, encoded in chunk.items()}
        for item in items:
            if item.lacks:
                item.encoded = held.get(item.digest)
                if item.encoded is None:
                    imgrec.read_again(item)
        with self._threads() as threads:
            return list(threads.extract(items, batch_size))

    @contextlib.contextmanager
    def _threads(self) -> Iterator[Engine]:
        engine: Engine = imgrec.build("engine", "threads").open(self._extractors)
        with contextlib.closing(engine):
            yield engine
