"""Small pictures by the thousand, changes to them, and what it means that two galleries are equal."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
import numpy.typing as npt

import imgrec

SIDE = 16


@dataclass
class Content:
    """What a store holds of files that are there, apart from when a failure was seen."""

    records: dict[str, tuple[str, int, int]]
    """Digest, size and time of change by path."""

    failures: dict[str, tuple[str, int, int]]
    """Reason, size and time of change by path."""

    vectors: dict[str, dict[str, npt.NDArray[np.float32]]]
    """By space and digest."""

    missing: set[str]
    """The paths recorded as missing."""


def content(store: imgrec.Store) -> Content:
    """What a store holds, open or not."""
    with store:
        records = list(store.records())
        there = {record.digest for record in records if not record.missing}
        return Content(
            {r.path: (r.digest, r.size, r.mtime_ns) for r in records if not r.missing},
            {f.path: (f.reason, f.size, f.mtime_ns) for f in store.failures()},
            {
                space.key: {name: row for name, row in zip(*store.vectors(space), strict=True) if name in there}
                for space in store.spaces()
            },
            {record.path for record in records if record.missing},
        )


def check_equal(found: Content, wanted: Content) -> None:
    """Records, failures and spaces are the same, vectors to 1e-5."""
    for name in ("records", "failures"):
        a, b = getattr(found, name), getattr(wanted, name)
        wrong = sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))
        assert not wrong, f"{len(wrong)} {name}: {wrong[0]}: {a.get(wrong[0])}, not {b.get(wrong[0])}"
    check_contained(found, wanted)
    for key, rows in wanted.vectors.items():
        assert found.vectors.get(key, {}).keys() == rows.keys(), f"contents of {key}"


def check_contained(part: Content, whole: Content) -> None:
    """What there is of one is as in the other, and no image is without its vector."""
    digests = {digest for digest, _, _ in part.records.values()}
    for key, rows in part.vectors.items():
        assert rows.keys() == digests, f"{len(digests - rows.keys())} images without a vector"
        names = sorted(rows.keys() & whole.vectors[key].keys())
        if names:
            mine, theirs = (np.stack([some[name] for name in names]) for some in (rows, whole.vectors[key]))
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


def check_database(path: Path) -> None:
    """SQLite finds nothing wrong with it."""
    if path.exists():
        db = sqlite3.connect(path)
        found = db.execute("PRAGMA integrity_check").fetchall()
        db.close()
        assert found == [("ok",)], found


def check_csv(folder: Path) -> None:
    """Every file is whole for whoever reads it: lines as long as the header, the last one ended."""
    for file in folder.glob("[0-9]*/*.csv"):
        with file.open(newline="", encoding="utf-8") as lines:
            lengths = {len(row) for row in csv.reader(lines)}
        assert len(lengths) == 1, f"rows of {file} have {lengths} values"
        assert file.read_bytes().endswith(b"\n"), f"the last line of {file.name} is torn"


def answers(store: imgrec.Store, queries: Sequence[str | Path]) -> list[list[tuple[str, float]]]:
    """What is recommended for some pictures: paths, and distances to 1e-5."""
    return [
        [(match.path, round(match.distance, 5)) for match in imgrec.recommend(query, store, k=5)]
        for query in queries
    ]


class Pictures:
    """A folder of small pictures that all differ, and what may happen to them."""

    def __init__(self, folder: Path, count: int, seed: int = 0) -> None:
        self.folder, self.random, self._made = folder, Random(seed), 0
        self.paths: list[Path] = []
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """One more."""
        suffix = self.random.choice((".png", ".jpg", ".bmp"))
        path = self.folder / f"{self._made % 50:02}" / f"{self._made:06}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._draw(path)
        self.paths.append(path)

    def change(self, count: int) -> None:
        """So many things happen, of every kind."""
        kinds: list[Callable[[], None]]
        kinds = [self.add, self._edit, self._rename, self._delete, self._corrupt, self._copy]
        for i in range(count):
            kinds[i % len(kinds)]()

    def _draw(self, path: Path) -> None:
        values = np.random.default_rng((self.random.getrandbits(32), self._made))
        self._made += 1
        colours = values.integers(0, 256, (2, 2, 3), np.uint8)
        picture = cv2.resize(colours, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())

    def _any(self) -> int:
        return self.random.randrange(len(self.paths))

    def _edit(self) -> None:
        self._draw(self.paths[self._any()])

    def _rename(self) -> None:
        i = self._any()
        self._made += 1
        new = self.paths[i].with_name(f"renamed-{self._made:06}{self.paths[i].suffix}")
        self.paths[i] = self.paths[i].rename(new)

    def _delete(self) -> None:
        self.paths.pop(self._any()).unlink()

    def _corrupt(self) -> None:
        path = self.paths[self._any()]
        path.write_bytes(path.read_bytes()[: self.random.randrange(60)])

    def _copy(self) -> None:
        path = self.paths[self._any()]
        self._made += 1
        copy = path.with_name(f"copy-{self._made:06}{path.suffix}")
        copy.write_bytes(path.read_bytes())
        self.paths.append(copy)


def whole_queries(pictures: Pictures, count: int, held: Content) -> list[Path]:
    """Pictures to ask with: some of those that could be read."""
    there = [path for path in pictures.paths if os.fspath(path) in held.records]
    return pictures.random.sample(there, count)
