"""What one store holds otherwise than another: for copies, for `verify` and for `replay`."""

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
    """What, of some rows of one store, another one lacks or has otherwise."""

    rows: Sequence[Record | Failure]
    """Those looked at."""

    changed: list[Record | Failure]
    """The rows that the other lacks, or has otherwise."""

    others: Mapping[str, Record | Failure]
    """What the other has under the same paths."""

    lacking: dict[Space, list[str]] = field(default_factory=dict)
    """The contents whose vector the other lacks."""

    unequal: dict[Space, dict[str, float]] = field(default_factory=dict)
    """The contents whose vector the other has otherwise: by how much, in the value that differs most."""

    compared: dict[Space, int] = field(default_factory=dict)
    """How many vectors were compared by their values."""


def differences(
    store: Store, other: Store, batch_size: int, spaces: Sequence[Space] | None = None, *, by_value: bool = False
) -> Iterator[Differences]:
    """Go through a store's records and failures, and find what another store does not hold alike.

    Args:
        store: whose rows are gone through, open.
        other: what is asked for the same, open.
        batch_size: rows at a time.
        spaces: whose vectors are looked at; by default all of `store`.
        by_value: compare vectors that both have, to the last bit; else one that is there is taken for equal.
    """
    spaces = store.spaces() if spaces is None else spaces
    for records in chunks(store.records(), batch_size):  # few passes where a selection reads a whole file
        paths = [record.path for record in records]
        others: dict[str, Record | Failure] = {row.path: row for row in other.failures(paths=paths)}
        others |= {row.path: row for row in other.records(paths=paths)}
        changed = [row for row in records if others.get(row.path) != row]
        found = Differences(records, list(changed), others)
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
        known = {row.path: row for row in other.records(paths=[failure.path for failure in failures])}
        same = {row.path: row for row in other.failures(paths=[failure.path for failure in failures])}
        yield Differences(failures, [row for row in failures if same.get(row.path) != row], {**known, **same})


def _unequal(store: Store, other: Store, space: Space, digests: Sequence[str]) -> dict[str, float]:
    mine, theirs = (dict(zip(*each.vectors(space, digests), strict=True)) for each in (store, other))
    unequal = (name for name, row in mine.items() if name not in theirs or not np.array_equal(row, theirs[name]))
    return {name: _distance(mine[name], theirs.get(name)) for name in unequal}


def _distance(vector: Vectors, other: Vectors | None) -> float:
    if other is None or vector.shape != other.shape:
        return float("inf")
    return float(np.abs(vector - other).max())
