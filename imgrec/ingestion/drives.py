"""On which drive a source is: that one is unplugged must not look as if its pictures had been deleted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgrec import images
from imgrec.kinds import Store

FILESYSTEMS = "filesystems"
"""The metadata name under which a store records on which filesystem each source was."""


def may_be_away(store: Store, root: str) -> bool:
    """Whether the drive that a root was on may be unplugged: another one is in its place, or none is recorded."""
    if "://" in root:  # its source knows for certain what is gone
        return False
    recorded = _recorded(_filesystems(store), root)
    return images.state(root) is None if recorded is None else recorded != images.filesystem(root)


def changes(store: Store, roots: Sequence[str]) -> dict[str, Any]:
    """The metadata to write once roots have been ingested; empty if they are where they were.

    A root of which something is missing keeps the drive that is recorded: this one may be another.
    """
    known = _filesystems(store)
    here = {root: images.filesystem(root) for root in roots if "://" not in root}
    new = {root: found for root, found in here.items() if found and found != _recorded(known, root)}
    if new:
        for record in store.records():
            for root in [root for root in new if record.missing and images.is_inside(record.path, {root})]:
                del new[root]
    # A file alone says where its folder is, so that a thousand of them take one line.
    new = {root if Path(root).is_dir() else os.path.split(root)[0]: found for root, found in new.items()}
    return {FILESYSTEMS: {**known, **new}} if new else {}


def _filesystems(store: Store) -> Mapping[str, Any]:
    found = store.metadata().get(FILESYSTEMS)
    return found if isinstance(found, Mapping) else {}


def _recorded(known: Mapping[str, Any], path: str) -> Any:
    """What is recorded of a path, or else of the nearest folder that it is in."""
    return next((known[each] for each in map(str, (path, *Path(path).parents)) if each in known), None)
