"""The rows of `files`: one for each path, the head, which says what holds beside them, and the last changes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from imgrec import Failure, Record
from imgrec_lance.blocks import Keys, keys_of
from imgrec_lance.tables import as_arrow

if TYPE_CHECKING:
    import pyarrow as pa

RECORD, FAILURE, DISMISSED, HEAD, REVISION, REMOVED = range(6)
"""Kinds of rows. The head is one row, which every commit replaces, so that of two at once one is refused. A commit
adds a row of its revision, and one for each content that goes.
"""

KEYS = ("key", "content")

RECORD_COLUMNS = [spec.name for spec in fields(Record)]
FAILURE_COLUMNS = [spec.name for spec in fields(Failure)]


def schema() -> pa.Schema:
    """The columns of `files`; the name of a row is its path, as the file system's bytes."""
    import pyarrow as pa

    whole, text = pa.int64(), pa.string()
    return pa.schema(
        {
            "key": pa.binary(16), "content": pa.binary(16), "kind": pa.uint8(), "written": whole,
            "name": pa.binary(), "digest": text, "size": whole, "mtime_ns": whole, "missing": pa.bool_(),
            "stamp": text, "width": whole, "height": whole, "taken": text, "warning": text,
            "reason": text, "time": pa.float64(), "data": text,
        }
    )  # fmt: skip


def path_keys(paths: Sequence[str]) -> Keys:
    """The keys of the rows of paths."""
    return keys_of(map(os.fsencode, paths))


def content_keys(digests: Sequence[str]) -> Keys:
    """The keys of contents."""
    return keys_of(digest.encode() for digest in digests)


def own_keys(kind: int, names: Sequence[str]) -> Keys:
    """The keys of rows that are of no path, which no path has."""
    return keys_of(f"\0{kind}\0{name}".encode() for name in names)


def of(
    paths: Mapping[str, Record | Failure | None], revision: str, removed: Sequence[str], written: int
) -> pa.Table:
    """The rows of a commit.

    Args:
        paths: a record, a failure or, for a dismissed one, neither, by path.
        revision: what the commit makes.
        removed: the contents that go with it.
        written: the number of the commit.
    """
    made: list[dict[str, Any]] = [{"kind": REVISION, "name": revision.encode()}]
    made += [{"kind": REMOVED, "name": b"", "digest": digest} for digest in removed]
    for path, row in paths.items():
        kind = DISMISSED if row is None else RECORD if isinstance(row, Record) else FAILURE
        made.append({**(vars(row) if row else {}), "kind": kind, "name": os.fsencode(path)})
    keys = np.concatenate(
        [
            own_keys(REVISION, [revision]),
            own_keys(REMOVED, [f"{revision}\0{digest}" for digest in removed]),
            path_keys(list(paths)),
        ]
    )
    contents = np.zeros_like(keys)
    is_record = [row["kind"] == RECORD for row in made]
    contents[is_record] = content_keys([row["digest"] for row in made if row["kind"] == RECORD])
    return _table([{**row, "written": written} for row in made], keys, contents)


def of_head(head: Mapping[str, Any]) -> pa.Table:
    """The head as a row."""
    key = own_keys(HEAD, [""])
    return _table([{"kind": HEAD, "name": b"", "written": 0, "data": json.dumps(head)}], key, np.zeros_like(key))


def _table(made: Sequence[dict[str, Any]], keys: Keys, contents: Keys) -> pa.Table:
    import pyarrow as pa

    columns = {"key": as_arrow(keys), "content": as_arrow(contents)}
    for spec in list(schema())[2:]:
        columns[spec.name] = pa.array([row.get(spec.name) for row in made], spec.type)
    return pa.table(columns, schema())


def records_in(batches: Iterator[pa.RecordBatch]) -> Iterator[Record]:
    """The records in batches that have their columns."""
    for name, *values in _rows(batches, ["name", *RECORD_COLUMNS[1:]]):
        yield Record(os.fsdecode(name), *values)


def failures_in(batches: Iterator[pa.RecordBatch]) -> Iterator[Failure]:
    """The failures in batches that have their columns."""
    for name, *values in _rows(batches, ["name", *FAILURE_COLUMNS[1:]]):
        yield Failure(os.fsdecode(name), *values)


def _rows(batches: Iterator[pa.RecordBatch], columns: Sequence[str]) -> Iterator[Sequence[Any]]:
    for batch in batches:
        yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)
