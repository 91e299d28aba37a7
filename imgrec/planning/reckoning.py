"""What a number of images will take by each way, and how far each way is sensible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from imgrec.planning.measuring import EXACT, Measured, Searching, Storing

LARGEST = 10**12
"""Images beyond which no limit is looked for."""


@dataclass(frozen=True)
class Limits:
    """What somebody will wait for, and pay."""

    ingest_hours: float = 24.0
    """An ingest that takes longer wants another way."""

    query_ms: float = 100.0
    """So does a search."""

    workers: int | None = None
    """Machines like this one that work together; None: as many as keep within `ingest_hours`."""

    hour: float | None = None
    """The price of a core for an hour; None: money is not reckoned."""


@dataclass(frozen=True)
class Way:
    """What one way takes for all images."""

    task: str
    """`extract`, `store` or `search`."""

    way: str
    seconds: float
    """To be done: a search, to build what it needs."""

    core_hours: float
    money: float | None
    disk_bytes: int | None = None
    """None where it needs none of its own, or it is unknown."""

    memory_bytes: int | None = None
    """Of each machine."""

    query_seconds: float | None = None
    until: int = LARGEST
    """Images up to which it is sensible."""

    then: str = ""
    """What is too much from then on."""


def ways(measured: Measured, images: int, limits: Limits) -> list[Way]:
    """What extracting, storing and searching a number of images take, by each way.

    Extraction, writing, and what is kept on disk grow in proportion to the images. An exact search looks at all of
    them: its time lies on the line through the two that were measured. An index's grows by the power that these
    two show, of a half at the least and of one at the most, as an inverted file's does between keeping its lists
    short and having few of them.
    """
    fastest = min((store.seconds for store in measured.stores), default=0.0)
    found = [_alone(measured, images, limits), _together(measured, images, limits, fastest)]
    found += [_stored(measured, store, images, limits) for store in measured.stores]
    return found + [_searched(measured, search, images, limits) for search in measured.searches]


def _alone(measured: Measured, images: int, limits: Limits) -> Way:
    seconds = measured.start_seconds + images * measured.extract_seconds
    return Way(
        "extract",
        "this machine",
        seconds,
        *_cost(seconds * measured.cores, limits),
        memory_bytes=measured.memory_bytes,
        until=_within(limits.ingest_hours, measured.start_seconds, measured.extract_seconds),
        then=f"it takes more than {limits.ingest_hours:g} h",
    )


def _together(measured: Measured, images: int, limits: Limits, writing: float) -> Way:
    """Several machines extract, and one writes for all of them."""
    wanted = limits.workers or max(
        2,
        math.ceil(images * measured.extract_seconds / max(1, 3600 * limits.ingest_hours - measured.start_seconds)),
    )
    useful = max(2, math.floor(measured.extract_seconds / writing)) if writing else wanted
    workers = limits.workers or min(wanted, useful)
    each = max(measured.extract_seconds / workers, writing)
    seconds = measured.start_seconds + images * each
    until, then = (
        _within(limits.ingest_hours, measured.start_seconds, each),
        f"it takes more than {limits.ingest_hours:g} h",
    )
    if workers >= useful:
        then += ", since one machine writes for all"
    return Way(
        "extract",
        f"{workers:,} machines",
        seconds,
        *_cost(measured.cores * (workers * measured.start_seconds + images * measured.extract_seconds), limits),
        memory_bytes=measured.memory_bytes,
        until=until,
        then=then,
    )


def _within(hours: float, start: float, each: float) -> int:
    """The most images that keep within some hours."""
    return max(0, math.floor((3600 * hours - start) / each))


def _stored(measured: Measured, store: Storing, images: int, limits: Limits) -> Way:
    seconds = images * store.seconds
    until, then = _first(
        (3600 * limits.ingest_hours / store.seconds, f"writing takes more than {limits.ingest_hours:g} h"),
        (measured.free_disk_bytes / store.bytes, "it is more than this disk has free"),
    )
    return Way(
        "store",
        store.name,
        seconds,
        *_cost(seconds, limits),
        disk_bytes=round(images * store.bytes),
        until=until,
        then=then,
    )


def _searched(measured: Measured, search: Searching, images: int, limits: Limits) -> Way:
    query = _query(search)
    times = images / search.large.images
    build, disk = times * search.large.build_seconds, times * search.large.bytes
    until, then = _first(
        (_largest(query, limits.query_ms / 1000), f"a search takes more than {limits.query_ms:g} ms"),
        (measured.free_disk_bytes * images / disk if disk else LARGEST, "it is more than this disk has free"),
    )
    return Way(
        "search",
        search.name,
        build,
        *_cost(build * measured.cores, limits),
        disk_bytes=round(disk),
        query_seconds=query(images),
        until=until,
        then=then,
    )


def _query(search: Searching) -> Callable[[float], float]:
    """The seconds of a search among a number of images."""
    small, large = search.small, search.large
    if search.name == EXACT:
        slope = max(0.0, (large.query_seconds - small.query_seconds) / (large.images - small.images))
        return lambda images: max(0.0, large.query_seconds + slope * (images - large.images))
    power = math.log(large.query_seconds / small.query_seconds) / math.log(large.images / small.images)
    return lambda images: large.query_seconds * (images / large.images) ** min(1.0, max(0.5, power))


def _largest(seconds: Callable[[float], float], limit: float) -> float:
    """The most images whose search keeps within a limit, by halving; the seconds grow with the images."""
    low, high = 0, LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds(middle) <= limit else (low, middle - 1)
    return low


def _first(*limits: tuple[float, str]) -> tuple[int, str]:
    """The limit that is reached first; and none, where even that is beyond all."""
    until, then = min(limits)
    return (LARGEST, "") if until >= LARGEST else (math.floor(until), then)


def _cost(core_seconds: float, limits: Limits) -> tuple[float, float | None]:
    hours = core_seconds / 3600
    return hours, None if limits.hour is None else hours * limits.hour
