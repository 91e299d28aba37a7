"""What a store holds at one commit: the dataset of files, its head, and the datasets of vectors that it names."""

from __future__ import annotations

import copy
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import imgrec
from imgrec_lance import rows
from imgrec_lance.blocks import Addresses
from imgrec_lance.tables import Table

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

REMOTE = ("s3://", "gs://", "az://")

FORMAT = 1

ADDRESS = re.compile(r"(?:s3|gs|az)://[\w.$-]+(?:/[^?#]*)?", re.ASCII)
"""A store's: Lance would leave out what follows a `?` or `#`, and all datasets would be at one place."""


def check_path(path: str) -> None:
    """Refuse what is neither a folder nor an address in a bucket.

    Raises:
        UsageError: with the reason, without a password.
    """
    if "://" not in path:
        return
    if re.search(r"://[^/]*@", path):
        raise imgrec.UsageError("store.path= has a user or password, which belong into the environment")
    if not ADDRESS.fullmatch(path):
        raise imgrec.UsageError(
            f"store {path} is no folder, and no s3://bucket/name, gs://... or az://... without `?` and `#`"
        )


@dataclass(frozen=True)
class State:
    """A store at one commit."""

    path: str
    """The store's folder or address."""

    files: Table
    head: Mapping[str, Any]
    """The spaces by key, each with its record, the dimension, and the folder and version of its vectors; metadata;
    the folders of spaces that were dropped, and when; the numbers and names of the store and of this commit.
    """

    place: Addresses
    """`(1,)`: where the head is in `files`."""

    spaces: dict[str, Table] = field(default_factory=dict)
    """The datasets of vectors that were opened, by folder."""

    @classmethod
    def of(cls, path: str, files: Table, spaces: Mapping[str, Table]) -> State:
        """The state of a version of `files`: its head is in the last fragment, unless this was joined."""
        for fragment in sorted(files.dataset.get_fragments(), key=lambda each: -each.fragment_id):
            found = fragment.to_table(columns=["data"], filter=f"kind = {rows.HEAD}", with_row_address=True)
            if len(found):
                break
        else:
            raise imgrec.UsageError(f"{path} is not an imgrec store: files.lance has no head")
        head = json.loads(found["data"][0].as_py())
        if head.get("format") != FORMAT:
            raise imgrec.UsageError(
                f"{path} has format {head.get('format')}, and this imgrec reads {FORMAT}: update imgrec"
            )
        return cls(path, files, head, found["_rowaddr"].to_numpy(), dict(spaces))

    @classmethod
    def opened(cls, path: str, version: int | None, *, create: bool) -> State:
        """The state of a store, by default the newest; see `Store.open`."""
        import lance

        is_remote = path.startswith(REMOTE)
        if not is_remote and os.path.exists(path) and not Path(path).is_dir():
            raise imgrec.UsageError(f"{path} is a file, not an imgrec store")
        session = lance.Session(  # type: ignore[attr-defined]
            index_cache_size_bytes=16 << 20, metadata_cache_size_bytes=64 << 20
        )
        try:
            dataset = lance.dataset(uri_of(path, "files"), version=version, session=session)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
            if not create or version is not None:
                where = path if is_remote else Path(path).absolute()
                what = f"no version {version} of the gallery" if version else "no gallery"
                raise imgrec.NoStoreError(
                    f"there is {what} at {where}: make it with `imgrec ingest FOLDER`"
                ) from error
            dataset = _made(uri_of(path, "files"), session)
        return cls.of(path, Table(dataset, rows.KEYS), {})

    def newest(self) -> State:
        """The newest state of the store."""
        latest = self.files.dataset.latest_version
        if latest == self.files.version:
            return self
        return State.of(self.path, self.files.at(latest), self.spaces)

    def vectors(self, key: str) -> Table | None:
        """The dataset of a space's vectors at the version that counts; None where it has none."""
        import lance

        entry = self.head["spaces"].get(key)
        if entry is None or entry["version"] is None:
            return None
        folder, version = entry["folder"], entry["version"]
        if (table := self.spaces.get(folder)) is None:
            uri, session = self.uri_of_vectors(folder), self.files.dataset.session()
            table = Table(lance.dataset(uri, version=version, session=session), ("key",))
        elif table.version != version:
            table = table.at(version)
        self.spaces[folder] = table
        return table

    def uri_of_vectors(self, folder: str) -> str:
        """Where a dataset of vectors is."""
        return uri_of(self.path, f"vectors/{folder}")

    def draft(self, *, is_new_revision: bool) -> dict[str, Any]:
        """A copy of the head, to be changed into that of the next commit."""
        head = copy.deepcopy(dict(self.head))
        if is_new_revision:
            head |= {"generation": head["generation"] + 1, "revision": secrets.token_hex(16)}
        return head

    def next(
        self, head: Mapping[str, Any], gone: Addresses, new: list[pa.Table], spaces: Mapping[str, Table]
    ) -> State:
        """The state after a commit: another head, without some rows of `files` and with new ones.

        Raises:
            ConflictError: there was another commit since this one.
        """
        files = self.files.changed(np.concatenate([gone, self.place]), [*new, rows.of_head(head)])
        last = max(fragment.fragment_id for fragment in files.dataset.get_fragments())
        return State(self.path, files, head, np.array([last << 32], np.uint64), dict(spaces))


def uri_of(path: str, name: str) -> str:
    """Where a dataset of a store is."""
    return f"{path.rstrip('/')}/{name}.lance"


def _made(uri: str, session: Any) -> lance.LanceDataset:
    """Make the first version of `files`, unless somebody else does so."""
    import lance
    import pyarrow as pa

    names = {"store": secrets.token_hex(16), "revision": secrets.token_hex(16)}
    head = {"format": FORMAT, **names, "generation": 0, "spaces": {}, "metadata": {}, "dropped": []}
    first = pa.concat_tables([rows.of({}, names["revision"], [], 0), rows.of_head(head)])
    try:
        return lance.write_dataset(first, uri, mode="create", session=session)
    except OSError as error:
        try:
            return lance.dataset(uri, session=session)
        except ValueError:  # nobody else has made it: a full disk, say, or no right to write
            raise error from None
