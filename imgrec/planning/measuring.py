"""What this machine takes for a few images: to extract them, to write their vectors, and to search these."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgrec import images, memory
from imgrec.batches import chunks
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery.gallery import opened
from imgrec.gallery.query import Query
from imgrec.ingestion.estimate import Probe, elsewhere, probe, written
from imgrec.ingestion.ingest import extractors_of
from imgrec.kinds import Batch, Engine, Extractor, Index, Record, Space, Store, Vectors
from imgrec.search import files
from imgrec.threads import cores

EXACT = "exact"
"""What search without an index is called, as in `index=exact`."""

MADE_UP = (1200, 1600)
"""Height and width of the photographs that are made up where none are given."""

PHOTOGRAPHS = 32
"""How many these are."""

QUERIES, ROUNDS = 20, 5
"""Searches whose median is the time of one, and how often each is done."""

STEP = 4
"""The larger of the two galleries that are searched has this many times the images of the smaller one."""

BLOCK = 8_192
"""Vectors that are made up, and written, at a time."""


@dataclass(frozen=True)
class Storing:
    """What a store takes for an image."""

    name: str
    seconds: float
    bytes: float


@dataclass(frozen=True)
class Trial:
    """What a way to search takes in a gallery that was tried."""

    images: int
    build_seconds: float
    bytes: float
    """On disk beside the store, mapped into memory when it is used."""

    query_seconds: float
    """Of a search for one vector, its answer included."""


@dataclass(frozen=True)
class Searching:
    """What a way to search takes."""

    name: str
    """`EXACT`, or an index's."""

    small: Trial
    large: Trial


@dataclass(frozen=True)
class Measured:
    """What was measured on this machine; a plan follows from it alone."""

    cores: int
    free_disk_bytes: int
    """Where this process runs."""

    tried: int
    """Photographs that were read, decoded and extracted."""

    are_made_up: bool
    file_bytes: float
    """Of a photograph, on average of all."""

    start_seconds: float
    """To load the models, once."""

    extract_seconds: float
    """To read, decode and extract a photograph, on all cores."""

    memory_bytes: int
    """At the peak of it, of this process."""

    dim: int
    """Values of an image's vectors, of all spaces together."""

    stores: list[Storing]
    searches: list[Searching]
    seconds: float
    """That measuring took."""


def measure(
    extractor: Extractor,
    stores: Sequence[Store],
    indexes: Sequence[Index],
    engine: Engine,
    source: Sequence[str] | None = None,
    *,
    vectors: int = 100_000,
    batch_size: int = 64,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Measured:
    """Measure with temporary files only; it takes about a minute.

    Vectors to search are made up: random ones with the spectrum of MobileNet's, in a thousand groups.

    Args:
        extractor: one or a fusion.
        stores: of which the kinds and options count; the first one holds the galleries that are searched.
        indexes: that are tried beside exact search.
        engine: where extraction is done.
        source: folders and files with the photographs; None: they are made up, of 1600 x 1200.
        vectors: in the larger gallery.
        batch_size: images that are extracted at once.
        seed: of the choice of photographs, and of what is made up.
        advance: called with 1 after each of `steps(extractor, stores)`.

    Raises:
        UsageError: there are no photographs in the source.
        ImgrecError: none of them can be read; the extractor, a store or an index failed.
    """
    start = time.perf_counter()
    spaces = {Space.of(each): each for each in extractors_of(extractor)}
    found = _probed(spaces, engine, source, batch_size, seed)
    advance(1)
    storing = []
    for store in stores:
        taken = written(store, found.groups, batch_size)
        if taken is not None:
            storing.append(Storing(store.name, taken.seconds, taken.bytes))
        advance(1)
    dims = {space: rows.shape[1] for group in found.groups for space, (_, rows) in group.vectors.items()}
    return Measured(
        cores(),
        shutil.disk_usage(".").free,
        found.tried,
        source is None,
        found.bytes / found.files,
        found.started,
        found.each,
        memory.peak(),
        sum(dims.values()),
        storing,
        _searches(dims, stores[0], indexes, vectors, seed, advance),
        time.perf_counter() - start,
    )


def steps(extractor: Extractor, stores: Sequence[Store]) -> int:
    """How often `measure` advances."""
    return 1 + len(stores) + len(extractors_of(extractor))


def _probed(
    spaces: dict[Space, Extractor], engine: Engine, source: Sequence[str] | None, batch_size: int, seed: int
) -> Probe:
    with contextlib.ExitStack() as stack:
        roots = images.roots(list(source) if source else stack.enter_context(_photographs(seed)))
        found = probe(images.find(roots), spaces, engine, batch_size=batch_size, seed=seed)
    if not found.files:
        raise UsageError(f"there are no images in {', '.join(roots)}")
    items = [item for group in found.groups for item in group.items]
    if all(item.reason for item in items):
        raise ImgrecError(
            f"none of the {len(items)} files that were tried could be read: "
            f"{items[0].file.path}: {items[0].reason}"
        )
    return found


@contextlib.contextmanager
def _photographs(seed: int) -> Iterator[str]:
    """A folder with made-up photographs: coarse patches and fine grain, which JPEG packs like real ones."""
    import cv2  # at use: it takes long

    rng = np.random.default_rng(seed)
    height, width = MADE_UP
    grain = rng.normal(0, 3, (height, width, 1))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PHOTOGRAPHS):
            coarse = rng.integers(0, 255, (height // 100, width // 100, 3), np.uint8)
            picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + grain
            quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
            cv2.imwrite(str(Path(folder, f"{number}.jpg")), np.clip(picture, 0, 255).astype(np.uint8), quality)
        yield folder


def _searches(
    dims: Mapping[Space, int],
    store: Store,
    indexes: Sequence[Index],
    vectors: int,
    seed: int,
    advance: Callable[[int], None],
) -> list[Searching]:
    """Of all spaces together, one after the other, in two galleries; without indexes that one does not use."""
    sizes, ways = (vectors // STEP, vectors), (None, *indexes)
    taken = np.zeros((len(ways), 3, len(sizes)))
    for space, dim in dims.items():
        with tempfile.TemporaryDirectory() as folder, _quiet():
            galleries = [elsewhere(store, Path(folder, str(count))) for count in sizes]
            for made, count in zip(galleries, sizes, strict=True):
                _fill(made, space, dim, count, seed)
            queries = [Query.of(vector) for vector in _made_up(QUERIES, dim, seed + 1)]
            for i, index in enumerate(ways):
                built = [_build_seconds(made, space, index, queries[0]) for made in galleries]
                if None in built:
                    taken[i] = np.nan
                    continue
                taken[i] += [
                    built,
                    [_cached(made) for made in galleries],
                    _query_seconds(galleries, space, index, queries),
                ]
        advance(1)
    return [
        Searching(
            EXACT if index is None else index.name,
            *(Trial(count, *each) for count, each in zip(sizes, found.T.tolist(), strict=True)),
        )
        for index, found in zip(ways, taken, strict=True)
        if not np.isnan(found).any()
    ]


def _build_seconds(store: Store, space: Space, index: Index | None, query: Query) -> float | None:
    """To make what a search needs; the files of exact search, which an index needs as well, count for each.

    None if the gallery does not use the index, and so says on stderr.
    """
    if store.cache_folder:
        shutil.rmtree(store.cache_folder, ignore_errors=True)
    start = time.perf_counter()
    with store:
        files.prepare(files.whole(store, space))
    with opened(store, space=space.key, index=index) as gallery:
        gallery.search([query], 5)
        seconds = time.perf_counter() - start
        return None if index is not None and gallery.says_approximate() is None else seconds


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is told of indexes that are made, which are gone again at once."""
    logs = [logging.getLogger(f"imgrec.search.{name}") for name in ("files", "indexes")]
    before = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _cached(store: Store) -> int:
    folder = store.cache_folder
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder else 0


def _query_seconds(
    galleries: Sequence[Store], space: Space, index: Index | None, queries: Sequence[Query]
) -> list[float]:
    """In each gallery, the median of searches one by one, each the fastest of some.

    They take turns, since whatever else goes on makes all of them slower.
    """
    times = np.empty((len(galleries), ROUNDS, len(queries)))
    with contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(opened(made, space=space.key, index=index)) for made in galleries]
        for i, j, k in np.ndindex(ROUNDS, len(queries), len(open_ones)):
            start = time.perf_counter()
            open_ones[k].search([queries[j]], 5)
            times[k, i, j] = time.perf_counter() - start
    return [float(median) for median in np.median(times.min(axis=1), axis=1)]


def _fill(store: Store, space: Space, dim: int, count: int, seed: int) -> None:
    start = 0
    with store.open(create=True):
        for numbers in chunks(range(count), BLOCK):
            names = [f"{number:064x}" for number in numbers]
            records = [Record(f"/{name}.jpg", name, 1, 1) for name in names]
            store.write(Batch(records, vectors={space: (names, _made_up(len(numbers), dim, seed, start))}))
            start += len(numbers)


def _made_up(count: int, dim: int, seed: int, start: int = 0) -> Vectors:
    """`float32 (count, dim)`: axes weigh as the principal ones of MobileNet's; a thousand groups."""
    groups = np.random.default_rng(seed).standard_normal((1000, dim), np.float32)
    rng = np.random.default_rng((seed, start))
    axis = np.arange(dim)
    scale = np.sqrt(np.exp(-axis / 250) / (axis + 8)).astype(np.float32)
    apart = rng.standard_normal((count, dim), np.float32)
    made: Vectors = (groups[rng.integers(len(groups), size=count)] + 0.5 * apart) * scale
    return made
