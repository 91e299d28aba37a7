"""Vectors to search among that are not in islands: their spectra are like those of photographs' vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

Make = Callable[[int, int, np.random.Generator], Floats]
"""Makes vectors, given how many, of how many values, and a generator; what they have in common stays the same."""

LATENT = 12
"""Dimensions of the surface that curved ones lie near."""


def _turned(dim: int) -> Floats:
    """Axes at random, whose lengths fall as those of the principal axes of MobileNet's vectors do."""
    i = np.arange(dim)
    axes = np.linalg.qr(np.random.default_rng(99).normal(size=(dim, dim)))[0]
    return (axes * np.sqrt(np.exp(-i / 250) / (i + 8))).T.astype(np.float32)


def straight(count: int, dim: int, rng: np.random.Generator) -> Floats:
    """Normally distributed."""
    return rng.standard_normal((count, dim), dtype=np.float32) @ _turned(dim)


def rectified(count: int, dim: int, rng: np.random.Generator) -> Floats:
    """The same with negative values set to 0, as a network's last layer leaves them."""
    made: Floats = np.maximum(straight(count, dim, rng), 0)
    return made


def heavy(count: int, dim: int, rng: np.random.Generator) -> Floats:
    """Of very different lengths: few are far out, and have few near ones."""
    lengths = np.sqrt(3 / rng.chisquare(3, (count, 1))).astype(np.float32)
    made: Floats = straight(count, dim, rng) * lengths
    return made


def curved(count: int, dim: int, rng: np.random.Generator) -> Floats:
    """Near a curved surface of `LATENT` dimensions."""
    fixed = np.random.default_rng(98)
    away = fixed.normal(size=(LATENT, 2 * dim)).astype(np.float32) / 2
    back = fixed.normal(size=(2 * dim, dim)).astype(np.float32) / np.sqrt(2 * dim)
    made: Floats = np.tanh(rng.standard_normal((count, LATENT), dtype=np.float32) @ away) @ back.astype(np.float32)
    return made + np.float32(0.2) * straight(count, dim, rng)


def between(real: Floats) -> Make:
    """Points between real vectors and their nearest ones (SMOTE), whose axes are those with the most variance."""
    centred = real - real.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)

    def make(count: int, dim: int, rng: np.random.Generator) -> Floats:
        seen = centred @ axes[:dim].T
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=2)
        near = np.argsort(apart, axis=1)[:, 1:16]
        chosen = rng.integers(len(seen), size=count)
        sides = near[chosen[:, None], rng.integers(near.shape[1], size=(count, 3))]
        shares = rng.dirichlet(np.ones(4), count).astype(np.float32)
        made: Floats = shares[:, :1] * seen[chosen] + np.einsum("ij,ijk->ik", shares[:, 1:], seen[sides])
        return made

    return make


MADE: Mapping[str, Make] = {"straight": straight, "rectified": rectified, "heavy": heavy, "curved": curved}
