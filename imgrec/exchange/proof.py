"""Whether vectors are what they claim to be: some files are extracted again, and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgrec import images
from imgrec.batches import chunks
from imgrec.errors import ImgrecError
from imgrec.extraction import extract
from imgrec.kinds import Doubles, Extractor, Image, Vectors

AGREEMENT = 1e-3
"""Vectors of one space are apart by at most this share of their length, whatever the hardware and the runtime."""

AT_ONCE = 8
"""Images that are decoded at a time."""


@dataclass(frozen=True)
class Again:
    """Some rows of a file, extracted again."""

    rows: Sequence[int]
    """Their numbers, from 0."""

    vectors: dict[str, Vectors]
    """For each term `float32 (len(rows), dim)`."""


def chosen(here: npt.NDArray[np.bool_], seed: int) -> Iterator[int]:
    """The rows whose files are here in random order; the last and the first come before, which any shift moves."""
    rows = np.flatnonzero(here)
    mixed = np.random.default_rng(seed).permutation(rows).tolist()
    return iter(dict.fromkeys([*rows[-1:].tolist(), *rows[:1].tolist(), *mixed]))


def extracted_again(
    extractors: dict[str, Extractor],
    rows: Iterable[int],
    paths: Sequence[str],
    digests: Sequence[str] | None,
    most: int | None,
) -> Again:
    """Extract files that can be read, and whose content is as recorded if that is known.

    Args:
        extractors: by the names of terms.
        rows: candidates, in order.
        paths: of all rows.
        digests: of all rows; None if unknown.
        most: how many; None for all.

    Raises:
        ImgrecError: an extractor failed.
    """
    taken: list[int] = []
    found: dict[str, list[Vectors]] = {name: [] for name in extractors}
    sides = {each.side for each in extractors.values()}

    def decoded() -> Iterator[tuple[int, dict[int | None, Image]]]:
        count = 0
        for row in rows:
            if count == most:
                return
            try:
                data, digest = images.read(paths[row])
                if digests is None or digests[row] == digest:
                    yield row, {side: images.decode(data, side) for side in sides}
                    count += 1
            except images.UnreadableImageError:
                continue

    for some in chunks(decoded(), AT_ONCE):
        taken += [row for row, _ in some]
        names = [paths[row] for row, _ in some]
        for name, extractor in extractors.items():
            found[name].append(extract(extractor, [each[extractor.side] for _, each in some], names))
    return Again(taken, {name: np.concatenate(each) for name, each in found.items()} if taken else {})


def apart(vectors: Vectors, others: Vectors) -> Doubles:
    """How far vectors are from those in the same rows of others, as a share of the longer one's length."""
    ours, theirs = vectors.astype(np.float64), others.astype(np.float64)
    longest = np.maximum(np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1))
    distances: Doubles = np.linalg.norm(ours - theirs, axis=1) / np.maximum(longest, np.finfo(np.float64).tiny)
    return distances


def check(
    what: str,
    made: Vectors,
    given: Vectors,
    rows: Sequence[int],
    paths: Sequence[str],
    every: Iterable[Vectors],
) -> float:
    """Compare vectors that were extracted again with a file's; the largest distance, as `apart` has it.

    Args:
        what: the file and the space, for messages.
        made: `float32 (m, dim)`, extracted again.
        given: those in the same rows of the file.
        rows: their numbers, from 0.
        paths: of all rows.
        every: all vectors of the file, in blocks; looked at if these differ, to see whether their order does.

    Raises:
        ImgrecError: they differ; it says by how much, and what may be the matter.
    """
    if made.shape != given.shape:
        raise ImgrecError(f"{what}: the vectors have {given.shape[1]:,} values, and those of it {made.shape[1]:,}")
    distances = apart(made, given)
    if not (wrong := np.flatnonzero(distances > AGREEMENT)).size:
        return float(distances.max())
    worst = wrong[np.argmax(distances[wrong])]
    told = (
        f"{what}: {len(wrong)} of {len(rows)} vectors are others than its own, by "
        f"{np.median(distances[wrong]):.2g} of their length at the median and {distances[worst]:.2g} at the most, "
        f"that of {paths[rows[worst]]}"
    )
    others, near = _nearest(made[wrong], every)
    moved = near <= AGREEMENT
    if moved.any():
        one = int(np.flatnonzero(moved)[0])
        place = f"that of {paths[rows[wrong[one]]]} is in the row of {paths[others[one]]}"
        raise ImgrecError(f"{told}. The rows are in another order, {place}")
    if (apart(_of_unit_length(made), _of_unit_length(given)) <= AGREEMENT).all():
        raise ImgrecError(f"{told}. They point the same way: these were scaled, to unit length perhaps")
    raise ImgrecError(f"{told}. Other weights, another preprocessing or other pictures made them")


def _nearest(made: Vectors, every: Iterable[Vectors]) -> tuple[npt.NDArray[np.intp], Doubles]:
    """For each vector the row of the nearest one of a file, and how far that is, as `apart` has it."""
    rows, best = np.zeros(len(made), np.intp), np.full(len(made), np.inf)
    ours, first = made.astype(np.float64), 0
    for block in every:
        theirs = block.astype(np.float64)
        squares = (theirs**2).sum(axis=1) - 2 * ours @ theirs.T  # in the order of distances
        near = squares.argmin(axis=1)
        distances = apart(made, block[near])
        closer = distances < best
        rows[closer], best[closer] = first + near[closer], distances[closer]
        first += len(block)
    return rows, best


def _of_unit_length(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return unit
