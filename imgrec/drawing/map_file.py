"""Map files: the points of a map as a page draws them, and which image each of them is.

A map file is a folder:

| file | what it has |
| --- | --- |
| `about.json` | see `MapFile.about` |
| `positions.gz` | x and y of each point, `packed` |
| `labels.gz` | the number of each point's label, `packed` |
| `items.sqlite` | the digest and path of each point |
| `reducer.npz` | the state of a reducer that places new images at once |

Coordinates are from 0 to `GRID`, at one scale for both axes. A point's row is its only name. Rows are in blocks of
`BLOCK`, each a random sample of all images, so that the first blocks are a smaller map of the same look; within a
block they are in Morton order (G. Morton, 1966), in which neighbours follow each other, and so compress well.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import logging
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from imgrec import registry
from imgrec.drawing.map import Map
from imgrec.drawing.visualise import map_of
from imgrec.gallery import placing
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.placing import Place
from imgrec.gallery.query import Resolved
from imgrec.kinds import Doubles, Reducer, Store
from imgrec.search import files

log = logging.getLogger(__name__)

FORMAT = 1
"""The version of map files."""

GRID = 65_535
"""The largest coordinate."""

BLOCK = 16_384
"""Points in a block."""

SHORT = 16
"""Characters of a fingerprint in the name of a folder."""

MOST_LABELS = 65_536
"""How many labels have a number: the rarest of more share the last one."""

Numbers = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Points:
    """The points of a map in the order of its file."""

    rows: npt.NDArray[np.intp]
    """`(n,)`: which image of the map each point is."""

    positions: Numbers
    """`(n, 2)`."""

    labels: Numbers
    """`(n,)`."""

    about: dict[str, Any]
    """What a page has to know of them; JSON data, see `MapFile.about`."""


def points_of(drawn: Map) -> Points:
    """A map's points on the grid, in the order of a map file; always the same for the same map."""
    positions = drawn.positions.astype(np.float64)
    low, high = positions.min(axis=0), positions.max(axis=0)
    side = max(float((high - low).max()), 1e-9)
    corner = (low + high - side) / 2
    grid = np.round((positions - corner) / side * GRID).astype(np.uint16)
    counts = sorted(Counter(drawn.labels).items(), key=lambda each: (-each[1], each[0]))
    if len(counts) > MOST_LABELS:
        rare = counts[MOST_LABELS - 1 :]
        counts[MOST_LABELS - 1 :] = [(f"{len(rare):,} others", sum(count for _, count in rare))]
        number_of = dict.fromkeys([label for label, _ in rare], MOST_LABELS - 1)
    else:
        number_of = {}
    number_of |= {label: number for number, (label, _) in enumerate(counts)}
    numbers = np.array([number_of[label] for label in drawn.labels], np.uint16)
    rows = np.random.default_rng(0).permutation(len(grid))
    rows = rows[np.lexsort((_morton(grid[rows]), np.arange(len(rows)) // BLOCK))]
    about = {
        "title": drawn.title,
        "count": len(rows),
        "block": BLOCK,
        "frame": [*corner.tolist(), side],
        "labels": [[label, count] for label, count in counts],
        "rest": number_of.get(drawn.rest) if drawn.rest is not None else None,
    }
    return Points(rows, grid[rows], numbers[rows], about)


def _morton(grid: Numbers) -> npt.NDArray[np.uint32]:
    """The bits of x and y in turns, `(n,)`: points in this order are near to the ones before them."""
    spread = grid.astype(np.uint32)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        spread = (spread | spread << np.uint32(shift)) & np.uint32(mask)
    return spread[:, 0] | spread[:, 1] << np.uint32(1)


def packed(values: Numbers) -> bytes:
    """Values `(n,)` or `(n, columns)`, gzipped: for each block and column all low bytes, then all high bytes."""
    columns = values.reshape(len(values), -1).astype("<u2")
    split = columns.view(np.uint8).reshape(*columns.shape, 2)
    blocks = (split[start : start + BLOCK] for start in range(0, len(split), BLOCK))
    return gzip.compress(b"".join(block.transpose(1, 2, 0).tobytes() for block in blocks), 6, mtime=0)


def unpacked(data: bytes, columns: int) -> Numbers:
    """The values `(n, columns)` that were `packed`.

    >>> unpacked(packed(np.array([[1, 700], [2, 65_535]], np.uint16)), 2).tolist()
    [[1, 700], [2, 65535]]
    """
    split = np.frombuffer(gzip.decompress(data), np.uint8)
    size = BLOCK * columns * 2
    blocks = [split[start : start + size].reshape(columns, 2, -1) for start in range(0, len(split), size)]
    merged = np.concatenate([np.zeros((0, columns, 2), np.uint8), *(each.transpose(2, 0, 1) for each in blocks)])
    return np.ascontiguousarray(merged).view("<u2")[..., 0]


class Item(NamedTuple):
    """The image that a point is."""

    row: int
    path: str
    digest: str
    label: str


class MapFile:
    """A map of a whole gallery, opened; it stays usable when a later one takes its place.

    Args:
        folder: that of the map file.

    Raises:
        FileNotFoundError: there is none, or not all of it.
        Exception: of any kind, it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.about: Mapping[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        """JSON data: `format`, `title`, `reducer`, `options`, `space`, `fingerprint`, `count`
        (of points), `block` (see `BLOCK`), `labels` (`[name, count]` by number, the most frequent first), `rest`
        (the number of the label that is background, or null), and `frame`: `[left, bottom, side]` in the units of
        the reducer, so that x is `left + side * grid / 65535`."""
        self.packed_positions = (folder / "positions.gz").read_bytes()
        self.packed_labels = (folder / "labels.gz").read_bytes()
        if self.about["format"] != FORMAT or not len(self.positions) == len(self.labels) == self.about["count"]:
            raise ValueError("it is of another version, or not whole")
        self._state = None
        if (state := folder / "reducer.npz").exists():
            with state.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self._state = dict(arrays)
        location = f"{(folder / 'items.sqlite').absolute().as_uri()}?mode=ro&immutable=1"
        self._items = sqlite3.connect(location, uri=True, check_same_thread=False)
        self._lock = threading.Lock()
        if self._ask("SELECT count(*) FROM items")[0][0] != self.about["count"]:
            raise ValueError("it is not whole")

    @functools.cached_property
    def positions(self) -> Numbers:
        """`(n, 2)`, from 0 to `GRID`."""
        return unpacked(self.packed_positions, 2)

    @functools.cached_property
    def labels(self) -> Numbers:
        """`(n,)`: the number of each point's label."""
        return unpacked(self.packed_labels, 1)[:, 0]

    # --- which images its points are ------------------------------------------------------------------------

    def items(self, rows: Iterable[int]) -> list[Item]:
        """The images of some rows, in their order; rows that it has not are left out."""
        wanted = list(rows)
        names = [name for name, _ in self.about["labels"]]
        asked = "SELECT row, path, digest FROM items WHERE row IN (SELECT value FROM json_each(?))"
        found = {
            row: Item(row, _text(path), digest, names[self.labels[row]])
            for row, path, digest in self._ask(asked, json.dumps(wanted))
        }
        return [found[row] for row in wanted if row in found]

    def rows_of(self, paths: Iterable[str]) -> dict[str, int]:
        """The rows of some files; those that are not on the map are left out."""
        found = {path: self._ask("SELECT row FROM items WHERE path = ?", _bytes(path)) for path in paths}
        return {path: rows[0][0] for path, rows in found.items() if rows}

    def rows_with(self, digest: str) -> list[int]:
        """The rows of all files of a content."""
        return [row for (row,) in self._ask("SELECT row FROM items WHERE digest = ?", digest)]

    def positions_for(self, other: MapFile) -> Numbers:
        """The positions in the rows of another map of the same files, `(n, 2)`: for moving from one to the other.

        Raises:
            ValueError: it is of other files.
        """
        if self.about["fingerprint"] != other.about["fingerprint"]:
            raise ValueError("these are maps of different files")
        by_path = "SELECT row FROM items ORDER BY path"
        own, others = (
            np.fromiter((row for (row,) in each._ask(by_path)), np.intp, len(each.labels))
            for each in (self, other)
        )
        found = np.empty_like(self.positions)
        found[others] = self.positions[own]
        return found

    def _ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._items.execute(question, values).fetchall()

    # --- where a query is -----------------------------------------------------------------------------------

    def place(self, gallery: Gallery, query: Resolved) -> Place:
        """Where a query is on the map, in units of the grid; it may be beyond its edges.

        A picture of the gallery is at its own point. Others are placed by the reducer where that is quick, else by
        their nearest neighbours, see `placing.by_neighbours`.

        Args:
            gallery: the map's.
            query: resolved in it.

        Raises:
            UsageError: the query's vectors are not those of the gallery.
        """
        if len(query.digests) == 1 and not query.unlike and (rows := self.rows_with(*query.digests)):
            x, y = self.positions[rows[0]].tolist()
            return Place(x, y)
        if self._state is not None:
            vectors = gallery.side_by_side(gallery.targets([query]))
            if query.variants:  # the pictures as they are, not turned or cropped
                vectors = vectors[[name == query.variants[0] for name in query.variants]]
            placed = self._reducer.transform(vectors).mean(axis=0)
            left, bottom, side = self.about["frame"]
            x, y = (np.subtract(placed, (left, bottom), dtype=np.float64) / side * GRID).round(3).tolist()
            return Place(x, y)
        return self.by_neighbours(gallery, query)

    def by_neighbours(self, gallery: Gallery, query: Resolved) -> Place:
        """Where a query's nearest neighbours say that it is; see `place`."""
        (matches,) = gallery.search([query], placing.NEIGHBOURS)
        rows_of = self.rows_of(match.path for match in matches)
        on_map = [(rows_of[match.path], match.distance) for match in matches if match.path in rows_of]
        if not on_map:  # all that is near has come since the map was made
            return Place(GRID / 2, GRID / 2, GRID / 2, is_estimated=True)
        found, distances = (np.array(each) for each in zip(*on_map, strict=True))
        return placing.by_neighbours(self.positions[found].astype(np.float64), cast("Doubles", distances))

    @functools.cached_property
    def _reducer(self) -> Reducer:
        made: Reducer = registry.build("reducer", self.about["reducer"], **self.about["options"])
        return made.restore(self._state or {})


# --- where they are kept ------------------------------------------------------------------------------------


class _Home(NamedTuple):
    """Where the map of a gallery by a reducer is kept."""

    fingerprint: str
    """Of the gallery's files."""

    folder: Path | None
    """None if it is not kept."""

    @classmethod
    def of(cls, gallery: Gallery, reducer: Reducer) -> _Home:
        made_from = {name: about for name, about in gallery.about().items() if name != "index"}
        key = json.dumps([FORMAT, made_from, reducer.plain_options()], sort_keys=True)
        name = f"{gallery.key}+{reducer.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        fingerprint = _fingerprint((record.path, record.digest) for record in gallery.records)
        cache = gallery.cache_folder
        is_kept = cache is not None and gallery.revisions is not None
        return cls(fingerprint, cache / "maps" / name / fingerprint[:SHORT] if cache and is_kept else None)


def _fingerprint(files: Iterable[tuple[str, str]]) -> str:
    """Identifies files, each its path and digest, in the order of paths."""
    digest = hashlib.sha256()
    for path, content in files:
        digest.update(_bytes(f"{content} {path}\0"))
    return digest.hexdigest()


def kept(gallery: Gallery, reducer: Reducer) -> MapFile | None:
    """The map of a gallery by a reducer, if one of these very files is kept."""
    return _read(_Home.of(gallery, reducer).folder)


def opened(gallery: Gallery, reducer: Reducer) -> MapFile:
    """The map of a gallery by a reducer: the one that is kept, or one that is made now, which may take long.

    Args:
        gallery: open.
        reducer: to 2 dimensions; not fitted yet. Its `progress` tells how far it is.

    Raises:
        UsageError: the reducer cannot make a map of this gallery.
    """
    return kept(gallery, reducer) or keep(gallery, reducer, map_of(gallery, reducer, "folder", None, None, 0))


def keep(gallery: Gallery, reducer: Reducer, drawn: Map) -> MapFile:
    """Keep a map in the store's cache, in place of that of an earlier state of the gallery.

    Where there is no cache, or no room, its files are temporary.

    Args:
        gallery: open.
        reducer: that made the map.
        drawn: the map of all images of the gallery, labelled by folder.
    """
    home = _Home.of(gallery, reducer)
    about = {
        "format": FORMAT,
        "reducer": reducer.name,
        "options": reducer.plain_options(),
        "space": gallery.key,
        "fingerprint": home.fingerprint,
    }
    if home.folder is not None:
        with contextlib.suppress(OSError):  # the disk may be full or read-only
            with files.put_in_place(home.folder) as aside:
                _write(aside, gallery, reducer, drawn, about)
            files.clear_others(home.folder)
            return MapFile(home.folder)
    with tempfile.TemporaryDirectory(prefix="imgrec-map-", ignore_cleanup_errors=True) as name:
        _write(Path(name), gallery, reducer, drawn, about)
        return MapFile(Path(name))


def _write(folder: Path, gallery: Gallery, reducer: Reducer, drawn: Map, about: Mapping[str, Any]) -> None:
    points = points_of(drawn)
    (folder / "about.json").write_text(json.dumps({**about, **points.about}), encoding="utf-8")
    (folder / "positions.gz").write_bytes(packed(points.positions))
    (folder / "labels.gz").write_bytes(packed(points.labels))
    records = gallery.records
    with contextlib.closing(sqlite3.connect(folder / "items.sqlite")) as items, items:
        items.execute("PRAGMA journal_mode = OFF")
        items.execute("CREATE TABLE items (row INTEGER PRIMARY KEY, digest TEXT NOT NULL, path BLOB NOT NULL)")
        items.executemany(
            "INSERT INTO items VALUES (?, ?, ?)",
            (
                (row, records[image].digest, _bytes(records[image].path))
                for row, image in enumerate(points.rows.tolist())
            ),
        )
        items.execute("CREATE INDEX by_path ON items (path)")
        items.execute("CREATE INDEX by_digest ON items (digest)")
    if reducer.is_quick:
        state: dict[str, Any] = reducer.state()
        np.savez(folder / "reducer.npz", **state)


def _read(folder: Path | None) -> MapFile | None:
    if folder is None:
        return None
    try:
        return MapFile(folder)
    except FileNotFoundError:
        return None
    except Exception as error:  # zip, gzip, NumPy, JSON and SQLite raise anything on damaged files
        log.warning("the map in %s is made anew: %s", folder, error)
        return None


# --- checking ---------------------------------------------------------------------------------------------------


def check(store: Store) -> Iterator[tuple[Path, str | None]]:
    """Each folder where a map of a store is kept, and what is wrong with it, if anything.

    One of an earlier state of the gallery is sound: it goes when that map is made anew.
    """
    for folder in sorted(store.cache_folder.glob("maps/*/[!.]*/")) if store.cache_folder else ():
        yield folder, _problem(folder)


def _problem(folder: Path) -> str | None:
    try:
        found = MapFile(folder)
        labels = np.bincount(found.labels, minlength=len(found.about["labels"]))
        if labels.tolist() != [count for _, count in found.about["labels"]]:
            return "its points have other labels than it says"
        files = sorted((_text(path), digest) for path, digest in found._ask("SELECT path, digest FROM items"))
        fingerprint = found.about["fingerprint"]
        if fingerprint != _fingerprint(files) or folder.name != fingerprint[:SHORT]:
            return "it is of other files than it says"
        if found._ask("SELECT min(row), max(row) FROM items") != [(0, len(files) - 1)]:
            return "its points have other numbers than its images"
    except Exception as error:  # see `_read`
        return f"{type(error).__name__}: {error}"
    return None


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
