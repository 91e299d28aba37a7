"""Engines are where files are read, decoded and extracted: threads of this process, other processes, a cluster."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from imgrec.kinds.component import Component, Group
from imgrec.kinds.extractor import Extractor, Image, Space, Vectors
from imgrec.kinds.source import ImageFile

if TYPE_CHECKING:
    from imgrec.images import Encoded


@dataclass
class Item:
    """One file on its way through an ingest: read, then planned, then decoded and extracted."""

    file: ImageFile
    digest: str = ""
    """Of what was read, as a record has it; empty where it could not be read."""

    reason: str | None = None
    """Why it cannot be read or decoded."""

    encoded: Encoded | None = None
    """Its bytes, between reading and decoding; None where an engine keeps them elsewhere."""

    images: dict[int | None, Image] = field(default_factory=dict)
    """Decoded for each side that an extractor asks for, between decoding and extracting."""

    width: int | None = None
    height: int | None = None
    taken: str | None = None
    warnings: list[str] = field(default_factory=list)
    """What the record will have of the image, see `Record`."""

    lacks: list[Space] = field(default_factory=list)
    """Planned: the spaces that it is to be extracted into. None of them: its pixels are not needed."""

    sides: set[int | None] = field(default_factory=set)
    """Planned: the sides that the extractors of these ask for."""

    counts_as: str = "new"
    """Planned: what the report counts it as, unless it fails."""

    forgets: list[str] = field(default_factory=list)
    """Planned: the paths that it was moved from."""

    def memory(self) -> int:
        """Bytes that it takes in this process, or will take while it is decoded."""
        if self.encoded:
            return self.encoded.memory(self.sides)
        return sum(image.nbytes for image in {id(image): image for image in self.images.values()}.values())


@dataclass
class Extracted:
    """Items whose vectors are there, and their bytes and pixels gone."""

    items: list[Item]
    vectors: dict[Space, tuple[list[str], Vectors]]
    """For each space the digests and vectors, row by row, of those that lacked them and could be decoded."""


@dataclass
class Engine(Component):
    """Reads, decodes and extracts the files of an ingest.

    The process that plans and writes stands between its two halves: it alone knows the store. It takes what comes
    out of `read`, decides what is to be done, and hands that to `extract`, whose iterator it follows; all three
    run at the same time, each as far ahead of the next as memory allows. `imgrec.read_item` and
    `imgrec.extract_items` do the work itself, wherever they are called.
    """

    kind: ClassVar[str] = "engine"
    groups: ClassVar[tuple[Group, ...]] = (Group("engine"),)

    planned_bytes: ClassVar[int] = 64_000_000
    """Of items that are planned together, see `Item.memory`."""

    @abstractmethod
    def open(self, extractors: Mapping[Space, Extractor]) -> Self:
        """Be ready for an ingest into some spaces; after `close` it may be opened again."""

    @abstractmethod
    def read(self, files: Iterable[ImageFile]) -> Iterator[Item]:
        """An item for each file, in the same order; what cannot be read has its reason.

        Files come from the store's side: they are to be taken in the thread that asks for the items.
        """

    @abstractmethod
    def extract(self, items: Iterable[Item], batch_size: int) -> Iterator[Extracted]:
        """All items, in the same order, as many together as suit the engine, with their vectors.

        Args:
            items: planned, to be taken in the thread that asks for what is extracted.
            batch_size: images that an extractor is given at once, at the most.

        Raises:
            ImgrecError: an extractor failed, or broke its contract.
        """

    @abstractmethod
    def close(self, *, at_once: bool = False) -> None:
        """End what is under way, and release what was opened; at once: wait for nothing, it is Ctrl-C."""
