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
from collections.abc import Callable, Collection, Sequence
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


@dataclass(frozen=True)
class Source:
    """Where the vectors of an index come from: a space of the store, as it is or projected."""

    store: Store
    space: Space
    """That the store holds."""

    key: str
    """Of the vectors' own space: that of `space`, or another where they are projected."""

    project: Callable[[Vectors], Vectors] | None = None
    """Makes the index's vectors of the store's, row by row."""

    def vectors(self, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Digests and vectors, row by row: all, or those of the given digests."""
        names, vectors = self.store.vectors(self.space, digests)
        if self.project is None or not names:
            return names, vectors
        blocks = [self.project(vectors[start : start + 8192]) for start in range(0, len(vectors), 8192)]
        return names, np.concatenate(blocks)

    def agrees(self, digests: Sequence[str], vectors: Vectors) -> bool:
        """Whether these are the vectors of some contents, row by row; projected ones but for rounding."""
        names, true = self.vectors(digests)
        row_of = {digest: row for row, digest in enumerate(digests)}
        if len(names) != len(row_of):
            return False
        found = vectors[[row_of[name] for name in names]]
        if self.project is None:
            return np.array_equal(found, true)
        return found.shape == true.shape and np.allclose(found, true, rtol=1e-4, atol=1e-4 * np.abs(true).max())


def load(store: Store, space: Space) -> Index:
    """The index of a space of a store; see `load_from`."""
    return load_from(Source(store, space, space.key))


def load_from(source: Source) -> Index:
    """An index: mapped if it is there and right, else from the store.

    It is made for later searches where the store has stayed as it is since an earlier one: beside an ingest, or
    for a single search, it would cost more than it gives.
    """
    store, space = source.store, source.space
    generation, folder = store.generation(space), store.derived_folder
    if generation is None or folder is None:
        return _from(source)
    kept = folder / source.key / generation
    if (found := _mapped(kept, source)) is not None:
        return found
    made = _from(source)
    worth = WORTH_KEEPING if source.project is None else WORTH_KEEPING // 8  # it saves reading longer vectors
    if made.vectors.nbytes < worth or not _is_second_look(kept):
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


def _from(source: Source) -> Index:
    digests, vectors = source.vectors()
    files = Counter(record.digest for record in source.store.records() if not record.missing)
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


def _mapped(folder: Path, source: Source) -> Index | None:
    """The index in a folder; None where there is none, or not a right one."""
    if not os.path.exists(folder):
        return None
    try:
        index = _read(folder)
        problem = None if _agrees(index, source) else "it does not agree with the store"
    except (OSError, ValueError, KeyError, TypeError) as error:
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


def _agrees(index: Index, source: Source) -> bool:
    """Whether all arrays are of one length, and the first, middle and last row are as the store has them."""
    count, compressed = len(index.digests), index.compressed
    others = [index.vectors, index.usable, compressed.squares]
    others += [array for level in compressed.levels for array in (level.columns, level.rests)]
    if not count or {len(each) for each in others} != {count}:
        return False
    rows = sorted({0, count // 2, count - 1})
    return source.agrees([index.digests[row].decode() for row in rows], index.vectors[rows])
