"""Pictures that are asked for, inside the gallery or not: from their paths to the vectors of their variants."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from imgrec import images
from imgrec.batches import groups
from imgrec.errors import UsageError
from imgrec.extraction import extract
from imgrec.gallery import variants
from imgrec.gallery.query import Known, PictureBytes
from imgrec.gallery.similarity import Term
from imgrec.kinds import Extractor, Image, ImageFile, Store, Vectors
from imgrec.threads import ahead, cores

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Pictures that are looked up, and extracted, together."""

READ_AHEAD = 64_000_000
"""The most bytes of files read ahead."""

DECODED_AHEAD = 96_000_000
"""The most bytes of images decoded ahead, per core; a larger picture is decoded alone."""

BATCH = 64_000_000
"""The most bytes of images extracted together; a picture with all its variants may take more."""


@dataclass
class Picture:
    """One picture on its way: read, looked up, decoded, extracted."""

    path: str
    """Or its address, or another name for messages."""

    reason: str | None = None
    """Why it cannot be read."""

    digest: str = ""
    data: bytes | None = None
    """Its bytes; None before they are read, and when they are not needed any more."""

    encoded: images.Encoded | None = None
    """If it lacks vectors its bytes and header, until it is decoded."""

    sides: dict[str, int | None] = field(default_factory=dict)
    """The side that the extractor of each term that lacks vectors asks for."""

    images: dict[str, list[Image]] = field(default_factory=dict)
    """For these terms the images to extract, until that is done."""

    vectors: dict[str, Vectors] = field(default_factory=dict)
    """For each term `float32 (variants, dim)`, in the order of `variants.names`."""

    def memory(self) -> int:
        """Bytes that its images take."""
        return sum(image.nbytes for some in self.images.values() for image in some)

    def known(self) -> list[Known]:
        """An item of a query for each variant; all of them are its content."""
        count = len(next(iter(self.vectors.values())))
        return [Known({name: rows[i] for name, rows in self.vectors.items()}, self.digest) for i in range(count)]


class Pictures:
    """Makes vectors of pictures: from the store if it has the contents, else extracted.

    Args:
        store: open.
        terms: of a similarity, which extract them.
        wanted: the variants that are asked for, one of `variants.SETS`; None: the picture as it is.
    """

    def __init__(self, store: Store, terms: Sequence[Term], wanted: str | None = None) -> None:
        self.names = variants.names(wanted)
        self._store, self.terms = store, terms

    def one(self, item: str | PictureBytes, option: str = "query") -> list[Known]:
        """A picture's variants.

        Raises:
            UsageError: it does not exist or cannot be read, or an extractor cannot be built; it names the option.
        """
        if isinstance(item, str):
            _check_file(item, option)
            return self._known(_read(item), option)
        return self._known(
            Picture(item.name, digest=hashlib.sha256(item.data).hexdigest(), data=item.data), option
        )

    def of_content(self, name: str, digest: str, data: bytes | None = None) -> list[Known]:
        """The variants of a picture whose content is known; it is decoded only if the store lacks vectors of it.

        Args:
            name: its path, or what it is called where its bytes are given.
            digest: of its content.
            data: its bytes; None: they are read if they are needed.

        Raises:
            UsageError: it cannot be read, has changed since, or an extractor cannot be built.
        """
        return self._known(Picture(name, digest=digest, data=data), "query")

    def _known(self, picture: Picture, option: str) -> list[Known]:
        self._look_up([picture])
        self._decode(picture)
        if picture.reason is not None:
            raise UsageError(f"{option} {picture.path!r} cannot be read: {picture.reason}")
        self._extract([picture])
        return picture.known()

    def many(self, files: Iterable[ImageFile]) -> Iterator[Picture]:
        """Pictures with their vectors, in order; those that cannot be read have a reason and no vectors.

        They are read and decoded ahead of extraction, as far as memory allows.

        Raises:
            ImgrecError: an extractor cannot be built, or failed.
        """
        looked_up = (
            picture
            for some in groups(_read_ahead(files), AT_ONCE, lambda each: len(each.data or b""), READ_AHEAD)
            for picture in self._look_up(some)
        )
        most = cores() * DECODED_AHEAD
        with ThreadPoolExecutor(cores()) as pool:
            decoded = ahead(pool, self._decode, looked_up, 4 * cores(), self._cost, most)
            for some in groups(decoded, AT_ONCE, Picture.memory, BATCH):
                yield from self._extract(some)

    def _look_up(self, some: Sequence[Picture]) -> Sequence[Picture]:
        """Take the vectors of known contents from the store, and note what is lacking."""
        readable = [picture for picture in some if picture.reason is None]
        for term in self.terms:
            digests, rows = self._store.vectors(term.space, list({picture.digest for picture in readable}))
            stored = dict(zip(digests, rows, strict=True))
            for picture in readable:
                if picture.digest in stored:
                    picture.vectors[term.name] = stored[picture.digest][None]
                if self._lacking(picture, term.name):
                    picture.sides[term.name] = self._extractors[term.name].side
        for picture in readable:
            if picture.sides:
                _open(picture)
            picture.data = None
        return some

    @functools.cached_property
    def _extractors(self) -> dict[str, Extractor]:
        return {term.name: term.ready_extractor() for term in self.terms}

    def _lacking(self, picture: Picture, term: str) -> list[str]:
        return self.names[len(picture.vectors.get(term, ())) :]

    def _cost(self, picture: Picture) -> int:
        if picture.encoded is None:
            return 0
        return picture.encoded.memory(set(picture.sides.values())) * len(self.names)

    def _decode(self, picture: Picture) -> Picture:
        """Decode a picture into the variants that it lacks, and release its bytes."""
        encoded, picture.encoded = picture.encoded, None
        if encoded is not None:
            with _noted(picture):
                for name, side in picture.sides.items():
                    picture.images[name] = variants.made(encoded, side, self._lacking(picture, name))
        return picture

    def _extract(self, some: Sequence[Picture]) -> Sequence[Picture]:
        """Extract what was decoded, all pictures and variants of a term in one call."""
        for term in self.terms:
            todo = [picture for picture in some if picture.reason is None and term.name in picture.images]
            if not todo:
                continue
            given = [(image, picture.path) for picture in todo for image in picture.images[term.name]]
            found = extract(self._extractors[term.name], *map(list, zip(*given, strict=True)))
            ends = np.cumsum([len(picture.images[term.name]) for picture in todo])[:-1]
            for picture, rows in zip(todo, np.split(found, ends), strict=True):
                stored = picture.vectors.get(term.name)
                picture.vectors[term.name] = rows if stored is None else np.concatenate([stored, rows])
        for picture in some:
            picture.images = {}
        return some


def _check_file(path: str, option: str) -> None:
    if not path:
        raise UsageError(f"{option} is empty: name a picture")
    if (file := images.state(path)) is None:
        raise UsageError(f"{option} {path!r} does not exist")
    if file.problem == images.NOT_REGULAR:
        hint = ": each=true asks with each picture of a folder" if option == "query" else ""
        raise UsageError(f"{option} {path!r} is a folder or device, not a picture{hint}")
    if "://" in path and file.problem:
        raise UsageError(f"{option} {path!r} {file.problem}")


def _read(path: str) -> Picture:
    picture = Picture(path)
    with _noted(picture):
        picture.data, picture.digest = images.read(path)
    return picture


def _read_ahead(files: Iterable[ImageFile]) -> Iterator[Picture]:
    """Pictures that are read ahead, with each source's own number of threads."""
    for source, some in itertools.groupby(files, lambda file: images.source_of(file.path)):
        with ThreadPoolExecutor(source.at_once) as pool:
            read, weight = (lambda file: _read(file.path)), (lambda file: file.size)
            yield from ahead(pool, read, some, 4 * source.at_once, weight, READ_AHEAD)


def _open(picture: Picture) -> None:
    with _noted(picture):
        if picture.data is None:
            picture.data, digest = images.read(picture.path)
            if digest != picture.digest:
                raise images.UnreadableImageError("it has changed since it was ingested")
        picture.encoded = images.Encoded.of(picture.data)


@contextlib.contextmanager
def _noted(picture: Picture) -> Iterator[None]:
    """Note why a picture cannot be read, and tell of damage."""
    with images.warned.heard() as warnings:
        try:
            yield
        except images.UnreadableImageError as error:
            picture.reason = str(error)
    for warning in dict.fromkeys(warnings):
        log.warning("query %r is read with damage: %s", picture.path, warning)
