"""Ingests killed at random moments: what they leave is whole, and in the end all is as if nothing had been."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import imgrec
from soak.galleries import (
    Content,
    Pictures,
    answers,
    check_contained,
    check_csv,
    check_database,
    check_equal,
    content,
    whole_queries,
)

BATCH = 4
MOST_A_GALLERY = 5
"""Kills, before one is let live to its end."""

INGEST = f"""
import sys, imgrec
source, store, backup = sys.argv[1:]
print("begun", flush=True)
imgrec.ingest(
    source,
    imgrec.build("extractor", "colour"),
    imgrec.build("store", "sqlite", path=store),
    imgrec.build("store", "csv", path=backup),
    batch_size={BATCH},
)
"""


def run(kills: int = 100, images: int = 300, seed: int = 0) -> str:
    """Kill so many ingests of new folders, and of folders that have changed."""
    with tempfile.TemporaryDirectory() as folder:
        lives = kill_many(Path(folder), kills, images, seed)
    return f"{kills} ingests of {images} images killed, {lives} galleries equal to uninterrupted ones"


def kill_many(folder: Path, kills: int, images: int, seed: int = 0) -> int:
    """How many galleries came to their end; each second one is of a folder that changes under an old gallery."""
    random, killed, lives = Random(seed), 0, 0
    while killed < kills:
        pictures = Pictures(folder / str(lives), images, seed + lives)
        begun = _Gallery(pictures, folder / f"{lives}-whole")
        seconds = begun.ingest()
        for is_changed in (False, True):
            if is_changed:
                interrupted = begun.copy(folder / f"{lives}-changed")
                pictures.change(images // 2)
                seconds = begun.ingest()
            else:
                interrupted = _Gallery(pictures, folder / f"{lives}-new")
            most = min(MOST_A_GALLERY, kills - killed)
            killed += interrupted.ingest_killed(most, seconds, random, begun.content())
            interrupted.check_like(begun)
        lives += 1
    return 2 * lives


class _Gallery:
    """A store of some pictures, and its backup."""

    def __init__(self, pictures: Pictures, folder: Path) -> None:
        self.pictures, self.folder = pictures, folder
        self.database, self.backup = folder / "gallery.sqlite", folder / "backup"

    def copy(self, folder: Path) -> _Gallery:
        shutil.copytree(self.folder, folder)
        return _Gallery(self.pictures, folder)

    def _begin(self) -> subprocess.Popen[str]:
        places = map(str, (self.pictures.folder, self.database, self.backup))
        process = subprocess.Popen([sys.executable, "-c", INGEST, *places], stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.PIPE)  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    def ingest(self) -> float:
        """The seconds that it takes."""
        with self._begin() as process:
            start = time.monotonic()
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return time.monotonic() - start

    def ingest_killed(self, most: int, seconds: float, random: Random, whole: Content) -> int:
        """Until it is through, killed at most so many times at any moment; how many times it was."""
        killed = 0
        while killed < most:
            with self._begin() as process:
                # Early more than late, so that the moments of the first batches have their turn.
                time.sleep(seconds * random.random() ** 2)
                process.kill()
                _, errors = process.communicate()
            if process.returncode == 0:
                return killed
            assert process.returncode < 0, errors
            killed += 1
            self._check_left(whole)
        self.ingest()
        return killed

    def _check_left(self, whole: Content) -> None:
        """What a killed run left is whole as far as it goes."""
        check_database(self.database)
        for store in self.stores():
            try:
                check_contained(content(store), whole)
            except imgrec.errors.NoStoreError:  # it had not come so far
                continue

    def check_like(self, other: _Gallery) -> None:
        check_database(self.database)
        check_csv(self.backup)
        wanted = other.content()
        for store in self.stores():
            found = content(store)
            check_equal(found, wanted)
            assert found.missing == wanted.missing
        queries = whole_queries(self.pictures, 5, wanted)
        for mine, theirs in zip(self.stores(), other.stores(), strict=True):
            assert answers(mine, queries) == answers(theirs, queries)
        assert not list(self.folder.glob("*.lock"))

    def content(self) -> Content:
        return content(self.stores()[0])

    def stores(self) -> list[imgrec.Store]:
        return [
            imgrec.build("store", "sqlite", path=str(self.database)),
            imgrec.build("store", "csv", path=str(self.backup)),
        ]
