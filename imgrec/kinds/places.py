"""Paths as a store keeps them: absolute, or those below its folder relative to it, so that both travel together.

Everybody else has absolute paths. `Store` puts these functions around the methods of each plugin that take or
return paths, so that plugins keep what they are given.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from imgrec.kinds.store import Batch, Failure, Record, Store

    Row = TypeVar("Row", Record, Failure)

ABSOLUTE, RELATIVE = "absolute", "relative"

NOTE = "paths"
"""The metadata name under which a store notes that its paths are relative. It is the store's own, never copied."""


def kept(path: str, folder: str) -> str:
    """An absolute path relative to a folder; as it is if it is not below, or `whole` would not bring it back.

    >>> kept("/disk/photos/a.jpg", "/disk"), kept("/disk2/a.jpg", "/disk"), kept("s3://photos/a.jpg", "/")
    ('photos/a.jpg', '/disk2/a.jpg', 's3://photos/a.jpg')
    """
    start = os.path.join(folder, "")
    rest = path[len(start) :] if path.startswith(start) else ""
    return rest if rest and not _is_whole(rest) and ".." not in Path(rest).parts else path


def whole(path: str, folder: str) -> str:
    """What `kept` has made, as an absolute path again.

    >>> whole("photos/a.jpg", "/mnt/disk"), whole("/elsewhere/a.jpg", "/mnt/disk")
    ('/mnt/disk/photos/a.jpg', '/elsewhere/a.jpg')
    """
    return path if _is_whole(path) else os.path.join(folder, path)


def _is_whole(path: str) -> bool:
    return os.path.isabs(path) or "://" in path  # noqa: PTH117 - called for every path


# --- around the methods of stores ---------------------------------------------------------------------------


def _writing(method: Callable[[Store, Batch], None]) -> Callable[[Store, Batch], None]:
    @functools.wraps(method)
    def write(store: Store, batch: Batch) -> None:
        if batch and store.folder is not None:
            with store.writing():  # nobody converts it meanwhile
                method(store, _kept_batch(batch, store, store.folder))
        else:
            method(store, batch)

    return write


def _kept_batch(batch: Batch, store: Store, folder: str) -> Batch:
    """A batch as the store keeps it. What it forgets is kept in the old way, if it changes the way."""
    before = store.keeps
    after = batch.metadata[NOTE] or ABSOLUTE if NOTE in batch.metadata else before
    if (before, after) == (ABSOLUTE, ABSOLUTE):
        return batch
    old, new = (functools.partial(kept, folder=folder) if each == RELATIVE else str for each in (before, after))
    return replace(
        batch,
        records=[replace(row, path=new(row.path)) for row in batch.records],
        failures=[replace(row, path=new(row.path)) for row in batch.failures],
        forgotten=[old(path) for path in batch.forgotten],
        dismissed=[new(path) for path in batch.dismissed],
    )


def _asked(store: Store, paths: Sequence[str] | None) -> Sequence[str] | None:
    if paths is None or store.folder is None or store.keeps == ABSOLUTE:
        return paths
    return [kept(path, store.folder) for path in paths]


def _reading(method: Callable[..., Iterator[Row]]) -> Callable[..., Iterator[Row]]:
    @functools.wraps(method)
    def read(store: Store, *, paths: Sequence[str] | None = None, **others: Any) -> Iterator[Row]:
        found = method(store, paths=_asked(store, paths), **others)
        folder = store.folder
        return found if folder is None else (_whole_row(row, folder) for row in found)

    return read


def _whole_row(row: Row, folder: str) -> Row:
    return row if _is_whole(row.path) else replace(row, path=whole(row.path, folder))


def _listing(method: Callable[..., set[str]]) -> Callable[..., set[str]]:
    @functools.wraps(method)
    def listed(store: Store, *, paths: Sequence[str] | None = None) -> set[str]:
        found, folder = method(store, paths=_asked(store, paths)), store.folder
        return found if folder is None else {whole(path, folder) for path in found}

    return listed


AROUND: dict[str, Callable[[Any], Any]] = {
    "write": _writing,
    "records": _reading,
    "failures": _reading,
    "dismissed": _listing,
}
"""What is put around a method of a store, by its name."""
