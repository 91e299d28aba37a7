"""A store of Lance datasets, in a folder or in object storage.

`files.lance` has a row for each path, and one row, the head, that says what else holds: the spaces with the
version of `vectors/KEY.lance` that counts for each, metadata, the revision. A batch first makes new versions of
vectors, which nobody sees yet. The next version of `files` then is the commit: every one replaces the head, so
that of two writers at once one is refused, and plans again from what the other has written. There is no lock.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypeVar

import numpy as np

import imgrec
from imgrec import Batch, Failure, NoStoreError, Record, Space, Vectors, option
from imgrec_lance import rows
from imgrec_lance.blocks import Addresses, Keys, is_in, unique
from imgrec_lance.tables import ConflictError, Table, as_arrow

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

REMOTE = ("s3://", "gs://", "az://")

FORMAT = 1

KEPT = timedelta(days=1)
"""For how long a state can still be read after others have followed."""

CLEANED_EVERY = 512
"""Commits."""

MOST_TRIES = 100
"""To commit a batch while others commit theirs."""

CHANGES_KEPT = 1000
"""Commits, at least, whose changes are kept."""

Args = ParamSpec("Args")
Result = TypeVar("Result")


@dataclass(frozen=True)
class State:
    """What a store holds at one commit."""

    files: Table
    head: Mapping[str, Any]
    place: Addresses
    """`(1,)`: where the head is."""

    spaces: dict[str, Table] = field(default_factory=dict)
    """The open datasets of vectors, by key."""


@contextlib.contextmanager
def _errors_of(location: str) -> Iterator[None]:
    """Turn Lance's errors into an ImgrecError that names the store."""
    try:
        yield
    except imgrec.ImgrecError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and ".rs:" not in str(error):
            raise
        raise imgrec.ImgrecError(f"store {location}: {_short(error)}") from error


def _short(error: BaseException) -> str:
    """A message in a line, without places in Lance's code; of what a server says only code and message.

    The rest of that may have the name of a key.
    """
    text, _, rest = str(error).strip().partition("<")
    told = re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", rest, re.DOTALL)
    text = " ".join([*text.split(), *(told.groups() if told else ())])
    return re.sub(r",? ?/\S+\.rs:\d+:\d+", "", text)[:500]


def _naming_the_store(method: Callable[Args, Result]) -> Callable[Args, Result]:
    """Apply `_errors_of` to a method and to the iterator that it may return."""

    @functools.wraps(method)
    def wrapped(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        location: str = args[0].location  # type: ignore[attr-defined]
        with _errors_of(location):
            found = method(*args, **kwargs)
        return _row_by_row(location, found) if isinstance(found, Iterator) else found  # type: ignore[return-value]

    return wrapped


def _row_by_row(location: str, found: Iterator[Any]) -> Iterator[Any]:
    with _errors_of(location):
        yield from found


@dataclass
class Lance(imgrec.Store):
    """Lance datasets in a folder, or in object storage (`s3://`, `gs://`, `az://`): several may write at once.

    Credentials are those of the platform, `AWS_ACCESS_KEY_ID` and so on. The storage must refuse to replace an
    object if it is asked to (`If-None-Match`), as these three do.
    """

    requires: ClassVar[Mapping[str, str]] = {"lance": "imgrec[lance]"}
    transaction_size: ClassVar[int] = 8192

    path: str = option(
        "outputs/gallery-lance", path=True, help="the folder, or s3://bucket/name, gs://..., az://..."
    )
    version: int | None = option(
        None, minimum=1, help="an older state to read, by its number in files.lance; null: the newest"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._state: State | None = None
        self._pinned = threading.local()
        self._alone = threading.RLock()

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether it is an address of object storage, or a folder with a dataset of files."""
        return path.startswith(REMOTE) or Path(path, "files.lance", "_versions").is_dir()

    @property
    def location(self) -> str:
        """The folder or address."""
        return self.path

    def _uri(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}.lance"

    def open(self, *, create: bool = False) -> Self:
        """Open the datasets; see `Store.open`."""
        with self._alone:
            if self._state is None:
                try:
                    self._state = self._opened(create=create)
                except (OSError, RuntimeError, ValueError) as error:
                    raise imgrec.UsageError(f"store {self.path} cannot be opened: {_short(error)}") from error
        return self

    def _opened(self, *, create: bool) -> State:
        import lance

        if not self.path.startswith(REMOTE) and os.path.exists(self.path) and not Path(self.path).is_dir():
            raise imgrec.UsageError(f"{self.path} is a file, not an imgrec store")
        session = lance.Session(  # type: ignore[attr-defined]
            index_cache_size_bytes=16 << 20, metadata_cache_size_bytes=64 << 20
        )
        try:
            dataset = lance.dataset(self._uri("files"), version=self.version, session=session)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
            if not create or self.version is not None:
                where = self.path if self.path.startswith(REMOTE) else Path(self.path).absolute()
                what = f"no version {self.version} of the gallery" if self.version else "no gallery"
                raise NoStoreError(f"there is {what} at {where}: make it with `imgrec ingest FOLDER`") from error
            dataset = self._made(session)
        return self._loaded(Table(dataset, rows.KEYS), {})

    def _made(self, session: Any) -> lance.LanceDataset:
        """Make the first version, unless somebody else does so."""
        import lance
        import pyarrow as pa

        names = {"store": secrets.token_hex(16), "revision": secrets.token_hex(16)}
        head = {"format": FORMAT, **names, "generation": 0, "spaces": {}, "metadata": {}, "dropped": []}
        first = pa.concat_tables([rows.of({}, names["revision"], [], 0), rows.of_head(head)])
        with contextlib.suppress(OSError):
            return lance.write_dataset(first, self._uri("files"), mode="create", session=session)
        return lance.dataset(self._uri("files"), session=session)

    def _loaded(self, files: Table, spaces: Mapping[str, Table]) -> State:
        """The state of a version of `files`: its head is in the last fragment, unless this was joined."""
        for fragment in sorted(files.dataset.get_fragments(), key=lambda each: -each.fragment_id):
            found = fragment.to_table(columns=["data"], filter=f"kind = {rows.HEAD}", with_row_address=True)
            if len(found):
                break
        else:
            raise imgrec.UsageError(f"{self.path} is not an imgrec store: files.lance has no head")
        head = json.loads(found["data"][0].as_py())
        if head.get("format") != FORMAT:
            raise imgrec.UsageError(
                f"{self.path} has format {head.get('format')}, and this imgrec reads {FORMAT}: update imgrec"
            )
        return State(files, head, found["_rowaddr"].to_numpy(), dict(spaces))

    def close(self) -> None:
        """Let go of what is in memory."""
        with self._alone:
            self._state = None

    def _now(self) -> State:
        """The newest state, or that of the snapshot."""
        pinned: State | None = getattr(self._pinned, "state", None)
        return pinned or self._newest()

    def _newest(self) -> State:
        with self._alone:
            state = self._known()
            if self.version is None and (latest := state.files.dataset.latest_version) != state.files.version:
                state = self._state = self._loaded(state.files.at(latest), state.spaces)
            return state

    def _known(self) -> State:
        """The newest state that this object has seen."""
        self.open()
        assert self._state is not None
        return self._state

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one version."""
        with _errors_of(self.path):
            before, self._pinned.state = getattr(self._pinned, "state", None), self._now()
        try:
            yield
        finally:
            self._pinned.state = before

    def _vectors(self, state: State, key: str) -> Table | None:
        """The dataset of a space's vectors at the version that counts; None where it has none."""
        import lance

        entry = state.head["spaces"].get(key)
        if entry is None or entry["version"] is None:
            return None
        folder, version = entry["folder"], entry["version"]
        if (table := state.spaces.get(folder)) is None:
            uri, session = self._uri(f"vectors/{folder}"), state.files.dataset.session()
            table = Table(lance.dataset(uri, version=version, session=session), ("key",))
        elif table.version != version:
            table = table.at(version)
        state.spaces[folder] = table
        return table

    # --- writing ------------------------------------------------------------------------------------------------

    @_naming_the_store
    def write(self, batch: Batch) -> None:
        """Write a batch by one commit, planned again whenever somebody else was quicker."""
        if batch:
            vectors = {space: _checked(space, *some) for space, some in batch.vectors.items()}
            self._commit(lambda state: self._written(state, replace(batch, vectors=vectors)))

    @_naming_the_store
    def drop(self, space: Space) -> None:
        """Leave a space out of the head, with all revisions: none before leads to what is left."""
        if space.key in self._now().head["spaces"]:
            self._commit(lambda state: self._without(state, space.key))

    def _commit(self, plan: Callable[[State], State]) -> None:
        if self.version is not None:
            raise imgrec.UsageError(f"store {self.path}: version {self.version} can only be read")
        with self._alone:
            state = self._known()
            for tried in itertools.count(1):
                try:
                    self._state = plan(state)
                    break
                except ConflictError:
                    if tried == MOST_TRIES:
                        raise imgrec.ImgrecError(f"store {self.path}: others write all the time") from None
                    time.sleep(random.random() * 0.1 * 2 ** min(tried, 5))
                    state = self._newest()
            self._tidy()

    def _written(self, state: State, batch: Batch) -> State:
        new: dict[str, Record | Failure | None] = dict.fromkeys(batch.dismissed)
        new |= {failure.path: failure for failure in batch.failures}
        new |= {record.path: record for record in batch.records}
        _, gone = state.files.find("key", rows.path_keys([*batch.forgotten, *new]))
        added = rows.content_keys(sorted({row.digest for row in new.values() if isinstance(row, Record)}))
        unused, removed = self._unused(state, gone, added)
        head = copy.deepcopy(dict(state.head))
        if is_more := bool(replace(batch, metadata={})):
            head |= {"generation": head["generation"] + 1, "revision": secrets.token_hex(16)}
        spaces = dict(state.spaces)
        given = {space.key: (space, *some) for space, some in batch.vectors.items()}
        for key in {**head["spaces"], **given}:
            if key in given:
                space, digests, vectors = given[key]
                entry = head["spaces"].setdefault(key, _entry(space, vectors.shape[1], head["generation"]))
                if entry["dim"] != vectors.shape[1]:
                    raise imgrec.ImgrecError(
                        f"space {key} has vectors of {entry['dim']} values, and these have {vectors.shape[1]}"
                    )
                keys = rows.content_keys(digests)
                is_used = is_in(keys, added)
                which, places = state.files.find("content", keys[~is_used])
                is_used[np.flatnonzero(~is_used)[which[~np.isin(places, gone)]]] = True
                digests = [digest for digest, used in zip(digests, is_used, strict=True) if used]
                vectors, keys = vectors[is_used], keys[is_used]
            else:
                entry, digests, keys = head["spaces"][key], [], unused[:0]
            table = self._vectors(state, key)
            stale = unused[:0, 0] if table is None else table.find("key", np.concatenate([unused, keys]))[1]
            if digests or len(stale):
                new_rows = [_of_vectors(digests, keys, vectors, head["generation"])] if digests else []
                table = self._next(table, entry, stale, new_rows)
                spaces[entry["folder"]], entry["version"] = table, table.version
        head["metadata"] |= batch.metadata
        head["metadata"] = {name: value for name, value in head["metadata"].items() if value is not None}
        added_rows = [rows.of(new, head["revision"], removed, head["generation"])] if is_more else []
        return self._next_state(state, head, gone, added_rows, spaces)

    def _unused(self, state: State, gone: Addresses, added: Keys) -> tuple[Keys, list[str]]:
        """The contents, as keys and as digests, that no record has any more without the rows that go."""
        stale = unique(state.files.keys_at("content", gone))
        stale = stale[stale.any(axis=1) & ~is_in(stale, added)]
        which, places = state.files.find("content", stale)
        is_used = np.zeros(len(stale), bool)
        is_used[which[~np.isin(places, gone)]] = True
        unused = stale[~is_used]
        if not len(unused):
            return unused, []
        _, places = state.files.find("content", unused)
        batches = state.files.rows(["digest"], places)
        return unused, sorted({digest for batch in batches for digest in batch["digest"].to_pylist()})

    def _next(self, table: Table | None, entry: Mapping[str, Any], gone: Addresses, new: list[pa.Table]) -> Table:
        """The next version of a space's vectors. Of versions that no commit names, nothing is in it."""
        if table is None:
            return Table.created(self._uri(f"vectors/{entry['folder']}"), new[0], ("key",))
        base = table
        while True:
            with contextlib.suppress(ConflictError):
                made = base.changed(gone, new)
                if made.version == base.version + 1:
                    return made
            base = table.restored()

    def _next_state(
        self, state: State, head: Mapping[str, Any], gone: Addresses, new: list[pa.Table], spaces: dict[str, Table]
    ) -> State:
        files = state.files.changed(np.concatenate([gone, state.place]), [*new, rows.of_head(head)])
        last = max(fragment.fragment_id for fragment in files.dataset.get_fragments())
        return State(files, head, np.array([last << 32], np.uint64), spaces)

    def _without(self, state: State, key: str) -> State:
        head = copy.deepcopy(dict(state.head))
        folder = head["spaces"].pop(key)["folder"]
        head["dropped"].append([folder, time.time()])
        head |= {"generation": head["generation"] + 1, "revision": secrets.token_hex(16)}
        gone = _places(state.files.rows(["_rowaddr"], where=f"kind IN ({rows.REVISION}, {rows.REMOVED})"))
        return self._next_state(state, head, gone, [rows.of({}, head["revision"], [], head["generation"])],
                                dict(state.spaces))  # fmt: skip

    # --- keeping it tidy ----------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Join small fragments and delete old states, where it pays; if it fails, the next writer tries again."""
        with contextlib.suppress(OSError, ConflictError):
            self._join()
            if (state := self._known()).files.version % CLEANED_EVERY == 0:
                self._clean(state)

    def _join(self) -> None:
        state = self._known()
        joined = {}
        for key, entry in state.head["spaces"].items():
            table = self._vectors(state, key)
            made = None if table is None else table.joined()
            if table is not None and made is not None and made.is_only_joined(table):
                joined[key] = entry["folder"], made
        if joined:
            head = copy.deepcopy(dict(state.head))
            for key, (_, table) in joined.items():
                head["spaces"][key]["version"] = table.version
            spaces = {**state.spaces, **dict(joined.values())}
            self._state = state = self._next_state(state, head, state.place[:0], [], spaces)
        files = state.files.joined(besides=(state.place >> np.uint64(32)).tolist())
        if files is not None:
            self._state = self._loaded(files, state.spaces)

    def _clean(self, state: State) -> None:
        """Delete what only states that were followed by others long ago need, and old changes."""
        import lance

        oldest = state.head["generation"] - CHANGES_KEPT
        where = f"kind IN ({rows.REVISION}, {rows.REMOVED}) AND written < {oldest}"
        gone = _places(state.files.rows(["_rowaddr"], where=where))
        dropped = [folder for folder, at in state.head["dropped"] if time.time() - at > KEPT.total_seconds()]
        if len(gone) or dropped:
            head = copy.deepcopy(dict(state.head))
            head["dropped"] = [each for each in head["dropped"] if each[0] not in dropped]
            self._state = state = self._next_state(state, head, gone, [], state.spaces)
        for folder in dropped:
            lance.LanceDataset.drop(self._uri(f"vectors/{folder}"))
        tables = [self._vectors(state, key) for key in state.head["spaces"]]
        for table in (state.files, *filter(None, tables)):
            table.forget_older(KEPT)

    # --- reading ------------------------------------------------------------------------------------------------

    @_naming_the_store
    def records(
        self, *, paths: Sequence[str] | None = None, digests: Sequence[str] | None = None
    ) -> Iterator[Record]:
        """Records; see `Store.records`."""
        if paths is not None:
            found = self._of_kind(rows.RECORD, rows.RECORD_COLUMNS, "key", rows.path_keys(paths))
        elif digests is not None:
            found = self._of_kind(rows.RECORD, rows.RECORD_COLUMNS, "content", rows.content_keys(digests))
        else:
            found = self._of_kind(rows.RECORD, rows.RECORD_COLUMNS)
        return rows.records_in(found)

    @_naming_the_store
    def failures(self, *, paths: Sequence[str] | None = None) -> Iterator[Failure]:
        """Failures; see `Store.failures`."""
        keys = None if paths is None else rows.path_keys(paths)
        return rows.failures_in(self._of_kind(rows.FAILURE, rows.FAILURE_COLUMNS, "key", keys))

    @_naming_the_store
    def dismissed(self, *, paths: Sequence[str] | None = None) -> set[str]:
        """Paths that were forgotten on purpose; see `Store.dismissed`."""
        if paths is None:
            batches = self._now().files.rows(["name"], where=f"kind = {rows.DISMISSED}")
            return {os.fsdecode(name) for batch in batches for name in batch["name"].to_pylist()}
        if not paths:
            return set()
        which, _ = self._now().files.find("key", rows.path_keys(paths), rows.DISMISSED)
        return {paths[i] for i in which}

    def _of_kind(
        self, kind: int, columns: Sequence[str], key: str = "", keys: Keys | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a kind: all, or those with the given keys in a column."""
        columns = ["name", *columns[1:]]
        if keys is None:
            return self._now().files.rows(columns, where=f"kind = {kind}")
        if not len(keys):
            return iter(())
        files = self._now().files
        return files.rows(columns, files.find(key, keys, kind)[1])

    @_naming_the_store
    def spaces(self) -> list[Space]:
        """The spaces; see `Store.spaces`."""
        return [Space.from_json(entry["record"]) for entry in self._now().head["spaces"].values()]

    @_naming_the_store
    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        """Contents with a vector; see `Store.digests`."""
        if among is not None and not len(among):
            return set()
        table = self._vectors(self._now(), space.key)
        if table is None:
            return set()
        if among is None:
            return {name for batch in table.rows(["digest"]) for name in batch["digest"].to_pylist()}
        names = list(among)
        return {names[i] for i in table.find("key", rows.content_keys(names))[0]}

    @_naming_the_store
    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Vectors; see `Store.vectors`."""
        state = self._now()
        table = self._vectors(state, space.key)
        if table is None:
            return [], np.empty((0, 0), np.float32)
        places = None if digests is None else table.find("key", rows.content_keys(list(digests)))[1]
        places = None if places is None else np.unique(places)
        count = table.dataset.count_rows() if places is None else len(places)
        found = np.empty((count, state.head["spaces"][space.key]["dim"]), np.float32)
        names: list[str] = []
        for batch in table.rows(["digest", "vector"], places):
            found[len(names) : len(names) + len(batch)] = (
                batch["vector"].flatten().to_numpy().reshape(len(batch), -1)
            )
            names += batch["digest"].to_pylist()
        return names, found

    @_naming_the_store
    def metadata(self) -> dict[str, Any]:
        """Metadata; see `Store.metadata`."""
        return copy.deepcopy(dict(self._now().head["metadata"]))

    @_naming_the_store
    def revision(self, space: Space) -> str | None:
        """A random name that changes with every write of more than metadata."""
        return str(self._now().head["revision"])

    @_naming_the_store
    def changes(self, space: Space, since: str) -> tuple[set[str], set[str]] | None:
        """The changes of the last writes; see `Store.changes`."""
        state = self._now()
        _, places = state.files.find("key", rows.own_keys(rows.REVISION, [since]), rows.REVISION)
        if not len(places):
            return None
        (written,) = (n for batch in state.files.rows(["written"], places) for n in batch["written"].to_pylist())
        where = f"written > {written}"
        table = self._vectors(state, space.key)
        added = _digests(table.rows(["digest"], where=where)) if table is not None else set()
        gone = _digests(state.files.rows(["digest"], where=f"kind = {rows.REMOVED} AND {where}"))
        return gone | added, added

    @_naming_the_store
    def problems(self) -> Iterator[str]:
        """Datasets that cannot be read, rows that are there twice, vectors of no content; see `Store.problems`."""
        state = self._now()
        contents = None
        for what, key in {"files": None, **{f"vectors of {key}": key for key in state.head["spaces"]}}.items():
            try:
                table = state.files if key is None else self._vectors(state, key)
                if table is None:
                    continue
                for _ in table.rows(table.dataset.schema.names):
                    pass
                keys = table.all_keys("key")
            except (OSError, RuntimeError, ValueError) as error:
                yield f"{what} cannot be read: {_short(error)}"
                continue
            if twice := len(keys) - len(unique(keys)):
                yield f"{twice:,} {what} are there twice"
            if key is None:
                contents = table.all_keys("content")
            elif contents is not None and (lost := np.count_nonzero(~is_in(keys, contents))):
                yield f"{lost:,} {what} without a content"

    @property
    def cache_folder(self) -> Path:
        """In the user's cache folder, by the store's own name, wherever it lies."""
        import platformdirs

        return platformdirs.user_cache_path("imgrec") / "lance" / str(self._now().head["store"])

    def size(self) -> int | None:
        """Bytes on disk; None in object storage."""
        if self.path.startswith(REMOTE):
            return None
        return sum(file.stat().st_size for file in Path(self.path).rglob("*") if file.is_file())


def _checked(space: Space, digests: Sequence[str], vectors: Vectors) -> tuple[list[str], Vectors]:
    """Digests without repetitions, of which the last one counts, and their vectors."""
    names = list(digests)
    if vectors.ndim != 2 or len(names) != len(vectors):
        raise imgrec.ImgrecError(f"space {space.key}: {len(names)} digests for vectors of shape {vectors.shape}")
    row_of = {name: row for row, name in enumerate(names)}
    if len(row_of) < len(names):
        vectors = vectors[list(row_of.values())]
    return list(row_of), np.ascontiguousarray(vectors, np.float32)


def _entry(space: Space, dim: int, generation: int) -> dict[str, Any]:
    """What the head says of a new space. Its folder is not that of one that was dropped."""
    return {"record": space.to_json(), "dim": dim, "folder": f"{space.key}-{generation}", "version": None}


def _of_vectors(digests: Sequence[str], keys: Keys, vectors: Vectors, written: int) -> pa.Table:
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    numbers = np.full(len(digests), written, np.int64)
    return pa.table({"key": as_arrow(keys), "digest": digests, "written": numbers, "vector": values})


def _digests(batches: Iterator[pa.RecordBatch]) -> set[str]:
    return {name for batch in batches for name in batch["digest"].to_pylist()}


def _places(batches: Iterator[pa.RecordBatch]) -> Addresses:
    return np.concatenate([np.empty(0, np.uint64), *(batch["_rowaddr"].to_numpy() for batch in batches)])


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Store]]:
    """This plugin's components."""
    return [Lance]
