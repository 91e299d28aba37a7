"""Engines read, decode and extract files: in threads of this process, in other processes or on a cluster."""

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
    """That of the record; empty if the file could not be read."""

    reason: str | None = None
    """Why it cannot be read or decoded."""

    encoded: Encoded | None = None
    """Its bytes, between reading and decoding; None if an engine keeps them elsewhere."""

    images: dict[int | None, Image] = field(default_factory=dict)
    """The image decoded for each side that an extractor asks for, between decoding and extracting."""

    width: int | None = None
    height: int | None = None
    taken: str | None = None
    warnings: list[str] = field(default_factory=list)
    """These four are copied to the record, see `Record`."""

    lacks: list[Space] = field(default_factory=list)
    """Set by planning: the spaces to extract it into. If there are none, its pixels are not needed."""

    sides: set[int | None] = field(default_factory=set)
    """Set by planning: the sides that the extractors of these spaces ask for."""

    counts_as: str = "new"
    """Set by planning: what the report counts it as, unless it fails."""

    forgets: list[str] = field(default_factory=list)
    """Set by planning: the paths that it was moved from."""

    def memory(self) -> int:
        """Bytes it takes in this process, or will take while it is decoded."""
        if self.encoded:
            return self.encoded.memory(self.sides)
        return sum(image.nbytes for image in {id(image): image for image in self.images.values()}.values())


@dataclass
class Extracted:
    """Items with their vectors; their bytes and pixels are released."""

    items: list[Item]
    vectors: dict[Space, tuple[list[str], Vectors]]
    """For each space, row-aligned digests and vectors of the items that lacked them and could be decoded."""


@dataclass
class Engine(Component):
    """Reads, decodes and extracts the files of an ingest.

    Only the calling process knows the store: it takes items from `read`, plans what to do with each, passes them
    on to `extract` and writes the result. These steps run concurrently, each as far ahead as memory allows.
    `imgrec.read_item` and `imgrec.extract_items` do the actual work, in whatever process they are called.
    """

    kind: ClassVar[str] = "engine"
    groups: ClassVar[tuple[Group, ...]] = (Group("engine"),)

    planned_bytes: ClassVar[int] = 64_000_000
    """The memory of items that are planned together; see `Item.memory`."""

    @abstractmethod
    def open(self, extractors: Mapping[Space, Extractor]) -> Self:
        """Get ready for an ingest into some spaces; also possible again after `close`."""

    @abstractmethod
    def read(self, files: Iterable[ImageFile]) -> Iterator[Item]:
        """Read each file into an item, in order; an item that cannot be read has a reason.

        `files` looks into the store: iterate over it only in the thread that consumes the items.
        """

    @abstractmethod
    def extract(self, items: Iterable[Item], batch_size: int) -> Iterator[Extracted]:
        """Extract the vectors of items, in order, as many together as suit the engine.

        Args:
            items: planned; iterate over them only in the thread that consumes the result.
            batch_size: images that an extractor is given at once, at most.

        Raises:
            ImgrecError: an extractor failed, or broke its contract.
        """

    @abstractmethod
    def close(self, *, at_once: bool = False) -> None:
        """Stop, and release all resources; `at_once`, after Ctrl-C, without waiting for anything."""
