"""Duplicates: the groups of images of a gallery that are copies of each other, and which one of each to keep."""

from __future__ import annotations

import hashlib
import io
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgrec import images
from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.gallery.gallery import Gallery, opened
from imgrec.gallery.narrowing import filter_of
from imgrec.gallery.nearness import altered, near_copies
from imgrec.gallery.preference import Preference
from imgrec.gallery.results import Filter
from imgrec.kinds import Doubles, Image, Record, Store
from imgrec.kinds.component import Progress, no_progress
from imgrec.kinds.extractor import are_equal
from imgrec.search import exact
from imgrec.search.exact import Mask
from imgrec.search.pruning import Rows
from imgrec.threads import each

log = logging.getLogger(__name__)

MOST_PAIRS = 5_000_000
"""More pairs than these are refused: they would fill the memory, and nobody looks through them."""

TURNED_AT_ONCE = 32
"""Images whose turned copies are extracted together."""

AUTO = "auto"

NEAR, BYTES, PIXELS, MIRRORED, ROTATED, BOTH = (
    "near",
    "equal bytes",
    "equal pixels",
    "mirrored",
    "rotated",
    "mirrored and rotated",
)

TURNS: Sequence[tuple[str, Callable[[Image], Image]]] = (
    (MIRRORED, np.fliplr),
    (ROTATED, np.rot90),
    (ROTATED, lambda image: np.rot90(image, 2)),
    (ROTATED, lambda image: np.rot90(image, 3)),
    (BOTH, lambda image: np.rot90(np.fliplr(image))),
    (BOTH, lambda image: np.rot90(np.fliplr(image), 2)),
    (BOTH, lambda image: np.rot90(np.fliplr(image), 3)),
)
"""The orientations of an image other than its own, and what leads to each and back."""


@dataclass(frozen=True)
class Duplicate:
    """An image of a group."""

    record: Record
    distance: float
    """From the image to keep."""

    how: str
    """What it is to the image to keep: `equal bytes`, `equal pixels`, `near`, ...; empty for itself."""


@dataclass(frozen=True)
class Group:
    """Images that are copies of the first one, which is the one to keep; the others are nearest first."""

    images: Sequence[Duplicate]
    reason: str
    """Why the first one is to be kept."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "keep": self.images[0].record.path,
            "reason": self.reason,
            "images": [
                {
                    "path": image.record.path,
                    "distance": image.distance,
                    "width": image.record.width,
                    "height": image.record.height,
                    "bytes": image.record.size,
                    "how": image.how,
                }
                for image in self.images
            ],
        }


@dataclass(frozen=True)
class Duplicates:
    """The groups of a gallery, in the order of the paths to keep."""

    distance: float
    reason: str
    """Why it is this distance."""

    groups: Sequence[Group]
    pairs: int
    """How many pairs of contents are within the distance."""

    @property
    def others(self) -> list[str]:
        """The paths that need not be kept, in the order of groups."""
        return [image.record.path for group in self.groups for image in group.images[1:]]

    def _repr_png_(self) -> bytes | None:
        """The groups as a notebook shows them; None if there are none."""
        from imgrec.drawing.groups import draw_groups

        data = io.BytesIO()
        if self.groups:
            draw_groups(self, data)
        return data.getvalue() or None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "distance": self.distance,
            "distance_reason": self.reason,
            "pairs": self.pairs,
            "groups": [group.to_json() for group in self.groups],
        }


def duplicates(store: Store, metric: str | None = None, *, where: Any = None, **options: Any) -> Duplicates:
    """The groups of near-duplicates of a store; nothing is deleted or moved.

    Args:
        store: filled by `ingest`.
        metric: the name of one, such as `cosine` or `hamming`; None: those of a fusion's parts, else Euclidean.
        where: the files that are looked through, a function of a record or options, `{"label": "hat"}`; None: all.
        options: `distance`, `keep`, `turned` and `progress` as `find` has them; `space`, `extractor` and
            `projection` as `imgrec.open`.

    Raises:
        UsageError: as `find` and `imgrec.open`.
    """
    looked = {name: options.pop(name) for name in ("distance", "keep", "turned", "progress") if name in options}
    with opened(store, metric, **options) as gallery:
        return find(gallery, among=where, **looked)


def find(
    gallery: Gallery,
    distance: Any = AUTO,
    *,
    keep: str = "largest",
    turned: bool = False,
    among: Filter | Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
) -> Duplicates:
    """The groups of near-duplicates of a gallery; nothing is deleted or moved.

    All pairs within the distance are found. The images are gone through from the best to keep on: each that is in
    no group yet begins one, of all images within the distance of it that are in none. So no image of a group is
    farther than the distance from the one to keep, and a chain of small steps is not one group.

    Args:
        gallery: open.
        distance: at least 0, images at just this distance are included; `auto`: see `near_copies`.
        keep: `largest` (most pixels, then lossless before lossy, then most bytes), `oldest` (by the time taken,
            else that of the file), `first` (by path), or a pattern of paths, `*/originals/*`: those before others.
        turned: whether to find mirrored and rotated ones too, which extracts each image seven times more.
        among: the files that are looked through; None: all.
        progress: shows progress.

    Raises:
        UsageError: distance is no number from 0 on, so large that there are more than `MOST_PAIRS` pairs, or an
            extractor for turned images cannot be built; no path is like the pattern; no image is left.
    """
    distance = checked_distance(distance)
    among = filter_of(among, "among")
    usable = gallery._allowed(among or (lambda _: True))
    records = [record for record in gallery.records if among is None or among(record)]
    preference = Preference.of(keep, records)
    reason = "asked for"
    if distance is None:
        distance, reason = near_copies(gallery)
    edges = _direct(gallery, distance, usable, progress)
    if turned:
        edges += _turned(gallery, distance, usable, records, progress)
    near = _Neighbours.of(edges, len(usable))
    files: dict[int, list[Record]] = {}
    for record, row in zip(records, gallery._rows_of(records).tolist(), strict=True):
        files.setdefault(row, []).append(record)
    paired = {row for row in files if near.offsets[row] < near.offsets[row + 1] or len(files[row]) > 1}
    preference = preference.among_what_is_there([record for row in paired for record in files[row]])
    for row in paired:
        files[row].sort(key=preference.key)
    grouped = _grouped(files, paired, near, preference)
    equal = _equal_pixels(gallery, grouped, files)
    groups = [_group(members, files, equal, preference) for members in grouped]
    groups.sort(key=lambda group: group.images[0].record.path)
    return Duplicates(distance, reason, groups, near.pairs)


def checked_distance(distance: Any) -> float | None:
    """The distance as a number; None for `auto`.

    Raises:
        UsageError: it is neither `auto` nor a number from 0 on.
    """
    if distance == AUTO:
        return None
    is_number = isinstance(distance, int | float | np.number) and not isinstance(distance, bool)
    if not is_number or not (0 <= distance < math.inf):
        raise UsageError(f"distance is auto or a number from 0 on, not {distance!r}")
    return float(distance)


# --- pairs ------------------------------------------------------------------------------------------------------


class _Edge(NamedTuple):
    """Pairs of one image with others."""

    image: int
    rows: Rows
    distances: Doubles
    how: str


def _direct(gallery: Gallery, distance: float, usable: Mask, progress: Progress) -> list[_Edge]:
    found, count = [], 0
    with progress("comparing", int(usable.sum())) as advance:
        for image, rows, apart in exact.pairs(gallery.fields, distance, usable):
            advance(1)
            if len(rows):
                found.append(_Edge(image, rows, apart, NEAR))
                count = _counted(count + len(rows), distance)
    return found


def _turned(
    gallery: Gallery, distance: float, usable: Mask, records: Sequence[Record], progress: Progress
) -> list[_Edge]:
    """Pairs of which one, mirrored or rotated, is within the distance of the other."""
    paths = {row: record.path for row, record in zip(gallery._rows_of(records).tolist(), records, strict=True)}
    found, count, unread = [], 0, 0

    def turns(data: bytes, side: int | None) -> Sequence[Image]:
        image = images.decode(data, side)
        return [np.ascontiguousarray(turn(image)) for _, turn in TURNS]

    with progress("turning", len(paths)) as advance:
        for some in chunks(sorted(paths), TURNED_AT_ONCE):
            read, queries = altered(gallery, [paths[row] for row in some], turns)
            unread += len(some) - len(read)
            every = exact.within(gallery.fields, queries, distance, usable) if read else []
            by_image = [(some[i], how) for i in read for how, _ in TURNS]
            for (image, how), (rows, apart) in zip(by_image, every, strict=True):
                others = rows != image
                if others.any():
                    found.append(_Edge(image, rows[others], apart[others], how))
                    count = _counted(count + int(others.sum()), distance)
            advance(len(some))
    if unread:
        log.warning("%d of the images cannot be read, and were not turned: ingest again", unread)
    return found


def _counted(count: int, distance: float) -> int:
    if count > MOST_PAIRS:
        raise UsageError(
            f"more than {MOST_PAIRS:,} pairs of images are within distance={distance:g}: take a smaller distance, "
            "or look through a part with among= or folder="
        )
    return count


@dataclass(frozen=True)
class _Neighbours:
    """All pairs, from both sides: each image's neighbours lie between two offsets."""

    offsets: Rows
    others: Rows
    distances: Doubles
    how: npt.NDArray[np.int8]

    HOW = (NEAR, MIRRORED, ROTATED, BOTH)

    @classmethod
    def of(cls, edges: Sequence[_Edge], count: int) -> _Neighbours:
        """Merge pairs; of one that was found several times, the least distance counts."""
        sizes = [len(edge.rows) for edge in edges]
        first = np.repeat(np.array([edge.image for edge in edges], np.intp), sizes)
        second = np.concatenate([np.empty(0, np.intp), *(edge.rows for edge in edges)])
        distances = np.tile(np.concatenate([np.empty(0), *(edge.distances for edge in edges)]), 2)
        how = np.tile(np.repeat(np.array([cls.HOW.index(edge.how) for edge in edges], np.int8), sizes), 2)
        first, second = np.concatenate([first, second]), np.concatenate([second, first])
        order = np.lexsort((how, distances, second, first))
        first, second = first[order], second[order]
        is_least = np.ones(len(order), np.bool_)
        is_least[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        first, order = first[is_least], order[is_least]
        offsets = np.searchsorted(first, np.arange(count + 1))
        return cls(offsets, second[is_least], distances[order], how[order])

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(self.others) // 2

    def near(self, row: int) -> list[tuple[int, float, str]]:
        """The neighbours of an image: rows, distances and what they are to it."""
        some = slice(self.offsets[row], self.offsets[row + 1])
        rows, distances, how = self.others[some].tolist(), self.distances[some].tolist(), self.how[some].tolist()
        return [(row, far, self.HOW[i]) for row, far, i in zip(rows, distances, how, strict=True)]


# --- groups -----------------------------------------------------------------------------------------------------


_Members = list[tuple[int, float, str]]
"""The rows of a group, first the one to keep, with distances from it and what each is to it."""


def _grouped(
    files: Mapping[int, Sequence[Record]], paired: Iterable[int], near: _Neighbours, preference: Preference
) -> list[_Members]:
    grouped: list[_Members] = []
    taken: set[int] = set()
    for row in sorted(paired, key=lambda row: preference.key(files[row][0])):
        if row in taken:
            continue
        members = [(row, 0.0, BYTES), *(each for each in near.near(row) if each[0] not in taken)]
        taken.update(member for member, _, _ in members)
        if len(members) > 1 or len(files[row]) > 1:
            grouped.append(members)
    return grouped


def _group(
    members: _Members, files: Mapping[int, Sequence[Record]], equal: set[tuple[int, int]], preference: Preference
) -> Group:
    first = members[0][0]
    found = [
        Duplicate(record, distance, PIXELS if (first, row) in equal else how)
        for row, distance, how in members
        for record in files[row]
    ]
    kept, others = found[0].record, sorted(found[1:], key=lambda other: (other.distance, other.record.path))
    reason = preference.reason(kept, [other.record for other in others])
    return Group([Duplicate(kept, 0.0, ""), *others], reason)


def _equal_pixels(
    gallery: Gallery, grouped: Sequence[_Members], files: Mapping[int, Sequence[Record]]
) -> set[tuple[int, int]]:
    """Which images have just the pixels of the one to keep: those are decoded whose vectors are equal."""
    pairs = []
    for (first, _, _), *others in grouped:
        some = np.array([row for row, _, how in others if how == NEAR], np.intp)
        alike = np.ones(len(some), np.bool_)
        for field in gallery.fields:
            alike &= are_equal(field.of(some), field.of(np.array([first]))[0])
        size = files[first][0].width, files[first][0].height
        pairs += [
            (first, row)
            for row in some[alike].tolist()
            if None in size or (files[row][0].width, files[row][0].height) == size
        ]
    rows = sorted({row for pair in pairs for row in pair})
    seen = dict(zip(rows, each(lambda row: _pixels(files[row][0].path), rows), strict=True))
    return {(one, other) for one, other in pairs if seen[one] is not None and seen[one] == seen[other]}


def _pixels(path: str) -> tuple[tuple[int, ...], bytes] | None:
    """The shape and a digest of an image's pixels; None if it cannot be read."""
    try:
        data, _ = images.read(path)
        with images.warned.heard():
            image = images.decode(data)
    except images.UnreadableImageError:
        return None
    return image.shape, hashlib.sha256(image.tobytes()).digest()
