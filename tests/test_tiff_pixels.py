"""TIFF: each combination of tags gives the pixels that were worked out from the samples, or a reason."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
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
    return b"".join(
        bytes([len(part) - 1]) + part for part in (data[i : i + 128] for i in range(0, len(data), 128))
    )


PACKERS: dict[int, Callable[[bytes], bytes]] = {
    NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, OLD_DEFLATE: zlib.compress, PACKBITS: packbits,
}  # fmt: skip


def fax(kind: str) -> Callable[[Samples], bytes]:
    """Lines coded by libtiff: the one strip of a file of Pillow's."""

    def code(samples: Samples) -> bytes:
        file = io.BytesIO()
        PIL.Image.fromarray(samples[:, :, 0].astype(bool)).save(file, "TIFF", compression=kind)
        tags = PIL.Image.open(file).tag_v2  # type: ignore[attr-defined]
        return file.getvalue()[tags[273][0] :][: tags[279][0]]

    return code


def jpeg(mode: str, **options: Any) -> Callable[[Samples], bytes]:
    def code(samples: Samples) -> bytes:
        pixels = samples.astype(np.uint8)
        pixels = pixels[:, :, 0] if mode == "L" else 255 - pixels if mode == "CMYK" else pixels
        file = io.BytesIO()
        PIL.Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes()).save(file, "JPEG", quality=98, **options)
        return file.getvalue()

    return code


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
    code: Callable[[Samples], bytes] | None = None
    """What packs the samples of a strip or tile, for compressions that are not of bytes."""

    def segments(self, order: str) -> Iterator[bytes]:
        samples = self.samples
        for plane in np.split(samples, samples.shape[2], axis=2) if self.planes else [samples]:
            if self.tile:
                width, height = self.tile
                fill = ((0, -len(plane) % height), (0, -plane.shape[1] % width), (0, 0))
                whole = np.pad(plane, fill, mode="edge")
                rows = np.split(whole, len(whole) // height)
                parts = [part for row in rows for part in np.split(row, whole.shape[1] // width, axis=1)]
            else:
                rows_each = self.rows or len(plane)
                parts = [plane[i : i + rows_each] for i in range(0, len(plane), rows_each)]
            for part in parts:
                stored = np.diff(part, axis=1, prepend=0) % 2**self.bits if self.predictor == 2 else part
                packer = PACKERS.get(self.compression, bytes)
                data = self.code(part) if self.code else packer(packed(stored, self.bits, order))
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
    mark, word, size = b"II" if order == "<" else b"MM", "Q" if big else "I", 8 if big else 4
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
            entries += struct.pack(order + ("HHQ" if big else "HHI"), tag, form, len(values)) + raw.ljust(
                size, b"\0"
            )
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
    return np.asarray(np.clip(255 * np.broadcast_to(colour, (*colour.shape[:2], 3)), 0, 255))


def picture(samples: int, bits: int, photometric: int, height: int = 19, width: int = 21) -> Samples:
    """Each channel another ramp, from 0 to the highest value; too wide and high for whole tiles and strips."""
    rng = np.random.default_rng(samples * 100 + bits * 10 + photometric)
    found = rng.integers(0, 2**bits, (height, width, samples))
    found[0, 0], found[-1, -1] = 0, 2**bits - 1
    return found


def palette(bits: int) -> list[int]:
    return [int(each) for each in np.random.default_rng(bits).integers(0, 65536, 3 * 2**bits)]


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


def check(page: Page, alpha: str, order: str, *, big: bool) -> str:
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


@pytest.mark.parametrize(
    ("photometric", "bits"),
    [
        *itertools.product((WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK), (1, 2, 4, 8, 10, 12, 16)),
        *itertools.product((PALETTE,), (1, 2, 4, 8)),
    ],
)
def test_every_combination_is_right_to_one_level_or_refused(photometric: int, bits: int) -> None:
    for alpha, layout, planes, order, big in itertools.product(
        ALPHAS, LAYOUTS, (False, True), "<>", (False, True)
    ):
        samples = picture(COLOURS[photometric] + len(ALPHAS[alpha]), bits, photometric)
        page = Page(samples, bits, photometric, planes=planes, **LAYOUTS[layout])
        reason = check(page, alpha, order, big=big)
        if alpha == "associated" and photometric not in (BLACK_IS_ZERO, RGB):
            assert "associated alpha" in reason
        else:
            assert not reason


@pytest.mark.parametrize("bits", [10, 16])
def test_a_large_palette(bits: int) -> None:
    assert not check(Page(picture(2, bits, PALETTE), bits, PALETTE), "unassociated", ">", big=False)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_every_coding_of_bytes(coding: str, bits: int) -> None:
    for photometric, layout, planes, order, big in itertools.product(
        (WHITE_IS_ZERO, RGB), ("one strip", "strips", "tiles"), (False, True), "<>", (False, True)
    ):
        samples = picture(COLOURS[photometric] + 1, bits, photometric)
        page = Page(samples, bits, photometric, planes=planes, **LAYOUTS[layout], **CODINGS[coding])
        reason = check(page, "unassociated", order, big=big)
        if coding == "predicted" and bits not in (8, 16):
            assert "predictor 2 at" in reason
        else:
            assert not reason


# --- codings that are left to libtiff -----------------------------------------------------------------------


@pytest.mark.parametrize(("compression", "kind"), [(2, "tiff_ccitt"), (3, "group3"), (4, "group4")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fax(compression: int, kind: str, layout: str) -> None:
    for photometric, fill_order, order, big in itertools.product((0, 1), (1, 2), "<>", (False, True)):
        samples = picture(1, 1, photometric)
        more: dict[str, Any] = {"compression": compression, "fill_order": fill_order, "code": fax(kind)}
        reason = check(Page(samples, 1, photometric, **LAYOUTS[layout], **more), "none", order, big=big)
        assert ("64-bit big-endian" in reason) == (big and order == ">")


SUBSAMPLED = {"4:4:4": (0, (1, 1)), "4:2:2": (1, (2, 1)), "4:2:0": (2, (2, 2))}


@pytest.mark.parametrize("layout", [{}, {"rows": 16}, {"tile": (32, 48)}])
@pytest.mark.parametrize(
    ("photometric", "mode", "sampling"),
    [(WHITE_IS_ZERO, "L", ""), (BLACK_IS_ZERO, "L", ""), (RGB, "RGB", ""), (CMYK, "CMYK", "")]
    + [(YCBCR, "YCbCr", sampling) for sampling in SUBSAMPLED],
)
def test_jpeg(photometric: int, mode: str, sampling: str, layout: dict[str, Any]) -> None:
    y, x = np.mgrid[:48, :64]
    slopes = [(4, 0), (0, 5), (2, 2), (1, 3)][: COLOURS[photometric]]
    samples = np.stack([right * x + down * y for right, down in slopes], axis=2).astype(np.int64)
    number, blocks = SUBSAMPLED.get(sampling, (0, (1, 1)))
    options: Any = {"keep_rgb": True} if mode == "RGB" else {"subsampling": number} if sampling else {}
    for order, big in itertools.product("<>", (False, True)):
        more: dict[str, Any] = {"compression": 7, "code": jpeg(mode, **options)}
        page = Page(samples, 8, photometric, {530: (3, blocks)} if sampling else {}, **layout, **more)
        wanted = expected(page, None, 0) if not sampling else from_ycbcr(samples)
        if big and order == ">":
            with pytest.raises(images.UnreadableImageError, match="64-bit big-endian"):
                images.decode(tiff(page, order=order, big=big))
        else:
            assert np.abs(images.decode(tiff(page, order=order, big=big)) - wanted).max() <= 10  # JPEG's own loss


def from_ycbcr(samples: Samples) -> npt.NDArray[np.float64]:
    """ITU-R BT.601 in full range, as JFIF has it."""
    y, cb, cr = (samples[:, :, i] - (128 if i else 0) for i in range(3))
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return np.asarray(np.clip(rgb, 0, 255))


def test_ycbcr_without_subsampling() -> None:
    samples = picture(3, 8, YCBCR)
    for layout, planes, order in itertools.product(LAYOUTS.values(), (False, True), "<>"):
        page = Page(samples, 8, YCBCR, {530: (3, (1, 1))}, planes=planes, **layout)
        assert np.abs(images.decode(tiff(page, order=order)) - from_ycbcr(samples)).max() <= 1


# --- pages --------------------------------------------------------------------------------------------------

SMALL = {254: (4, [1])}
OLD_SMALL = {255: (3, [2])}
A_MASK = {254: (4, [4])}
ONE_OF_SEVERAL = {254: (4, [2])}


def grey(value: int, tags: dict[int, Any] | None = None, **more: Any) -> Page:
    return Page(np.full((HEIGHT, WIDTH, 1), value), 8, BLACK_IS_ZERO, tags or {}, **more)


HEIGHT, WIDTH = 9, 7


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("pages", "value"),
    [
        ([grey(1), grey(2)], 1),
        ([grey(1, SMALL), grey(2)], 2),
        ([grey(1, OLD_SMALL), grey(2)], 2),
        ([grey(1, A_MASK), grey(2)], 2),
        ([grey(1, SMALL), grey(2, A_MASK), grey(3), grey(4)], 3),
        ([grey(1, ONE_OF_SEVERAL), grey(2, ONE_OF_SEVERAL)], 1),
        ([grey(1, SMALL), grey(2, SMALL)], 1),
        ([grey(1, SMALL, sub=[grey(2), grey(3)])], 2),
        ([grey(1, SMALL, sub=[grey(2, SMALL)]), grey(3)], 3),
        ([grey(1, sub=[grey(2)])], 1),
    ],
)
def test_the_first_page_that_is_no_thumbnail(pages: list[Page], value: int, order: str, *, big: bool) -> None:
    decoded = images.decode(tiff(*pages, order=order, big=big))
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert set(decoded.ravel().tolist()) == {value}


def test_pages_in_a_ring_end() -> None:
    data = bytearray(tiff(grey(1, SMALL)))
    data[-4:] = data[4:8]  # the next page is the first
    assert set(images.decode(bytes(data)).ravel().tolist()) == {1}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("coding", ["bytes", "jpeg", "thumbnail first"])
def test_orientation_and_time_are_those_of_the_page(coding: str, order: str, *, big: bool) -> None:
    if coding == "jpeg" and big and order == ">":
        return  # refused
    ramp = np.arange(64 * 48).reshape(48, 64, 1) // 13
    more: dict[str, Any] = {"compression": 7, "code": jpeg("L")} if coding == "jpeg" else {}
    page = Page(ramp, 8, BLACK_IS_ZERO, {274: (3, [6])}, **more)
    pages = [grey(1, SMALL), page] if coding == "thumbnail first" else [page]
    data = tiff(*pages, order=order, big=big)
    assert images.Encoded.of(data).upright == (48, 64)
    assert np.abs(images.decode(data)[:, :, :1] - np.rot90(ramp, -1)).max() <= 3


# --- what is refused ----------------------------------------------------------------------------------------


def of(samples: int, bits: int, photometric: int, tags: dict[int, Any] | None = None, **more: Any) -> bytes:
    return tiff(Page(picture(samples, bits, photometric), bits, photometric, tags or {}, **more))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "32 bits": (lambda: of(1, 32, 1), "pixels of 32 bits have no known range"),
    "32 bits, RGB": (lambda: of(3, 32, 2), "pixels of 32 bits have no known range"),
    "floating-point": (lambda: of(1, 32, 1, {339: (3, [3])}), "32 bits have no known range"),
    "floating-point RGB of 16 bits": (lambda: of(3, 16, 2, {339: (3, [3, 3, 3])}), "16 bits have no known range"),
    "signed": (lambda: of(1, 16, 1, {339: (3, [2])}), "signed or complex pixels have no known range"),
    "signed, 8 bits": (lambda: of(1, 8, 1, {339: (3, [2])}), "signed or complex"),
    "several depths": (lambda: of(3, 8, 2, {258: (3, [5, 6, 5])}), "samples of different depths is not read"),
    "L*a*b*": (lambda: of(3, 8, LAB), r"a TIFF of CIE L\*a\*b\* is not read"),
    "another one": (lambda: of(1, 8, 77), "photometric interpretation 77"),
    "inks": (lambda: of(4, 8, CMYK, {332: (3, [2])}), "inks other than CMYK"),
    "too few samples": (lambda: of(2, 8, RGB), "broken image: .* too few"),
    "samples of no name": (lambda: of(3, 8, BLACK_IS_ZERO), "3 samples a pixel, of which none is named"),
    "YCbCr in blocks": (lambda: of(3, 8, YCBCR), "YCbCr"),
    "YCbCr of 16 bits": (lambda: of(3, 16, YCBCR, {530: (3, [1, 1])}), "YCbCr"),
    "YCbCr in another range": (lambda: of(3, 8, YCBCR, {530: (3, [1, 1]), 532: (4, [16] * 6)}), "YCbCr"),
    "a coding that is unknown": (lambda: of(1, 8, 1, {259: (3, [34712])}), "compression 34712 is not read"),
    "fax of 8 bits": (lambda: of(1, 8, 1, {259: (3, [4])}), "fax-coded"),
    "JPEG of 12 bits": (lambda: of(1, 12, 1, {259: (3, [7])}), "JPEG-coded samples other than 8 bits"),
    "JPEG in planes": (lambda: of(3, 8, 2, {259: (3, [7])}, planes=True), "JPEG-coded samples other than"),
    "JPEG with alpha": (lambda: of(4, 8, 2, {259: (3, [7])}), "JPEG-coded samples other than"),
    "a palette in JPEG": (lambda: of(1, 8, 3, {259: (3, [7])}), "a JPEG-coded palette"),
    "floating-point prediction": (lambda: of(1, 8, 1, {259: (3, [5]), 317: (3, [3])}), "predictor 3 at 8 bits"),
    "a short palette": (lambda: of(1, 8, 3, {320: (3, [0] * 99)}), "broken image: a palette"),
    "no bits": (lambda: of(1, 8, 1, {258: (3, [0])}), "broken image"),
    "no width": (lambda: of(1, 8, 1, {256: (4, [0])}), "broken image"),
    "no strips": (lambda: of(1, 8, 1, {278: (4, [4])}), "broken image: strips or tiles are missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused_with_the_reason(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(images.UnreadableImageError, match=reason):
        images.decode(data())


@pytest.mark.parametrize("coding", ["plain", "lzw", "deflate", "packbits"])
def test_strips_that_are_cut_are_refused(coding: str) -> None:
    data = bytearray(tiff(Page(picture(3, 8, RGB), 8, RGB, rows=4, **CODINGS[coding])))
    struct.pack_into("<I", data, data.index(struct.pack("<HHI", 273, 4, 5)) + 8, len(data) - 20)  # behind the end
    with pytest.raises(images.UnreadableImageError):
        images.decode(bytes(data))


def test_a_missing_photometric_interpretation_is_guessed_as_libtiff_does() -> None:
    for samples, photometric in ((1, BLACK_IS_ZERO), (3, RGB)):
        page = Page(picture(samples, 8, photometric), 8, photometric)
        data = bytearray(tiff(page))
        at = data.index(struct.pack("<HHI", 262, 3, 1))
        data[at : at + 2] = struct.pack("<H", 263)
        assert np.abs(images.decode(bytes(data)) - expected(page, None, 0)).max() == 0


@pytest.mark.parametrize(
    "tags",
    [
        {277: (3, [60_000]), 262: (3, [RGB])},
        {277: (3, [60_000]), 262: (3, [RGB]), 284: (3, [2])},
        {256: (4, [12_000]), 257: (4, [12_000]), 278: (4, [12_000]), 258: (3, [16])},
        {322: (4, [30_000]), 323: (4, [30_000])},
        {256: (4, [2**31]), 257: (4, [2**31])},
    ],
)
@pytest.mark.parametrize("coding", ["lzw", "deflate"])
def test_what_takes_too_much_memory_is_told_by_the_tags(tags: dict[int, Any], coding: str) -> None:
    page = Page(picture(1, 8, 1, 160, 100), 8, 1, tags, **CODINGS[coding])
    with pytest.raises(images.UnreadableImageError, match="too large"):
        images.decode(tiff(page))


# --- a second opinion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 16])
def test_tifffile_finds_the_same_samples(bits: int) -> None:
    """The writer above, and so what is expected, is no private understanding of TIFF."""
    tifffile = pytest.importorskip("tifffile", reason="needs tifffile, as a second reader")
    pytest.importorskip("imagecodecs", reason="needs imagecodecs, which tifffile decodes with")
    for coding, layout, planes, order, big in itertools.product(
        CODINGS, LAYOUTS, (False, True), "<>", (False, True)
    ):
        if "reversed" in coding or (coding == "predicted" and bits not in (8, 16)):
            continue
        samples = picture(3, bits, RGB)
        page = Page(samples, bits, RGB, planes=planes, **LAYOUTS[layout], **CODINGS[coding])
        with tifffile.TiffFile(io.BytesIO(tiff(page, order=order, big=big))) as opened:
            found = opened.pages[0].asarray()
        found = np.moveaxis(found, 0, -1) if planes else found
        assert np.array_equal(found.astype(int), samples)
