"""The default store: one SQLite file."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

import imgrec
from imgrec import Batch, Failure, NoStoreError, Record, Space, Vectors, chunks, free_name, option

log = logging.getLogger(__name__)

APPLICATION_ID = int.from_bytes(b"imgr")

# Vectors are stored by content, with one table per space, so that a whole space is read sequentially. Pages of
# 64 KiB hold a 4 KB vector without overflow pages.
MIGRATIONS: tuple[str, ...] = (
    """
CREATE TABLE contents (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE);
CREATE TABLE images (
    path PRIMARY KEY,                                    -- TEXT; BLOB where the name is not UTF-8
    content INTEGER NOT NULL REFERENCES contents (id),
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    missing INTEGER NOT NULL
);
CREATE INDEX images_by_content ON images (content);
CREATE TABLE failures (path PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
                       reason TEXT NOT NULL, time REAL NOT NULL);
-- A space's record is JSON of imgrec.Space.
CREATE TABLE spaces (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL,
                     record TEXT NOT NULL);
""",
    """
CREATE TABLE IF NOT EXISTS generation (value TEXT NOT NULL);
CREATE TABLE notes (name TEXT PRIMARY KEY, json TEXT NOT NULL);
""",
    """
ALTER TABLE images ADD COLUMN stamp TEXT;
ALTER TABLE images ADD COLUMN width INTEGER;
ALTER TABLE images ADD COLUMN height INTEGER;
ALTER TABLE images ADD COLUMN taken TEXT;
ALTER TABLE images ADD COLUMN warning TEXT;
ALTER TABLE failures ADD COLUMN stamp TEXT;
CREATE TABLE dismissed (path PRIMARY KEY);
-- What each write but of notes makes; it has the changes up to its last one behind it.
CREATE TABLE revisions (id INTEGER PRIMARY KEY, name TEXT NOT NULL, last_change INTEGER NOT NULL);
INSERT INTO revisions (name, last_change) SELECT value, 0 FROM generation;
DROP TABLE generation;
-- Whose vector in a space was written or went.
CREATE TABLE changes (id INTEGER PRIMARY KEY, space INTEGER NOT NULL, digest TEXT NOT NULL);
""",
)
"""Each upgrades the schema by one version. A new database runs them all, and so equals an upgraded one."""

_, *IMAGE_COLUMNS = (spec.name for spec in fields(Record))
_, *FAILURE_COLUMNS = (spec.name for spec in fields(Failure))

CHANGES_KEPT = 100_000
"""How many of the latest changes are kept at least; there may be up to twice as many."""


@contextlib.contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Turn SQLite's errors into an ImgrecError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise imgrec.ImgrecError(f"store {path}: {error}") from error


_naming_the_file = imgrec.runs_within(lambda store: _errors_of(store.path))
"""A decorator of the store's methods."""


@dataclass
class Sqlite(imgrec.Store):
    """One SQLite file: safe with concurrent readers and after a crash, 4 KB per image at 1,024 values."""

    path: str = option("outputs/gallery.sqlite", path=True, is_local=True, help="the database file")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._local = threading.local()  # one connection per thread
        self._connections: list[sqlite3.Connection] = []

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether it is a SQLite database with imgrec's mark."""
        try:
            with Path(path).open("rb") as file:
                header = file.read(72)
        except OSError:
            return False
        return header.startswith(b"SQLite format 3\0") and header[68:] == APPLICATION_ID.to_bytes(4, "big")

    @property
    def location(self) -> str:
        """The database file."""
        return self.path

    def open(self, *, create: bool = False) -> Self:
        """Open the file; see `Store.open`."""
        if getattr(self._local, "connection", None) is not None:
            return self
        file = Path(self.path)
        if not os.path.exists(file) and not create:
            raise NoStoreError(
                f"there is no gallery at {Path(self.path).absolute()}: make it with `imgrec ingest FOLDER`"
            )
        if file.is_dir():
            raise imgrec.UsageError(f"{self.path} is a folder, not an imgrec store")
        try:
            if create:
                file.parent.mkdir(parents=True, exist_ok=True)
            may_write = create or (os.access(file, os.W_OK) and os.access(file.absolute().parent, os.W_OK))
            name = f"file:{urllib.parse.quote(os.fspath(file.absolute()))}" + (
                "" if may_write else _read_only(file)
            )
            connection = sqlite3.connect(name, uri=True, timeout=60, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise imgrec.UsageError(f"store {self.path} cannot be opened: {error}") from None
        try:
            self._prepare(connection, create=create)
        except imgrec.UsageError:
            connection.close()
            raise
        except sqlite3.OperationalError as error:
            connection.close()
            raise imgrec.UsageError(f"store {self.path} cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            connection.close()
            raise imgrec.UsageError(f"{self.path} is not an imgrec store: {error}") from None
        self._local.connection = connection
        self._connections.append(connection)
        return self

    def _prepare(self, connection: sqlite3.Connection, *, create: bool) -> None:
        def pragma(name: str) -> Any:
            return connection.execute(f"PRAGMA {name}").fetchone()[0]

        connection.execute("PRAGMA page_size = 65536")
        if _is_empty(connection):
            if not create:  # a run may have been killed before it created the schema
                raise NoStoreError(
                    f"{self.path} is empty, not an imgrec store: fill it with `imgrec ingest FOLDER`"
                )
            with self.writing():
                self._make(connection)
        if pragma("application_id") != APPLICATION_ID:
            raise imgrec.UsageError(f"{self.path} is a SQLite database, but not an imgrec store")
        version, newest = pragma("user_version"), _schema_version()
        if not 1 <= version <= newest:
            raise imgrec.UsageError(
                f"{self.path} has schema version {version}, and this imgrec reads 1 to {newest}: update imgrec"
            )
        if version < newest:
            self._upgrade(connection)
        # WAL with NORMAL is consistent after a crash; FULL also keeps the last batch after a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        if create:  # for writing: an ingest of millions should need no more memory than one of thousands
            connection.execute("PRAGMA cache_size = -4096")
        else:  # for reading all vectors at once
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA mmap_size = 1099511627776")

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        with _transaction(connection):
            if _is_empty(connection):
                for script in MIGRATIONS:
                    _execute_all(connection, script)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_schema_version()}")

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Upgrade an older schema atomically, and keep a copy of the old file."""
        newest = _schema_version()
        try:
            with contextlib.ExitStack() as undo:
                with _transaction(connection):
                    (version,) = connection.execute("PRAGMA user_version").fetchone()
                    if version == newest:  # another run was quicker
                        return
                    copy = free_name(f"{self.path}-schema-{version}")
                    undo.callback(copy.unlink, missing_ok=True)  # if the disk is full when all is written
                    with _copied(self.path, copy):
                        for script in MIGRATIONS[version:]:
                            _execute_all(connection, script)
                        connection.execute(f"PRAGMA user_version = {newest}")
                undo.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise imgrec.UsageError(
                f"{self.path} is of an older schema, and stays so: it cannot be upgraded to {newest}: {error}"
            ) from error
        log.warning(
            "%s is upgraded from schema %s to %s; it is kept as it was in %s", self.path, version, newest, copy
        )

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._connections:
            self._connections.pop().close()
        self._local = threading.local()

    @property
    def _db(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = self.open()._local.connection
        return connection

    @_naming_the_file
    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction."""
        if not batch:
            return
        db = self._db
        gone = [*batch.forgotten, *batch.dismissed, *(failure.path for failure in batch.failures)]
        new = [row.path for rows in (batch.records, batch.failures) for row in rows]
        with self.writing(), _transaction(db):
            stale = self._contents_of([*gone, *new])
            self._delete("images", gone)
            self._delete("failures", [*batch.forgotten, *batch.dismissed, *new])
            self._delete("dismissed", [*batch.forgotten, *new])
            db.executemany(
                "INSERT INTO contents (digest) VALUES (?) ON CONFLICT DO NOTHING",
                ((record.digest,) for record in batch.records),
            )
            db.executemany(
                f"INSERT OR REPLACE INTO images (path, content, {', '.join(IMAGE_COLUMNS[1:])}) "
                f"VALUES (?, (SELECT id FROM contents WHERE digest = ?){', ?' * len(IMAGE_COLUMNS[1:])})",
                ((_to_sql(record.path), *attrgetter(*IMAGE_COLUMNS)(record)) for record in batch.records),
            )
            db.executemany(
                f"INSERT INTO failures (path, {', '.join(FAILURE_COLUMNS)}) "
                f"VALUES (?{', ?' * len(FAILURE_COLUMNS)})",
                ((_to_sql(failure.path), *attrgetter(*FAILURE_COLUMNS)(failure)) for failure in batch.failures),
            )
            dismissed = set(batch.dismissed).difference(new)
            db.executemany("INSERT OR IGNORE INTO dismissed VALUES (?)", ((_to_sql(path),) for path in dismissed))
            for space, (digests, vectors) in batch.vectors.items():
                self._write_vectors(space, digests, vectors)
            self._drop_unused(stale)
            db.executemany("DELETE FROM notes WHERE name = ?", ((name,) for name in batch.metadata))
            kept = ((name, json.dumps(value)) for name, value in batch.metadata.items() if value is not None)
            db.executemany("INSERT INTO notes VALUES (?, ?)", kept)
            if replace(batch, metadata={}):
                self._add_revision()

    def _delete(self, table: str, paths: Sequence[str]) -> None:
        self._db.executemany(f"DELETE FROM {table} WHERE path = ?", ((_to_sql(path),) for path in paths))

    def _add_revision(self) -> None:
        """Add a revision, and delete old ones with their changes."""
        db = self._db
        db.execute(
            "INSERT INTO revisions (name, last_change) "
            "SELECT lower(hex(randomblob(16))), coalesce(max(id), 0) FROM changes"
        )
        for table in ("changes", "revisions"):
            # In separate queries, each is a single look-up in the index.
            (first,) = db.execute(f"SELECT min(id) FROM {table}").fetchone()
            (last,) = db.execute(f"SELECT max(id) FROM {table}").fetchone()
            if last is not None and last - first > 2 * CHANGES_KEPT:
                db.execute(f"DELETE FROM {table} WHERE id <= ?", (last - CHANGES_KEPT,))
        db.execute("DELETE FROM revisions WHERE last_change < (SELECT coalesce(min(id), 1) FROM changes) - 1")

    def _contents_of(self, paths: Sequence[str]) -> list[int]:
        return [row[0] for row in self._where("SELECT content FROM images WHERE path IN", map(_to_sql, paths))]

    def _write_vectors(self, space: Space, digests: Sequence[str], vectors: Vectors) -> None:
        db, dim = self._db, vectors.shape[1]
        row = db.execute("SELECT id, dim FROM spaces WHERE key = ?", (space.key,)).fetchone()
        if row is None:
            number = db.execute(
                "INSERT INTO spaces (key, dim, record) VALUES (?, ?, ?)",
                (space.key, dim, json.dumps(space.to_json())),
            ).lastrowid
            db.execute(f"CREATE TABLE vectors_{number} (content INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        elif row[1] != dim:
            raise imgrec.ImgrecError(f"space {space.key} has vectors of {row[1]} values, and these have {dim}")
        else:
            number = row[0]
        packed = np.ascontiguousarray(vectors, dtype="<f4")
        db.executemany(
            f"INSERT OR REPLACE INTO vectors_{number} SELECT id, ? FROM contents WHERE digest = ?",
            ((vector.tobytes(), digest) for vector, digest in zip(packed, digests, strict=True)),
        )
        db.executemany(
            "INSERT INTO changes (space, digest) VALUES (?, ?)", ((number, digest) for digest in digests)
        )

    def _drop_unused(self, contents: Sequence[int]) -> None:
        """Delete contents that no image has any more, with their vectors."""
        db = self._db
        unused = [
            (content,)
            for content in contents
            if not db.execute("SELECT 1 FROM images WHERE content = ?", (content,)).fetchone()
        ]
        if not unused:
            return
        for (number,) in db.execute("SELECT id FROM spaces").fetchall():
            db.executemany(
                f"INSERT INTO changes (space, digest) SELECT {number}, digest "
                f"FROM contents JOIN vectors_{number} ON content = id WHERE id = ?",
                unused,
            )
            db.executemany(f"DELETE FROM vectors_{number} WHERE content = ?", unused)
        db.executemany("DELETE FROM contents WHERE id = ?", unused)

    @_naming_the_file
    def drop(self, space: Space) -> None:
        """Drop the table of a space, and all revisions: none before leads to what is left."""
        db = self._db
        with self.writing(), _transaction(db):
            number, _ = self._number_and_dim(space)
            if number is not None:
                db.execute(f"DROP TABLE vectors_{number}")
                db.execute("DELETE FROM spaces WHERE id = ?", (number,))
                for table in ("changes", "revisions"):
                    db.execute(f"DELETE FROM {table}")
                self._add_revision()

    @_naming_the_file
    def records(
        self, *, paths: Sequence[str] | None = None, digests: Sequence[str] | None = None
    ) -> Iterator[Record]:
        """Records; see `Store.records`."""
        query = f"SELECT path, {', '.join(IMAGE_COLUMNS)} FROM images JOIN contents ON contents.id = content "
        if paths is not None:
            rows = self._where(query + "WHERE path IN", map(_to_sql, paths))
        elif digests is not None:
            rows = self._where(query + "WHERE digest IN", digests)
        else:
            rows = self._db.execute(query)
        return map(_record, rows)

    @_naming_the_file
    def copies(self, digests: Sequence[str] | None = None) -> Iterator[tuple[str, int]]:
        """Contents and how many files there are of each; see `Store.copies`."""
        query = "SELECT digest{} FROM images JOIN contents ON content = contents.id WHERE NOT missing"
        with _reading(self._db):
            if digests is None:
                yield from self._db.execute(f"{query.format(', count(*)')} GROUP BY content")
            else:
                found = self._where(f"{query.format('')} AND digest IN", digests)
                yield from Counter(digest for (digest,) in found).items()

    @_naming_the_file
    def failures(self, *, paths: Sequence[str] | None = None) -> Iterator[Failure]:
        """Failures; see `Store.failures`."""
        rows = self._of_paths(f"SELECT path, {', '.join(FAILURE_COLUMNS)} FROM failures", paths)
        return (Failure(_from_sql(row[0]), *row[1:]) for row in rows)

    @_naming_the_file
    def dismissed(self, *, paths: Sequence[str] | None = None) -> set[str]:
        """Paths that were forgotten on purpose; see `Store.dismissed`."""
        return {_from_sql(path) for (path,) in self._of_paths("SELECT path FROM dismissed", paths)}

    def _of_paths(self, query: str, paths: Sequence[str] | None) -> Iterator[Any]:
        return (
            self._db.execute(query)
            if paths is None
            else self._where(f"{query} WHERE path IN", map(_to_sql, paths))
        )

    @_naming_the_file
    def spaces(self) -> list[Space]:
        """The spaces; see `Store.spaces`."""
        with self._parsing("a space"):
            rows = self._db.execute("SELECT record FROM spaces ORDER BY id")
            return [Space.from_json(json.loads(row[0])) for row in rows]

    @_naming_the_file
    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        """Contents with a vector; see `Store.digests`."""
        number, _ = self._number_and_dim(space)
        if number is None:
            return set()
        query = f"SELECT digest FROM vectors_{number} JOIN contents ON contents.id = content "
        rows = self._db.execute(query) if among is None else self._where(query + "WHERE digest IN", among)
        return {row[0] for row in rows}

    @_naming_the_file
    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Vectors; see `Store.vectors`."""
        with _reading(self._db):
            number, dim = self._number_and_dim(space)
            if number is None:
                return [], np.empty((0, 0), np.float32)
            (most,) = (
                self._db.execute(f"SELECT count(*) FROM vectors_{number}").fetchone()
                if digests is None
                else (len(digests),)
            )
            found, names = np.empty((most, dim), np.float32), list[str]()
            for some, vectors in self.blocks(space, digests):
                found[len(names) : len(names) + len(some)] = vectors
                names += some
        return names, found[: len(names)]

    @_naming_the_file
    def blocks(
        self, space: Space, digests: Sequence[str] | None = None, size: int = 2048
    ) -> Iterator[tuple[list[str], Vectors]]:
        """Vectors in the order in which contents came; see `Store.blocks`."""
        with _reading(self._db):
            number, dim = self._number_and_dim(space)
            if number is None:
                return
            for rows in chunks(self._vectors(number, digests), size):
                names, parts = zip(*rows, strict=True)
                if None in names or {*map(type, parts)} != {bytes} or {*map(len, parts)} != {4 * dim}:
                    wrong = "of no content" if None in names else f"of other lengths than {dim}"
                    raise imgrec.ImgrecError(
                        f"store {self.path}: space {space.key} has vectors {wrong}: "
                        "`imgrec verify` tells which, and with fix=true the next ingest extracts them again"
                    )
                packed = np.frombuffer(bytearray().join(parts), "<f4").reshape(len(names), dim)
                yield list(names), packed.astype(np.float32, copy=False)

    def _vectors(self, number: int, digests: Sequence[str] | None) -> Iterator[tuple[str | None, bytes]]:
        """Digests and vectors of a space, in the order of its table."""
        query = f"SELECT digest, vector FROM vectors_{number} LEFT JOIN contents ON id = content"
        if digests is None:
            yield from self._db.execute(f"{query} ORDER BY content")
            return
        contents = sorted(row[0] for row in self._where("SELECT id FROM contents WHERE digest IN", digests))
        for some in chunks(contents, 500):
            wanted = ",".join("?" * len(some))
            yield from self._db.execute(f"{query} WHERE content IN ({wanted}) ORDER BY content", some)

    def _number_and_dim(self, space: Space) -> tuple[int | None, int]:
        row = self._db.execute("SELECT id, dim FROM spaces WHERE key = ?", (space.key,)).fetchone()
        return row or (None, 0)

    def _where(self, query: str, values: Any) -> Iterator[Any]:
        """Rows of a query that ends in `IN`, for any number of values."""
        for some in chunks(dict.fromkeys(values), 500):
            yield from self._db.execute(f"{query} ({','.join('?' * len(some))})", some).fetchall()

    @_naming_the_file
    def metadata(self) -> dict[str, Any]:
        """Metadata; see `Store.metadata`."""
        with self._parsing("metadata"):
            return {name: json.loads(text) for name, text in self._db.execute("SELECT name, json FROM notes")}

    @contextlib.contextmanager
    def _parsing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError) as error:
            raise imgrec.ImgrecError(f"store {self.path} is damaged: {what} cannot be read: {error}") from error

    @_naming_the_file
    def problems(self) -> Iterator[str]:
        """Problems found by SQLite's integrity check, and orphaned rows; see `Store.problems`."""
        db = self._db
        damages = [text for (text,) in db.execute("PRAGMA integrity_check(10)") if text != "ok"]
        if damages:  # rows of a damaged file are not reliable
            return iter([f"PRAGMA integrity_check: {text}" for text in damages])
        counts = {
            "images without a content": "FROM images WHERE content NOT IN (SELECT id FROM contents)",
            "contents without an image": "FROM contents WHERE id NOT IN (SELECT content FROM images)",
            "paths that both have failed and not": "FROM images JOIN failures USING (path)",
            "paths that are both dismissed and not": "FROM images JOIN dismissed USING (path)",
        }
        for number, key in db.execute("SELECT id, key FROM spaces").fetchall():
            of = f"FROM vectors_{number} WHERE"
            counts[f"vectors of {key} without a content"] = f"{of} content NOT IN (SELECT id FROM contents)"
        found = {what: db.execute(f"SELECT count(*) {rows}").fetchone()[0] for what, rows in counts.items()}
        return iter([f"{count:,} {what}" for what, count in found.items() if count])

    @_naming_the_file
    def revision(self, space: Space) -> str | None:
        """A random name that changes with every write of more than metadata."""
        row = self._db.execute("SELECT name FROM revisions ORDER BY id DESC LIMIT 1").fetchone()
        return row[0] if row else None

    @_naming_the_file
    def changes(self, space: Space, since: str) -> tuple[set[str], set[str]] | None:
        """The changes of the last writes; see `Store.changes`."""
        with _reading(self._db):
            revision = self._db.execute("SELECT last_change FROM revisions WHERE name = ?", (since,)).fetchone()
            if revision is None:
                return None
            number, _ = self._number_and_dim(space)
            rows = self._db.execute("SELECT digest FROM changes WHERE id > ? AND space = ?", (*revision, number))
            touched = {digest for (digest,) in rows}
            return touched, self.digests(space, sorted(touched))

    @property
    def cache_folder(self) -> Path:
        """Beside the database file."""
        return Path(f"{self.path}-index")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """One read transaction."""
        with _errors_of(self.path), _reading(self._db):
            yield

    @property
    def lock_file(self) -> Path:
        """Beside the database file."""
        return Path(f"{Path(self.path).absolute()}.lock")

    def size(self) -> int:
        """Bytes on disk, with the write-ahead log."""
        return sum(file.stat().st_size for file in map(Path, (self.path, self.path + "-wal")) if file.exists())


def _read_only(file: Path) -> str:
    """URI parameters to open a database in a read-only folder, where the shared-memory file cannot be created.

    With a write-ahead log, another process is using the database; without one, it is treated as immutable.
    """
    return "?mode=ro" if os.path.exists(f"{file}-wal") else "?immutable=1"


def _schema_version() -> int:
    return len(MIGRATIONS)


def _execute_all(db: sqlite3.Connection, script: str) -> None:
    """Execute a script within the current transaction, which `executescript` would commit."""
    for statement in script.split(";\n"):
        db.execute(statement)


@contextlib.contextmanager
def _copied(path: str, copy: Path) -> Iterator[None]:
    """Copy a database that is locked for writing, and remove the copy after an error in the block.

    The copy is made through a separate connection, which does not see uncommitted changes.
    """
    aside = Path(f"{copy}.new")
    try:
        aside.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(aside)) as target,
        ):
            source.backup(target)
        yield
        aside.rename(copy)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _reading(db: sqlite3.Connection) -> Iterator[None]:
    """A read transaction, or the current transaction if there is one."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN DEFERRED")
    try:
        db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")  # nothing was written, and COMMIT fails if the file is damaged


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, rolled back after an exception."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite may have rolled back itself, for example if the disk is full
            db.execute("ROLLBACK")
        raise


def _is_empty(db: sqlite3.Connection) -> bool:
    """Whether a database has no schema and belongs to no application."""
    is_new = not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    return is_new and db.execute("PRAGMA application_id").fetchone() == (0,)


def _to_sql(path: str) -> str | bytes:
    """A path as text, or as bytes if it is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _from_sql(value: str | bytes) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _record(row: Sequence[Any]) -> Record:
    path, digest, size, mtime_ns, missing, *others = row
    return Record(_from_sql(path), digest, size, mtime_ns, bool(missing), *others)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Store]]:
    """This plugin's components."""
    return [Sqlite]
