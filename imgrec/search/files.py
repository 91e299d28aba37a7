"""A space's vectors, ready to be searched: from the store, or memory-mapped from cached files.

The files are in the store's `cache_folder`, one folder for each space and revision of the store. They are used
only for that revision, if samples of them agree with the store, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgrec.kinds import Progress, Space, Store, Vectors, no_progress
from imgrec.search import tables
from imgrec.search.pruning import PCALevel, PruningIndex, Rows, levels_of, principal_axes, pruning_index
from imgrec.search.tables import Source, VectorTable, fingerprint

log = logging.getLogger(__name__)

FORMAT = 5
"""The version of the cached files."""

WORTH_KEEPING = 32_000_000
"""Bytes of vectors from which on they are cached: fewer load as fast from the store."""

CHANGED = 0.25
"""The share of vectors that may have changed since the axes were made: with more, all is made anew."""

ABANDONED = 3600
"""Seconds after which unfinished files are those of a run that was killed."""

CHECKED = 16_384
"""Rows that are compared with the store at a time."""

ROWS = ("digests", "vectors", "usable")
LEVEL = ("axes", "terms")
"""The cached arrays, each in a file of its name; the level's number is appended to those of a level."""


def whole(store: Store, space: Space) -> Source:
    """The source of a space's vectors as they are."""
    return Source(store, space, space.key)


def load(store: Store, space: Space) -> VectorTable:
    """The table of a space of a store; see `load_from`."""
    return load_from(whole(store, space))


def load_from(source: Source) -> VectorTable:
    """A table: memory-mapped if it is cached and valid, else from the store.

    It is cached at the second search of the same revision: during an ingest, or for a single search, what that
    takes would cost more than it saves. Until then a large one is in a temporary file.
    """
    if (kept := source.folder) is None:
        return tables.in_memory(source)
    if (found := mapped(kept, source)) is not None:
        return found
    if _is_second_look(kept):
        return _made(source, kept)
    try:
        made = tables.streamed(source, _worth_keeping(source), lambda: _temporary_file(kept.parent))
    except OSError:  # the disk is full or read-only
        return tables.in_memory(source)
    if is_large(source, made):
        _mark(kept)
    return made


def prepare(source: Source, progress: Progress = no_progress) -> None:
    """Cache a large table now, for whoever will search it often: it is memory-mapped from the first time on."""
    kept, size = source.folder, source.store.size()
    may_be_large = size is None or size >= _worth_keeping(source)
    if may_be_large and kept is not None and mapped(kept, source) is None:
        _made(source, kept, progress)


def _worth_keeping(source: Source) -> int:
    """Bytes from which on vectors are cached; projected ones sooner, since they save reading longer vectors."""
    return WORTH_KEEPING if source.project is None else WORTH_KEEPING // 8


def is_large(source: Source, made: VectorTable) -> bool:
    """Whether a table is worth caching."""
    return made.vectors.nbytes >= _worth_keeping(source)


def _temporary_file(folder: Path) -> IO[bytes]:
    """A file that is gone when nobody has it open or mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def _is_second_look(kept: Path) -> bool:
    """Whether a large table of this revision was made before; True for only one of concurrent callers."""
    with contextlib.suppress(OSError):
        _marks(kept).rmdir()
        return True
    return False


def _mark(kept: Path) -> None:
    with contextlib.suppress(OSError):
        for older in kept.parent.glob(".seen-*"):
            older.rmdir()
        _marks(kept).mkdir()


def _marks(kept: Path) -> Path:
    return kept.with_name(f".seen-{kept.name}")


# --- making and keeping -------------------------------------------------------------------------------------


class _Known(NamedTuple):
    """What is taken over from the table of an older revision."""

    levels: Sequence[PCALevel]
    rows: Rows
    """Those of its rows that are the first ones now."""

    axes_of: int
    """How many vectors there were when its axes were made."""

    changed: int
    """How many have changed since."""


def _made(source: Source, kept: Path, progress: Progress = no_progress) -> VectorTable:
    """A table from the store; a large one is cached with its pruning index, if anything can be written."""
    made: VectorTable | None = None
    aside = kept.with_name(f".new-{secrets.token_hex(8)}")

    def opened() -> IO[bytes]:
        aside.mkdir(parents=True, exist_ok=True)
        return (aside / "vectors.npy").open("w+b")

    try:
        made, known = _updated(source, kept, opened) or (
            tables.streamed(source, _worth_keeping(source), opened),
            None,
        )
        if is_large(source, made):
            made = _indexed(source, made, aside, known, progress)
            if source.store.revision(source.space) == kept.name:
                made = None  # nothing of it is mapped any more: Windows would not rename it
                _put(aside, kept)
                clear_others(kept)
                return read(kept)
    except OSError as error:  # the disk is full or read-only
        log.info("the search index is not kept: %s", error)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return tables.in_memory(source) if made is None else made


def _updated(source: Source, kept: Path, opened: Callable[[], IO[bytes]]) -> tuple[VectorTable, _Known] | None:
    """A table made of that of an older revision, if there is one from which little has changed."""
    with source.store.snapshot():
        for folder in sorted(kept.parent.glob("[!.]*/")):
            if (changes := source.changes(folder.name)) is None:
                continue
            try:
                older, about = read(folder), _about(folder)
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                continue
            changed, axes_of = about["changed"] + len(set.union(*changes)), about["axes_of"]
            if not (older.pruning.levels and is_well_formed(older)) or changed > CHANGED * axes_of:
                continue
            made, rows = tables.updated(source, older, *changes, opened)
            if is_large(source, made) and _agrees(made, source):
                return made, _Known(older.pruning.levels, rows, axes_of, changed)
    return None


def _indexed(
    source: Source, made: VectorTable, aside: Path, known: _Known | None, progress: Progress
) -> VectorTable:
    """Add the pruning index to a table whose vectors are in a folder, and all other files to this."""
    count, folder = len(made.digests), aside.parent.parent
    if known:
        log.warning(
            "the search index in %s follows the store: %s vectors are new", folder, f"{count - len(known.rows):,}"
        )
    else:
        log.warning("making a search index of %s vectors, once; it is kept in %s", f"{count:,}", folder)
        known = _Known((), np.arange(0), count, 0)
    levels = list[PCALevel]()
    if np.isfinite(made.pruning.squares).all():

        def allocate(i: int, shape: tuple[int, int]) -> Vectors:
            return np.lib.format.open_memmap(aside / f"terms-{i}.npy", "w+", np.float32, shape)

        axes = [level.axes for level in known.levels] or principal_axes(made.vectors)
        with progress("search index", count) as advance:
            levels = levels_of(made.vectors, axes, allocate, known.levels, known.rows, advance)
    made = replace(made, pruning=PruningIndex(made.pruning.squares, levels))
    _write(made, aside, {**source.about(), "axes_of": known.axes_of, "changed": known.changed})
    return made


def keep(source: Source, made: VectorTable, revision: str) -> VectorTable:
    """Add the pruning index to a large table in memory, and cache it, unless the store has changed since.

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
        kept = folder / source.key / revision
        with contextlib.suppress(OSError):  # the disk may be full or read-only
            with put_in_place(kept) as aside:
                _write(made, aside, {**source.about(), "axes_of": len(made.digests), "changed": 0})
            clear_others(kept)
    return made


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
        _put(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put(aside: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def clear_others(folder: Path) -> None:
    """Remove a folder's siblings, of older revisions, except those that another run may be writing."""
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            is_being_made = other.name.startswith(".new-") and time.time() - other.stat().st_mtime < ABANDONED
            if other != folder and not is_being_made:
                shutil.rmtree(other, ignore_errors=True)


def _write(table: VectorTable, folder: Path, about: Mapping[str, Any]) -> None:
    """Write those files of a table that are not in the folder yet, and all of them to the disk."""
    levels = table.pruning.levels
    arrays = {name: getattr(table, name) for name in ROWS} | {"squares": table.pruning.squares}
    for i, level in enumerate(levels):
        arrays |= {f"{name}-{i}": getattr(level, name) for name in LEVEL}
    arrays |= {f"of-{name}": array for name, array in table.made_of.items()}
    for name, array in arrays.items():
        file = folder / f"{name}.npy"
        if not file.exists():
            np.save(file, array)
        with file.open("r+b") as written:
            os.fsync(written)  # else a power cut may leave zeros under the final name
    about = {
        "format": FORMAT,
        "images": table.images,
        "fingerprint": table.fingerprint,
        "leaks": [level.leak for level in levels],
        "made_of": list(table.made_of),
        **about,
    }
    (folder / "about.json").write_text(json.dumps(about))


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

    about = _about(folder)
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


def _about(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / "about.json").read_text())
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}")
    if not _is_sound(about):
        raise ValueError("its about.json was changed")
    return about


def _is_sound(about: dict[str, Any]) -> bool:
    leaks, counts = about["leaks"], [about[name] for name in ("images", "axes_of", "changed")]
    return (
        all(type(count) is int for count in counts)
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
    with np.errstate(over="ignore"):
        if not np.allclose(pruning.squares[rows], squares.astype(np.float32), rtol=1e-5, atol=0):
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
        kept = np.linalg.norm(seen - level.columns[rows] @ (axes.T @ axes), axis=1)  # A'r = A'x - A'A c
        if not (kept <= 1.01 * level.leak * np.sqrt(squares) + 1e-15).all():
            return False
    return True
