"""A gallery that follows a folder through many changes is after each round as one that is built from nothing."""

from __future__ import annotations

import itertools
import logging
import tempfile
from pathlib import Path

import imgrec
from soak.galleries import Pictures, answers, check_csv, check_database, check_equal, content, whole_queries


def run(images: int = 20_000, rounds: int = 50, changes: int = 600, seed: int = 0) -> str:
    """Add, edit, rename, delete, corrupt and copy so many in each round, ingest, and compare.

    Each second ingest forgets what is missing.
    """
    logging.getLogger("imgrec").setLevel(logging.ERROR)  # each file that cannot be read would be a line
    with tempfile.TemporaryDirectory() as folder:
        follow(Path(folder), images, rounds, changes, seed)
    return f"{rounds} rounds of {changes} changes to {images:,} images, each time equal to a gallery from nothing"


def follow(folder: Path, images: int, rounds: int, changes: int, seed: int = 0) -> None:
    """Compare after each round."""
    pictures = Pictures(folder / "pictures", images, seed)
    extractor = imgrec.build("extractor", "colour", bins=3)
    backup = imgrec.build("store", "csv", path=str(folder / "backup"))
    followed, *anew = (
        imgrec.build("store", "sqlite", path=str(folder / f"{i}.sqlite")) for i in range(1 + rounds)
    )
    imgrec.ingest(pictures.folder, extractor, followed, backup)
    for fresh, prune in zip(anew, itertools.cycle((False, True)), strict=False):
        pictures.change(changes)
        seen = imgrec.ingest(pictures.folder, extractor, followed, backup, prune=prune)
        imgrec.ingest(pictures.folder, extractor, fresh)
        found, wanted = content(followed), content(fresh)
        check_equal(found, wanted)
        assert not (found.missing if prune else {path for path in found.missing if Path(path).exists()})
        assert seen.extracted <= changes, f"{seen} after {changes} changes"
        queries = whole_queries(pictures, 5, wanted)
        assert answers(followed, queries) == answers(fresh, queries)
        check_database(Path(followed.location))
        Path(fresh.location).unlink()
    check_equal(content(backup), content(followed))
    check_csv(Path(backup.location))
