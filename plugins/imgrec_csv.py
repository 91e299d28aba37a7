"""A store that is a folder of CSV files, plain for pandas; also the usual backup."""

from __future__ import annotations

import contextlib
import copy
import csv
import hashlib
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

import imgrec
from imgrec import Batch, Failure, NoStoreError, Record, Space, Vectors, free_name, locks, option

log = logging.getLogger(__name__)

RECORDS, FAILURES, SPACES, NOTES = "records.csv", "failures.csv", "spaces.json", "notes.json"
SCHEMA = "schema.json"
RECORD_COLUMNS = ("path", "digest", "size", "time", "missing")
FAILURE_COLUMNS = ("path", "size", "time", "reason", "tried")

# How a whole row ends. Rows are told by their end because a file's name, at the start, may hold a line break.
RECORD_END = re.compile(rb",(missing|[0-9a-f]+,\d+,-?\d+,[01])\n")
FAILURE_END = re.compile(rb",(tried|[0-9.e+]+)\n")

MIGRATIONS: tuple[Callable[[Path], None], ...] = ()
"""What makes schema 2 of 1 in a folder, and so on; a folder that names none is of schema 1.

There is a new one when an older imgrec would misread the files, not when there is one more that it passes over.
"""


@dataclass
class Csv(imgrec.Store):
    """A folder of CSV files: `records.csv`, `failures.csv`, and one file of vectors for each space.

    `records.csv` has path, digest, size, time (of change, nanoseconds since 1970) and missing; a space's file
    has path, digest and the values. Files grow at the end while images come; of rows with one path or one digest
    the last counts. Vectors are written before the records that they belong to, and what has no record does not
    count: a run cut off in the middle costs nothing. Removing rows writes a new file in the place of the old.
    Notes are in `notes.json`.
    """

    path: str = option("outputs/gallery-csv", path=True, help="the folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._index: _Index | None = None
        self._is_fixed = False

    @property
    def location(self) -> str:
        """The folder."""
        return self.path

    def open(self, *, create: bool = False) -> Self:
        """Open the folder; see `Store.open`."""
        if self._index is not None:
            return self
        folder = Path(self.path)
        if create:
            with self.writing():
                self._make(folder)
        made = _aside(folder)
        if not folder.exists() and (made / SCHEMA).exists():
            with self.writing(), contextlib.suppress(FileNotFoundError):  # unless another run was quicker
                made.rename(folder)  # a run was killed before it had put this in place
        if not os.path.exists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            raise NoStoreError(f"there is no gallery at {folder.absolute()}: make it with `imgrec ingest FOLDER`")
        if not (folder / RECORDS).is_file():
            raise imgrec.UsageError(f"{self.path} is not an imgrec store: it has no {RECORDS}")
        self._upgrade()
        self._index = self._read()
        return self

    def _make(self, folder: Path) -> None:
        made = _aside(folder)
        try:
            if (folder.exists() and any(folder.iterdir())) or (made / SCHEMA).exists():
                return
            made.mkdir(parents=True, exist_ok=True)
            _append(made / RECORDS, 0, RECORD_COLUMNS, [])
            _write_schema_version(made)
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()
            made.rename(folder)
        except OSError as error:
            raise imgrec.UsageError(f"store {self.path} cannot be made: {error.strerror}") from None

    def _upgrade(self) -> None:
        """Bring an older schema up to date, all of it or nothing, and keep the folder as it was.

        Raises:
            UsageError: the schema is newer than this imgrec; it cannot be upgraded.
        """
        folder, newest = Path(self.path), 1 + len(MIGRATIONS)
        if not 1 <= (version := _schema_version(folder)) <= newest:
            raise imgrec.UsageError(
                f"{self.path} has schema version {version}, and this imgrec reads 1 to {newest}: update imgrec"
            )
        if version == newest:
            return
        kept = free_name(f"{folder}-schema-{version}")
        with self.writing():
            if _schema_version(folder) == newest:  # another run was quicker
                return
            self._migrate(folder, version, kept)
        log.warning(
            "%s is upgraded from schema %s to %s; it is kept as it was in %s", self.path, version, newest, kept
        )

    def _migrate(self, folder: Path, version: int, kept: Path) -> None:
        made = _aside(folder)
        try:
            shutil.rmtree(made, ignore_errors=True)
            shutil.copytree(folder, made)
            for migrate in MIGRATIONS[version - 1 :]:
                migrate(made)
            _write_schema_version(made)
            with self._batch(alone=True):
                folder.rename(kept)
                made.rename(folder)
        except (OSError, ValueError, LookupError) as error:
            raise imgrec.UsageError(
                f"{self.path} is of an older schema, and stays so: "
                f"it cannot be upgraded to {1 + len(MIGRATIONS)}: {error}"
            ) from error
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _read(self) -> _Index:
        with self._batch(alone=False):
            try:
                return _Index(Path(self.path))
            except ValueError as error:
                raise imgrec.ImgrecError(
                    f"store {self.path} is damaged: {error}. If it is a backup, move it away, and the next ingest "
                    "makes it again"
                ) from error

    def _batch(self, *, alone: bool) -> contextlib.AbstractContextManager[None]:
        """While no other run is in the middle of a batch; alone: nor reads."""
        return locks.turn(Path(self.path) / ".batch", alone=alone)

    @property
    def lock_file(self) -> Path:
        """Beside the folder."""
        return Path(f"{Path(self.path).absolute()}.lock")

    def close(self) -> None:
        """Drop what was read; files are closed after every use."""
        self._index = None

    @property
    def _opened(self) -> _Index:
        self.open()
        assert self._index is not None
        if not self._is_fixed and self._index.stamp != _stamp(Path(self.path)):
            self._index = self._read()  # another run has written
        return self._index

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """The index in memory stays as it is, and a vector that was once written lies where it lay."""
        self._index, self._is_fixed = self._opened, True
        try:
            yield
        finally:
            self._is_fixed = False

    def write(self, batch: Batch) -> None:
        """Vectors first, records last; after an error every file is as it was."""
        if not batch:
            return
        with self.writing():
            index = self._opened
            with self._batch(alone=True):
                self._write(batch, index)
                index.stamp = _stamp(Path(self.path))

    def _write(self, batch: Batch, index: _Index) -> None:
        change = _Change(Path(self.path))
        try:
            change.add_spaces(batch.vectors, index.spaces)
            for space, (digests, vectors) in batch.vectors.items():
                change.add_vectors(space, index.owners(digests, batch), digests, vectors)
            paths = {record.path for record in batch.records}
            gone = index.records.keys() & {*batch.forgotten, *(f.path for f in batch.failures)} - paths
            ended = index.failures.keys() & {*batch.forgotten, *paths}
            failures, records = map(_failure_row, batch.failures), map(_record_row, batch.records)
            if ended:
                kept = (_failure_row(f) for path, f in index.failures.items() if path not in ended)
                change.replace(FAILURES, _csv([FAILURE_COLUMNS, *kept, *failures]))
            elif batch.failures:
                change.append(FAILURES, FAILURE_END, FAILURE_COLUMNS, failures)
            if gone:
                kept = (_record_row(r) for path, r in index.records.items() if path not in gone)
                change.replace(RECORDS, _csv([RECORD_COLUMNS, *kept, *records]))
            elif batch.records:
                change.append(RECORDS, RECORD_END, RECORD_COLUMNS, records)
            if batch.notes:
                notes = {**index.notes, **batch.notes}
                kept_notes = {name: value for name, value in notes.items() if value is not None}
                change.replace(NOTES, json.dumps(kept_notes, indent=1).encode())
            change.commit()
        except OSError as error:
            change.undo()
            raise imgrec.ImgrecError(f"store {self.path} cannot be written: {error.strerror}") from error
        except BaseException:
            change.undo()
            raise
        index.apply(batch, gone, ended)

    def records(
        self, *, paths: Sequence[str] | None = None, digests: Sequence[str] | None = None
    ) -> Iterator[Record]:
        """Records; see `Store.records`."""
        known = self._opened.records
        if digests is not None:
            paths = [path for digest in set(digests) for path in self._opened.paths_of.get(digest, ())]
        return iter([known[path] for path in (known if paths is None else dict.fromkeys(paths)) if path in known])

    def failures(self, *, paths: Sequence[str] | None = None) -> Iterator[Failure]:
        """Failures; see `Store.failures`."""
        known = self._opened.failures
        return iter([known[path] for path in (known if paths is None else dict.fromkeys(paths)) if path in known])

    def spaces(self) -> list[Space]:
        """The spaces; see `Store.spaces`. One that a run was cut off before filling is none."""
        return [space for space in self._opened.spaces.values() if _has_rows(Path(self.path) / f"{space.key}.csv")]

    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        """Contents with a vector; see `Store.digests`."""
        index = self._opened
        with self._batch(alone=False):
            held, contents = index.digests(space), index.paths_of
        return {digest for digest in (held if among is None else among) if digest in held and digest in contents}

    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Vectors; see `Store.vectors`. Reads the space's whole file."""
        contents = self._opened.paths_of
        if space.key not in self._opened.spaces:
            return [], np.empty((0, 0), np.float32)
        wanted = contents.keys() if digests is None else contents.keys() & set(digests)
        rows: dict[str, Vectors] = {}
        dim = 0
        with self._batch(alone=False):
            for names, values in _vector_blocks(Path(self.path) / f"{space.key}.csv"):
                dim = values.shape[1]
                rows.update((name, row) for name, row in zip(names, values, strict=True) if name in wanted)
        return list(rows), np.stack(list(rows.values())) if rows else np.empty((0, dim), np.float32)

    def notes(self) -> dict[str, Any]:
        """Notes; see `Store.notes`."""
        return copy.deepcopy(self._opened.notes)

    def problems(self) -> Iterator[str]:
        """Files of vectors that cannot be read whole; see `Store.problems`."""
        for space in self.spaces():
            try:
                with self._batch(alone=False):
                    for _ in _vector_blocks(Path(self.path) / f"{space.key}.csv"):
                        pass
            except imgrec.ImgrecError as error:
                yield str(error)

    def generation(self, space: Space) -> str | None:
        """From the sizes and times of change of the files; None for a snapshot that they have left behind."""
        if self._is_fixed and self._opened.stamp != _stamp(Path(self.path)):
            return None
        with self._batch(alone=False):
            stamp = _stamp(Path(self.path), RECORDS, f"{space.key}.csv")
        return hashlib.sha256(repr(stamp).encode()).hexdigest()[:32]

    @property
    def derived_folder(self) -> Path:
        """Inside the folder."""
        return Path(self.path) / ".index"

    def size(self) -> int:
        """Bytes of all files in the folder."""
        return sum(file.stat().st_size for file in Path(self.path).iterdir() if file.is_file())


class _Index:
    """What the folder holds, in memory: everything but the vectors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stamp = _stamp(folder)
        self.records = {
            row[0]: Record(row[0], row[1], int(row[2]), int(row[3]), row[4] == "1")
            for row in _rows(folder / RECORDS, RECORD_END, (str, str, int, int, str))
        }
        self.failures = {
            row[0]: Failure(row[0], int(row[1]), int(row[2]), row[3], float(row[4]))
            for row in _rows(folder / FAILURES, FAILURE_END, (str, int, int, str, float))
            if row[0] not in self.records  # a run was cut off between the two files: the next one tries it again
        }
        self.spaces = {each.key: each for each in map(Space.from_json, _json(folder / SPACES, list))}
        self.notes: dict[str, Any] = _json(folder / NOTES, dict)
        self.paths_of: dict[str, set[str]] = {}
        """The files of each content that has any."""
        for record in self.records.values():
            self.paths_of.setdefault(record.digest, set()).add(record.path)
        self._digests: dict[str, set[str]] = {}

    def digests(self, space: Space) -> set[str]:
        """The contents in a space's file, with or without a record; none of a space that is not listed."""
        if space.key not in self.spaces:
            return set()
        if space.key not in self._digests:
            blocks = _vector_blocks(self.folder / f"{space.key}.csv", names_only=True)
            self._digests[space.key] = {name for names, _ in blocks for name in names}
        return self._digests[space.key]

    def owners(self, digests: Iterable[str], batch: Batch) -> list[str]:
        """A path for each content."""
        new = {record.digest: record.path for record in batch.records}
        return [new.get(digest) or min(self.paths_of.get(digest, {""})) for digest in digests]

    def apply(self, batch: Batch, gone: set[str], ended: set[str]) -> None:
        for path in {*gone, *(record.path for record in batch.records)} & self.records.keys():
            old = self.records.pop(path)
            self.paths_of[old.digest].discard(path)
            if not self.paths_of[old.digest]:
                del self.paths_of[old.digest]
        for path in ended:
            del self.failures[path]
        for record in batch.records:
            self.records[record.path] = record
            self.paths_of.setdefault(record.digest, set()).add(record.path)
        self.failures.update((failure.path, failure) for failure in batch.failures)
        for name, value in batch.notes.items():
            self.notes.pop(name, None)
            if value is not None:
                self.notes[name] = json.loads(json.dumps(value))
        for space, (digests, _) in batch.vectors.items():
            self.spaces.setdefault(space.key, space)
            if space.key in self._digests:
                self._digests[space.key].update(digests)


class _Change:
    """Changes of a batch to the files, that can be undone until they are all made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sizes: dict[Path, int] = {}
        self._replacements: list[tuple[Path, Path]] = []
        self._old_spaces: list[Space] | None = None

    def append(self, name: str, row_end: re.Pattern[bytes], header: Sequence[str], rows: Iterable[Any]) -> None:
        file = self.folder / name
        length = _whole_length(file, row_end)
        self._sizes.setdefault(file, length)
        _append(file, length, header, rows)

    def replace(self, name: str, content: bytes) -> None:
        aside = self.folder / f".{name}.new"
        aside.write_bytes(content)
        self._replacements.append((aside, self.folder / name))

    def add_spaces(self, spaces: Iterable[Space], known: dict[str, Space]) -> None:
        if any(space.key not in known for space in spaces):
            self._old_spaces = list(known.values())
            self._list_spaces({**known, **{space.key: space for space in spaces}}.values())

    def _list_spaces(self, spaces: Iterable[Space]) -> None:
        aside = self.folder / f".{SPACES}.new"
        aside.write_text(json.dumps([space.to_json() for space in spaces], indent=1))
        aside.replace(self.folder / SPACES)

    def add_vectors(self, space: Space, paths: list[str], digests: list[str], vectors: Vectors) -> None:
        dim = vectors.shape[1]
        name = f"{space.key}.csv"
        # Nine significant digits give back the same float32, whatever the last bit of the double read in between.
        values = ",".join(["%.9g"] * dim)
        rows = [
            (path, digest, _Raw(values % tuple(vector)))
            for path, digest, vector in zip(paths, digests, vectors.tolist(), strict=True)
        ]
        self.append(name, _vector_end(dim), ("path", "digest", *(f"v{i}" for i in range(dim))), rows)

    def commit(self) -> None:
        for aside, file in self._replacements:
            aside.replace(file)

    def undo(self) -> None:
        """What gives room comes first: the disk may be full."""
        for aside in [*(aside for aside, _ in self._replacements), self.folder / f".{SPACES}.new"]:
            aside.unlink(missing_ok=True)
        for file, size in self._sizes.items():
            if file.exists():
                os.truncate(file, size)
        if self._old_spaces is not None:
            with contextlib.suppress(OSError):  # a space that is listed and has no vectors is none
                self._list_spaces(self._old_spaces)


def _schema_version(folder: Path) -> int:
    try:
        return int(json.loads((folder / SCHEMA).read_text())["schema"])
    except FileNotFoundError:
        return 1
    except (ValueError, LookupError, TypeError) as error:
        raise imgrec.UsageError(f"{folder / SCHEMA} does not say which schema it is: {error}") from None


def _write_schema_version(folder: Path) -> None:
    aside = folder / f".{SCHEMA}.new"
    aside.write_text(json.dumps({"schema": 1 + len(MIGRATIONS)}) + "\n")
    aside.replace(folder / SCHEMA)  # last: what has it is whole


def _aside(folder: Path) -> Path:
    """Where a folder is made before it is put in its place."""
    return Path(f"{folder}.new")


def _stamp(folder: Path, *names: str) -> list[tuple[int, int, int] | None]:
    """Changes when one of the files does: of those named, or of all that are kept in memory."""
    found: list[tuple[int, int, int] | None] = []
    for name in names or (RECORDS, FAILURES, SPACES, NOTES):
        try:
            status = (folder / name).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def _vector_end(dim: int) -> re.Pattern[bytes]:
    return re.compile(rb",(v%d|[0-9a-f]+(,-?[0-9.e+-]+){%d})\n" % (dim - 1, dim))


def _record_row(record: Record) -> tuple[Any, ...]:
    return record.path, record.digest, record.size, record.mtime_ns, int(record.missing)


def _failure_row(failure: Failure) -> tuple[Any, ...]:
    return failure.path, failure.size, failure.mtime_ns, failure.reason, repr(failure.time)


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as CSV, by hand: the csv module leaves a carriage return unquoted, and pandas ends a line there."""
    text = "".join(",".join(map(_cell, row)) + "\n" for row in rows)
    return text.encode(errors="surrogateescape")


class _Raw(str):
    """Cells that are joined already, and need no quotes."""


def _cell(value: Any) -> str:
    if isinstance(value, _Raw):
        return value
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\r\n]', text) else text


def _append(file: Path, length: int, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Add rows after the last whole one, which ends at `length`, below a header, and see them on the disk."""
    with file.open("ab") as handle:
        handle.truncate(length)
        handle.write(_csv(rows if length else [header, *rows]))
        handle.flush()
        os.fsync(handle.fileno())


def _whole_length(file: Path, row_end: re.Pattern[bytes]) -> int:
    """Bytes up to the end of the last whole row: what a run cut off in the middle left behind is not counted."""
    if not file.exists():
        return 0
    with file.open("rb") as handle:
        start = max(0, handle.seek(0, os.SEEK_END) - 4 * 1024 * 1024)
        handle.seek(start)
        tail = handle.read()
    # The last row that ends as a row does, and at a line's end; mostly the first one looked at.
    end = len(tail)
    while end:
        end = tail.rfind(b"\n", 0, end) + 1
        line = tail.rfind(b"\n", 0, max(0, end - 1)) + 1
        if row_end.search(tail, line, end):
            break
        end = line
    return start + end


def _json(file: Path, kind: type) -> Any:
    """What a file has, which is of a kind; nothing of it where there is no file.

    Raises:
        ValueError: it is something else.
    """
    try:
        found = json.loads(file.read_text()) if file.exists() else kind()
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{file.name} has a {type(found).__name__}, not a {kind.__name__}")
    return found


def _rows(file: Path, row_end: re.Pattern[bytes], cells: Sequence[Callable[[str], Any]]) -> Iterator[list[str]]:
    """The whole rows of a file, without its header; none where there is no file.

    Raises:
        ValueError: a row has other cells than these can read.
    """
    if not file.exists():
        return
    data = file.read_bytes()[: _whole_length(file, row_end)]
    rows = csv.reader(io.StringIO(data.decode(errors="surrogateescape"), newline=""))
    next(rows, None)
    for row in rows:
        try:
            if len(row) != len(cells):
                raise ValueError(f"{len(row)} cells, not {len(cells)}")
            for cell, read in zip(row, cells, strict=True):
                read(cell)
        except ValueError as error:
            raise ValueError(f"{file.name}, line {rows.line_num}: {error}") from error
        yield row


def _has_rows(file: Path) -> bool:
    """Whether a space's file has a whole row below its header."""
    if not file.exists():
        return False
    with file.open("rb") as handle:
        header = handle.readline()
    return header.endswith(b"\n") and _whole_length(file, _vector_end(header.count(b",") - 1)) > len(header)


def _vector_blocks(file: Path, *, names_only: bool = False) -> Iterator[tuple[list[str], Vectors]]:
    """Digests and vectors of a space's file, a block of rows at a time."""
    if not file.exists():
        return
    import pandas as pd

    with file.open("rb") as handle:
        header = handle.readline()
    dim = header.count(b",") - 1
    if dim < 1 or not header.endswith(b"\n"):
        return
    whole = io.BufferedReader(_Prefix(file, _whole_length(file, _vector_end(dim))))
    columns = ["digest"] if names_only else ["digest", *(f"v{i}" for i in range(dim))]
    try:
        with pd.read_csv(
            whole,
            usecols=columns,
            dtype={"digest": str, **dict.fromkeys(columns[1:], np.float32)},
            encoding_errors="surrogateescape",
            na_filter=False,
            chunksize=4096,
        ) as blocks:
            for block in blocks:
                yield block["digest"].tolist(), block[columns[1:]].to_numpy(np.float32)
    except ValueError as error:
        raise imgrec.ImgrecError(f"{file} is damaged: {' '.join(str(error).split())}") from error


class _Prefix(io.RawIOBase):
    """The first bytes of a file, as a stream."""

    def __init__(self, file: Path, length: int) -> None:
        super().__init__()
        self._file, self._left = file.open("rb"), length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Store]]:
    """This plugin's components."""
    return [Csv]
