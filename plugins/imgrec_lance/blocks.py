"""Where the rows of a dataset are, by keys of 16 bytes: a block a fragment, in at most 45 bytes a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Keys: TypeAlias = npt.NDArray[np.uint64]
"""`(n, 2)`: the halves of each key."""

Addresses: TypeAlias = npt.NDArray[np.uint64]
"""`(n,)`: Lance's numbers of rows, the fragment above and the row in it below, 32 bits each."""

Bools: TypeAlias = npt.NDArray[np.bool_]


def keys_of(names: Iterable[bytes]) -> Keys:
    """The keys of names: BLAKE2b, so that two names never share one."""
    digests = b"".join(hashlib.blake2b(name, digest_size=16).digest() for name in names)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def is_in(keys: Keys, others: Keys) -> Bools:
    """`(n,)`: which keys are among others."""
    return np.isin(_whole(keys), _whole(others))


def unique(keys: Keys) -> Keys:
    """The keys without repetitions, in another order."""
    return np.unique(_whole(keys)).view(np.uint64).reshape(-1, 2)


def _whole(keys: Keys) -> npt.NDArray[np.bytes_]:
    return np.ascontiguousarray(keys).view("S16").ravel()


def fragments_of(addresses: Addresses) -> npt.NDArray[np.int64]:
    """`(n,)`: the fragment of each address."""
    return (addresses >> np.uint64(32)).astype(np.int64)


def offsets_of(addresses: Addresses) -> npt.NDArray[np.uint32]:
    """`(n,)`: the row of each address in its fragment."""
    return addresses.astype(np.uint32)


@dataclass(frozen=True)
class Block:
    """The rows of a fragment that are not deleted."""

    fragment: int
    offsets: npt.NDArray[np.uint32]
    """`(n,)`, ascending: where the rows are in the fragment."""

    kinds: npt.NDArray[np.uint8]
    """`(n,)`: what each row is."""

    keys: dict[str, Keys]
    """By column."""

    orders: dict[str, npt.NDArray[np.uint32]]
    """`(n,)`: sorts the first halves of the keys."""

    @classmethod
    def of(
        cls,
        fragment: int,
        offsets: npt.NDArray[np.uint32],
        kinds: npt.NDArray[np.uint8],
        keys: dict[str, Keys],
    ) -> Block:
        """The block of some rows."""
        orders = {name: np.argsort(each[:, 0]).astype(np.uint32) for name, each in keys.items()}
        return cls(fragment, offsets, kinds, keys, orders)

    def find(self, column: str, wanted: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        """Pairs of positions in `wanted` and in this block with equal keys."""
        mine, order = self.keys[column], self.orders[column]
        first = mine[order, 0]
        left, right = (np.searchsorted(first, wanted[:, 0], side) for side in ("left", "right"))
        counts = right - left
        which = np.repeat(np.arange(len(wanted)), counts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = order[left[which] + within]
        is_equal = mine[rows, 1] == wanted[which, 1]
        return which[is_equal], rows[is_equal]

    def addresses(self, rows: npt.NDArray[Any]) -> Addresses:
        """The addresses of some of its rows."""
        found: Addresses = np.uint64(self.fragment << 32) + self.offsets[rows].astype(np.uint64)
        return found
