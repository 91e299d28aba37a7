"""A Lance dataset at one version: its rows found by key, read in parts, and changed into the next version."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgrec_lance.blocks import Addresses, Block, Keys, fragments_of, offsets_of

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

AT_ONCE = 16 << 20
"""Bytes that are read at once, about."""

SMALL = 4096
"""Rows: fragments of fewer are joined."""

TOO_MANY = 32
"""Fragments that are worth the work."""


class ConflictError(Exception):
    """Somebody else has changed the dataset meanwhile: nothing was written."""


@contextlib.contextmanager
def _conflicts() -> Iterator[None]:
    """Turn Lance's errors of that kind into a ConflictError."""
    from lance.commit import CommitConflictError

    try:
        yield
    except CommitConflictError as error:
        raise ConflictError(str(error)) from error
    except OSError as error:
        if "Retryable commit conflict" in str(error):  # of functions that do not only commit
            raise ConflictError(str(error)) from error
        raise


class Table:
    """A dataset as it is at one version; never changed."""

    def __init__(
        self,
        dataset: lance.LanceDataset,
        keys: Sequence[str],
        known: Mapping[int, tuple[Any, Block]] | None = None,
    ) -> None:
        """Take a dataset, the columns that have keys, and what is known already, by fragment and deletion file."""
        self.dataset, self._keys, self._known = dataset, keys, known or {}

    @classmethod
    def created(cls, uri: str, rows: pa.Table, keys: Sequence[str]) -> Table:
        """A new dataset; what is there, of a commit that never came, is not in this version.

        Raises:
            ConflictError: somebody else makes it at the same time.
        """
        import lance

        with _conflicts():
            try:
                dataset = lance.write_dataset(rows, uri, mode="create")
            except OSError:  # it is there
                dataset = lance.write_dataset(rows, uri, mode="overwrite")
        return cls(dataset, keys)

    @property
    def version(self) -> int:
        """Its number."""
        return int(self.dataset.version)

    def at(self, version: int) -> Table:
        """Another version; what both have is read only once."""
        return Table(self.dataset.checkout_version(version), self._keys, self._known_blocks())

    def _known_blocks(self) -> Mapping[int, tuple[Any, Block]]:
        known: Mapping[int, tuple[Any, Block]] = self.__dict__.get("_blocks", self._known)
        return known

    @functools.cached_property
    def _blocks(self) -> dict[int, tuple[Any, Block]]:
        """Each fragment's deletion file and block."""
        blocks: dict[int, tuple[Any, Block]] = {}
        for fragment in self.dataset.get_fragments():
            number, deleted = fragment.fragment_id, fragment.deletion_file()
            known = self._known.get(number)
            if known is None or known[0] != deleted:
                known = deleted, self._read(fragment)
            blocks[number] = known
        return blocks

    def _fragment(self, number: int) -> lance.LanceFragment:
        fragment = self.dataset.get_fragment(number)
        assert fragment is not None
        return fragment

    def _read(self, fragment: lance.LanceFragment) -> Block:
        has_kinds = "kind" in self.dataset.schema.names
        columns = [*self._keys, *(["kind"] if has_kinds else [])]
        batches = list(fragment.scanner(columns=columns, with_row_address=True).to_batches())
        offsets = np.concatenate([offsets_of(each["_rowaddr"].to_numpy()) for each in batches])
        keys = {name: np.concatenate([keys_in(each[name]) for each in batches]) for name in self._keys}
        kinds = [each["kind"].to_numpy() for each in batches] if has_kinds else [np.zeros(len(offsets), np.uint8)]
        return Block.of(fragment.fragment_id, offsets, np.concatenate(kinds), keys)

    def find(self, column: str, wanted: Keys, kind: int | None = None) -> tuple[npt.NDArray[np.int64], Addresses]:
        """Pairs of positions in `wanted` and addresses of the rows that have these keys, of a kind or of all."""
        found: list[tuple[npt.NDArray[np.int64], Addresses]] = []
        for _, block in self._blocks.values() if len(wanted) else ():
            which, rows = block.find(column, wanted)
            if kind is not None:
                is_one = block.kinds[rows] == kind
                which, rows = which[is_one], rows[is_one]
            found.append((which, block.addresses(rows)))
        positions, addresses = zip(*found, strict=True) if found else ([], [])
        return (
            np.concatenate([np.empty(0, np.int64), *positions]),
            np.concatenate([np.empty(0, np.uint64), *addresses]),
        )

    def keys_at(self, column: str, addresses: Addresses) -> Keys:
        """The keys of rows, in the order of their fragments."""
        parts = [np.empty((0, 2), np.uint64)]
        for number, offsets in _by_fragment(addresses):
            block = self._blocks[number][1]
            parts.append(block.keys[column][np.searchsorted(block.offsets, offsets)])
        return np.concatenate(parts)

    def all_keys(self, column: str) -> Keys:
        """The keys of all rows."""
        return np.concatenate([np.empty((0, 2), np.uint64), *(b.keys[column] for _, b in self._blocks.values())])

    def rows(
        self, columns: Sequence[str], addresses: Addresses | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, of those at addresses, or of those that a condition of SQL holds for."""
        fragments = None
        if addresses is not None:
            if not len(addresses):
                return
            where = f"_rowid IN ({','.join(map(str, addresses.tolist()))})"
            fragments = [self._fragment(number) for number, _ in _by_fragment(addresses)]
        yield from self.dataset.scanner(
            columns=list(columns),
            filter=where,
            fragments=fragments,
            batch_size_bytes=AT_ONCE,
            batch_readahead=2,
            fragment_readahead=2,
            io_buffer_size=4 * AT_ONCE,
        ).to_batches()

    def changed(self, gone: Addresses, new: Sequence[pa.Table]) -> Table:
        """The next version, without some rows and with new ones, each table a fragment.

        Raises:
            ConflictError: a version since this one has changed one of the fragments that lose rows.
        """
        import lance
        from lance.fragment import write_fragments

        removed, updated = [], []
        for number, offsets in _by_fragment(gone):
            left = self._fragment(number).delete_rows(offsets.tolist())
            if left is None:
                removed.append(number)
            else:
                updated.append(left)
        fragments = [each for table in new for each in write_fragments(table, self.dataset, mode="append")]
        operation = lance.LanceOperation.Update(
            removed_fragment_ids=removed, updated_fragments=updated, new_fragments=fragments
        )
        with _conflicts():
            dataset = lance.LanceDataset.commit(self.dataset, operation, read_version=self.version, max_retries=0)
        return Table(dataset, self._keys, {**self._known_blocks(), **self._new_blocks(dataset, new)})

    def _new_blocks(self, dataset: lance.LanceDataset, new: Sequence[pa.Table]) -> dict[int, tuple[Any, Block]]:
        """The blocks of tables just written, so that nobody needs to read them."""
        before = {each.fragment_id for each in self.dataset.get_fragments()}
        numbers = sorted({each.fragment_id for each in dataset.get_fragments()} - before)
        if len(numbers) != len(new):  # others have written too
            return {}
        blocks = {}
        for number, table in zip(numbers, new, strict=True):
            kinds = table["kind"].to_numpy() if "kind" in table.column_names else np.zeros(len(table), np.uint8)
            keys = {name: keys_in(table[name].combine_chunks()) for name in self._keys}
            offsets = np.arange(len(table), dtype=np.uint32)
            blocks[number] = None, Block.of(number, offsets, kinds.astype(np.uint8), keys)
        return blocks

    def restored(self) -> Table:
        """A new version that is as this one, after whatever was written since."""
        dataset = self.dataset.checkout_version(self.version)
        with _conflicts():
            dataset.restore()  # type: ignore[no-untyped-call]
        return Table(dataset, self._keys, self._known_blocks())

    def joined(self, besides: Sequence[int] = ()) -> Table | None:
        """A new version with small fragments joined, but for some; None where they are few.

        Raises:
            ConflictError: somebody else has changed one of them.
        """
        poor = [
            each
            for each in self.dataset.get_fragments()
            if each.fragment_id not in besides
            and (each.physical_rows < SMALL or each.num_deletions > each.physical_rows / 10)
        ]
        if len(poor) < TOO_MANY:
            return None
        dataset = self.dataset.checkout_version(self.version)
        with _conflicts():
            dataset.optimize.compact_files(
                target_rows_per_fragment=SMALL, excluded_fragment_ids=list(besides), batch_size=1024
            )
        return Table(dataset, self._keys, self._known_blocks())

    def is_only_joined(self, before: Table) -> bool:
        """Whether all that was committed since another version has joined fragments, and written nothing."""
        since = self.dataset.get_transactions(self.version - before.version)
        return not {"Update", "Restore", "Overwrite"} & {type(each.operation).__name__ for each in since if each}

    def forget_older(self, age: timedelta) -> None:
        """Delete the versions before this one that were followed by another one longer ago."""
        oldest = datetime.now() - age
        versions: list[Any] = self.dataset.versions()
        old = [one["version"] for one, after in itertools.pairwise(versions) if after["timestamp"] < oldest]
        if old := [version for version in old if version < self.version]:
            self.dataset.cleanup_old_versions(versions=old, error_if_tagged_old_versions=False)


def keys_in(array: pa.Array) -> Keys:
    """The keys in an Arrow array of 16 bytes each."""
    data = np.frombuffer(array.buffers()[1], np.uint64).reshape(-1, 2)
    return data[array.offset : array.offset + len(array)]


def as_arrow(keys: Keys) -> pa.Array:
    """Keys as an Arrow array of 16 bytes each."""
    import pyarrow as pa

    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(keys), [None, pa.py_buffer(np.ascontiguousarray(keys))]
    )


def _by_fragment(addresses: Addresses) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
    """Fragments and the ascending rows in each."""
    if not len(addresses):
        return
    addresses = np.unique(addresses)
    numbers, starts = np.unique(fragments_of(addresses), return_index=True)
    for number, some in zip(numbers.tolist(), np.split(addresses, starts[1:]), strict=True):
        yield number, offsets_of(some)
