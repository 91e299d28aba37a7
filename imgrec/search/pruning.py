"""What is computed from vectors once, so that a search can leave out most of them: lengths, and principal axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgrec import threads
from imgrec.batches import chunks
from imgrec.kinds import Doubles, Vectors

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]

SHORTEST = 1e-15
"""Vectors up to this length have too few digits in float32 to bound anything by their direction."""

LEVELS = (28, 124)
"""Axes of each level: few for a fast scan, more for what it leaves undecided. With the terms beside them, a row is
32 or 128 values, which is whole lines of the CPU's cache."""

EMPTY: Rows = np.empty(0, np.intp)

BLOCK = 1024
"""Vectors that are in memory in float64 at a time, on each core."""


@dataclass(frozen=True)
class PCALevel:
    """Vectors on some principal axes, and the lengths of what these leave: bounds of distances for less work.

    With columns c and axes A, a vector is x = A c + r. Then x.q = c.(A'q) + r.q, and r.q is at most
    |r||q - A A'q|, apart from the part of r along the axes that is left by rounding, `leak`.
    """

    axes: Vectors
    """`float32 (dim, p)`."""

    terms: Vectors
    """`float32 (n, p + 4)`: c, |x|, |r| rounded up, |x|^2 and 1 of each vector. So a bound of its distance is one
    product, of these terms with the factors that a query gives them."""

    leak: float
    """|A'r| is at most this share of |x|."""

    @functools.cached_property
    def exact_axes(self) -> Doubles:
        """The axes in float64."""
        return self.axes.astype(np.float64)

    @property
    def columns(self) -> Vectors:
        """`(n, p)`: c."""
        return self.terms[:, :-4]

    @property
    def rests(self) -> Floats:
        """`(n,)`: |r|, rounded up."""
        return self.terms[:, -3]


@dataclass(frozen=True)
class PruningIndex:
    """What is computed from vectors once, for all searches among them."""

    squares: Floats
    """`(n,)`: the squared length of each vector; infinite where it overflows."""

    levels: Sequence[PCALevel] = ()
    """Coarsest first."""

    @functools.cached_property
    def lengths(self) -> Floats:
        """`(n,)`: the length of each vector, where its square neither under- nor overflows."""
        return np.sqrt(self.squares)

    @functools.cached_property
    def longest(self) -> float:
        """The length of the longest vector."""
        return float(self.lengths.max(initial=0))

    @functools.cached_property
    def are_some_short(self) -> bool:
        """Whether there are vectors that are too short to have a direction."""
        return bool((self.lengths <= SHORTEST).any())


def pruning_index(
    vectors: Vectors, sizes: Sequence[int] = LEVELS, sample: int = 20_000, seed: int = 0
) -> PruningIndex:
    """Vectors on the principal axes of a sample of them; without levels if their squares overflow.

    Args:
        vectors: `float32 (n, dim)`, finite.
        sizes: how many axes each level has, fewest first; those that are not fewer than `dim` are skipped.
        sample: how many vectors the axes are computed from. A small sample makes bounds looser, never wrong.
        seed: of the sample.
    """
    squares = squares_of(vectors)
    if not np.isfinite(squares).all():
        return PruningIndex(squares)
    return PruningIndex(squares, levels_of(vectors, principal_axes(vectors, sizes, sample, seed)))


@np.errstate(over="ignore")
def squares_of(vectors: Vectors) -> Floats:
    """`(n,)`: the squared length of each vector, summed in float64; infinite where it overflows float32."""
    squares: Doubles = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return squares.astype(np.float32)


def principal_axes(
    vectors: Vectors, sizes: Sequence[int] = LEVELS, sample: int = 20_000, seed: int = 0
) -> list[Vectors]:
    """For each number of axes p below `dim`, the first `float32 (dim, p)` of a sample; see `pruning_index`."""
    count, dim = vectors.shape
    sizes = [size for size in sizes if size < dim]
    if not sizes:
        return []
    chosen = np.arange(count)
    if count > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(count, sample, replace=False))
    products = np.zeros((dim, dim))
    for start in range(0, len(chosen), BLOCK):
        block = vectors[chosen[start : start + BLOCK]].astype(np.float64)
        products += block.T @ block
    # Not centred: dot products are bounded, for which the mean is a direction like any other.
    _, directions = np.linalg.eigh(products)
    best_first = directions[:, ::-1].astype(np.float32)
    return [np.ascontiguousarray(best_first[:, :size]) for size in sizes]


def levels_of(
    vectors: Vectors,
    axes: Sequence[Vectors],
    allocate: Callable[[int, tuple[int, int]], Vectors] = lambda _, shape: np.empty(shape, np.float32),
    known: Sequence[PCALevel] = (),
    rows: Rows = EMPTY,
    advance: Callable[[int], None] = lambda _: None,
) -> list[PCALevel]:
    """Vectors on some axes, computed in blocks on all cores.

    Args:
        vectors: `float32 (n, dim)`, finite, as are the squares of their lengths.
        axes: those of each level, as of `principal_axes`.
        allocate: makes the array of a level's terms, given the level's number and a shape.
        known: levels of the same axes, which have the first vectors already.
        rows: those of these levels' rows that are the first vectors.
        advance: told of each thousand or so that are done.
    """
    if not axes:
        return []
    terms = [allocate(i, (len(vectors), each.shape[1] + 4)) for i, each in enumerate(axes)]
    for level, made in zip(known, terms, strict=False):
        for start in range(0, len(rows), BLOCK):
            made[start : start + BLOCK][: len(rows) - start] = level.terms[rows[start : start + BLOCK]]
    exact = [each.astype(np.float64) for each in axes]
    together, ends = np.hstack(exact), np.cumsum([each.shape[1] for each in axes])[:-1]
    products = [each.T @ each for each in exact]

    def fill(start: int) -> list[float]:
        block = slice(start, start + BLOCK)
        doubles = vectors[block].astype(np.float64)
        squares = np.einsum("ij,ij->i", doubles, doubles)
        of_levels = zip(terms, np.split(doubles @ together, ends, axis=1), products, strict=True)
        return [_fill(made[block], squares, seen, product, len(together)) for made, seen, product in of_levels]

    advance(len(rows))
    leaks = [[level.leak for level in known] or [0.0] * len(axes)]
    for some in chunks(range(len(rows), len(vectors), BLOCK), 16):
        leaks += threads.each(fill, some)
        advance(min(16 * BLOCK, len(vectors) - some[0]))
    largest = np.max(leaks, axis=0).tolist()
    return [PCALevel(*each) for each in zip(axes, terms, largest, strict=True)]


def _fill(terms: Vectors, squares: Doubles, seen: Doubles, products: Doubles, dim: int) -> float:
    """Fill in the terms of some vectors; returns the leak.

    Args:
        terms: of the level, for these vectors.
        squares: `(n,)`: |x|^2.
        seen: `(n, p)`: A'x.
        products: `(p, p)`: A'A.
        dim: how many values a vector has.
    """
    size, lengths = seen.shape[1], np.sqrt(squares)
    terms[:, :size] = seen
    columns = terms[:, :size].astype(np.float64)
    left = seen - columns @ products  # A'r = A'x - A'A c
    # |r|^2 = |x|^2 - 2 c.A'x + |A c|^2, of which rounding, in sums of `dim` and of p products (Higham, Accuracy
    # and Stability of Numerical Algorithms, 3.1), takes less than this share of |x|^2. It is added.
    off = 4 * (dim + size) * size * float(np.finfo(np.float64).eps)
    rests = np.maximum(squares - np.einsum("ij,ij->i", columns, seen + left), 0) + off * squares
    terms[:, size] = lengths
    terms[:, size + 1] = np.nextafter(np.sqrt(rests).astype(np.float32), np.float32(np.inf))
    terms[:, size + 2] = squares
    terms[:, size + 3] = 1
    kept = np.linalg.norm(left, axis=1) / np.where(lengths > 0, lengths, 1)
    leak: float = np.max(kept, initial=0) + off
    return leak
