"""The contracts that plugins fulfil, and the records that travel between them.

A plugin is a dataclass that derives from `Extractor`, `Store`, `Reducer`, `Reranker` or `Decoder`: its fields are
its options, its docstring is its help, its methods do its work. Constructors only store options; models, files and
connections are opened at first use.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from imgrec import locks
from imgrec.errors import ImgrecError, UsageError
from imgrec.options import Options, option

if TYPE_CHECKING:
    import PIL.Image

T = TypeVar("T")
Row = TypeVar("Row", "Record", "Failure")

Image = npt.NDArray[np.uint8]
"""A picture: `uint8 (height, width, 3)`, RGB, upright."""

Vectors = npt.NDArray[np.float32]
"""Vectors as rows: `float32 (n, dim)`."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""What makes a progress bar, of a description and a total: its context gives the function that advances it."""

DECODING_VERSION = 1
"""The version of the rules in `images.decode`. Part of every space: raised when decoded pixels change."""


CONTRACT_VERSION = 1
"""The version of what this module asks of plugins: raised when a plugin that was right would no longer be.

A plugin says which one it was made for with `imgrec_contract = 1` in its module. One that says nothing was made
for 1.
"""


# --- plugins -----------------------------------------------------------------------------------------------


@dataclass
class Component(Options, ABC):
    """Base of every plugin class.

    Raises:
        UsageError: a library in `requires` is not installed.
    """

    kind: ClassVar[str]
    """`extractor`, `store`, `reducer`, `reranker` or `decoder`."""

    name: ClassVar[str]
    """What it is chosen by: the class's name in lower case, unless the class says otherwise."""

    requires: ClassVar[Mapping[str, str]] = {}
    """Optional libraries: importable module to the command that installs it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()

    @classmethod
    def title(cls) -> str:
        """What messages call it: its name."""
        return cls.name

    def __post_init__(self) -> None:
        super().__post_init__()
        for module, command in self.missing_libraries().items():
            raise UsageError(f"{self.kind}={self.name} needs {module}: {command}")

    def plain_options(self) -> dict[str, Any]:
        """Every option as JSON data that the class takes back: paths as strings, members of an Enum by name."""
        data: dict[str, Any] = json.loads(json.dumps(self.options(), default=_plain))
        return data

    @classmethod
    def missing_libraries(cls) -> dict[str, str]:
        """The part of `requires` that is not installed here."""
        return {module: command for module, command in cls.requires.items() if not _is_installed(module)}


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


# --- extractors and their spaces ----------------------------------------------------------------------------


@dataclass
class Extractor(Component):
    """Turns images into vectors.

    >>> import numpy as np, imgrec
    >>> extractor = imgrec.build("extractor", "colour", bins=2)
    >>> extractor.extract([np.zeros((4, 6, 3), np.uint8)])
    array([[1., 0., 0., 0., 0., 0., 0., 0.]], dtype=float32)
    """

    kind: ClassVar[str] = "extractor"

    version: ClassVar[int] = 1
    """Raise it when the same options give other vectors than before."""

    @property
    def side(self) -> int | None:
        """The shorter side, in pixels, that is enough; None where full size is needed.

        Decoding may then stop at a half, a quarter or an eighth of the resolution, never below this side. May
        depend on options only.
        """
        return None

    @abstractmethod
    def extract(self, images: Sequence[Image]) -> Vectors:
        """Vectors of images of any sizes.

        Args:
            images: each `uint8 (height, width, 3)`, RGB, upright; at least one.

        Returns:
            `float32 (len(images), dim)`, finite. An image has the same vector alone and in any batch, to 1e-5.
        """

    def identity(self) -> dict[str, Any]:
        """All that decides a vector's value, as JSON data: by default the options that change vectors.

        An extractor with weights or with defaults that its library decides adds their digest, as `weights`, and
        the values in force, and leaves out names that may come to mean something else.
        """
        return {
            spec.name: getattr(self, spec.name)
            for spec in dataclasses.fields(self)
            if spec.metadata.get("changes_vectors", True)
        }


@dataclass(frozen=True)
class Space:
    """The identity of a vector space, and what it takes to extract into it again.

    Vectors of two spaces are never compared.
    """

    key: str
    """The extractor's name and a digest of the identity: `colour-5b0e5a83c1d2`."""

    extractor: str
    options: dict[str, Any] = field(compare=False)
    identity: dict[str, Any] = field(compare=False)

    @classmethod
    def of(cls, extractor: Extractor) -> Space:
        """The space that an extractor, as configured, fills."""
        identity = {
            "extractor": extractor.name,
            "version": extractor.version,
            "decoding": DECODING_VERSION,
            **extractor.identity(),
        }
        identity = json.loads(json.dumps(identity, default=_plain))
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
        options = {name: _absolute(extractor, name, value) for name, value in extractor.plain_options().items()}
        return cls(f"{extractor.name}-{digest}", extractor.name, options, identity)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a store to keep; `from_json` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Space:
        """A space that was kept.

        Raises:
            ValueError: the data are none.
        """
        kinds = {"key": str, "extractor": str, "options": dict, "identity": dict}
        is_one = isinstance(data, dict) and data.keys() == kinds.keys()
        if not (is_one and all(isinstance(data[name], kind) for name, kind in kinds.items())):  # type: ignore[index]
            raise ValueError("a space has key, extractor, options and identity, and here is something else")
        return cls(**data)  # type: ignore[arg-type]


def _plain(value: object) -> str:
    """What JSON has no form for, as `_converted` reads it back."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    raise UsageError(f"an option or identity of {type(value).__name__} cannot be recorded: {value!r}")


def check_vectors(vectors: object, count: int, extractor: Extractor) -> Vectors:
    """What an extractor returned for `count` images, held to its contract.

    Raises:
        ImgrecError: saying what was returned.
    """
    if not (isinstance(vectors, np.ndarray) and vectors.dtype == np.float32 and vectors.ndim == 2):
        seen = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise ImgrecError(f"extractor {extractor.name} returned {seen}, not float32 (n, dim)")
    if len(vectors) != count or not vectors.shape[1]:
        raise ImgrecError(f"extractor {extractor.name} returned {vectors.shape} vectors for {count} images")
    if not np.isfinite(vectors).all():
        raise ImgrecError(f"extractor {extractor.name} returned values that are not finite")
    return vectors


def check_labels(labels: Sequence[str] | None, count: int, reducer: Reducer) -> list[str]:
    """The labels that a supervised reducer learns from, one for each of `count` vectors.

    Raises:
        UsageError: there are none, fewer than two different ones, or fewer than three images of one.
    """
    if labels is None or len(labels) != count or not count:
        given = 0 if labels is None else len(labels)
        raise UsageError(f"{reducer.name} learns from labels, one an image: there are {given} for {count} images")
    counts = Counter(labels)
    if len(counts) < 2:
        raise UsageError(f"{reducer.name} learns to tell labels apart: all {count} images have {labels[0]!r}")
    rarest = min(counts, key=counts.__getitem__)
    if counts[rarest] < 3:
        raise UsageError(f"{reducer.name} needs 3 images of each label: {rarest!r} has {counts[rarest]}")
    return list(labels)


def _absolute(component: Component, name: str, value: Any) -> Any:
    """A path option as it still holds in another working directory."""
    metadata = {spec.name: spec.metadata for spec in dataclasses.fields(component)}[name]
    return str(Path(value).absolute()) if metadata.get("path") and value else value


# --- stores and their records -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """One image file of a gallery."""

    path: str
    """Absolute."""

    digest: str
    """SHA-256 of the file's bytes, in hexadecimal: what the image is, wherever it lies."""

    size: int
    """In bytes."""

    mtime_ns: int
    missing: bool = False
    """The file was gone when last looked for; it stays recorded, for a drive may be unplugged."""


@dataclass(frozen=True)
class Failure:
    """One file that could not be read, and why."""

    path: str
    size: int
    mtime_ns: int
    reason: str
    time: float
    """When it was tried, in seconds since 1970."""


@dataclass
class Batch:
    """Changes that a store makes as one transaction: all of them or none.

    A record replaces one of the same path and ends its failure; a failure replaces the record of its path.
    """

    records: list[Record] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Paths whose record or failure goes, before the new ones are added."""

    vectors: dict[Space, tuple[list[str], Vectors]] = field(default_factory=dict)
    """For each space, digests and their vectors, row by row."""

    notes: dict[str, Any] = field(default_factory=dict)
    """Small JSON data by name, in the place of what was kept under the name; None removes it."""

    def __bool__(self) -> bool:
        return bool(self.records or self.failures or self.forgotten or self.vectors or self.notes)


@dataclass
class Store(Component):
    """Keeps records of image files, and vectors by the digest of the content that they describe.

    So a renamed file keeps its vectors, copies share them, and an edited file has none until it is extracted
    again. Vectors whose content no record has any more are dropped.

    >>> import tempfile, imgrec
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with imgrec.build("store", "sqlite", path=f"{folder}/gallery.sqlite").open(create=True) as store:
    ...         store.write(Batch(records=[Record("/photos/a.jpg", "00ff", 1234, 0)]))
    ...         print([record.path for record in store.records()])
    ['/photos/a.jpg']
    """

    kind: ClassVar[str] = "store"

    @property
    @abstractmethod
    def location(self) -> str:
        """Where it is, for messages."""

    @abstractmethod
    def open(self, *, create: bool = False) -> Self:
        """Open it, and make it first where `create` is set and nothing is there. Open already: do nothing.

        Raises:
            NoStoreError: nothing is there.
            UsageError: what is there is no store of this kind.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; `open` may follow."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Make all changes of a batch, durably, or none of them."""

    @abstractmethod
    def records(
        self, *, paths: Sequence[str] | None = None, digests: Sequence[str] | None = None
    ) -> Iterator[Record]:
        """All records, or those of the given paths, or those of the given digests; in any order."""

    @abstractmethod
    def failures(self, *, paths: Sequence[str] | None = None) -> Iterator[Failure]:
        """All failures, or those of the given paths; in any order."""

    @abstractmethod
    def spaces(self) -> list[Space]:
        """The spaces that hold vectors, in the order in which they were first written."""

    @abstractmethod
    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        """The contents that have a vector in a space: all, or those among the given ones."""

    @abstractmethod
    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Digests and vectors of a space, row by row: all, or those of the given digests that it has.

        In a store that a run is writing, only whole batches are seen.
        """

    def notes(self) -> dict[str, Any]:
        """Small facts that are kept with a gallery, JSON data by name; nothing in a store that keeps none."""
        return {}

    def problems(self) -> Iterator[str]:
        """What is wrong inside, a line each, as far as only the store can tell: by default nothing.

        Damage that its reading methods would not notice, rows that belong to nothing. What was cut off and costs
        nothing is none.
        """
        return iter(())

    def size(self) -> int | None:
        """Bytes on disk; None where that cannot be told."""
        return None

    def generation(self, space: Space) -> str | None:
        """What changes with every write that touches a space's vectors or the records; None where nothing tells.

        Forms of the vectors that are derived from the store hold as long as this does. A name for a folder.
        """
        return None

    @property
    def derived_folder(self) -> Path | None:
        """Where such forms may be kept; None where they may not."""
        return None

    @property
    def lock_file(self) -> Path | None:
        """What stands for the right to write, beside the store; None where writers need not take turns."""
        return None

    def writing(self) -> AbstractContextManager[None]:
        """Be the only one that writes, of all processes and threads; `write` is so by itself for its batch.

        Another one is waited for, with a line on stderr that says who it is. Readers neither wait nor are waited
        for. A thread may nest it; it ends with the process, however that ends.

        Raises:
            UsageError: nothing can be written where the store is.
        """
        return nullcontext() if self.lock_file is None else locks.only_writer(self.lock_file, self.location)

    def snapshot(self) -> AbstractContextManager[None]:
        """Read, in this thread, what the open store holds at this moment, whatever others write meanwhile.

        By itself each read is of a moment of its own, which is all that a store may give.
        """
        return nullcontext()

    def copy_from(
        self, other: Store, *, exactly: bool = False, only_lacking: bool = False, batch_size: int = 32_768
    ) -> int:
        """Copy every record, failure, vector and note that `other` holds and this store lacks or has otherwise.

        Args:
            other: the store to copy from, open.
            exactly: forget what `other` does not hold, as a backup does.
            only_lacking: what this store has otherwise stays as it is: it may be newer.
            batch_size: images a transaction.

        Returns:
            How many images were copied or completed.
        """
        copied = 0
        spaces = other.spaces()
        for held in chunks(other.records(), batch_size):  # few passes where a selection reads a whole file
            rows = self._without_others(held) if only_lacking else held
            have = {record.path: record for record in self.records(paths=[row.path for row in rows])}
            lacking = [
                row for row in rows if (row.path not in have if only_lacking else have.get(row.path) != row)
            ]
            digests = sorted({row.digest for row in rows})
            lacked = {space: other.digests(space, digests) - self.digests(space, digests) for space in spaces}
            vectors = {space: other.vectors(space, sorted(some)) for space, some in lacked.items() if some}
            self.write(Batch(records=lacking, vectors=vectors))  # cut off in the middle, no image lacks its vector
            new, completed = {row.path for row in lacking}, set[str]().union(*lacked.values())
            copied += sum(row.path in new or row.digest in completed for row in rows)
        for failed in chunks(other.failures(), batch_size):
            failures = self._without_others(failed) if only_lacking else failed
            known = set(self.failures(paths=[failure.path for failure in failures]))
            self.write(Batch(failures=[failure for failure in failures if failure not in known]))
        notes, kept = other.notes(), self.notes()
        if only_lacking:
            notes = {name: value for name, value in notes.items() if name not in kept}
        self.write(Batch(notes={name: value for name, value in notes.items() if kept.get(name) != value}))
        if exactly:
            self.write(Batch(notes=dict.fromkeys(kept.keys() - notes.keys())))
            self._forget_all_but(other, batch_size)
        return copied

    def _without_others(self, rows: Sequence[Row]) -> list[Row]:
        """Of another store's records or failures those of files that this one does not know, or has alike."""
        paths = [row.path for row in rows]
        mine = {record.path: record.digest for record in self.records(paths=paths)}
        failed = {failure.path for failure in self.failures(paths=paths)}
        return [
            row
            for row in rows
            if row.path not in failed
            and (row.path not in mine or (isinstance(row, Record) and mine[row.path] == row.digest))
        ]

    def _forget_all_but(self, other: Store, batch_size: int) -> None:
        recorded = [row.path for row in self.records()] + [row.path for row in self.failures()]
        for paths in chunks(recorded, batch_size):
            theirs = {record.path for record in other.records(paths=paths)}
            theirs |= {failure.path for failure in other.failures(paths=paths)}
            self.write(Batch(forgotten=[path for path in paths if path not in theirs]))

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def only_writer(*stores: Store | None) -> Iterator[None]:
    """Be the only one that writes to all of them; see `Store.writing`."""
    with ExitStack() as stack:
        # In one order everywhere: two runs of which each keeps the other's store as backup do not wait for ever.
        for store in sorted(filter(None, stores), key=lambda each: Path(each.location).absolute()):
            stack.enter_context(store.writing())
        yield


# --- reducers -----------------------------------------------------------------------------------------------


def as_euclidean(vectors: Vectors, metric: str) -> Vectors:
    """Vectors whose Euclidean distances follow a metric: the same order of neighbours.

    Args:
        vectors: `float32 (n, dim)`.
        metric: `euclidean` (vectors as they are), `cosine` (unit length; a zero vector stays zero) or
            `hellinger` (square roots of shares, over the square root of 2, so that the Euclidean distance is
            the Hellinger distance itself).

    Raises:
        UsageError: `hellinger` of vectors with negative values, which have no shares.

    >>> as_euclidean(np.array([[3, 4]], np.float32), "cosine")
    array([[0.6, 0.8]], dtype=float32)
    """
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = np.divide(vectors, np.where(lengths > 0, lengths, 1), dtype=np.float32)
        return unit
    if metric == "hellinger":
        check_shares(vectors)
        totals = vectors.sum(axis=1, keepdims=True)
        halved_shares: Vectors = np.divide(vectors, np.where(totals > 0, 2 * totals, 1), dtype=np.float32)
        return np.sqrt(halved_shares)
    return vectors


def check_shares(vectors: Vectors) -> None:
    """Refuse vectors with negative values, which have no Hellinger distance.

    Raises:
        UsageError: saying so.
    """
    if vectors.size and vectors.min() < 0:
        raise UsageError(
            "metric=hellinger compares shares, and these vectors have negative values: "
            "take metric=euclidean or metric=cosine"
        )


def no_progress(description: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Tell nothing: what a reducer does unless it is asked."""
    return nullcontext(lambda _: None)


@dataclass
class Reducer(Component):
    """Maps vectors to fewer dimensions: 2 for a map, more before a search.

    Seeded: the same vectors and options give the same result.

    >>> import numpy as np, imgrec
    >>> vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    >>> imgrec.build("reducer", "pca", n_components=3).fit_transform(vectors).shape
    (50, 3)
    """

    kind: ClassVar[str] = "reducer"

    supervised: ClassVar[bool] = False
    """Whether `fit` learns from labels and cannot do without; `check_labels` says what is wrong with them."""

    n_components: int = option(2, minimum=1, help="dimensions of the result")
    metric: str = option(
        "cosine", choices=("cosine", "euclidean", "hellinger"), help="what makes two vectors neighbours"
    )
    seed: int = option(0, minimum=0, maximum=2**32 - 1, help="of everything random")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress: Progress = no_progress
        """Set by who wants to be told how far long work is; `imgrec.run.progress` shows it on stderr."""

    @abstractmethod
    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn from vectors `float32 (n, dim)` and, in a supervised reducer, from their labels.

        Raises:
            UsageError: too few vectors for what is asked.
        """

    @abstractmethod
    def transform(self, vectors: Vectors) -> Vectors:
        """`float32 (n, n_components)` for new vectors of the space that was fitted."""

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        """Fit, and `float32 (n, n_components)` for the vectors fitted."""
        return self.fit(vectors, labels).transform(vectors)

    def report(self) -> dict[str, float]:
        """What fitting found, in numbers by name, for a run's record: `{"accuracy": 0.82}`. By default nothing."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """What was fitted, as plain arrays, to be kept with `numpy.savez`."""

    @abstractmethod
    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Become what `state` was taken from, given the same options; `report` says the same as well."""


# --- rerankers ----------------------------------------------------------------------------------------------


@dataclass
class Reranker(Component):
    """Asks a second time: makes a better query of the first one and of what it found.

    In a fusion each part's vectors are treated by themselves, for the images that all parts together found.

    >>> import numpy as np, imgrec
    >>> reranker = imgrec.build("reranker", "query_expansion", neighbours=1)
    >>> reranker.expand(np.array([1, 0], np.float32), np.array([[1, 1]], np.float32)).round(2)
    array([1.  , 0.26], dtype=float32)
    """

    kind: ClassVar[str] = "reranker"

    neighbours: int = option(20, minimum=1, help="how many of the first answer are looked at")

    @abstractmethod
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        """The query of the second search.

        Args:
            query: `float32 (dim,)`; of unit length where the metric is cosine, unless it is zero.
            nearest: `float32 (m, dim)`: the first answer, nearest first, `neighbours` rows or fewer, at least one.

        Returns:
            `float32 (dim,)`, finite. Without negative values where neither has any.
        """


# --- decoders of image formats ------------------------------------------------------------------------------


@dataclass
class Decoder(Component):
    """Opens image files of a format that OpenCV and Pillow do not read by themselves.

    What it opens is then treated as every image: orientation, transparency and depth (see `images.decode`). A
    decoder has no options, so that pixels do not depend on a run.
    """

    kind: ClassVar[str] = "decoder"

    suffixes: ClassVar[Collection[str]] = ()
    """Suffixes of such files, lower case with their dot: what a folder is searched for."""

    @classmethod
    @abstractmethod
    def recognises(cls, head: bytes) -> bool:
        """Whether a file is of this format, from its first 64 bytes; asked of every file, so quick."""

    @abstractmethod
    def open(self, data: bytes) -> PIL.Image.Image:
        """The picture in a file's bytes; its size known, its pixels read when they are asked for where possible.

        Args:
            data: the whole file; `recognises` said yes to its beginning.

        Returns:
            An image of any mode: upright, or with its EXIF orientation.

        Raises:
            Exception: anything, for a broken file; its message is recorded as the reason.
        """


# --- what listeners are told --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunInfo:
    """A run, as `imgrec_run_started` and `imgrec_run_finished` see it."""

    stage: str
    folder: Path
    """Where its results lie, and `run.json` with its whole record."""

    configuration: Mapping[str, Any]
    """Every option with its value."""

    choices: Mapping[str, str | None]
    """What was chosen of each config group: `{"stage": "ingest", "extractor": "colour", ...}`."""

    status: str
    """`running`, `done`, `failed` or `interrupted`."""

    sweep: Path | None = None
    """The folder of the sweep that it is a job of."""

    counts: Mapping[str, Any] = field(default_factory=dict)
    """The results in numbers."""

    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by part of the stage."""

    error: str | None = None


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter; `itertools.batched` of Python 3.12, with lists.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def free_name(name: str) -> Path:
    """A path where nothing is: the name, or with a number behind it, `gallery-2`."""
    numbered = (Path(name if i == 1 else f"{name}-{i}") for i in itertools.count(1))
    return next(path for path in numbered if not os.path.lexists(path))
