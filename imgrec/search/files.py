"""A space's vectors, ready to be searched: from the store, or memory-mapped from cached files.

The files are in the store's `cache_folder`, one folder for each space and revision of the store. They are used
only for that revision, if samples of them agree with the store, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec.errors import ImgrecError
from imgrec.kinds import Space, Store, Vectors
from imgrec.search.bounds import PCALevel, PruningIndex, pruning_index

log = logging.getLogger(__name__)

FORMAT = 4
"""The version of the cached files."""

WORTH_KEEPING = 32_000_000
"""Bytes of vectors from which on they are cached: fewer load as fast from the store."""

ABANDONED = 3600
"""Seconds after which unfinished files are those of a run that was killed."""

CHECKED = 16_384
"""Rows that are compared with the store at a time."""

ROWS = ("digests", "vectors", "usable")
LEVEL = ("axes", "terms")
"""The cached arrays, each in a file of its name; the level's number is appended to those of a level."""


@dataclass(frozen=True)
class VectorTable:
    """The vectors of a space as rows, with what is needed to search them."""

    digests: npt.NDArray[np.bytes_]
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


def fingerprint(digests: Collection[str] | npt.NDArray[np.bytes_]) -> str:
    """A digest of a gallery's contents, independent of their order.

    >>> fingerprint(["aa", "bb"]) == fingerprint(np.array([b"bb", b"aa"]))
    True
    """
    names = digests if isinstance(digests, np.ndarray) else np.array(list(digests), dtype=np.bytes_)
    return hashlib.sha256(np.sort(names).tobytes()).hexdigest()  # NumPy sorts them five times as fast


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


def in_blocks(project: Callable[[Vectors], Vectors], vectors: Vectors, size: int = 8192) -> Vectors:
    """Project vectors in blocks of `size` rows, to bound the memory needed."""
    return np.concatenate(
        [project(vectors[start : start + size]) for start in range(0, max(1, len(vectors)), size)]
    )


def whole(store: Store, space: Space) -> Source:
    """The source of a space's vectors as they are."""
    return Source(store, space, space.key)


def load(store: Store, space: Space) -> VectorTable:
    """The table of a space of a store; see `load_from`."""
    return load_from(whole(store, space))


def load_from(source: Source) -> VectorTable:
    """A table: memory-mapped if it is cached and valid, else from the store.

    It is cached at the second search of the same revision: during an ingest, or for a single search, writing the
    files would cost more than it saves.
    """
    if (kept := source.folder) is None:
        return _from(source)
    if (found := mapped(kept, source)) is not None:
        return found
    made = _from(source)
    return keep(source, made, kept.name) if is_large(source, made) and _is_second_look(kept) else made


def prepare(source: Source) -> None:
    """Cache a large table now, for whoever will search it often: it is memory-mapped from the first time on."""
    kept = source.folder
    if kept is not None and mapped(kept, source) is None:
        made = _from(source)
        if is_large(source, made):
            keep(source, made, kept.name)


def is_large(source: Source, made: VectorTable) -> bool:
    """Whether a table is worth caching; projected ones are sooner, since they save reading longer vectors."""
    return made.vectors.nbytes >= (WORTH_KEEPING if source.project is None else WORTH_KEEPING // 8)


def keep(source: Source, made: VectorTable, revision: str) -> VectorTable:
    """Add the pruning index to a large table, and cache it for later searches, unless the store has changed since.

    Args:
        source: where it comes from.
        made: the table.
        revision: the store's, before the table was made.
    """
    folder = source.store.cache_folder
    assert folder is not None
    if is_large(source, made):
        log.warning(
            "making a search index of %s vectors, once; it is kept in %s", f"{len(made.digests):,}", folder
        )
        made = replace(made, pruning=pruning_index(made.vectors))
    if source.store.revision(source.space) == revision:
        with contextlib.suppress(OSError):  # the disk may be full or read-only
            _keep(made, folder / source.key / revision, source.about())
    return made


def _is_second_look(kept: Path) -> bool:
    """Whether the store was searched before in this revision; True for only one of concurrent callers."""
    mark = kept.with_name(f".seen-{kept.name}")
    with contextlib.suppress(OSError):
        mark.rmdir()
        return True
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        for older in kept.parent.glob(".seen-*"):
            older.rmdir()
        mark.mkdir()
    return False


def _from(source: Source) -> VectorTable:
    """The table as the store has it.

    Raises:
        ImgrecError: a vector is not finite.
    """
    digests, vectors = source.vectors()
    files = Counter(record.digest for record in source.store.records() if not record.missing)
    counts = np.array([files[digest] for digest in digests], dtype=np.int64)
    names = np.array(digests, dtype=np.bytes_)
    usable, pruning = counts > 0, pruning_index(vectors, ())
    suspects = np.flatnonzero(~np.isfinite(pruning.squares))  # not finite, or so long that the square is not
    if bad := [row for row in suspects if not np.isfinite(vectors[row]).all()]:
        raise ImgrecError(
            f"{len(bad)} of {len(names)} vectors of {source.key} in {source.store.location} are not finite, such "
            f"as that of the content {digests[bad[0]]}: `imgrec verify fix=true` drops them, and the next ingest "
            "extracts them again"
        )
    return VectorTable(
        digests=names,
        vectors=vectors,
        usable=usable,
        images=int(counts.sum()),
        fingerprint=fingerprint(names[usable]),
        pruning=pruning,
    )


@contextlib.contextmanager
def put_in_place(folder: Path, beside: Path | None = None) -> Iterator[Path]:
    """A temporary folder to fill, renamed into place if no error is raised: readers see all of it or nothing.

    Args:
        folder: its final place; what is there is removed.
        beside: where to make the temporary folder, on the same file system; None: in the parent of `folder`.

    Raises:
        OSError: the disk is full or read-only.
    """
    beside = beside or folder.parent
    beside.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".new-", dir=beside))
    try:
        yield aside
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def clear_others(folder: Path) -> None:
    """Remove a folder's siblings, of older revisions, except those that another run may be writing."""
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            is_being_made = other.name.startswith(".new-") and time.time() - other.stat().st_mtime < ABANDONED
            if other != folder and not is_being_made:
                shutil.rmtree(other, ignore_errors=True)


def _keep(table: VectorTable, folder: Path, how: Mapping[str, Any]) -> None:
    """Write a table's files, and remove those of older revisions."""
    levels = table.pruning.levels
    with put_in_place(folder) as aside:
        arrays = {name: getattr(table, name) for name in ROWS} | {"squares": table.pruning.squares}
        for i, level in enumerate(levels):
            arrays |= {f"{name}-{i}": getattr(level, name) for name in LEVEL}
        arrays |= {f"of-{name}": array for name, array in table.made_of.items()}
        for name, array in arrays.items():
            with (aside / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                os.fsync(file.fileno())  # else a power cut may leave zeros under the final name
        about = {
            "format": FORMAT,
            "images": table.images,
            "fingerprint": table.fingerprint,
            "leaks": [level.leak for level in levels],
            "made_of": list(table.made_of),
            **how,
        }
        (aside / "about.json").write_text(json.dumps(about))
    clear_others(folder)


def mapped(folder: Path, source: Source) -> VectorTable | None:
    """The memory-mapped table in a folder; None if there is none, or it is not valid."""
    if not os.path.exists(folder):
        return None
    try:
        table = read(folder)
        problem = None if _agrees(table, source) else "it does not agree with the store"
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        problem = str(error)
    if problem is None:
        return table
    log.warning("the search index in %s is made again: %s", folder, problem)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def read(folder: Path) -> VectorTable:
    """The memory-mapped table in a folder, not yet compared with the store.

    Raises:
        OSError, EOFError, ValueError, KeyError, TypeError: it cannot be read.
    """

    def array(name: str) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    about = json.loads((folder / "about.json").read_text())
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}")
    if not _is_sound(about):
        raise ValueError("its about.json was changed")
    levels = [
        PCALevel(**{name: array(f"{name}-{i}") for name in LEVEL}, leak=leak)
        for i, leak in enumerate(about["leaks"])
    ]
    rows = {name: array(name) for name in ROWS}
    return VectorTable(
        **rows,
        images=about["images"],
        fingerprint=about["fingerprint"],
        pruning=PruningIndex(array("squares"), levels),
        made_of={name: array(f"of-{name}") for name in about.get("made_of", ())},
    )


def _is_sound(about: dict[str, Any]) -> bool:
    leaks, images = about["leaks"], about["images"]
    return (
        type(images) is int
        and isinstance(about["fingerprint"], str)
        and all(isinstance(leak, float) and 0 <= leak < 1 for leak in leaks)
    )


def _agrees(table: VectorTable, source: Source) -> bool:
    """Whether a table is well-formed, and its first, middle and last row agree with the store."""
    count = len(table.digests)
    if not count or not is_well_formed(table):
        return False
    rows = sorted({0, count // 2, count - 1})
    return source.agrees([table.digests[row].decode() for row in rows], table.vectors[rows])


def is_well_formed(table: VectorTable) -> bool:
    """Whether the arrays of a table have the types and shapes that they should."""
    count, dim, levels = len(table.digests), table.vectors.shape[-1], table.pruning.levels
    wanted: list[tuple[npt.NDArray[Any], type[np.generic], tuple[int, ...]]] = [
        (table.digests, np.bytes_, (count,)),
        (table.vectors, np.float32, (count, dim)),
        (table.usable, np.bool_, (count,)),
        (table.pruning.squares, np.float32, (count,)),
    ]
    for level in levels:
        size = level.axes.shape[-1]
        wanted += [(level.axes, np.float32, (dim, size)), (level.terms, np.float32, (count, size + 4))]
    are_shaped = all(array.dtype.type is kind and array.shape == shape for array, kind, shape in wanted)
    are_shaped = are_shaped and all(len(array) == count for array in table.made_of.values())
    return are_shaped and not np.isnan(table.pruning.squares).any()


# --- checking -----------------------------------------------------------------------------------------------


def check(source: Source) -> Iterator[tuple[Path, str | None]]:
    """The folder with a source's current table, if it is cached, and what is wrong with it, if anything."""
    if (folder := source.folder) and folder.exists():
        yield folder, _problem(source, folder)


def _problem(source: Source, folder: Path) -> str | None:
    """What is wrong with cached files, comparing every row with the store; None if nothing is."""
    try:
        table = read(folder)
        if not _agrees(table, source):
            return "it does not agree with the store"
        names = [digest.decode() for digest in table.digests.tolist()]
        if sorted(names) != sorted(source.store.digests(source.space)):
            return "it has other images than the store"
        files = Counter(record.digest for record in source.store.records() if not record.missing)
        if table.usable.tolist() != [name in files for name in names]:
            return "it has other files as missing than the store"
        if table.images != sum(files[name] for name in names):
            return "it has another number of images than the store"
        if table.fingerprint != fingerprint(table.digests[table.usable]):
            return "its fingerprint is not that of its images"
        for start in range(0, len(names), CHECKED):
            rows = slice(start, start + CHECKED)
            if not source.agrees(names[rows], table.vectors[rows]):
                return "it has other vectors than the store"
            if not _is_pruning_index(table.vectors[rows], table.pruning, rows):
                return "its pruning index is not that of its vectors"
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return None


def _is_pruning_index(vectors: Vectors, pruning: PruningIndex, rows: slice) -> bool:
    """Whether squares, columns and rests follow from the vectors and orthonormal axes, up to rounding."""
    exact = vectors.astype(np.float64)
    squares = np.einsum("ij,ij->i", exact, exact)
    some = 1e-5 * squares
    if not (np.abs(pruning.squares[rows] - squares) <= some).all():
        return False
    for level in pruning.levels:
        axes = level.axes.astype(np.float64)
        if not (np.abs(axes.T @ axes - np.eye(axes.shape[1])) <= 1e-5).all():
            return False
        seen = exact @ axes
        left = np.maximum(squares - np.einsum("ij,ij->i", seen, seen), 0)
        if not (np.abs(level.columns[rows] - seen) <= 1e-5 * np.sqrt(squares)[:, None]).all():
            return False
        length, rest, square, one = level.terms[rows, -4:].astype(np.float64).T
        if not all(
            (np.abs(a - b) <= some).all() for a, b in ((length**2, squares), (rest**2, left), (square, squares))
        ):
            return False
        if not (one == 1).all():
            return False
        kept = np.linalg.norm((exact - level.columns[rows] @ axes.T) @ axes, axis=1)
        if not (kept <= 1.01 * level.leak * np.sqrt(squares) + 1e-15).all():
            return False
    return True
