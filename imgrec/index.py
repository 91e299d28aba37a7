"""A space's vectors, ready to be searched: from the store, or from files derived from it that are mapped at once.

The files lie in the store's `derived_folder`, one folder a space and generation of the store. They are used only
while the store is of that generation and samples of them agree with it; they may be deleted at any time.
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
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec import search
from imgrec.contracts import Space, Store, Vectors
from imgrec.search import Compressed, Level

log = logging.getLogger(__name__)

FORMAT = 3
"""Of the files. Raised when they change."""

WORTH_KEEPING = 32_000_000
"""Bytes of vectors from which on files are derived: fewer are loaded as quickly."""

ABANDONED = 3600
"""Seconds after which files that are being written belong to a run that was killed."""

CHECKED = 16_384
"""Rows that are compared with the store at a time."""

ROWS = ("digests", "vectors", "usable")
LEVEL = ("axes", "columns", "rests")
"""Arrays kept, each in a file of its name; those of a level with the level's number behind it."""


@dataclass(frozen=True)
class Index:
    """Vectors, row by row, with what tells whether and how they are found."""

    digests: npt.NDArray[np.bytes_]
    """`(n,)`: the content of each row."""

    vectors: Vectors
    """`float32 (n, dim)`; may be mapped from a file."""

    usable: npt.NDArray[np.bool_]
    """`(n,)`: whether a file of this content was there at the last ingest."""

    images: int
    """How many files: copies are counted."""

    fingerprint: str
    """Of the usable contents; see `fingerprint`."""

    compressed: Compressed


def fingerprint(digests: Collection[str] | npt.NDArray[np.bytes_]) -> str:
    """What tells whether a gallery has the contents that it had: a digest of theirs, in whatever order they come.

    >>> fingerprint(["aa", "bb"]) == fingerprint(np.array([b"bb", b"aa"]))
    True
    """
    names = digests if isinstance(digests, np.ndarray) else np.array(list(digests), dtype=np.bytes_)
    return hashlib.sha256(np.sort(names).tobytes()).hexdigest()  # NumPy sorts them five times as fast


def load(store: Store, space: Space) -> Index:
    """The index of a space: mapped if it is there and right, else from the store.

    It is made for later searches where the store has stayed as it is since an earlier one: beside an ingest, or
    for a single search, it would cost more than it gives.
    """
    generation, folder = store.generation(space), store.derived_folder
    if generation is None or folder is None:
        return _from(store, space)
    kept = folder / space.key / generation
    if (found := _mapped(kept, store, space)) is not None:
        return found
    made = _from(store, space)
    if made.vectors.nbytes < WORTH_KEEPING or not _is_second_look(kept):
        return made
    log.warning("making a search index of %s vectors, once; it is kept in %s", f"{len(made.digests):,}", folder)
    made = replace(made, compressed=search.compress(made.vectors))
    if store.generation(space) == generation:  # it still is what was loaded
        with contextlib.suppress(OSError):  # a medium that is full or read-only
            _keep(made, kept)
    return made


def _is_second_look(kept: Path) -> bool:
    """Whether the store was searched before in this generation; of several who ask at once one is told so."""
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


def _from(store: Store, space: Space) -> Index:
    digests, vectors = store.vectors(space)
    files = Counter(record.digest for record in store.records() if not record.missing)
    counts = np.array([files[digest] for digest in digests], dtype=np.int64)
    names = np.array(digests, dtype=np.bytes_)
    usable = counts > 0
    return Index(
        digests=names,
        vectors=vectors,
        usable=usable,
        images=int(counts.sum()),
        fingerprint=fingerprint(names[usable]),
        compressed=search.compress(vectors, ()),
    )


def _keep(index: Index, folder: Path) -> None:
    """Write the files aside, put them in place whole, and remove those of older generations."""
    levels = index.compressed.levels
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for name in ROWS:
            np.save(aside / f"{name}.npy", getattr(index, name))
        np.save(aside / "squares.npy", index.compressed.squares)
        for i, level in enumerate(levels):
            for name in LEVEL:
                np.save(aside / f"{name}-{i}.npy", getattr(level, name))
        about = {
            "format": FORMAT,
            "images": index.images,
            "fingerprint": index.fingerprint,
            "leaks": [level.leak for level in levels],
        }
        (aside / "about.json").write_text(json.dumps(about))
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for other in folder.parent.iterdir():
        is_being_made = other.name.startswith(".new-") and time.time() - other.stat().st_mtime < ABANDONED
        if other != folder and not is_being_made:
            shutil.rmtree(other, ignore_errors=True)


def _mapped(folder: Path, store: Store, space: Space) -> Index | None:
    """The index in a folder; None where there is none, or not a right one."""
    if not os.path.exists(folder):
        return None
    try:
        index = _read(folder)
        problem = None if _agrees(index, store, space) else "it does not agree with the store"
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        problem = str(error)
    if problem is None:
        return index
    log.warning("the search index in %s is made again: %s", folder, problem)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _read(folder: Path) -> Index:
    def array(name: str) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    about = json.loads((folder / "about.json").read_text())
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}")
    levels = [
        Level(**{name: array(f"{name}-{i}") for name in LEVEL}, leak=leak) for i, leak in enumerate(about["leaks"])
    ]
    rows = {name: array(name) for name in ROWS}
    return Index(
        **rows,
        images=about["images"],
        fingerprint=about["fingerprint"],
        compressed=Compressed(array("squares"), levels),
    )


def _agrees(index: Index, store: Store, space: Space) -> bool:
    """Whether all arrays are of one length, and the first, middle and last row are as the store has them."""
    count, compressed = len(index.digests), index.compressed
    others = [index.vectors, index.usable, compressed.squares]
    others += [array for level in compressed.levels for array in (level.columns, level.rests)]
    if not count or {len(each) for each in others} != {count}:
        return False
    row_of = {index.digests[row].decode(): row for row in (0, count // 2, count - 1)}
    names, vectors = store.vectors(space, list(row_of))
    rows = [row_of[name] for name in names]
    return len(rows) == len(row_of) and np.array_equal(index.vectors[rows], vectors)


# --- checking -----------------------------------------------------------------------------------------------


def kept(store: Store) -> Iterator[tuple[Space, Path]]:
    """The derived files that are of the store as it is now: the space, and the folder."""
    for space in store.spaces() if store.derived_folder else ():
        generation = store.generation(space)
        if (
            generation
            and store.derived_folder
            and (folder := store.derived_folder / space.key / generation).exists()
        ):
            yield space, folder


def problem(store: Store, space: Space, folder: Path) -> str | None:
    """What is wrong with derived files, every row compared with the store; None where nothing is."""
    try:
        index = _read(folder)
        if not _agrees(index, store, space):
            return "it does not agree with the store"
        present = {record.digest for record in store.records() if not record.missing}
        if len(index.digests) != len(store.digests(space)) or len(set(index.digests.tolist())) != len(
            index.digests
        ):
            return "it has other images than the store"
        for start in range(0, len(index.digests), CHECKED):
            rows = slice(start, start + CHECKED)
            names = [digest.decode() for digest in index.digests[rows].tolist()]
            found, vectors = store.vectors(space, names)
            row_of = {name: row for row, name in enumerate(found)}
            if row_of.keys() != set(names):
                return "it has other images than the store"
            if not np.array_equal(index.vectors[rows], vectors[[row_of[name] for name in names]]):
                return "it has other vectors than the store"
            if index.usable[rows].tolist() != [name in present for name in names]:
                return "it has other files as missing than the store"
            if not _is_compressed(index.vectors[rows], index.compressed, rows):
                return "its compressed vectors are not those of its vectors"
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return None


def _is_compressed(vectors: Vectors, compressed: Compressed, rows: slice) -> bool:
    """Whether squares, columns and rests follow from the vectors and orthonormal axes, but for rounding."""
    exact = vectors.astype(np.float64)
    squares = np.einsum("ij,ij->i", exact, exact)
    some = 1e-5 * squares
    if not (np.abs(compressed.squares[rows] - squares) <= some).all():
        return False
    for level in compressed.levels:
        axes = level.axes.astype(np.float64)
        if not (np.abs(axes.T @ axes - np.eye(axes.shape[1])) <= 1e-5).all():
            return False
        seen = exact @ axes
        left = np.maximum(squares - np.einsum("ij,ij->i", seen, seen), 0)
        if not (np.abs(level.columns[rows] - seen) <= 1e-5 * np.sqrt(squares)[:, None]).all():
            return False
        if not (np.abs(level.rests[rows].astype(np.float64) ** 2 - left) <= some).all():
            return False
    return True
