"""What a batch changes: first vectors, in versions that nobody sees yet, then the files, which is the commit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

import imgrec
from imgrec import Batch, Failure, Record, Space, Vectors
from imgrec_lance import rows
from imgrec_lance.blocks import Addresses, Keys, is_in, unique
from imgrec_lance.state import State
from imgrec_lance.tables import ConflictError, Table, as_arrow

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = timedelta(days=1)
"""For how long a state can still be read after others have followed."""

CLEANED_EVERY = 512
"""Commits."""

CHANGES_KEPT = 1000
"""Commits, at least, whose changes are kept."""


def written(state: State, batch: Batch) -> State:
    """The state after a batch.

    Raises:
        ConflictError: somebody else has written meanwhile; nothing of the batch is seen.
    """
    new: dict[str, Record | Failure | None] = dict.fromkeys(batch.dismissed)
    new |= {failure.path: failure for failure in batch.failures}
    new |= {record.path: record for record in batch.records}
    _, gone = state.files.find("key", rows.path_keys([*batch.forgotten, *new]))
    added = rows.content_keys(sorted({row.digest for row in new.values() if isinstance(row, Record)}))
    unused, removed = _unused(state, gone, added)
    is_more = bool(replace(batch, metadata={}))
    head, spaces = state.draft(is_new_revision=is_more), dict(state.spaces)
    given: dict[str, tuple[list[str], Vectors | None]] = {}
    for space, some in batch.vectors.items():
        given[space.key] = _used(state, gone, added, *some)
        head["spaces"].setdefault(space.key, _entry(space, some[1].shape[1], head["generation"]))
    for key, entry in head["spaces"].items():
        digests, vectors = given.get(key, ([], None))
        table = _next(state, entry, unused, digests, vectors, head["generation"])
        if table is not None:
            spaces[entry["folder"]], entry["version"] = table, table.version
    notes = head["metadata"] | batch.metadata
    head["metadata"] = {name: value for name, value in notes.items() if value is not None}
    more = [rows.of(new, head["revision"], removed, head["generation"])] if is_more else []
    return state.next(head, gone, more, spaces)


def _unused(state: State, gone: Addresses, added: Keys) -> tuple[Keys, list[str]]:
    """The contents, as keys and as digests, that no record has any more without the rows that go."""
    stale = unique(state.files.keys_at("content", gone))
    stale = stale[stale.any(axis=1) & ~is_in(stale, added)]
    unused = stale[~_have_records(state, gone, stale)]
    _, places = state.files.find("content", unused)
    return unused, sorted(digests_in(state.files.rows(["digest"], places)))


def _have_records(state: State, gone: Addresses, contents: Keys) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """`(n,)`: which contents have a record, without the rows that go."""
    which, places = state.files.find("content", contents)
    found = np.zeros(len(contents), bool)
    found[which[~np.isin(places, gone)]] = True
    return found


def _used(
    state: State, gone: Addresses, added: Keys, digests: Sequence[str], vectors: Vectors
) -> tuple[list[str], Vectors]:
    """Those vectors whose content has a record, or gets one."""
    keys = rows.content_keys(digests)
    is_used = is_in(keys, added) | _have_records(state, gone, keys)
    return [digest for digest, used in zip(digests, is_used, strict=True) if used], vectors[is_used]


def _entry(space: Space, dim: int, generation: int) -> dict[str, Any]:
    """What the head says of a new space. Its folder is not that of one that was dropped."""
    return {"record": space.to_json(), "dim": dim, "folder": f"{space.key}-{generation}", "version": None}


def _next(
    state: State,
    entry: Mapping[str, Any],
    unused: Keys,
    digests: Sequence[str],
    vectors: Vectors | None,
    number: int,
) -> Table | None:
    """The next version of a space's vectors, in which nothing is that no commit names; None if nothing changes."""
    key = entry["record"]["key"]
    if vectors is not None and vectors.shape[1] != entry["dim"]:
        raise imgrec.ImgrecError(
            f"space {key} has vectors of {entry['dim']} values, and these have {vectors.shape[1]}"
        )
    keys, base = rows.content_keys(digests), state.vectors(key)
    new = [_of_vectors(digests, keys, vectors, number)] if digests and vectors is not None else []
    if base is None:
        uri = state.uri_of_vectors(entry["folder"])
        return Table.created(uri, new[0], ("key",)) if new else None
    _, gone = base.find("key", np.concatenate([unused, keys]))
    if not new and not len(gone):
        return None
    while True:
        with contextlib.suppress(ConflictError):
            made = base.changed(gone, new)
            if made.version == base.version + 1:
                return made
        base = base.restored()


def _of_vectors(digests: Sequence[str], keys: Keys, vectors: Vectors, written: int) -> pa.Table:
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    numbers = np.full(len(digests), written, np.int64)
    return pa.table({"key": as_arrow(keys), "digest": digests, "written": numbers, "vector": values})


def without(state: State, key: str) -> State:
    """The state without a space, and without all revisions: none before leads to what is left.

    Raises:
        ConflictError: somebody else has written meanwhile.
    """
    if key not in state.head["spaces"]:
        return state
    head = state.draft(is_new_revision=True)
    head["dropped"].append([head["spaces"].pop(key)["folder"], time.time()])
    gone = _places(state, f"kind IN ({rows.REVISION}, {rows.REMOVED})")
    return state.next(head, gone, [rows.of({}, head["revision"], [], head["generation"])], state.spaces)


def joined(state: State) -> State:
    """The state with small fragments joined, where there are many.

    Raises:
        ConflictError: somebody else has written meanwhile.
    """
    head, spaces = state.draft(is_new_revision=False), dict(state.spaces)
    for key, entry in head["spaces"].items():
        table = state.vectors(key)
        made = None if table is None else table.joined()
        if table is not None and made is not None and made.is_only_joined(table):
            spaces[entry["folder"]], entry["version"] = made, made.version
    if head != state.head:
        state = state.next(head, state.place[:0], [], spaces)
    files = state.files.joined(besides=(state.place >> np.uint64(32)).tolist())
    return state if files is None else State.of(state.path, files, state.spaces)


def cleaned(state: State) -> State:
    """The state without old changes, and what only states need that others followed long ago deleted.

    Raises:
        ConflictError: somebody else has written meanwhile.
    """
    import lance

    oldest = state.head["generation"] - CHANGES_KEPT
    gone = _places(state, f"kind IN ({rows.REVISION}, {rows.REMOVED}) AND written < {oldest}")
    head, now = state.draft(is_new_revision=False), time.time()
    dropped = [folder for folder, at in head["dropped"] if now - at > KEPT.total_seconds()]
    head["dropped"] = [each for each in head["dropped"] if each[0] not in dropped]
    if len(gone) or dropped:
        state = state.next(head, gone, [], state.spaces)
    for folder in dropped:
        lance.LanceDataset.drop(state.uri_of_vectors(folder))
    for table in (state.files, *filter(None, map(state.vectors, state.head["spaces"]))):
        table.forget_older(KEPT)
    return state


def digests_in(batches: Iterator[pa.RecordBatch]) -> set[str]:
    """The digests in batches of rows."""
    return {name for batch in batches for name in batch["digest"].to_pylist()}


def _places(state: State, where: str) -> Addresses:
    batches = state.files.rows(["_rowaddr"], where=where)
    return np.concatenate([np.empty(0, np.uint64), *(batch["_rowaddr"].to_numpy() for batch in batches)])
