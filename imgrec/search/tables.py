"""A space's vectors as rows, as a search takes them: from the store into memory, or in a stream into a file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from imgrec import threads
from imgrec.batches import chunks
from imgrec.errors import ImgrecError
from imgrec.kinds import Space, Store, Vectors
from imgrec.search.pruning import Floats, PruningIndex, Rows, squares_of

Digests = npt.NDArray[np.bytes_]

Block = tuple[Sequence[str] | Sequence[bytes], Vectors]
"""Row-aligned digests and vectors, some of many."""

ROWS = 2048
"""Of a block. Of more, memory is taken from the system and given back each time, which is as slow as reading."""

COUNTED = 65_536
"""Contents whose files are counted at a time; of more, those of all the store's are."""


@dataclass(frozen=True)
class VectorTable:
    """The vectors of a space as rows, with what is needed to search them."""

    digests: Digests
    """`(n,)`: the content of each row."""

    vectors: Vectors
    """`float32 (n, dim)`; may be memory-mapped."""

    usable: npt.NDArray[np.bool_]
    """`(n,)`: whether a file of this content was there at the last ingest."""

    images: int
    """The number of files, copies counted."""

    fingerprint: str
    """Of the usable contents; see `fingerprint`."""

    pruning: PruningIndex

    made_of: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """What the vectors were made of, by name and row by row: kept to make only some anew in a later revision."""


def fingerprint(digests: Collection[str] | Digests) -> str:
    """A digest of a gallery's contents, independent of their order.

    >>> fingerprint(["aa", "bb"]) == fingerprint(np.array([b"bb", b"aa"]))
    True
    """
    names = digests if isinstance(digests, np.ndarray) else np.array(list(digests), dtype=np.bytes_)
    return hashlib.sha256(np.sort(names).data).hexdigest()  # NumPy sorts them five times as fast


@dataclass(frozen=True)
class Source:
    """Where the vectors of a table come from: a space of the store, as it is or projected."""

    store: Store
    space: Space
    """As the store holds it."""

    key: str
    """That of the vectors' space: of `space`, or of the projected one."""

    project: Callable[[Vectors], Vectors] | None = None
    """Projects the store's vectors, row by row; None: they are not projected."""

    @property
    def folder(self) -> Path | None:
        """Where the table of the store's revision is cached; None if none can be."""
        revision, cache = self.store.revision(self.space), self.store.cache_folder
        return None if revision is None or cache is None else cache / self.key / revision

    def about(self) -> dict[str, Any]:
        """What is kept with the table to say how it was made; JSON data."""
        return {}

    def vectors(self, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Row-aligned digests and vectors: all, or those of the given digests."""
        names, vectors = self.store.vectors(self.space, digests)
        if self.project is None or not names:
            return names, vectors
        return names, in_blocks(self.project, vectors)

    def blocks(self, digests: Sequence[str] | None = None) -> Generator[Block, None, None]:
        """What `vectors` returns, some rows at a time, as `Store.blocks` has it."""
        for names, vectors in self.store.blocks(self.space, digests, ROWS):
            yield names, vectors if self.project is None else self.project(vectors)

    def changes(self, since: str) -> tuple[set[str], set[str]] | None:
        """How its vectors have changed since a revision, as `Store.changes` has it; None if unknown."""
        return self.store.changes(self.space, since)

    def agrees(self, digests: Sequence[str], vectors: Vectors) -> bool:
        """Whether these are the vectors of the given contents; projected ones may differ by rounding."""
        names, true = self.vectors(digests)
        row_of = {digest: row for row, digest in enumerate(digests)}
        if len(names) != len(row_of):
            return False
        found = vectors[[row_of[name] for name in names]]
        if self.project is None:
            return np.array_equal(found, true)
        return found.shape == true.shape and np.allclose(found, true, rtol=1e-4, atol=1e-4 * np.abs(true).max())


def in_blocks(project: Callable[[Vectors], Vectors], vectors: Vectors, size: int = ROWS) -> Vectors:
    """Project vectors in blocks of `size` rows, to bound the memory needed."""
    return np.concatenate(
        [project(vectors[start : start + size]) for start in range(0, max(1, len(vectors)), size)]
    )


# --- from the store -----------------------------------------------------------------------------------------


def in_memory(source: Source) -> VectorTable:
    """The table as the store has it, with all vectors in memory.

    Raises:
        ImgrecError: a vector is not finite.
    """
    with source.store.snapshot():
        names, vectors = source.vectors()
        return _table(source, np.array(names, np.bytes_), vectors, squares_of(vectors))


def streamed(source: Source, most: int, opened: Callable[[], IO[bytes]]) -> VectorTable:
    """The table as the store has it; in a file, which is mapped, if its vectors have `most` bytes or more.

    Args:
        source: where it comes from.
        most: what may be in memory.
        opened: makes the file, an empty one. It gets the format of NumPy.

    Raises:
        ImgrecError: a vector is not finite.
        OSError: the file cannot be written.
    """
    with source.store.snapshot(), contextlib.closing(source.blocks()) as blocks:
        first, size = list[Block](), 0
        for block in blocks:
            first.append(block)
            size += block[1].nbytes
            if size >= most:
                return _table(source, *_written(itertools.chain(first, blocks), opened))
        if not first:
            return in_memory(source)
        names = np.concatenate([np.array(names, np.bytes_) for names, _ in first])
        vectors = np.concatenate([vectors for _, vectors in first])
        return _table(source, names, vectors, squares_of(vectors))


def updated(
    source: Source,
    older: VectorTable,
    gone: set[str],
    added: set[str],
    opened: Callable[[], IO[bytes]],
) -> tuple[VectorTable, Rows]:
    """The table as the store has it, in a file, made of that of an older revision and what has changed since.

    Rows that stay come first, in their order, which is that of most stores.

    Args:
        source: where it comes from.
        older: the older table.
        gone: the contents that are gone since, as `Store.changes` has them.
        added: those that were added.
        opened: as in `streamed`.

    Returns:
        The table, and those rows of the older one that are its first ones.

    Raises:
        ImgrecError: a vector is not finite.
        OSError: the file cannot be written.
    """
    with source.store.snapshot(), contextlib.closing(source.blocks(sorted(added))) as new:
        without = {digest.encode() for digest in gone}
        every = (older.digests[start : start + ROWS] for start in range(0, len(older.digests), ROWS))
        rows = np.flatnonzero([digest not in without for some in every for digest in some.tolist()])
        parts = map(_as_slice, np.split(rows, range(ROWS, len(rows), ROWS)))
        stay = ((older.digests[some].tolist(), older.vectors[some]) for some in parts)
        return _table(source, *_written(itertools.chain(stay, new), opened)), rows


def _as_slice(rows: Rows) -> Rows | slice:
    """Ascending rows; those without a gap as a slice, which copies nothing."""
    is_whole = len(rows) and rows[-1] - rows[0] == len(rows) - 1
    return slice(rows[0], rows[-1] + 1) if is_whole else rows


def _written(blocks: Iterator[Block], opened: Callable[[], IO[bytes]]) -> tuple[Digests, Vectors, Floats]:
    """Write the vectors of a block or more to a file; returns digests, mapped vectors, squares."""
    first = next(blocks)
    dim, digests, squares = first[1].shape[1], list[Digests](), list[Floats]()

    def add(block: Block) -> tuple[Digests, Floats]:
        file.write(np.ascontiguousarray(block[1], np.float32).data)
        return np.array(block[0], np.bytes_), squares_of(block[1])

    def begin(rows: int) -> int:
        """Write the header, which has room for any number."""
        about = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, about)
        return file.tell()

    with opened() as file, ThreadPoolExecutor(1) as writer:
        offset = begin(0)
        for some, lengths in threads.ahead(writer, add, itertools.chain([first], blocks), limit=2):
            digests.append(some)
            squares.append(lengths)
        begin(sum(map(len, digests)))
        file.flush()
        mapped = np.memmap(file, np.float32, "r", offset, (sum(map(len, digests)), dim))
    return np.concatenate(digests), mapped, np.concatenate(squares)


def _files_of(store: Store, digests: Digests) -> npt.NDArray[np.int64]:
    """How many files that are not missing there are of each content, `(n,)`."""
    counts, order = np.zeros(len(digests), np.int64), np.argsort(digests)
    ordered = digests[order]
    few = None if len(digests) > COUNTED else [digest.decode() for digest in digests.tolist()]
    for some in chunks(store.copies(few), COUNTED):
        names = np.array([digest for digest, _ in some], np.bytes_)
        by_name = np.argsort(names)  # to find names in order is faster
        names, numbers = names[by_name], np.array([number for _, number in some])[by_name]
        places = np.minimum(np.searchsorted(ordered, names), len(ordered) - 1)
        is_here = ordered[places] == names
        counts[order[places[is_here]]] = numbers[is_here]
    return counts


def _table(source: Source, digests: Digests, vectors: Vectors, squares: Floats) -> VectorTable:
    """A table of these rows, which are checked; without levels of its pruning index."""
    counts = _files_of(source.store, digests)
    usable = counts > 0
    suspects = np.flatnonzero(~np.isfinite(squares))  # not finite, or so long that the square is not
    if bad := [row for row in suspects if not np.isfinite(vectors[row]).all()]:
        raise ImgrecError(
            f"{len(bad)} of {len(digests)} vectors of {source.key} in {source.store.location} are not finite, "
            f"such as that of the content {digests[bad[0]].decode()}: `imgrec verify fix=true` drops them, and "
            "the next ingest extracts them again"
        )
    return VectorTable(
        digests=digests,
        vectors=vectors,
        usable=usable,
        images=int(counts.sum()),
        fingerprint=fingerprint(digests[usable]),
        pruning=PruningIndex(squares),
    )
