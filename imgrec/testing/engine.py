"""The contract of engines."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imgrec import images
from imgrec.errors import ImgrecError
from imgrec.extraction import extract
from imgrec.ingestion.items import read_item
from imgrec.kinds import Engine, Extracted, Extractor, Image, ImageFile, Item, Space, Vectors
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

BROKEN = {"broken.png", "cut.png"}
"""Broken files; the second fails only when it is decoded."""


def is_whole(item: Item) -> bool:
    """Whether an item is a picture that can be decoded."""
    return Path(item.file.path).name not in BROKEN


@dataclass
class Means(Extractor):
    """The means of red, green and blue: the extractor with which engines are tested."""

    side: int | None = 16
    breaks: bool = False

    def extract(self, images: Sequence[Image]) -> Vectors:
        """Means of the channels, `float32 (n, 3)`."""
        if self.breaks:
            raise ValueError("this extractor always breaks")
        return np.array([image.mean(axis=(0, 1)) for image in images], np.float32)


@dataclass
class Subject:
    """An engine under test, and a folder of nine pictures and two broken files."""

    engine: Engine
    folder: Path
    extractors: dict[Space, Extractor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.extractors = {Space.of(each): each for each in (Means(), Means(side=None))}

    def files(self) -> list[ImageFile]:
        """The files that a source finds in the folder."""
        return list(images.find([str(self.folder)]))

    def read(self) -> list[Item]:
        """All files, read by the open engine."""
        return list(self.engine.read(self.files()))

    def planned(self) -> list[Item]:
        """All files, to be extracted into both spaces."""
        return [self.plan(item) for item in self.read()]

    def plan(self, item: Item) -> Item:
        """Schedule an item for extraction into both spaces."""
        if item.reason is None:
            item.lacks = list(self.extractors)
            item.sides = {extractor.side for extractor in self.extractors.values()}
        return item

    def extracted(self, items: Sequence[Item], batch_size: int = 4) -> list[Extracted]:
        """Items extracted by the open engine."""
        return list(self.engine.extract(iter(items), batch_size))


def check_engine(engine: Engine) -> None:
    """Check that an engine keeps its contract.

    Args:
        engine: an instance of a class defined at module level.

    Raises:
        ContractError: any check failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        kit.write_pictures(Path(folder, "pictures"))
        Path(folder, "pictures", "a", "broken.png").write_bytes(b"no picture")
        whole = Path(folder, "pictures", "a", "0.png").read_bytes()
        Path(folder, "pictures", "b", "cut.png").write_bytes(whole[: len(whole) // 2])
        try:
            kit.run(f"engine {engine.name}", CHECKS, Subject(engine, Path(folder, "pictures")))
        finally:
            engine.close(at_once=True)


# --- the checks ---------------------------------------------------------------------------------------------


def files_are_read_in_their_order(subject: Subject) -> None:
    """`read` yields an item for each file, in order, with its digest and the picture's size, or the reason."""
    subject.engine.open(subject.extractors)
    items = subject.read()
    subject.engine.close()
    files = subject.files()
    require([item.file.path for item in items] == [file.path for file in files], "other files, or another order")
    for item, wanted in zip(items, map(read_item, files), strict=True):
        for name in ("file", "digest", "reason", "width", "height"):
            seen, right = getattr(item, name), getattr(wanted, name)
            require(seen == right, f"{name} of {item.file.path}: {seen!r}, not {right!r}")


def vectors_are_those_of_the_extractors(subject: Subject) -> None:
    """`extract` yields, for each space that an item lacks, the vector that the extractor itself returns."""
    subject.engine.open(subject.extractors)
    parts = subject.extracted(subject.planned())
    subject.engine.close()
    for space, extractor in subject.extractors.items():
        found: dict[str, Vectors] = {}
        for part in parts:
            digests, vectors = part.vectors.get(space, ([], np.empty((0, 3), np.float32)))
            require(len(digests) == len(vectors), f"{len(digests)} digests and {len(vectors)} vectors")
            found.update(zip(digests, vectors, strict=True))
        good = [item for part in parts for item in part.items if is_whole(item)]
        require(found.keys() == {item.digest for item in good}, f"vectors of {len(found)} of {len(good)} pictures")
        for item in good:
            data, digest = images.read(item.file.path)
            right = extract(extractor, [images.decode(data, extractor.side)], [item.file.path])
            apart = kit.differ(right, found[digest][None])
            require(apart <= kit.TOLERANCE, f"a vector of {item.file.path} that differs by {apart:.3g}")


def items_come_in_their_order(subject: Subject) -> None:
    """`extract` yields all items in order, each with what was planned for it and without its pixels."""
    subject.engine.open(subject.extractors)
    planned = subject.planned()
    planned[2].counts_as, planned[2].forgets = "moved", ["/somewhere/else.png"]
    paths = [item.file.path for item in planned]
    items = [item for part in subject.extracted(planned) for item in part.items]
    subject.engine.close()
    require([item.file.path for item in items] == paths, "other items, or another order")
    require((items[2].counts_as, items[2].forgets) == ("moved", ["/somewhere/else.png"]), "a plan was lost")
    held = [item.file.path for item in items if item.images or item.encoded]
    require(not held, f"{len(held)} items that still hold their bytes or pixels")


def what_cannot_be_decoded_has_its_reason(subject: Subject) -> None:
    """A file that cannot be decoded gets its reason, and the others of its batch are unaffected."""
    subject.engine.open(subject.extractors)
    items = [item for part in subject.extracted(subject.planned()) for item in part.items]
    subject.engine.close()
    bad = sorted(Path(item.file.path).name for item in items if item.reason)
    require(bad == sorted(BROKEN), f"reasons of {bad}")


def what_lacks_nothing_is_not_extracted(subject: Subject) -> None:
    """An item is extracted only into the spaces that it lacks, and is not decoded if it lacks none."""
    subject.engine.open(subject.extractors)
    items = subject.planned()
    first = next(iter(subject.extractors))
    for number, item in enumerate(items):
        item.lacks = [[], [first]][number % 2] if item.reason is None else []
    wanted = {item.digest for item in items if item.lacks}
    parts = subject.extracted(items)
    subject.engine.close()
    made = [
        (space, digest) for part in parts for space, (digests, _) in part.vectors.items() for digest in digests
    ]
    good = {item.digest for part in parts for item in part.items if is_whole(item)}
    require(set(made) == {(first, digest) for digest in wanted & good}, f"{len(made)} vectors")


def batches_are_no_larger_than_asked(subject: Subject) -> None:
    """An extractor gets at most `batch_size` images at a time."""
    subject.engine.open(subject.extractors)
    for size in (1, 3):
        sizes = [len(part.items) for part in subject.extracted(subject.planned(), size)]
        require(max(sizes) <= size, f"{max(sizes)} items together, where {size} are asked for")
    subject.engine.close()


def files_and_items_are_taken_by_who_asks(subject: Subject) -> None:
    """Files and items are consumed in the thread that iterates over results, as the store belongs to it."""
    threads: set[int] = set()

    def message(rows: Sequence[ImageFile] | Iterator[Item]) -> Iterator[ImageFile | Item]:
        for row in rows:
            threads.add(threading.get_ident())
            yield row

    subject.engine.open(subject.extractors)
    read = subject.engine.read(message(subject.files()))  # type: ignore[arg-type]
    for _ in subject.engine.extract(message(map(subject.plan, read)), 4):  # type: ignore[arg-type]
        pass
    subject.engine.close()
    require(threads == {threading.get_ident()}, "another thread took them")


def an_extractor_that_fails_is_told(subject: Subject) -> None:
    """`extract` turns an exception of an extractor into an ImgrecError, and `close` works afterwards."""
    broken = Means(breaks=True)
    subject.engine.open({Space.of(broken): broken})
    items = [item for item in subject.read() if item.reason is None]
    for item in items:
        item.lacks, item.sides = [Space.of(broken)], {broken.side}
    try:
        subject.extracted(items)
    except ImgrecError as error:
        require("this extractor always breaks" in str(error), f"an error that does not say why: {error}")
    else:
        raise kit.SeenError("no error")
    finally:
        subject.engine.close()


def it_can_be_stopped_and_opened_again(subject: Subject) -> None:
    """`close(at_once=True)` works at any time, `open` works afterwards, and a second `close` does nothing."""
    subject.engine.open(subject.extractors)
    parts = subject.engine.extract(iter(subject.planned()), 2)
    next(iter(parts))
    subject.engine.close(at_once=True)
    subject.engine.close()
    subject.engine.open(subject.extractors)
    items = [item for part in subject.extracted(subject.planned()) for item in part.items]
    subject.engine.close()
    require(len(items) == len(subject.files()), f"{len(items)} items after it was opened again")


def options_come_through_yaml(subject: Subject) -> None:
    """Options are unchanged after a round trip through YAML."""
    kit.check_options(subject.engine)


def module_is_light(subject: Subject) -> None:
    """Importing the module and building the engine imports no heavy library before its first use."""
    kit.check_light(subject.engine)


CHECKS = tuple(
    map(
        Check,
        (
            files_are_read_in_their_order,
            vectors_are_those_of_the_extractors,
            items_come_in_their_order,
            what_cannot_be_decoded_has_its_reason,
            what_lacks_nothing_is_not_extracted,
            batches_are_no_larger_than_asked,
            files_and_items_are_taken_by_who_asks,
            an_extractor_that_fails_is_told,
            it_can_be_stopped_and_opened_again,
            options_come_through_yaml,
            module_is_light,
        ),
    )
)
