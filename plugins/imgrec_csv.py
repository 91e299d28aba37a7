"""A store in a folder of CSV files, readable by pandas; also the usual backup."""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import io
import itertools
import json
import logging
import math
import os
import re
import secrets
import shutil
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np

import imgrec
from imgrec import Batch, Failure, NoStoreError, Record, Space, Vectors, chunks, free_name, option

log = logging.getLogger(__name__)

SCHEMA, NEWEST = "schema.json", 3
"""Schema 1 had one file for all batches, directly in the folder; there is no schema 2."""

NAME = re.compile(r"\d{8}-\d{8}-[0-9a-f]{16}")
"""A segment's name: its first and last batch number, and a token that each batch of more than notes renews."""

FAN_IN = 16
"""How many segments of equal size are joined into one."""

TABLES: dict[str, type] = {"failures": Failure, "records": Record}
COLUMNS = {"mtime_ns": "time", "time": "tried"}
"""Columns whose names differ from the fields'."""


def _number(cell: str) -> float:
    if not math.isfinite(number := float(cell)):
        raise ValueError(f"{cell!r} is not a finite number")
    return number


READ: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": _number, "bool": "1".__eq__}
READ |= {"str | None": lambda cell: cell or None, "int | None": lambda cell: int(cell) if cell else None}

FORGOTTEN, DISMISSED = "forgotten", "dismissed"
COUNTS = "rows.json"
"""How many rows each file of a segment has, so that one that is gone or cut is noticed."""

SMALL = {FORGOTTEN: list, DISMISSED: list, "lost": list, "notes": dict, "spaces": list}

Fill = tuple[frozenset[str], Callable[[TextIO], None]]
"""The contents with a vector in a file, and a function that writes the file."""


@dataclass
class Csv(imgrec.Store):
    """A folder of CSV files with a sub-folder for each batch: safe after a kill, and readable by pandas.

    A sub-folder has `records.csv` (with modification times in nanoseconds since 1970), `failures.csv`, and a file
    of vectors for each space (path, digest, values); and as JSON, paths that were forgotten or dismissed, contents
    without any record (lost), notes and new spaces. Of rows with the same path or digest, the last one counts, in
    the order of the sub-folders' names. Many sub-folders are joined into larger ones. The vectors of a space:

        pd.concat(map(pd.read_csv, sorted(Path("outputs/gallery-csv").glob("[0-9]*/colour-*.csv"))))

    and `.drop_duplicates("digest", keep="last")`.
    """

    path: str = option("outputs/gallery-csv", path=True, is_local=True, help="the folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._index = _Index()
        self._is_open = self._is_fixed = False
        self._alone = threading.RLock()

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether it is a folder with a schema, or with the tables of the first one."""
        first = ("records.csv", "spaces.json")  # an export as arrays has a records.csv too
        return Path(path, SCHEMA).is_file() or all(Path(path, name).is_file() for name in first)

    @property
    def location(self) -> str:
        """The folder."""
        return self.path

    @property
    def lock_file(self) -> Path:
        """Beside the folder."""
        return Path(f"{Path(self.path).absolute()}.lock")

    @property
    def cache_folder(self) -> Path:
        """Inside the folder."""
        return Path(self.path) / ".index"

    def open(self, *, create: bool = False) -> Self:
        """Open the folder; see `Store.open`. Schema 1 is read without upgrading."""
        if self._is_open:
            return self
        folder = Path(self.path)
        if not os.path.exists(folder) or (
            folder.is_dir() and all(each.name[0] == "." for each in folder.iterdir())
        ):
            if not create:
                message = f"there is no gallery at {folder.absolute()}: make it with `imgrec ingest FOLDER`"
                raise NoStoreError(message)
            with self.writing():
                self._make(folder)
        if not self.recognises(self.path):
            raise imgrec.UsageError(f"{self.path} is not an imgrec store: it has no {SCHEMA}")
        version = _schema_version(folder)
        if version == 2 or (version == 1 and not (folder / "records.csv").is_file()):
            raise imgrec.UsageError(
                f"{folder / SCHEMA} does not say which schema it is: {version} is none of these"
            )
        if not 1 <= version <= NEWEST:
            raise imgrec.UsageError(
                f"{self.path} has schema version {version}, and this imgrec reads 1 to {NEWEST}: update imgrec"
            )
        self._follow()
        self._is_open = True
        return self

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / SCHEMA).exists():  # unless another run has done so
                _write_schema_version(folder, NEWEST)
        except OSError as error:
            raise imgrec.UsageError(f"store {self.path} cannot be made: {error.strerror}") from None

    def close(self) -> None:
        """Drop the index in memory, which closes its files."""
        self._index, self._is_open = _Index(), False

    def _now(self) -> _Index:
        """The current index of the folder, or that of the snapshot."""
        with self._alone:
            self.open()
            return self._index if self._is_fixed else self._follow()

    def _follow(self) -> _Index:
        """Update the index with what other processes have written."""
        folder = Path(self.path)
        while (names := _listed(folder)) != [segment.name for segment in self._index.segments]:
            if names != _listed(folder):  # listing is not atomic and may miss segments during a join
                continue
            if not {segment.end for segment in self._index.segments[-1:]} <= {name[9:] for name in names}:
                self._index = _Index()
            try:
                self._index.follow(folder, names)
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) and names != _listed(folder):  # joined meanwhile
                    continue
                self._index = _Index()
                raise imgrec.ImgrecError(
                    f"store {self.path} is damaged: {error}. If it is a backup, move it away, and the next ingest "
                    "makes it again"
                ) from error
        return self._index

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Freeze the index in memory, whose files stay open."""
        before, self._index = self._is_fixed, self._now()
        self._is_fixed = True
        try:
            yield
        finally:
            self._is_fixed = before

    def write(self, batch: Batch) -> None:
        """Add a sub-folder, renamed into place when complete."""
        if not batch:
            return
        with self._ready_to_write() as (folder, index):
            content, vectors = _changes(batch, index)
            number = 1 + index.last
            is_of_notes = index.segments and not replace(batch, metadata={})
            token = index.segments[-1].token if is_of_notes else secrets.token_hex(8)
            index.add(_put(folder, f"{number:08}-{number:08}-{token}", content, vectors), content)
            # The batch is written. If joining fails, the next write tries again.
            with contextlib.suppress(OSError, ValueError, imgrec.ImgrecError):
                while parts := _to_be_joined(index.segments):
                    first = 1 if len(parts) == len(index.segments) else parts[0].first
                    joined = _joined(folder, f"{first:08}-{parts[-1].end}", parts, index)
                    index.segments[-len(parts) :] = [joined]
                    _tidy(folder, index)

    def drop(self, space: Space) -> None:
        """Join all segments into one without the space's vectors."""
        with self._ready_to_write() as (folder, index):
            if space.key in index.content.spaces:
                name = f"{1:08}-{index.last + 1:08}-{secrets.token_hex(8)}"
                _joined(folder, name, index.segments, index, without=space.key)
                _tidy(folder, self._follow())

    @contextlib.contextmanager
    def _ready_to_write(self) -> Iterator[tuple[Path, _Index]]:
        """The folder, locked, upgraded and tidy, and its current index."""
        with self.writing(), self._alone:
            folder, index = Path(self.open().path), self._follow()
            try:
                if index.segments and not index.segments[0].name:
                    self._upgrade(folder, index)
                    index = self._follow()
                if (folder / ".schema-1").exists():
                    self._move_old(folder)
                _tidy(folder, index)
                yield folder, index
            except OSError as error:
                raise imgrec.ImgrecError(f"store {self.path} cannot be written: {error.strerror}") from error

    def _upgrade(self, folder: Path, index: _Index) -> None:
        """Write the content of schema 1 as a segment, atomically."""
        try:
            _tidy(folder, _Index())
            _joined(folder, f"{1:08}-{1:08}-{secrets.token_hex(8)}", index.segments, index)
            (folder / ".schema-1").mkdir(exist_ok=True)
            _write_schema_version(folder, NEWEST)
        except (OSError, ValueError) as error:
            raise imgrec.UsageError(
                f"{self.path} is of an older schema, and stays so: it cannot be upgraded to {NEWEST}: {error}"
            ) from error

    def _move_old(self, folder: Path) -> None:
        """Move the files of schema 1 to a folder beside the store."""
        aside, kept = folder / ".schema-1", free_name(f"{folder}-schema-1")
        aside.mkdir(exist_ok=True)
        for file in folder.iterdir():
            if file.is_file() and file.name != SCHEMA:
                file.rename(aside / file.name)
        _write_schema_version(aside, 1)
        aside.rename(kept)
        log.warning("%s is upgraded from schema 1 to %s; it is kept as it was in %s", self.path, NEWEST, kept)

    def records(
        self, *, paths: Sequence[str] | None = None, digests: Sequence[str] | None = None
    ) -> Iterator[Record]:
        """Records; see `Store.records`."""
        index = self._now()
        if digests is not None:
            paths = [path for digest in set(digests) for path in index.paths_of.get(digest, ())]
        return iter([row for row in index.of(paths).values() if isinstance(row, Record)])

    def failures(self, *, paths: Sequence[str] | None = None) -> Iterator[Failure]:
        """Failures; see `Store.failures`."""
        return iter([row for row in self._now().of(paths).values() if isinstance(row, Failure)])

    def dismissed(self, *, paths: Sequence[str] | None = None) -> set[str]:
        """Paths that were forgotten on purpose; see `Store.dismissed`."""
        return {path for path, row in self._now().of(paths).items() if row == DISMISSED}

    def spaces(self) -> list[Space]:
        """The spaces; see `Store.spaces`."""
        return list(self._now().content.spaces.values())

    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        """Contents with a vector; see `Store.digests`."""
        held = self._now().held(space.key)
        return held & (held if among is None else set(among))

    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Vectors; see `Store.vectors`. Reads files whole, skipping those without requested digests."""
        index, rows = self._now(), dict[str, Vectors]()
        wanted = index.paths_of.keys() & (index.paths_of.keys() if digests is None else set(digests))
        for segment in index.segments if space.key in index.content.spaces else ():
            for digest in segment.lost & rows.keys():
                del rows[digest]
            if space.key in segment.files and not (digests and wanted.isdisjoint(segment.names(space.key))):
                for names, values in segment.vectors(space.key):
                    rows.update((name, row) for name, row in zip(names, values, strict=True) if name in wanted)
        return list(rows), np.stack(list(rows.values())) if rows else np.empty((0, 0), np.float32)

    def blocks(
        self, space: Space, digests: Sequence[str] | None = None, size: int = 8192
    ) -> Iterator[tuple[list[str], Vectors]]:
        """Vectors; see `Store.blocks`. All are read at once: a later row may replace any earlier one."""
        names, vectors = self.vectors(space, digests)
        for start in range(0, len(names), size):
            yield names[start : start + size], vectors[start : start + size]

    def metadata(self) -> dict[str, Any]:
        """Metadata; see `Store.metadata`."""
        return copy.deepcopy(self._now().content.metadata)

    def problems(self) -> Iterator[str]:
        """Missing batches, and files of vectors that cannot be read; see `Store.problems`."""
        last = 0
        for segment in list(self._now().segments):
            if segment.first > last + 1:
                yield f"{self.path}: batches {last + 1} to {segment.first - 1} are not there"
            last = segment.last
            found = _Content.load(segment.folder).counts()
            for key in sorted(segment.files):
                try:
                    found[key] = len({name for names, _ in segment.vectors(key) for name in names})
                except imgrec.ImgrecError as error:
                    found[key] = segment.counts.get(key, 0)
                    yield str(error)
            yield from segment.lacks(found)

    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._now().segments)

    def revision(self, space: Space) -> str | None:
        """The token of the last batch, which a joined segment keeps."""
        return next((segment.token or None for segment in reversed(self._now().segments)), None)

    def changes(self, space: Space, since: str) -> tuple[set[str], set[str]] | None:
        """The changes in segments after a revision; see `Store.changes`."""
        index = self._now()
        tokens = [segment.token for segment in reversed(index.segments)]
        if not since or since not in tokens:
            return None
        later = index.segments[len(tokens) - tokens.index(since) :]
        touched = {digest for segment in later for digest in segment.lost | segment.names(space.key)}
        return touched, touched & index.held(space.key)


@dataclass
class _Content:
    """The content of segments, except vectors."""

    rows: dict[str, Record | Failure | str] = field(default_factory=dict)
    """By path; the string `FORGOTTEN` or `DISMISSED` for such paths."""

    lost: set[str] = field(default_factory=set)
    """Contents that lost their last record: their vectors in earlier segments are void."""

    metadata: dict[str, Any] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the content of a segment.

        Raises:
            ValueError: a file is damaged.
        """
        forgotten, dismissed, lost = (_texts(folder / f"{name}.json") for name in (FORGOTTEN, DISMISSED, "lost"))
        metadata, listed = _json(folder / "notes.json", dict), _json(folder / "spaces.json", list)
        rows = [(row.path, row) for name in TABLES for row in _table(folder / f"{name}.csv", TABLES[name])]
        states = [*((path, FORGOTTEN) for path in forgotten), *((path, DISMISSED) for path in dismissed)]
        spaces = {space.key: space for space in map(Space.from_json, listed)}
        if not NAME.fullmatch(folder.name):  # in schema 1, a killed run may have left a space without vectors
            files = {key: folder / f"{key}.csv" for key in spaces}
            spaces = {key: spaces[key] for key in spaces if files[key].exists() and any(_rows(files[key]))}
        return cls(dict([*states, *rows]), set(lost), metadata, spaces)

    def counts(self) -> dict[str, int]:
        """How many rows each of its files has, of those that it has."""
        held = list(self.rows.values())
        found = {name: sum(isinstance(row, kind) for row in held) for name, kind in TABLES.items()}
        found |= {state: held.count(state) for state in (FORGOTTEN, DISMISSED)}
        found |= {"lost": len(self.lost), "notes": len(self.metadata), "spaces": len(self.spaces)}
        return {name: count for name, count in found.items() if count}

    def save(self, folder: Path) -> None:
        for name, kind in TABLES.items():
            if rows := [vars(row).values() for row in self.rows.values() if isinstance(row, kind)]:
                cells = ([int(cell) if isinstance(cell, bool) else cell for cell in row] for row in rows)
                with _text(folder / f"{name}.csv", "x") as file:
                    csv.writer(file).writerows(
                        [[COLUMNS.get(each.name, each.name) for each in fields(kind)], *cells]
                    )
        paths = ([path for path, row in self.rows.items() if row == state] for state in (FORGOTTEN, DISMISSED))
        spaces = [space.to_json() for space in self.spaces.values()]
        for name, data in zip(SMALL, (*paths, sorted(self.lost), self.metadata, spaces), strict=True):
            if data:
                (folder / f"{name}.json").write_text(json.dumps(data, indent=1))


class _Segment:
    """A sub-folder of one or several joined batches; in schema 1, the whole folder."""

    def __init__(self, folder: Path, name: str, names: dict[str, frozenset[str]] | None = None) -> None:
        self._names = names or {}
        self.name, self.folder, self.end, self.token = name, folder / name, name[9:], name[18:]
        self.first, self.last = int(name[:8] or 1), int(name[9:17] or 1)
        self.is_whole = True
        self.lost = frozenset(_texts(self.folder / "lost.json"))
        self.counts = _json(self.folder / COUNTS, dict)
        files = [file for file in self.folder.iterdir() if file.is_file()]
        self.size = sum(file.stat().st_size for file in files)
        with contextlib.ExitStack() as opened:  # for as long as this is in use: it may be joined meanwhile
            keys = self.counts if name else [file.stem for file in files if file.suffix == ".csv"]
            spaces = [key for key in keys if key not in (*TABLES, *SMALL)]
            there = [file for file in files if file.stem in spaces and file.suffix == ".csv"]
            self.files = {file.stem: opened.enter_context(file.open("rb")) for file in there}
            weakref.finalize(self, opened.pop_all().close)
        self._alone = threading.RLock()

    def lacks(self, found: dict[str, int]) -> Iterator[str]:
        """What is wrong with the numbers of rows that its files have."""
        for name in sorted(found.keys() | self.counts if self.name else ()):
            if found.get(name, 0) != (wanted := self.counts.get(name, 0)):
                yield f"{self.name} has {found.get(name, 0)} rows of {name}, not {wanted}"

    def names(self, key: str) -> frozenset[str]:
        """The contents with a vector in this segment."""
        if key not in self._names:
            blocks = self.vectors(key, lambda column: column == "digest") if key in self.files else ()
            self._names[key] = frozenset(name for names, _ in blocks for name in names)
        return self._names[key]

    def vectors(
        self, key: str, columns: Callable[[str], bool] = lambda column: column != "path"
    ) -> Iterator[tuple[list[str], Vectors]]:
        """Digests and vectors, in blocks of rows."""
        import pandas as pd

        file = self.folder / f"{key}.csv"
        try:
            if not self.name:
                for rows in chunks(_rows(file), 4096):
                    yield [row[1] for row in rows], np.array([row[2:] for row in rows], np.float32)
                return
            types = defaultdict[str, type](lambda: np.float32, digest=str)
            how: Any = {"encoding_errors": "surrogateescape", "na_filter": False, "chunksize": 4096}
            with self._alone:
                self.files[key].seek(0)
                with pd.read_csv(self.files[key], usecols=columns, dtype=types, **how) as blocks:
                    for block in blocks:
                        yield block.pop("digest").tolist(), block.to_numpy(np.float32)
        except (OSError, ValueError, KeyError) as error:
            raise imgrec.ImgrecError(f"{file} is damaged: {' '.join(str(error).split())}") from error


class _Index:
    """The combined content of all segments in memory, except vectors."""

    def __init__(self) -> None:
        self.segments: list[_Segment] = []
        self.content = _Content()
        self.paths_of: dict[str, set[str]] = {}
        """The paths of each content."""
        self._held: dict[str, set[str]] = {}

    @property
    def last(self) -> int:
        """The number of the last batch; 0 if there is none."""
        return self.segments[-1].last if self.segments else 0

    def of(self, paths: Sequence[str] | None) -> dict[str, Record | Failure | str]:
        known = self.content.rows
        return known if paths is None else {path: known[path] for path in paths if path in known}

    def follow(self, folder: Path, names: Sequence[str]) -> None:
        """Add new segments; joined ones only replace those that they were made of."""
        known = {segment.name: segment for segment in self.segments}
        old = 1 + [name[9:] for name in names].index(self.segments[-1].end) if self.segments else 0
        self.segments = [known.get(name) or _Segment(folder, name) for name in names[:old]]
        for name in names[old:]:
            segment, content = _Segment(folder, name), _Content.load(folder / name)
            if name not in _listed(folder):  # it has been joined, and may have been read incompletely
                return
            for lack in segment.lacks(
                content.counts() | {key: segment.counts.get(key, 0) for key in segment.files}
            ):
                log.warning("store %s is damaged: %s: `imgrec verify` tells more", folder, lack)
                segment.is_whole = False
            self.add(segment, content)

    def add(self, segment: _Segment, content: _Content) -> None:
        names = {key: segment.names(key) for key in self._held}
        for path, row in content.rows.items():
            if isinstance(old := self.content.rows.pop(path, None), Record):
                self.paths_of[old.digest].discard(path)
                if not self.paths_of[old.digest]:
                    del self.paths_of[old.digest]
            if isinstance(row, Record):
                self.paths_of.setdefault(row.digest, set()).add(path)
            if row != FORGOTTEN:
                self.content.rows[path] = row
        metadata = self.content.metadata | content.metadata
        self.content.metadata = {name: value for name, value in metadata.items() if value is not None}
        self.content.spaces |= content.spaces
        for key, some in names.items():
            self._held[key] = (self._held[key] - segment.lost) | some
        self.segments.append(segment)

    def held(self, key: str) -> set[str]:
        """The contents with a vector in a space; empty for an unknown space."""
        if key not in self.content.spaces:
            return set()
        if key not in self._held:
            held: set[str] = set()
            for segment in self.segments:
                held = (held - segment.lost) | segment.names(key)
            self._held[key] = held & self.paths_of.keys()
        return self._held[key]


def _changes(batch: Batch, index: _Index) -> tuple[_Content, dict[str, Fill]]:
    """The content that a batch writes, and a function per space that writes its vectors."""
    content, vectors = _Content(metadata=json.loads(json.dumps(batch.metadata))), dict[str, Fill]()
    content.rows |= dict.fromkeys(batch.forgotten, FORGOTTEN)
    content.rows |= dict.fromkeys(batch.dismissed, DISMISSED)
    content.rows |= {row.path: row for some in (batch.failures, batch.records) for row in some}
    owners = {record.digest: record.path for record in batch.records}
    before = {old.digest for old in index.of(list(content.rows)).values() if isinstance(old, Record)}
    content.lost = {each for each in before - owners.keys() if index.paths_of[each] <= content.rows.keys()}
    for space, (digests, values) in batch.vectors.items():
        rows = [
            (owners.get(digest) or min(index.paths_of[digest]), digest, row)
            for digest, row in zip(digests, values, strict=True)
            if digest in owners or (digest in index.paths_of and digest not in content.lost)
        ]
        if rows:
            names = frozenset(digest for _, digest, _ in rows)
            vectors[space.key] = names, functools.partial(_write_vectors, rows)
            content.spaces |= {} if space.key in index.content.spaces else {space.key: space}
    return content, vectors


def _put(folder: Path, name: str, content: _Content, vectors: dict[str, Fill]) -> _Segment:
    """Write a segment to a temporary folder, flush it to disk, and rename it into place."""
    made = folder / f".new-{name}"
    try:
        made.mkdir()
        content.save(made)
        for key, (_, write) in vectors.items():
            with _text(made / f"{key}.csv", "x") as file:
                write(file)
        counts = content.counts() | {key: len(names) for key, (names, _) in vectors.items()}
        (made / COUNTS).write_text(json.dumps(counts, indent=1))
        for each in (*made.iterdir(), made):
            _sync(each)
        made.rename(folder / name)
        _sync(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return _Segment(folder, name, {key: names for key, (names, _) in vectors.items()})


def _to_be_joined(segments: Sequence[_Segment]) -> Sequence[_Segment]:
    """The last ones where so many are of one size; all, where something was lost: what is left is whole then."""
    ends = [0, *(segment.last for segment in segments)]
    has_gap = any(segment.first > end + 1 for segment, end in zip(segments, ends, strict=False))
    if has_gap or not all(segment.is_whole for segment in segments):
        return segments
    last = segments[-FAN_IN:]
    return last if len(last) == FAN_IN and len({each.last - each.first for each in last}) == 1 else ()


def _joined(
    folder: Path, name: str, parts: Sequence[_Segment], index: _Index, without: str | None = None
) -> _Segment:
    """Join the last segments into one, which keeps what overrides earlier segments; without one of the spaces."""
    content, vectors = _Content(), dict[str, Fill]()
    for part in parts:
        more = _Content.load(part.folder)
        content = _Content(*(vars(content)[name] | vars(more)[name] for name in vars(more)))
    if parts[0] is index.segments[0]:
        content = replace(content, rows=index.content.rows, metadata=index.content.metadata, lost=set())
    content.spaces.pop(without or "", None)
    for key in {key for part in parts for key in part.files if key != without}:
        later, alive = frozenset[str](), list[tuple[_Segment, frozenset[str]]]()
        for part in reversed(parts):
            alive.insert(0, (part, (part.names(key) - later) & index.paths_of.keys()))
            later |= part.names(key) | part.lost
        if names := frozenset(digest for _, some in alive for digest in some):
            vectors[key] = names, functools.partial(_copy_vectors, key, alive)
    return _put(folder, name, content, vectors)


def _copy_vectors(key: str, alive: Sequence[tuple[_Segment, frozenset[str]]], target: TextIO) -> None:
    """Copy the vectors of some contents; a segment of which all are wanted is copied whole."""
    for part, names in alive:
        if names:
            source = part.files[key]
            source.seek(0)
            header = source.readline().decode()
            target.write("" if target.tell() else header)
            if names == part.names(key) and part.name:
                target.flush()
                shutil.copyfileobj(source, target.buffer, 2**20)
            else:
                csv.writer(target).writerows(row for row in _rows(Path(source.name)) if row[1] in names)


def _write_vectors(rows: Sequence[tuple[str, str, Vectors]], target: TextIO) -> None:
    length = len(rows[0][2])
    csv.writer(target).writerow(["path", "digest", *(f"v{i}" for i in range(length))])
    # Nine significant digits restore the same float32, even if parsed as a double that is off by one bit.
    values = ",%.9g" * length + "\r\n"
    for path, digest, row in rows:
        start = io.StringIO(newline="")
        csv.writer(start).writerow((path, digest))
        target.write(start.getvalue()[:-2] + values % tuple(row.tolist()))


def _tidy(folder: Path, index: _Index) -> None:
    """Remove joined segments and leftovers of killed runs; a segment is renamed before its files are deleted."""
    kept = {segment.name for segment in index.segments}
    for each in folder.iterdir():
        if NAME.fullmatch(each.name) and each.name not in kept:
            shutil.rmtree(each.rename(folder / f".old-{each.name}"), ignore_errors=True)
        elif each.name.startswith((".old-", ".new-")):
            shutil.rmtree(each, ignore_errors=True)


def _listed(folder: Path) -> list[str]:
    """The segments in order, without those that have been joined into another."""
    if _schema_version(folder) < NEWEST:
        return [""]
    found: list[str] = []
    names = sorted(filter(NAME.fullmatch, os.listdir(folder)))  # noqa: PTH208
    longest = {name[:8]: name for name in names}
    if twice := [name for name, after in itertools.pairwise(names) if name[:17] == after[:17]]:
        raise imgrec.ImgrecError(f"store {folder} is damaged: {twice[0]} is there twice, with another end")
    for name in longest.values():
        if not found or name[9:17] > found[-1][9:17]:
            found.append(name)
    return found


def _table(file: Path, kind: type) -> list[Any]:
    """The rows of a file as records; empty if there is no file. Rows of schema 1 end before the stamp."""
    made, read = [], [READ[str(each.type)] for each in fields(kind)]
    for line, row in enumerate(_rows(file) if file.exists() else (), 2):
        try:
            made.append(kind(*(read_cell(cell) for read_cell, cell in zip(read, row, strict=False))))
        except ValueError as error:
            raise ValueError(f"{file.parent.name}/{file.name}, line {line}: {error}") from error
    return made


def _rows(file: Path) -> Iterator[list[str]]:
    """The rows of a file, without its header.

    Raises:
        ValueError: a row and the header differ in length. In schema 1, a torn last row of a killed run is ignored.
    """
    may_be_torn = not NAME.fullmatch(file.parent.name)
    with _text(file) as lines:
        rows = csv.reader(line for line in lines if not may_be_torn or line[-1] in "\r\n")
        header = next(rows, [])
        for row in rows:
            line = rows.line_num
            if len(row) == len(header):
                yield row
            elif not may_be_torn or next(rows, None) is not None:
                raise ValueError(
                    f"{file.parent.name}/{file.name}, line {line}: {len(row)} cells, not {len(header)}"
                )


def _json(file: Path, kind: type) -> Any:
    """The value in a file; an empty one if there is no file."""
    try:
        found = json.loads(file.read_text()) if file.exists() else kind()
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{file.name} has a {type(found).__name__}, not a {kind.__name__}")
    return found


def _texts(file: Path) -> list[str]:
    found: list[str] = _json(file, list)
    if not all(isinstance(text, str) for text in found):
        raise ValueError(f"{file.name} has more than texts")
    return found


def _text(file: Path, mode: str = "r") -> TextIO:
    return file.open(mode, newline="", encoding="utf-8", errors="surrogateescape")  # type: ignore[return-value]


def _sync(path: Path) -> None:
    """Flush a file or folder to disk, on POSIX systems."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _schema_version(folder: Path) -> int:
    try:
        return int(json.loads((folder / SCHEMA).read_text())["schema"])
    except FileNotFoundError:
        return 1
    except (ValueError, LookupError, TypeError) as error:
        raise imgrec.UsageError(f"{folder / SCHEMA} does not say which schema it is: {error}") from None


def _write_schema_version(folder: Path, version: int) -> None:
    aside = folder / f".{SCHEMA}"
    aside.write_text(json.dumps({"schema": version}) + "\n")
    _sync(aside)
    aside.replace(folder / SCHEMA)
    _sync(folder)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Store]]:
    """This plugin's components."""
    return [Csv]
