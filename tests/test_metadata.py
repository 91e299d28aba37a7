"""What lies beside the pixels: it turns a picture or tells its time, and no damage in it costs the picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hostile
from hostile import encoded
from imgrec import images
from imgrec.images import containers, metadata, tiff, warned
from imgrec.kinds import Image

STORED = np.kron(np.array([[255, 90, 90], [0, 90, 90]], np.uint8), np.ones((16, 16), np.uint8))
"""By orientation 6: upright it is 3 high and 2 wide, dark at the top left and light at the top right."""

UPRIGHT = [[0, 255], [90, 90], [90, 90]]

ORIENTATION, SOFTWARE, EXIF, TAKEN = 274, 305, 34665, 36867

Entry = tuple[int, int, int, int | bytes]
"""Tag, type, count, and a value or four bytes."""


def directory(order: str, *entries: Entry, count: int | None = None) -> bytes:
    """An Exif directory at position 8."""
    packed = [struct.pack(f"{order}H", len(entries) if count is None else count)]
    for tag, kind, number, value in entries:
        size = {3: "H2x", 8: "h2x", 1: "B3x"}.get(kind, "I")
        field = value if isinstance(value, bytes) else struct.pack(order + size, value)
        packed.append(struct.pack(f"{order}HHI", tag, kind, number) + field)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", 8) + b"".join(packed) + bytes(4)


SIX: Entry = (ORIENTATION, 3, 1, 6)

EXIF_BLOCKS: dict[str, tuple[bytes, bool]] = {
    "as it should be": (directory(">", SIX), True),
    "little-endian": (directory("<", SIX), True),
    "the orientation is LONG": (directory(">", (ORIENTATION, 4, 1, 6)), True),
    "the orientation is LONG, little-endian": (directory("<", (ORIENTATION, 4, 1, 6)), True),
    "the orientation is a BYTE": (directory(">", (ORIENTATION, 1, 1, 6)), True),
    "the orientation is signed": (directory("<", (ORIENTATION, 8, 1, 6)), True),
    "two values": (directory(">", (ORIENTATION, 3, 2, struct.pack(">HH", 6, 1))), True),
    "beside a tag of an odd type": (directory(">", SIX, (SOFTWARE, 12, 1, 8)), True),
    "beside a tag of an unknown type": (directory(">", (270, 99, 7, 5), SIX), True),
    "beside a tag far behind the end": (directory("<", (271, 2, 40, 2**31), SIX), True),
    "beside a tag of four thousand million values": (directory("<", (271, 2, 2**32 - 1, 9), SIX), True),
    "beside an inner directory that points at itself": (directory(">", SIX, (EXIF, 4, 1, 8)), True),
    "beside an inner directory behind the end": (directory(">", SIX, (EXIF, 4, 1, 9_999)), True),
    "tags not in order": (directory(">", (SOFTWARE, 2, 4, b"abc\0"), SIX), True),
    "more entries said than are there": (directory(">", SIX, count=500), True),
    "'Exif' once": (b"Exif\0\0" + directory(">", SIX), True),
    "'Exif' twice": (b"Exif\0\0Exif\0\0" + directory(">", SIX), True),
    "an orientation of 9": (directory(">", (ORIENTATION, 3, 1, 9)), False),
    "an orientation of text": (directory(">", (ORIENTATION, 2, 2, b"6\0\0\0")), False),
    "cut behind its header": (b"MM\0*\0\0", False),
    "cut in its entry": (directory(">", SIX)[:16], False),
    "no TIFF": (b"garbage garbage", False),
    "empty": (b"", False),
}
"""EXIF in all states, and whether it still tells that the picture is to be turned."""


def jpeg(exif: bytes, *, more: bytes = b"") -> bytes:
    data = encoded(PIL.Image.fromarray(STORED).convert("RGB"), "JPEG", quality=100)
    body = exif if exif.startswith(b"Exif") else b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + more + data[2:]


def png(exif: bytes, *chunks: tuple[bytes, bytes], behind: bool = False) -> bytes:
    data = encoded(PIL.Image.fromarray(STORED), "PNG")
    at = len(data) - 12 if behind else 33
    more = b"".join(hostile.chunk(*each) for each in ((b"eXIf", exif), *chunks))
    return data[:at] + more + data[at:]


def webp(exif: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    data = encoded(PIL.Image.fromarray(STORED).convert("RGB"), "WEBP", lossless=True)
    canvas = struct.pack("<I", 0x08) + b"".join((side - 1).to_bytes(3, "little") for side in STORED.shape[::-1])
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + data[12:]
    for kind, content in ((b"EXIF", exif), *chunks):
        body += kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif(exif: bytes) -> bytes:
    """Its own property, not EXIF, turns it."""
    place = b"x" * max(len(exif), 8)
    good = PIL.Image.Exif()
    good[SOFTWARE], good[ORIENTATION] = place.decode(), 6
    data = encoded(PIL.Image.fromarray(STORED).convert("RGB"), "AVIF", exif=good.tobytes(), quality=100)
    text = data.index(place)
    start = data.rindex(b"MM\0*", 0, text)
    return data[:start] + exif.ljust(text + len(place) - start, b"\0") + data[text + len(place) :]


WRITERS: dict[str, Callable[[bytes], bytes]] = {"JPEG": jpeg, "PNG": png, "WebP": webp, "AVIF": avif}


def is_upright(decoded: Image) -> bool:

    return decoded.shape[0] == 48 and bool(np.abs(decoded[8::16, 8::16, 0].astype(int) - UPRIGHT).max() <= 3)


def is_as_stored(decoded: Image) -> bool:
    return decoded.shape[:2] == STORED.shape and bool(np.abs(decoded[:, :, 0].astype(int) - STORED).max() <= 3)


@pytest.mark.parametrize("state", EXIF_BLOCKS)
@pytest.mark.parametrize("format", WRITERS)
def test_exif_in_any_state_costs_no_picture_and_turns_it_where_it_still_says_so(format: str, state: str) -> None:
    exif, turns = EXIF_BLOCKS[state]
    data = WRITERS[format](exif)
    with warned.heard() as warnings:
        read = images.Encoded.of(data)
        decoded = read.decode([None])[None]
    assert is_upright(decoded) if turns or format == "AVIF" else is_as_stored(decoded)
    assert read.upright == decoded.shape[1::-1]
    assert warnings == []


@pytest.mark.parametrize("state", EXIF_BLOCKS)
def test_a_heic_is_turned_by_its_own_property(state: str) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    good = directory(">", SIX, (SOFTWARE, 2, 100, 38)) + b"x" * 100
    data = encoded(PIL.Image.fromarray(STORED).convert("RGB"), "HEIF", exif=good, quality=100)
    assert data.count(good[-100:]) == 1
    exif = EXIF_BLOCKS[state][0].ljust(len(good), b"\0")
    at = data.index(good[-100:]) + 100 - len(good)
    decoded = images.decode(data[:at] + exif + data[at + len(good) :])
    assert is_upright(decoded)


def tiff_of(order: str, *entries: Entry) -> bytes:
    """A grey TIFF of one strip; its own directory is its EXIF."""
    height, width = STORED.shape
    own: list[Entry] = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, STORED.size),
    ]  # fmt: skip
    every = sorted([*own, *entries])
    at = len(directory(order, *every))
    return directory(order, *((t, k, n, at if t == 273 else v) for t, k, n, v in every)) + STORED.tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "neighbours",
    [
        [],
        [(SOFTWARE, 12, 1, 8)],
        [(270, 99, 7, 5)],
        [(271, 2, 40, 2**31)],
        [(271, 2, 2**32 - 1, 9)],
        [(EXIF, 4, 1, 8)],
        [(EXIF, 4, 1, 9_999)],
        [(700, 1, 30, 20), (34675, 7, 500_000, 4), (33723, 4, 9_000, 1)],
        [(65_000, 5, 7, 2**32 - 1)],
    ],
)
@pytest.mark.parametrize("kind", [3, 4])
def test_a_tiff_is_turned_whatever_its_other_tags_are(kind: int, neighbours: list[Entry], order: str) -> None:
    assert is_upright(images.decode(tiff_of(order, (ORIENTATION, kind, 1, 6), *neighbours)))


LONG_TEXT = np.random.default_rng(0).bytes(700_000).hex().encode()


@pytest.mark.parametrize(
    ("chunks", "wrong_checksum"),
    [
        ([(b"zTXt", b"workflow\0\0" + zlib.compress(LONG_TEXT))], False),
        ([(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG_TEXT))], False),
        ([(b"iTXt", b"XML:com.adobe.xmp\0\1\7\0\0no zlib")], False),
        ([(b"iCCP", b"big\0\0" + zlib.compress(LONG_TEXT))], False),
        ([(b"iCCP", b"no end of its name")], False),
        ([(b"pHYs", b"\0\0")], False),
        ([(b"tIME", b"")], False),
        ([(b"tEXt", b"a\0b")], True),
        ([(b"eXIf", directory(">", SIX))], True),
        ([(b"gAMA", b"")], False),
        ([(b"cHRM", b"\0")], False),
        ([(b"acTL", b"\0")], False),
        ([(b"zzZz", b"unknown")], True),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_no_ancillary_chunk_costs_a_png(
    chunks: list[tuple[bytes, bytes]], wrong_checksum: bool, behind: bool
) -> None:
    data = png(directory("<", SIX), *chunks, behind=behind)
    if wrong_checksum:
        body = chunks[0][0] + chunks[0][1]
        at = data.rindex(body) + len(body)
        data = data[:at] + b"\0\0\0\0" + data[at + 4 :]
    assert is_upright(images.decode(data))


def test_a_checksum_of_what_makes_pixels_counts() -> None:
    data = encoded(PIL.Image.new("P", (2, 2)), "PNG", transparency=0)
    at = data.index(b"tRNS") + 5
    with warned.heard() as warnings:
        decoded = images.decode(data[:at] + b"\0\0\0\0" + data[at + 4 :])
    assert warnings == ["transparency with a wrong checksum is ignored"]
    assert decoded.tolist() == [[[0, 0, 0]] * 2] * 2
    at = data.index(b"IDAT") + 4 + struct.unpack(">I", data[data.index(b"IDAT") - 4 :][:4])[0]
    with warned.heard() as warnings:
        images.decode(data[:at] + b"\0\0\0\0" + data[at + 4 :])
    assert warnings == ["wrong checksum of IDAT"]


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"XMP ", b"<x:xmpmeta")],
        [(b"ICCP", b"no profile")],
        [(b"zzzz", b"unknown")],
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_no_chunk_beside_the_pixels_costs_a_webp(chunks: list[tuple[bytes, bytes]], cut: int) -> None:
    data = webp(directory(">", SIX), *chunks)
    assert is_upright(images.decode(data[: len(data) - cut]))


@pytest.mark.parametrize("marker", [*range(0xE1, 0xEE), 0xEF, 0xFE])
@pytest.mark.parametrize(
    "body", [b"", b"MPF\0garbage", b"ICC_PROFILE\0\1\7x", b"Photoshop 3.0\0008BIM\4\4", b"Exif"]
)
def test_no_segment_of_an_application_costs_a_jpeg(marker: int, body: bytes) -> None:
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
    assert is_upright(images.decode(jpeg(directory(">", SIX), more=segment)))
    second = b"\xff\xe1" + struct.pack(">H", 17) + b"Exif\0\0no TIFF.."
    whole = jpeg(directory(">", SIX), more=segment)
    assert is_upright(images.decode(whole[:2] + second + whole[2:]))


def test_an_orientation_in_xmp_alone_turns_nothing() -> None:
    """As in browsers, and as the Metadata Working Group has it: EXIF tells."""
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="6"/>'
    assert is_as_stored(images.decode(png(b"", (b"iTXt", xmp))))


def test_the_time_is_read_beside_damage() -> None:
    inner = struct.pack(">H", 1) + struct.pack(">HHII", TAKEN, 2, 20, 100) + bytes(4)
    exif = directory(">", (271, 99, 9, 9), SIX, (EXIF, 4, 1, 60)).ljust(60, b"\0") + inner
    exif = exif.ljust(100, b"\0") + b"2024:05:31 18:04:09\0"
    for write in (jpeg, png, webp):
        assert images.Encoded.of(write(exif)).about.taken == "2024-05-31T18:04:09"


def test_exif_in_text_as_image_magick_wrote_it() -> None:
    raw = b"\nexif\n      34\n" + directory(">", SIX).hex().encode() + b"\n"
    for chunk in (
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)),
        (b"tEXt", b"Raw profile type exif\0" + raw),
    ):
        assert is_upright(images.decode(png(b"", chunk)))


@settings(max_examples=300)
@given(st.data())
def test_readers_of_containers_and_exif_take_any_bytes(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from([*WRITERS, "TIFF"]))
    exif = directory(data.draw(st.sampled_from("<>")), SIX, (EXIF, 4, 1, 8))
    whole = bytearray(tiff_of("<", SIX) if format == "TIFF" else SAMPLES.setdefault(format, WRITERS[format](exif)))
    for position in data.draw(st.lists(st.integers(0, min(400, len(whole) - 1)), max_size=6)):
        whole[position] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    found = containers.of(damaged)
    assert len(found.open().read()) <= len(damaged) + 8
    assert metadata.of(found.exif).orientation in range(1, 9)


SAMPLES: dict[str, bytes] = {}


@given(
    st.lists(st.binary(max_size=9), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 40), st.integers(-1, 30))),
)
def test_a_file_in_parts_reads_as_one(parts: list[bytes], reads: list[tuple[int, int]]) -> None:
    file, whole = io.BufferedReader(containers._Joined(parts)), io.BytesIO(b"".join(parts))
    for start, count in reads:
        assert file.seek(start) == whole.seek(start)
        assert file.read(count) == whole.read(count)
        assert file.tell() == whole.tell()


def test_pages_that_point_at_each_other_end() -> None:
    page = struct.pack("<H", 1) + struct.pack("<HHIHH", *SIX[:3], 6, 0)
    data = b"II*\0" + struct.pack("<I", 8) + page + struct.pack("<I", 26) + page + struct.pack("<I", 8)
    assert [each.start for each in tiff.directories(data)] == [8, 26]


def test_a_big_tiff_tells_its_orientation() -> None:
    entry = struct.pack(">HHQHxxxxxx", ORIENTATION, 3, 1, 6)
    data = b"MM\0+\0\10\0\0" + struct.pack(">QQ", 16, 1) + entry + bytes(8)
    (page,) = tiff.directories(data)
    assert page.whole(ORIENTATION) == 6
