"""Extracts in processes of a Ray cluster: on this machine, or on many."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import imgrec
from imgrec import Extracted, Extractor, ImageFile, Item, Space
from imgrec_ray.cluster import Cluster

FILES = 64
"""Files that a process reads, or extracts, at a time."""

BYTES = 16_000_000
"""Maximum bytes of these, unless a single file has more."""

ENDED = "the process that took it was killed, each time: is it too large for its memory?"
"""The reason for a file that ends processes."""


@dataclass
class Held(Item):
    """An item whose bytes lie in Ray's object store."""

    chunk: Any = None
    """Refers to those of its chunk by digest; None when they are not needed any more."""

    def memory(self) -> int:
        """The bytes of its file, in the object store: they bound what is planned together."""
        return self.file.size if self.chunk else super().memory()


@dataclass
class Ray(imgrec.Engine):
    """Processes of a Ray cluster, one a core or GPU, each with a model of its own; this one plans and writes."""

    requires: ClassVar[Mapping[str, str]] = {"ray": "imgrec[ray]"}
    planned_bytes: ClassVar[int] = 256_000_000

    address: str | None = imgrec.option(
        None, help="of a cluster that is there: auto, or HOST:PORT; null: this machine is one, for this run"
    )
    actors: int | None = imgrec.option(
        None, minimum=1, help="processes; null: as many as the cluster has room for"
    )
    num_cpus: int = imgrec.option(1, minimum=1, help="cores of each process")
    num_gpus: float = imgrec.option(0.0, minimum=0, help="GPUs of each process; 0.25: four of them share one")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._cluster: Cluster | None = None

    def open(self, extractors: Mapping[Space, Extractor]) -> Self:
        """Join the cluster, or start one, and start the processes.

        Raises:
            UsageError: there is no cluster, or none that has room for a process.
        """
        self._cluster = Cluster(self.num_cpus, self.num_gpus)
        self._cluster.open(self.address, extractors, self.actors)
        return self

    def read(self, files: Iterable[ImageFile]) -> Iterator[Item]:
        """Read chunks of files ahead in all processes; the bytes stay in the object store."""
        chunks = imgrec.groups(files, FILES, _size, BYTES)
        return self._running.ahead(self._read, chunks, _size, BYTES)

    def extract(self, items: Iterable[Item], batch_size: int) -> Iterator[Extracted]:
        """Decode and extract some batches at a time in each process."""
        together = batch_size * -(-FILES // batch_size)
        chunks = imgrec.groups(items, together, Item.memory, BYTES)
        return self._running.ahead(functools.partial(self._extract, batch_size), chunks, Item.memory, BYTES)

    @property
    def _running(self) -> Cluster:
        assert self._cluster, "the engine is not open"
        return self._cluster

    def _read(self, files: Sequence[ImageFile]) -> list[Item]:
        def read(some: Sequence[ImageFile]) -> list[Item]:
            items, chunk = self._running.ask("read", some, num_returns=2)
            return [Held(**vars(item), chunk=chunk) for item in items]

        return self._running.surely(read, files, lambda file: Held(file, reason=ENDED))

    def _extract(self, batch_size: int, items: Sequence[Held]) -> list[Extracted]:
        def extract(some: Sequence[Held]) -> list[Extracted]:
            chunks = {item.chunk: None for item in some if item.lacks and item.chunk}
            for item in some:
                item.chunk = None  # if this fails, the bytes are read again
            found: list[Extracted] = self._running.ask("extract", some, batch_size, *chunks)[0]
            for part in found:  # Ray's own memory is gone when the engine is closed
                part.vectors = {space: (digests, rows.copy()) for space, (digests, rows) in part.vectors.items()}
            return found

        def give_up(item: Held) -> Extracted:
            item.reason = ENDED
            return Extracted([item], {})

        return self._running.surely(extract, items, give_up)

    def close(self, *, at_once: bool = False) -> None:
        """End the processes, in the middle of what they do, and the cluster if it was started for this run."""
        if self._cluster:
            self._cluster.close()
        self._cluster = None


def _size(file: ImageFile) -> int:
    return file.size


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Engine]]:
    """This plugin's components."""
    return [Ray]
