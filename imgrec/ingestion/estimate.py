"""What an ingest will take, from a probe of its files: time, disk and memory."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgrec import memory
from imgrec.batches import chunks
from imgrec.extraction import extract
from imgrec.ingestion import rows
from imgrec.kinds import Batch, Engine, Extracted, Extractor, ImageFile, Item, Record, Space, Store

MANY = 10_000
"""An ingest of more files that are new tells its estimate first."""

PROBE, TOGETHER = 64, 16
"""How many files are tried, and how many of these are extracted at once."""

SAMPLE = 4096
"""How many files the probe is chosen from, evenly by their sizes."""

WRITTEN = 2048
"""How many rows are written to a temporary store, to see what they take; more if it wants larger transactions."""


@dataclass(frozen=True)
class Estimate:
    """What an ingest will take."""

    files: int
    """That are to be read, as the store does not have them as they are; those that it has count nothing."""

    bytes: int
    """Of these files."""

    probed: int
    seconds: float

    disk_bytes: int | None
    """Of what is added to store and backup, and of new ones when empty, without what searches keep beside them.

    None where one has no `path`.
    """

    memory_bytes: int
    """At the peak, of this process: of workers elsewhere nothing is known."""

    def __str__(self) -> str:
        disk = "" if self.disk_bytes is None else f", {size(self.disk_bytes)} of disk"
        return (
            f"{self.files:,} files ({size(self.bytes)}) will take about {duration(self.seconds)}{disk} and "
            f"{size(self.memory_bytes)} of memory, from a probe of {self.probed}"
        )


@dataclass(frozen=True)
class Probe:
    """What a few files took to read, decode and extract, and what they became."""

    files: int
    bytes: int
    """Of all files, of which a few were tried."""

    tried: int
    looked: float
    """Seconds to find the files."""

    started: float
    """Seconds to load the models and to warm them up, once."""

    each: float
    """Seconds a file, at the mean size of all."""

    held: float
    """Bytes of memory that a file takes between reading and extracting."""

    groups: Sequence[Extracted]


@dataclass(frozen=True)
class Written:
    """What a new store took for rows."""

    seconds: float
    """Of a row."""

    empty: int
    """Bytes of a store without any."""

    bytes: float
    """Of a row."""


def estimate(
    files: Iterable[ImageFile],
    spaces: Mapping[Space, Extractor],
    engine: Engine,
    stores: Sequence[Store],
    *,
    is_held: Callable[[Space, str], bool],
    batch_size: int,
    seed: int,
) -> Estimate:
    """Try a few files, and say what all will take. Nothing is written but to temporary stores.

    Seconds are the sum of what was taken to look for files, to load the models and warm them up (once), and for
    each file to read, decode, extract and write it. Bytes on disk are those of temporary stores of the same kinds.
    Memory is the peak of this process in a full batch and in the probe, and what full batches of the probe's
    images hold beyond that; three exist at a time.

    Args:
        files: those to be read.
        spaces: what they are extracted into, and by what.
        engine: where the work is done.
        stores: the store and its backup, of which the kinds and options count.
        is_held: whether a space has the vector of a digest, which is not extracted then.
        batch_size: as in `ingest`.
        seed: of the choice of files.
    """
    found = probe(files, spaces, engine, is_held=is_held, batch_size=batch_size, seed=seed)
    if not found.files:
        return Estimate(0, 0, 0, found.looked, 0, memory.peak())
    rows = [written(store, found.groups, batch_size) for store in stores]
    disk = [None if each is None else each.empty + found.files * each.bytes for each in rows]
    each = found.each + sum(each.seconds for each in rows if each)
    more = 3 * max(0, batch_size - TOGETHER) * found.held
    return Estimate(
        found.files,
        found.bytes,
        found.tried,
        found.looked + found.started + found.files * each,
        None if None in disk else round(sum(filter(None, disk))),
        memory.peak() + round(min(more, 3 * engine.planned_bytes)),
    )


def probe(
    files: Iterable[ImageFile],
    spaces: Mapping[Space, Extractor],
    engine: Engine,
    *,
    is_held: Callable[[Space, str], bool] = lambda *_: False,
    batch_size: int = 64,
    seed: int = 0,
) -> Probe:
    """Read, decode and extract a few files, spread over the sizes of all; arguments as those of `estimate`."""
    start = time.perf_counter()
    chosen, count, total = _chosen(files, random.Random(seed))
    looked = time.perf_counter() - start
    if not chosen:
        return Probe(0, 0, 0, looked, 0, 0, 0, ())
    start = time.perf_counter()
    for extractor in spaces.values():
        side = extractor.side or 512
        extract(extractor, [np.zeros((side, side, 3), np.uint8)] * batch_size, ["a black image"] * batch_size)
    started = time.perf_counter() - start
    held: list[int] = []
    tried = list(_tried(chosen, spaces, engine, is_held, held))
    groups = [group for _, found, _ in tried for group in found]
    each = _seconds_each([(some, taken) for some, _, taken in tried], total / count)
    return Probe(count, total, len(chosen), looked, started, each, float(np.mean(held or [0])), groups)


def _chosen(files: Iterable[ImageFile], choice: random.Random) -> tuple[list[ImageFile], int, int]:
    """A probe, spread over the sizes of a random sample; and how many files there are, with how many bytes."""
    sample: list[ImageFile] = []
    count = total = 0
    for file in files:
        count, total = count + 1, total + file.size
        if len(sample) < SAMPLE:
            sample.append(file)
        elif (place := choice.randrange(count)) < SAMPLE:
            sample[place] = file
    sample.sort(key=lambda file: file.size)
    step = max(1.0, len(sample) / PROBE)
    return [sample[int((i + 0.5) * step)] for i in range(min(PROBE, len(sample)))], count, total


def _tried(
    files: Sequence[ImageFile],
    spaces: Mapping[Space, Extractor],
    engine: Engine,
    is_held: Callable[[Space, str], bool],
    held: list[int],
) -> Iterator[tuple[Sequence[ImageFile], list[Extracted], float]]:
    """Groups of files, what the engine made of them, and the seconds that it took.

    Each goes through the engine alone, or it would work ahead on the next ones in the time of the first. The first
    is tried twice, since what is made at first use counts once.
    """

    def planned(some: Sequence[ImageFile]) -> Iterator[Item]:
        for item in engine.read(some):
            if item.reason is None:
                item.lacks = [space for space in spaces if not is_held(space, item.digest)]
                item.sides = {spaces[space].side for space in item.lacks}
            held.append(item.memory())
            yield item

    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        engine.open(spaces)
        list(engine.extract(planned(files[:TOGETHER]), TOGETHER))
        for some in chunks(files, TOGETHER):
            start = time.perf_counter()
            found = list(engine.extract(planned(some), TOGETHER))
            yield some, found, time.perf_counter() - start


def _seconds_each(tried: Sequence[tuple[Sequence[ImageFile], float]], size: float) -> float:
    """The seconds of a file of some bytes, on a line through groups of files with the seconds that each took.

    At the mean of all files it is the regression estimator: W. Cochran, Sampling Techniques, 1977, chapter 7.
    """
    weights = [len(some) for some, _ in tried]
    sizes = np.array([np.mean([file.size for file in some]) for some, _ in tried])
    seconds = np.array([taken / len(some) for some, taken in tried])
    mean, usual = np.average(seconds, weights=weights), np.average(sizes, weights=weights)
    off = sizes - usual
    slope = max(0.0, np.average(off * seconds, weights=weights) / (np.average(off**2, weights=weights) or 1))
    return float(max(mean / 4, mean + slope * (size - usual)))


def written(store: Store, groups: Sequence[Extracted], batch_size: int) -> Written | None:
    """What a new store of the same kind takes for a file of the probe; None without `path`, or unknown size."""
    if "path" not in store.options():
        return None
    items = [item for group in groups for item in group.items if item.reason is None]
    vectors = {
        space: {
            name: row for group in groups for name, row in zip(*group.vectors.get(space, ([], [])), strict=True)
        }
        for space in {space for group in groups for space in group.vectors}
    }
    if not items:
        return Written(0, 0, 0)
    probed = sum(len(group.items) for group in groups)
    with tempfile.TemporaryDirectory() as folder:
        made = elsewhere(store, Path(folder, "store"))
        with made.open(create=True):
            before = made.size()
        start, size = time.perf_counter(), max(batch_size, made.transaction_size)
        count = max(WRITTEN, size)
        with made:
            for some in chunks(range(count), size):
                batch = Batch()
                for number in some:
                    item = items[number % len(items)]
                    batch.records.append(_copy(rows.record(item, None, vectors), number))
                for space, known in vectors.items():
                    numbers = [number for number in some if items[number % len(items)].digest in known]
                    found = np.array([known[items[number % len(items)].digest] for number in numbers], np.float32)
                    if numbers:
                        batch.vectors[space] = ([_name(number) for number in numbers], found)
                made.write(batch)
        seconds = time.perf_counter() - start
        with made:
            after = made.size()
    share = len(items) / probed
    if before is None or after is None:
        return None
    return Written(share * seconds / count, before, share * (after - before) / count)


def elsewhere(store: Store, path: Path) -> Store:
    """A store of the same kind and options in another place; it must have an option `path`."""
    return type(store)(**{**store.options(), "path": str(path), "paths": None})


def _name(number: int) -> str:
    return f"{number:064x}"


def _copy(record: Record, number: int) -> Record:
    return replace(record, path=f"{record.path}-{number:06}", digest=_name(number))


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(3), duration(600), duration(36_000), duration(3e6)
    ('3 s', '10 min', '10.0 h', '34.7 days')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:,.1f} days"


def size(count: float) -> str:
    """Bytes for people.

    >>> size(20_000), size(1_500_000), size(2e9), size(3e12)
    ('20.0 kB', '1.5 MB', '2.0 GB', '3.0 TB')
    """
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))
    unit, name = next((each for each in units if count >= each[0]), (1e3, "kB"))
    return f"{count / unit:,.1f} {name}"
