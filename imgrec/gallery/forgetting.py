"""Forgetting on purpose: images whose files stay, and spaces."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Sequence, Set

from imgrec import images
from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.gallery import recorded
from imgrec.kinds import Batch, Space, Store


def forget_images(store: Store, patterns: Sequence[str], *, force: bool = False) -> list[str]:
    """Forget images, and files that failed, on purpose: their files stay, and ingests pass them over.

    Args:
        store: filled by `ingest`.
        patterns: of paths, such as `*/hat/*`; or a folder or file.
        force: also more than half of the gallery.

    Returns:
        The paths, sorted; those that were forgotten before included.

    Raises:
        UsageError: a pattern matches nothing, or this is more than half of the gallery and `force` is not set.
    """
    with store.writing(), store:
        records = [record.path for record in store.records()]
        known = [*records, *(failure.path for failure in store.failures()), *sorted(store.dismissed())]
        found: set[str] = set()
        for pattern in patterns:
            absolute = images.absolute(pattern)
            if not (matching := _matching({pattern, absolute, store.named(absolute)}, known)):
                example = f", such as {known[0]}" if known else ""
                raise UsageError(
                    f"{pattern} matches none of the {len(known):,} files of {store.location}{example}"
                )
            found.update(matching)
        if 2 * len(found.intersection(records)) > len(records) and not force:
            raise UsageError(
                f"these are {len(found):,} files, more than half of the gallery: force=true forgets them"
            )
        for paths in chunks(sorted(found), 4096):
            store.write(Batch(dismissed=paths))
    return sorted(found)


def _matching(patterns: Set[str], paths: Sequence[str]) -> list[str]:
    return [
        path
        for path in paths
        if any(fnmatch.fnmatchcase(path, each) for each in patterns) or images.is_inside(path, patterns)
    ]


def forget_similarity(store: Store, wanted: str) -> tuple[str, list[Space]]:
    """Remove a space from a store, or a fusion with those of its spaces that no other fusion has.

    Args:
        store: filled by `ingest`.
        wanted: its key or the beginning of it, or one of the names that `recorded.named` knows.

    Returns:
        The key of what was removed, and the spaces whose vectors went.

    Raises:
        UsageError: none or several are meant; a fusion needs the space; or nothing to compare by would be left.
    """
    with store.writing(), store:
        key, fusions = recorded.named(store, wanted), recorded.fusion_specs(store)
        parts = set(fusions[key]["spaces"].values()) if key in fusions else {key}
        others = {name: set(spec["spaces"].values()) for name, spec in fusions.items() if name != key}
        if users := [name for name, spaces in others.items() if key in spaces]:
            raise UsageError(f"{key} is a part of {users[0]}: forget space={users[0]} first")
        gone = [space for space in store.spaces() if space.key in parts.difference(*others.values())]
        if len(gone) == len(store.spaces()):
            raise UsageError(f"{key} is all that {store.location} has to compare images by: ingest another first")
        store.write(Batch(metadata={key: None} if key in fusions else {}))
        for space in gone:
            store.drop(space)
            if (cache := store.cache_folder) is not None:
                for folder in [*cache.glob(f"{space.key}*"), *cache.glob(f"*/{space.key}*")]:
                    shutil.rmtree(folder, ignore_errors=True)
        if recorded.DEFAULT in store.metadata():  # it may be what went
            store.write(Batch(metadata={recorded.DEFAULT: recorded.default_key(store)}))
    return key, gone
