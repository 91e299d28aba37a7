"""PNG: each colour type, depth, transparency and interlacing, by the samples that were written."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from hostile import chunk
from imgrec import images

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}

Samples = npt.NDArray[np.int64]

WIDTH, HEIGHT = 21, 13

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: the first column and row, and the steps."""


def rows(samples: Samples, depth: int) -> Iterator[bytes]:
    for row in samples.reshape(len(samples), -1):
        yield b"\0" + np.packbits(((row[:, None] >> np.arange(depth)[::-1]) & 1).astype(bool)).tobytes()


def png(
    samples: Samples, depth: int, colour: int, *others: tuple[bytes, bytes], interlaced: bool = False
) -> bytes:
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    passes = [samples[y::down, x::right] for x, y, right, down in PASSES] if interlaced else [samples]
    body = zlib.compress(b"".join(row for part in passes if part.size for row in rows(part, depth)))
    chunks = [(b"IHDR", header), *others, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def ramp(colour: int, depth: int) -> Samples:
    """All values from 0 to the highest, few of them often."""
    rng = np.random.default_rng(colour * 100 + depth)
    found = rng.integers(0, 2**depth, (HEIGHT, WIDTH, CHANNELS[colour]))
    found[0, :5], found[-1, -5:] = 0, 2**depth - 1
    found[3, 3:9] = found[3, 3]
    return found


def keys(samples: Samples, depth: int) -> Iterator[tuple[Sequence[int], Samples]]:
    """Colours to be transparent: as they are written, and which pixels are of them."""
    near = samples[3, 3].copy()
    near[-1] ^= 1  # a neighbour, in the lowest bit
    for value in (samples[0, 0], samples[-1, -1], samples[3, 3], near):
        yield value.tolist(), (samples == value).all(axis=2, keepdims=True)
    if 1 < depth < 16:  # bits that the pixels do not have are not looked at; of 1 bit, Pillow tells 0 or not
        value = samples[3, 3]
        yield (value | 2**depth).tolist(), (samples == value).all(axis=2, keepdims=True)


CASES = [(colour, depth) for colour, depths in DEPTHS.items() for depth in depths]


def check(data: bytes, colour: npt.NDArray[np.floating], alpha: npt.NDArray[np.floating] | float) -> None:
    """Compare with shares of white, on white."""
    expected = 255 * np.broadcast_to(colour * alpha + 1 - alpha, (HEIGHT, WIDTH, 3))
    decoded = images.decode(data)
    assert decoded.shape == expected.shape
    assert np.abs(decoded - expected).max() <= 1


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth"), CASES)
def test_every_colour_type_and_depth_and_transparency(colour: int, depth: int, *, interlaced: bool) -> None:
    samples = ramp(colour, depth)
    share = samples / (2**depth - 1)
    if colour == PALETTE:
        table, alphas = np.random.default_rng(depth).integers(0, 256, (2, 2**depth, 3))
        palette = (b"PLTE", bytes(table.ravel().tolist()))
        chosen = table[samples[:, :, 0]] / 255
        check(png(samples, depth, colour, palette, interlaced=interlaced), chosen, 1.0)
        for count in (1, 2**depth):  # of the others, alpha is full
            few = np.where(np.arange(2**depth) < count, alphas[:, 0], 255)
            transparency = (b"tRNS", bytes(few[:count].tolist()))
            data = png(samples, depth, colour, palette, transparency, interlaced=interlaced)
            check(data, chosen, few[samples[:, :, 0]][:, :, None] / 255)
    elif colour in (GREY_ALPHA, RGBA):
        check(png(samples, depth, colour, interlaced=interlaced), share[:, :, :-1], share[:, :, -1:])
    else:
        check(png(samples, depth, colour, interlaced=interlaced), share, 1.0)
        for key, which in keys(samples, depth):
            transparency = (b"tRNS", struct.pack(f">{len(key)}H", *key))
            check(png(samples, depth, colour, transparency, interlaced=interlaced), share, 1.0 - which)


@pytest.mark.parametrize(("colour", "depth"), [case for case in CASES if case[1] == 16])
def test_sixteen_bits_with_transparency_that_are_cut_are_refused(colour: int, depth: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**depth, (99, 99, CHANNELS[colour]))
    transparency = [(b"tRNS", bytes(2 * CHANNELS[colour]))] if colour in (GREY, RGB) else []
    data = png(samples, depth, colour, *transparency)
    for length, byte in itertools.product((len(data) // 2, len(data) - 40), (b"", b"\xff" * 40)):
        with pytest.raises(images.UnreadableImageError):
            images.decode(data[:length] + byte)
