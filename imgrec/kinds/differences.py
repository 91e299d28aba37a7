"""Differences between two stores, for copies, `verify` and `replay`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from imgrec.batches import chunks

if TYPE_CHECKING:
    from imgrec.kinds.extractor import Space, Vectors
    from imgrec.kinds.store import Failure, Record, Store


@dataclass
class Differences:
    """How another store differs from some rows of a store."""

    rows: Sequence[Record | Failure]
    """The rows compared."""

    changed: list[Record | Failure]
    """The rows that the other store lacks, or that differ there."""

    others: Mapping[str, Record | Failure]
    """The other store's rows under the same paths."""

    lacking: dict[Space, list[str]] = field(default_factory=dict)
    """Digests whose vector the other store lacks."""

    unequal: dict[Space, dict[str, float]] = field(default_factory=dict)
    """Digests whose vectors differ, with the largest absolute difference of a value."""

    compared: dict[Space, int] = field(default_factory=dict)
    """How many vectors were compared by value."""


def differences(
    store: Store, other: Store, batch_size: int, spaces: Sequence[Space] | None = None, *, by_value: bool = False
) -> Iterator[Differences]:
    """Compare a store's records, failures and vectors with another store's, batch by batch.

    Args:
        store: the store to go through, open.
        other: the store to compare with, open.
        batch_size: rows at a time.
        spaces: whose vectors are compared; by default all of `store`.
        by_value: compare vectors bit by bit; otherwise only whether the other store has one.
    """
    spaces = store.spaces() if spaces is None else spaces
    for records in chunks(store.records(), batch_size):  # a store may read a whole file for each batch
        found = _of_rows(records, other)
        digests = sorted({record.digest for record in records})
        for space in spaces:
            held = store.digests(space, digests)
            both = held & other.digests(space, digests)
            found.lacking[space] = sorted(held - both)
            if by_value:
                found.compared[space] = len(both)
                found.unequal[space] = _unequal(store, other, space, sorted(both))
        yield found
    for failures in chunks(store.failures(), batch_size):
        yield _of_rows(failures, other)


def _of_rows(rows: Sequence[Record | Failure], other: Store) -> Differences:
    paths = [row.path for row in rows]
    others = {row.path: row for found in (other.records, other.failures) for row in found(paths=paths)}
    return Differences(rows, [row for row in rows if others.get(row.path) != row], others)


def _unequal(store: Store, other: Store, space: Space, digests: Sequence[str]) -> dict[str, float]:
    mine, theirs = (dict(zip(*each.vectors(space, digests), strict=True)) for each in (store, other))
    unequal = (name for name, row in mine.items() if name not in theirs or not np.array_equal(row, theirs[name]))
    return {name: _distance(mine[name], theirs.get(name)) for name in unequal}


def _distance(vector: Vectors, other: Vectors | None) -> float:
    if other is None or vector.shape != other.shape:
        return float("inf")
    return float(np.abs(vector - other).max())
