"""TIFF: each combination of tags gives the pixels that were worked out from the samples, or a reason."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imgrec import images

Samples = npt.NDArray[np.int64]

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773


# --- a writer -----------------------------------------------------------------------------------------------


def packed(samples: Samples, bits: int, order: str) -> bytes:
    """Rows of samples `(height, width, channels)`, each row filled up to a whole byte."""
    if bits in (8, 16, 32):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    each = samples.reshape(len(samples), -1, 1) >> np.arange(bits)[::-1] & 1  # the highest bit first
    return np.packbits(each.reshape(len(samples), -1).astype(bool), axis=1).tobytes()


def lzw(data: bytes) -> bytes:
    """Without compression: codes of 9 bits, the table cleared before they would grow (TIFF 6.0, section 13)."""
    codes = [code for i in range(0, len(data), 200) for code in (256, *data[i : i + 200])]
    text = "".join(f"{code:09b}" for code in (*codes, 257))
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def packbits(data: bytes) -> bytes:
    """Literal runs only (TIFF 6.0, section 9)."""
    return b"".join(bytes([len(part) - 1]) + part for part in (data[i : i + 128] for i in range(0, len(data), 128)))


PACKERS: dict[int, Callable[[bytes], bytes]] = {
    NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, OLD_DEFLATE: zlib.compress, PACKBITS: packbits,
}  # fmt: skip


@dataclass
class Page:
    samples: Samples
    bits: int
    photometric: int
    tags: dict[int, tuple[int, Sequence[int]]] = field(default_factory=dict)
    """Further ones, by number: type and values."""

    planes: bool = False
    tile: tuple[int, int] | None = None
    rows: int | None = None
    compression: int = NONE
    predictor: int = 1
    fill_order: int = 1
    sub: Sequence[Page] = ()

    def segments(self, order: str) -> Iterator[bytes]:
        samples = self.samples
        for plane in np.split(samples, samples.shape[2], axis=2) if self.planes else [samples]:
            if self.tile:
                width, height = self.tile
                fill = ((0, -len(plane) % height), (0, -plane.shape[1] % width), (0, 0))
                whole = np.pad(plane, fill, constant_values=1)
                rows = np.split(whole, len(whole) // height)
                parts = [part for row in rows for part in np.split(row, whole.shape[1] // width, axis=1)]
            else:
                rows_each = self.rows or len(plane)
                parts = [plane[i : i + rows_each] for i in range(0, len(plane), rows_each)]
            for part in parts:
                if self.predictor == 2:
                    part = np.diff(part, axis=1, prepend=0) % 2**self.bits
                data = PACKERS[self.compression](packed(part, self.bits, order))
                yield bytes(int(f"{byte:08b}"[::-1], 2) for byte in data) if self.fill_order == 2 else data

    def all_tags(self) -> dict[int, tuple[int, Sequence[int]]]:
        height, width, samples = self.samples.shape
        tags: dict[int, tuple[int, Sequence[int]]] = {
            256: (4, [width]), 257: (4, [height]), 258: (3, [self.bits] * samples), 259: (3, [self.compression]),
            262: (3, [self.photometric]), 277: (3, [samples]), 284: (3, [2 if self.planes else 1]),
        }  # fmt: skip
        if self.tile:
            tags |= {322: (3, [self.tile[0]]), 323: (3, [self.tile[1]])}
        else:
            tags[278] = (4, [self.rows or height])
        if self.predictor != 1:
            tags[317] = (3, [self.predictor])
        if self.fill_order != 1:
            tags[266] = (3, [self.fill_order])
        return tags | self.tags


FORMS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def tiff(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    """A TIFF 6.0, or a BigTIFF."""
    mark, word, size = (b"II", "Q" if big else "I", 8 if big else 4) if order == "<" else (b"MM", "Q" if big else "I", 8 if big else 4)
    out = bytearray(mark + struct.pack(order + "HHH", 43, 8, 0) if big else mark + struct.pack(order + "H", 42))
    link = len(out)
    out += bytes(size)

    def put(data: bytes) -> int:
        out.extend(bytes(-len(out) % 8))
        out.extend(data)
        return len(out) - len(data)

    def put_page(page: Page) -> tuple[int, int]:
        """Where a directory is, and where in it the next one's place is written."""
        subs = [put_page(each)[0] for each in page.sub]
        data = list(page.segments(order))
        kind = 16 if big else 4
        tags = page.all_tags()
        offsets, counts = (324, 325) if page.tile else (273, 279)
        tags |= {offsets: (kind, [put(each) for each in data]), counts: (kind, [len(each) for each in data])}
        if subs:
            tags[330] = (kind, subs)
        entries = b""
        for tag, (form, values) in sorted(tags.items()):
            raw = struct.pack(f"{order}{len(values)}{FORMS[form]}", *values)
            raw = raw if len(raw) <= size else struct.pack(order + word, put(raw))
            entries += struct.pack(order + ("HHQ" if big else "HHI"), tag, form, len(values)) + raw.ljust(size, b"\0")
        count = struct.pack(order + ("Q" if big else "H"), len(tags))
        at = put(count + entries + bytes(size))
        return at, at + len(count + entries)

    for page in pages:
        at, following = put_page(page)
        struct.pack_into(order + word, out, link, at)
        link = following
    return bytes(out)


# --- what is expected, worked out sample by sample ----------------------------------------------------------


def expected(page: Page, alpha: int | None, kind: int) -> npt.NDArray[np.float64]:
    """RGB from 0 to 255: in fractions of white, without a step between."""
    share = page.samples / (2**page.bits - 1)
    n = COLOURS[page.photometric]
    colour = share[:, :, :n]
    if page.photometric == WHITE_IS_ZERO:
        colour = 1 - colour
    elif page.photometric == CMYK:
        colour = (1 - colour[:, :, :3]) * (1 - colour[:, :, 3:])
    elif page.photometric == PALETTE:
        colour = np.array(page.tags[320][1]).reshape(3, -1).T[page.samples[:, :, 0]] / 65535
    if alpha is not None:
        over = share[:, :, alpha : alpha + 1]
        colour = (colour if kind == 1 else colour * over) + 1 - over
    return np.clip(255 * np.broadcast_to(colour, (*colour.shape[:2], 3)), 0, 255)


def picture(samples: int, bits: int, photometric: int, height: int = 19, width: int = 21) -> Samples:
    """Each channel another ramp, from 0 to the highest value; too wide and high for whole tiles and strips."""
    rng = np.random.default_rng(samples * 100 + bits * 10 + photometric)
    found = rng.integers(0, 2**bits, (height, width, samples))
    found[0, 0], found[-1, -1] = 0, 2**bits - 1
    return found


def palette(bits: int) -> list[int]:
    return np.random.default_rng(bits).integers(0, 65536, 3 * 2**bits).tolist()


ALPHAS = {"none": (), "unspecified": (0,), "associated": (1,), "unassociated": (2,), "second": (0, 2)}

LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rows": 4},
    "rows": {"rows": 1},
    "tiles": {"tile": (16, 16)},
    "a large tile": {"tile": (32, 48)},
}

CODINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lzw": {"compression": LZW},
    "deflate": {"compression": DEFLATE},
    "old deflate": {"compression": OLD_DEFLATE},
    "packbits": {"compression": PACKBITS},
    "predicted": {"compression": LZW, "predictor": 2},
    "reversed": {"fill_order": 2},
    "reversed lzw": {"compression": LZW, "fill_order": 2},
}


def check(page: Page, alpha: str, order: str, big: bool) -> str:
    """Compare one file with what is expected of it; the reason where it is refused."""
    extra = ALPHAS[alpha]
    page.tags |= {338: (3, extra)} if extra else {}
    if page.photometric == PALETTE:
        page.tags |= {320: (3, palette(page.bits))}
    which = next((COLOURS[page.photometric] + i for i, each in enumerate(extra) if each in (1, 2)), None)
    try:
        decoded = images.decode(tiff(page, order=order, big=big))
    except images.UnreadableImageError as error:
        return str(error)
    wanted = expected(page, which, extra[-1] if extra else 0)
    assert decoded.shape == wanted.shape
    assert np.abs(decoded - wanted).max() <= 1
    return ""


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK])
def test_every_combination_is_right_to_one_level_or_refused(photometric: int, bits: int) -> None:
    for alpha, layout, planes, order, big in itertools.product(
        ALPHAS, LAYOUTS, (False, True), "<>", (False, True)
    ):
        samples = picture(COLOURS[photometric] + len(ALPHAS[alpha]), bits, photometric)
        page = Page(samples, bits, photometric, planes=planes, **LAYOUTS[layout])
        reason = check(page, alpha, order, big)
        if alpha == "associated" and photometric not in (BLACK_IS_ZERO, RGB):
            assert "associated alpha" in reason
        else:
            assert not reason


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_every_coding_of_bytes(coding: str, bits: int) -> None:
    for photometric, layout, planes, order, big in itertools.product(
        (WHITE_IS_ZERO, RGB), ("one strip", "strips", "tiles"), (False, True), "<>", (False, True)
    ):
        samples = picture(COLOURS[photometric] + 1, bits, photometric)
        page = Page(samples, bits, photometric, planes=planes, **LAYOUTS[layout], **CODINGS[coding])
        reason = check(page, "unassociated", order, big)
        if coding == "predicted" and bits not in (8, 16):
            assert "predictor 2 at" in reason
        else:
            assert not reason
