"""PNM, PFM, PAM, BMP and TGA: each depth and order of samples, by the samples that were written, or a reason."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest

from imgrec import images

Samples = npt.NDArray[np.int64]

WIDTH, HEIGHT = 21, 13


def picture(channels: int, top: int) -> Samples:
    found = np.random.default_rng(channels + top).integers(0, top + 1, (HEIGHT, WIDTH, channels))
    found[0, :3], found[-1, -3:] = 0, top
    return found


def differ(data: bytes, share: npt.NDArray[np.floating]) -> float:
    expected = 255 * np.broadcast_to(share, (HEIGHT, WIDTH, 3))
    decoded = images.decode(data)
    assert decoded.shape == expected.shape
    return float(np.abs(decoded - expected).max())


# --- PNM ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 2, 3, 7, 15, 100, 254, 255, 256, 1000, 1023, 4095, 32767, 65534, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_pnm_of_every_maximum(channels: int, top: int, *, plain: bool) -> None:
    samples = picture(channels, top)
    kind = {1: "P2" if plain else "P5", 3: "P3" if plain else "P6"}[channels]
    body = (
        " ".join(map(str, samples.ravel())).encode()
        if plain
        else samples.astype(">u2" if top > 255 else "u1").tobytes()
    )
    assert differ(f"{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{top}\n".encode() + body, samples / top) <= 1


@pytest.mark.parametrize("plain", [False, True])
def test_pbm_where_1_is_black(*, plain: bool) -> None:
    samples = picture(1, 1)
    packed = np.packbits(samples[:, :, 0].astype(bool), axis=1).tobytes()
    body = "".join(map(str, samples.ravel())).encode() if plain else packed
    assert differ(f"P{1 if plain else 4} {WIDTH} {HEIGHT}\n".encode() + body, (1 - samples).astype(float)) == 0


@pytest.mark.parametrize("head", ["Pf\n{} {}\n-1.0\n", "PF\n{} {}\n1.0\n"])
def test_floating_point_pfm_is_refused(head: str) -> None:
    with pytest.raises(images.UnreadableImageError):
        images.decode(head.format(WIDTH, HEIGHT).encode() + bytes(12 * WIDTH * HEIGHT))


# --- BMP ----------------------------------------------------------------------------------------------------


def bmp(
    rows: list[bytes], bits: int, table: bytes = b"", masks: tuple[int, ...] = (), *, upward: bool = True
) -> bytes:
    """With a BITMAPINFOHEADER, or BITMAPV4HEADER if there are masks."""
    rows = [row + bytes(-len(row) % 4) for row in rows]
    body = b"".join(rows[::-1] if upward else rows)
    size = 108 if masks else 40
    start = 14 + size + len(table)
    height = HEIGHT if upward else -HEIGHT
    header = struct.pack("<IiiHHIIiiII", size, WIDTH, height, 1, bits, 3 if masks else 0, len(body), 0, 0, 0, 0)
    if masks:
        header += struct.pack("<4I", *masks) + bytes(108 - 56)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + table + body


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_with_a_palette(bits: int, *, upward: bool) -> None:
    samples = picture(1, 2**bits - 1)[:, :, 0]
    table = np.random.default_rng(bits).integers(0, 256, (2**bits, 4))
    each = ((samples[:, :, None] >> np.arange(bits)[::-1]) & 1).astype(bool).reshape(HEIGHT, -1)
    rows = [row.tobytes() for row in np.packbits(each, axis=1)]
    assert (
        differ(bmp(rows, bits, bytes(table.ravel().tolist()), upward=upward), table[samples][:, :, 2::-1] / 255)
        == 0
    )


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, ()),
        (16, (0xF800, 0x07E0, 0x001F, 0)),
        (16, (0x7C00, 0x03E0, 0x001F, 0)),
        (24, ()),
        (32, ()),
        (32, (0xFF0000, 0xFF00, 0xFF, 0)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
        (16, (0x0F00, 0x00F0, 0x000F, 0xF000)),
    ],
)
def test_bmp_in_colour(bits: int, masks: tuple[int, ...], *, upward: bool) -> None:
    """Right to one level, but for a mask that Pillow does not know, which is refused."""
    where = (
        masks
        or {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}[bits]
    )
    pixels, shares = np.zeros((HEIGHT, WIDTH), np.int64), []
    for i, mask in enumerate(where):
        low = mask & -mask
        top = mask // low if mask else 1
        values = (
            picture(1, top)[::-1, i:].repeat(2, axis=1)[:, :WIDTH, 0] if mask else np.ones((HEIGHT, WIDTH), int)
        )
        pixels += values * low
        shares.append(values / top)
    rows = [b"".join(int(pixel).to_bytes(bits // 8, "little") for pixel in row) for row in pixels]
    share = np.stack(shares, axis=2)
    expected = share[:, :, :3] * share[:, :, 3:] + 1 - share[:, :, 3:]
    data = bmp(rows, bits, masks=masks, upward=upward)
    try:
        assert differ(data, expected) <= 1
    except images.UnreadableImageError as error:
        assert "bitfields" in str(error).lower()
        assert masks in ((0xFF, 0xFF00, 0xFF0000, 0), (0x3FF00000, 0xFFC00, 0x3FF, 0), (0x0F00, 0xF0, 0xF, 0xF000))


# --- TGA ----------------------------------------------------------------------------------------------------


def tga(
    kind: int, bits: int, rows: list[bytes], table: bytes = b"", alpha: int = 0, *, upward: bool, packed: bool
) -> bytes:
    """Truevision TGA 2.0; packed as runs of one pixel each."""
    size = bits // 8
    if packed:
        rows = [b"".join(b"\x80" + row[i : i + size] for i in range(0, len(row), size)) for row in rows]
    head = struct.pack(
        "<BBBHHBHHHHBB", 0, bool(table), kind + 8 * packed, 0, len(table) // 3, 24 if table else 0, 0, 0,
        WIDTH, HEIGHT, bits, alpha | (0 if upward else 0x20),
    )  # fmt: skip
    return head + table + b"".join(rows[::-1] if upward else rows)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [(1, 8), (2, 16), (2, 24), (2, 32), (3, 8), (3, 16)])
def test_tga(kind: int, bits: int, *, upward: bool, packed: bool) -> None:
    top = 31 if bits == 16 and kind == 2 else 255
    samples = picture({8: 1, 16: 2 if kind == 3 else 3, 24: 3, 32: 4}[bits], top)
    share, table, alpha = samples / top, b"", 0
    if kind == 1:
        colours = np.random.default_rng(1).integers(0, 256, (256, 3))
        table, share = bytes(colours.ravel().tolist()), colours[samples[:, :, 0]][:, :, ::-1] / 255
    elif top == 31:
        packed_pixels = samples[:, :, 0] << 10 | samples[:, :, 1] << 5 | samples[:, :, 2]
        rows = [row.astype("<u2").tobytes() for row in packed_pixels]
    elif samples.shape[2] in (2, 4):
        share, alpha = share[:, :, :-1] * share[:, :, -1:] + 1 - share[:, :, -1:], 8
    if top == 255:
        order = [2, 1, 0, 3][: samples.shape[2]] if samples.shape[2] > 2 else [0, 1][: samples.shape[2]]
        rows = [row.astype(np.uint8).tobytes() for row in samples[:, :, order]]
    assert differ(tga(kind, bits, rows, table, alpha, upward=upward, packed=packed), share) <= 1
