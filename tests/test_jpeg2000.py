"""JPEG 2000: components of every depth, sign, number and meaning, by the samples that were written."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest

from imgrec import images

Samples = npt.NDArray[np.int64]

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4s4sI4s", 20, b"ftyp", b"jp2 ", 0, b"jp2 ")

CMYK, SRGB, GREY, SYCC, LAB = 12, 16, 17, 18, 14


def picture(channels: int, bits: int) -> Samples:
    found = np.random.default_rng(bits * 10 + channels).integers(0, 2**bits, (20, 30, channels))
    found[0], found[-1] = 0, 2**bits - 1
    return found


def stream(samples: Samples, bits: int, *, signed: bool = False) -> bytes:
    """A lossless codestream."""
    codecs = pytest.importorskip("imagecodecs", reason="needs imagecodecs, to write what no other library writes")
    stored = samples - (2 ** (bits - 1) if signed else 0)
    array = stored.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    array = array[:, :, 0] if array.shape[2] == 1 else array
    data: bytes = codecs.jpeg2k_encode(
        array, level=0, reversible=True, bitspersample=bits, codecformat="J2K", mct=False, resolutions=1
    )
    return data


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def colour(space: int) -> bytes:
    return box(b"colr", struct.pack(">BBBI", 1, 0, 0, space))


def profile(kind: bytes) -> bytes:
    """A colour profile, of which only its kind is looked at."""
    return box(b"colr", b"\2\0\0" + (bytes(16) + kind).ljust(128, b"\0"))


def meanings(*kinds: int) -> bytes:
    """What each component is: 0 a colour, 1 alpha, 2 premultiplied alpha, 65535 nothing that is told."""
    entries = [struct.pack(">3H", i, kind, 0 if kind else i + 1) for i, kind in enumerate(kinds)]
    return box(b"cdef", struct.pack(">H", len(kinds)) + b"".join(entries))


def jp2(samples: Samples, bits: int, *others: bytes, signed: bool = False) -> bytes:
    height, width, channels = samples.shape
    sizes = struct.pack(">IIHBBBB", height, width, channels, bits - 1 | signed << 7, 7, 0, 0)
    header = box(b"jp2h", box(b"ihdr", sizes) + b"".join(others))
    return SIGNATURE + header + box(b"jp2c", stream(samples, bits, signed=signed))


def differ(data: bytes, share: npt.NDArray[np.floating]) -> float:
    expected = 255 * np.broadcast_to(share, (*share.shape[:2], 3))
    decoded = images.decode(data)
    assert decoded.shape == expected.shape
    return float(np.abs(decoded - expected).max())


def on_white(share: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(share[:, :, :-1] * share[:, :, -1:] + 1 - share[:, :, -1:])


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8, 9, 10, 12, 14, 16])
def test_every_depth_sign_and_number_of_components(bits: int, channels: int, *, signed: bool, boxed: bool) -> None:
    samples = picture(channels, bits)
    share = samples / (2**bits - 1)
    share = on_white(share) if channels in (2, 4) else share
    if boxed:
        space = colour(GREY if channels < 3 else SRGB)
        data = jp2(
            samples,
            bits,
            space,
            *([meanings(0, 1), meanings(0, 0, 0, 1)][channels // 4 :][:1] if channels in (2, 4) else []),
            signed=signed,
        )
    else:
        data = stream(samples, bits, signed=signed)
    if bits > 8 and (channels == 2 or (signed and channels > 1)):
        with pytest.raises(images.UnreadableImageError, match=r"a JPEG 2000 of more than 8 bits .* is not read"):
            images.decode(data)
    else:
        assert differ(data, share) <= 1


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_what_a_fourth_component_means(bits: int) -> None:
    samples = picture(4, bits)
    share = samples / (2**bits - 1)
    rgb, alpha = share[:, :, :3], share[:, :, 3:]
    for kinds, expected in {
        (0, 0, 0, 1): rgb * alpha + 1 - alpha,
        (0, 0, 0, 2): np.minimum(rgb + 1 - alpha, 1),
        (0, 0, 0, 65535): rgb,
    }.items():
        for space in (colour(SRGB), profile(b"RGB ")):
            assert differ(jp2(samples, bits, space, meanings(*kinds)), expected) <= 1
    ink = (1 - rgb) * (1 - alpha)
    for space in (colour(CMYK), profile(b"CMYK")):
        if bits > 8:
            with pytest.raises(images.UnreadableImageError, match="CMYK"):
                images.decode(jp2(samples, bits, space))
        else:
            assert differ(jp2(samples, bits, space), ink) <= 1


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize(
    ("channels", "others", "reason"),
    [
        (3, [colour(LAB)], "colour space 14"),
        (3, [profile(b"Lab ")], "an unknown colour space"),
        (1, [colour(SRGB)], "colour space 16"),
        (3, [colour(GREY)], "3 components"),
        (4, [colour(SRGB), meanings(1, 0, 0, 0)], "another order"),
    ],
)
def test_what_is_not_read_is_refused(bits: int, channels: int, others: list[bytes], reason: str) -> None:
    with pytest.raises(images.UnreadableImageError, match=f"a JPEG 2000 of .*{reason}.* is not read"):
        images.decode(jp2(picture(channels, bits), bits, *others))


def test_a_palette() -> None:
    samples = picture(1, 4)
    table = np.random.default_rng(1).integers(0, 256, (16, 3))
    entries = box(b"pclr", struct.pack(">HB3B", 16, 3, 7, 7, 7) + bytes(table.ravel().tolist()))
    mapped = box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, i) for i in range(3)))
    data = jp2(samples, 4, entries, mapped, colour(SRGB))
    assert differ(data, table[samples[:, :, 0]] / 255) <= 1


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_one_that_is_cut_is_refused(bits: int) -> None:
    data = jp2(picture(3, bits), bits, colour(SRGB))
    for share in (0.05, 0.2, 0.5):
        with pytest.raises(images.UnreadableImageError):
            images.decode(data[: int(share * len(data))])
