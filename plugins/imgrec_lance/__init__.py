"""A store of Lance datasets, in a folder or in object storage.

`files.lance` has a row for each path, and one row, the head, that says what else holds: the spaces with the
version of `vectors/KEY.lance` that counts for each, metadata, the revision. A batch first makes new versions of
vectors, which nobody sees yet. The next version of `files` then is the commit: every one replaces the head, so
that of two writers at once one is refused, and plans again from what the other has written. There is no lock.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import imgrec
from imgrec import Batch, Failure, Record, Space, Vectors, option
from imgrec_lance import rows, writing
from imgrec_lance.blocks import Keys, is_in, unique
from imgrec_lance.messages import errors_of, is_of_lance, naming_the_store, short
from imgrec_lance.state import REMOTE, State, check_path
from imgrec_lance.tables import ConflictError, Table

if TYPE_CHECKING:
    import pyarrow as pa

MOST_TRIES = 100
"""To commit a batch while others commit theirs."""


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
        check_path(self.path)
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

    def open(self, *, create: bool = False) -> Self:
        """Open the datasets; see `Store.open`."""
        with self._alone:
            if self._state is None:
                try:
                    self._state = State.opened(self.path, self.version, create=create)
                except BaseException as error:
                    if not is_of_lance(error):
                        raise
                    raise imgrec.UsageError(f"store {self.path} cannot be opened: {short(error)}") from error
        return self

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
            if self.version is None:
                self._state = state = state.newest()
            return state

    def _known(self) -> State:
        """The newest state that this object has seen."""
        self.open()
        assert self._state is not None
        return self._state

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one version."""
        with errors_of(self.path):
            before, self._pinned.state = getattr(self._pinned, "state", None), self._now()
        try:
            yield
        finally:
            self._pinned.state = before

    # --- writing ------------------------------------------------------------------------------------------------

    @naming_the_store
    def write(self, batch: Batch) -> None:
        """Write a batch by one commit, planned again whenever somebody else was quicker."""
        if batch:
            vectors = {space: _checked(space, *some) for space, some in batch.vectors.items()}
            self._commit(lambda state: writing.written(state, replace(batch, vectors=vectors)))

    @naming_the_store
    def drop(self, space: Space) -> None:
        """Leave a space out of the head, with all revisions: none before leads to what is left."""
        self._newest()
        self._commit(lambda state: writing.without(state, space.key))

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

    def _tidy(self) -> None:
        """Join small fragments and delete old states, where it pays; if it fails, the next writer tries again."""
        with contextlib.suppress(OSError, ConflictError):
            self._state = writing.joined(self._known())
            if self._state.files.version % writing.CLEANED_EVERY == 0:
                self._state = writing.cleaned(self._state)

    # --- reading ------------------------------------------------------------------------------------------------

    @naming_the_store
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

    @naming_the_store
    def failures(self, *, paths: Sequence[str] | None = None) -> Iterator[Failure]:
        """Failures; see `Store.failures`."""
        keys = None if paths is None else rows.path_keys(paths)
        return rows.failures_in(self._of_kind(rows.FAILURE, rows.FAILURE_COLUMNS, "key", keys))

    @naming_the_store
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

    @naming_the_store
    def spaces(self) -> list[Space]:
        """The spaces; see `Store.spaces`."""
        return [Space.from_json(entry["record"]) for entry in self._now().head["spaces"].values()]

    @naming_the_store
    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        """Contents with a vector; see `Store.digests`."""
        if among is not None and not len(among):
            return set()
        table = self._now().vectors(space.key)
        if table is None:
            return set()
        if among is None:
            return writing.digests_in(table.rows(["digest"]))
        names = list(among)
        return {names[i] for i in table.find("key", rows.content_keys(names))[0]}

    @naming_the_store
    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        """Vectors; see `Store.vectors`."""
        state = self._now()
        table = state.vectors(space.key)
        if table is None:
            return [], np.empty((0, 0), np.float32)
        most = table.dataset.count_rows() if digests is None else len(digests)
        found = np.empty((most, state.head["spaces"][space.key]["dim"]), np.float32)
        names: list[str] = []
        for some, vectors in _blocks(table, digests, max(1, most)):
            found[len(names) : len(names) + len(some)] = vectors
            names += some
        return names, found[: len(names)]

    @naming_the_store
    def blocks(
        self, space: Space, digests: Sequence[str] | None = None, size: int = 8192
    ) -> Iterator[tuple[list[str], Vectors]]:
        """Vectors as they lie in the dataset; see `Store.blocks`."""
        table = self._now().vectors(space.key)
        return iter(()) if table is None else _blocks(table, digests, size)

    @naming_the_store
    def metadata(self) -> dict[str, Any]:
        """Metadata; see `Store.metadata`."""
        return copy.deepcopy(dict(self._now().head["metadata"]))

    @naming_the_store
    def revision(self, space: Space) -> str | None:
        """A random name that changes with every write of more than metadata."""
        return str(self._now().head["revision"])

    @naming_the_store
    def changes(self, space: Space, since: str) -> tuple[set[str], set[str]] | None:
        """The changes of the last writes; see `Store.changes`."""
        state = self._now()
        _, places = state.files.find("key", rows.own_keys(rows.REVISION, [since]), rows.REVISION)
        if not len(places):
            return None
        (written,) = (n for batch in state.files.rows(["written"], places) for n in batch["written"].to_pylist())
        where = f"written > {written}"
        table = state.vectors(space.key)
        added = writing.digests_in(table.rows(["digest"], where=where)) if table is not None else set()
        gone = writing.digests_in(state.files.rows(["digest"], where=f"kind = {rows.REMOVED} AND {where}"))
        return gone | added, added

    @naming_the_store
    def problems(self) -> Iterator[str]:
        """Datasets that cannot be read, rows that are there twice, vectors of no content; see `Store.problems`."""
        state = self._now()
        contents = None
        for what, key in {"files": None, **{f"vectors of {key}": key for key in state.head["spaces"]}}.items():
            try:
                table = state.files if key is None else state.vectors(key)
                if table is None:
                    continue
                for _ in table.rows(table.dataset.schema.names):
                    pass
                keys = table.all_keys("key")
            except (OSError, RuntimeError, ValueError) as error:
                yield f"{what} cannot be read: {short(error)}"
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


def _blocks(table: Table, digests: Sequence[str] | None, size: int) -> Iterator[tuple[list[str], Vectors]]:
    """Digests and vectors of all rows, or of those with the given digests, in the order of their fragments."""
    places = None if digests is None else np.unique(table.find("key", rows.content_keys(list(digests)))[1])
    for some in [None] if places is None else np.split(places, range(size, len(places), size)):
        for batch in table.rows(["digest", "vector"], some):
            for start in range(0, len(batch), size):
                part = batch.slice(start, size)
                yield part["digest"].to_pylist(), part["vector"].flatten().to_numpy().reshape(len(part), -1)


def _checked(space: Space, digests: Sequence[str], vectors: Vectors) -> tuple[list[str], Vectors]:
    """Digests without repetitions, of which the last one counts, and their vectors."""
    names = list(digests)
    if vectors.ndim != 2 or len(names) != len(vectors):
        raise imgrec.ImgrecError(f"space {space.key}: {len(names)} digests for vectors of shape {vectors.shape}")
    row_of = {name: row for row, name in enumerate(names)}
    if len(row_of) < len(names):
        vectors = vectors[list(row_of.values())]
    return list(row_of), np.ascontiguousarray(vectors, np.float32)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Store]]:
    """This plugin's components."""
    return [Lance]
