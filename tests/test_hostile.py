"""Odd and hostile files (`hostile.py`): recorded with a reason or read correctly, in bounded time and memory."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

import hostile
import imgrec
from conftest import Cli
from hostile import encoded
from imgrec import images
from imgrec.images import decoding
from imgrec.images import files as local_files
from imgrec.kinds import Image, Vectors
from soak import fuzz

GIB = 2**30


def peak_memory(process: subprocess.Popen[Any], seconds: float = 300) -> int:
    """Bytes that a process has in memory at the most, until its end."""
    peak, deadline = 0, time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("it hangs")
        told = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        peak = int(told[1]) * 1024 if told else peak
        time.sleep(0.01)
    return peak


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_an_ingest_of_all_of_them(cli: Cli, tmp_path: Path) -> None:
    expected = hostile.make(tmp_path / "hostile")
    command = [sys.executable, "-m", "imgrec", "ingest", "hostile"]
    with (
        (tmp_path / "err").open("wb") as err,
        subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=err) as process,
    ):
        assert peak_memory(process) < GIB
        assert process.stdout is not None
        told = process.stdout.read().decode()
    errors = (tmp_path / "err").read_bytes().decode(errors="surrogateescape")
    assert process.returncode == 0, errors
    failing = sum(reason != hostile.READ for reason in expected.values())
    assert f"{len(expected) - failing} new, 0 unchanged, 0 moved, 0 missing, {failing} failed" in told
    assert "Traceback" not in errors
    with imgrec.build("store", "sqlite", path=str(tmp_path / "outputs" / "gallery.sqlite")) as store:
        failures = {os.path.relpath(each.path, tmp_path / "hostile"): each.reason for each in store.failures()}
        read = {os.path.relpath(each.path, tmp_path / "hostile") for each in store.records()}
        digests = {each.digest for each in store.records()}
        assert store.digests(store.spaces()[0]) == digests
    assert read == {name for name, reason in expected.items() if reason == hostile.READ}
    assert failures.keys() == expected.keys() - read
    for name, reason in failures.items():
        assert re.search(expected[name], reason), f"{name}: {reason}"
    # What has such names is found and told like the rest, and each warning is a line.
    listed = cli("failures", "format=json").json()
    assert {os.path.relpath(each["path"], tmp_path / "hostile") for each in listed} == failures.keys()
    assert all(line.startswith("imgrec: ") for line in errors.splitlines() if "hostile/" in line)
    found = cli("recommend", Path("hostile") / "new\nline.jpg", "k=3", "format=json").json()
    assert len(found["matches"]) == 3
    again = cli("ingest", "hostile").out
    assert f"{len(read)} unchanged" in again
    assert f"{failing} failed, 0 extracted" in again


# --- what decoding gives: pixels worked out by hand ---------------------------------------------------------

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def of(mode: str, *values: Any, **info: Any) -> PIL.Image.Image:
    """A picture of one line."""
    picture = PIL.Image.new(mode, (len(values), 1))
    picture.putdata(values)
    picture.info.update(info)
    return picture


def palette(*colours: tuple[int, int, int]) -> PIL.Image.Image:
    picture = of("P", *range(len(colours)))
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def blocks(mode: str, *values: Any) -> PIL.Image.Image:
    """A line of squares of 16, which a JPEG keeps apart."""
    return of(mode, *values).resize((16 * len(values), 16), PIL.Image.Resampling.NEAREST)


def deep_png(colour: int, *samples: int) -> bytes:
    """Of 16 bits a sample, one pixel: Pillow does not write such in colour."""
    header = struct.pack(">IIBBBBB", 1, 1, 16, colour, 0, 0, 0)
    line = zlib.compress(b"\0" + struct.pack(f">{len(samples)}H", *samples))
    chunks = [hostile.chunk(*each) for each in ((b"IHDR", header), (b"IDAT", line), (b"IEND", b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


GOLDEN: dict[str, tuple[Callable[[], bytes], list[tuple[int, int, int]]]] = {
    "png": (lambda: encoded(of("RGB", RED, GREEN, (1, 2, 3)), "PNG"), [RED, GREEN, (1, 2, 3)]),
    "bmp": (lambda: encoded(of("RGB", RED, GREEN, (1, 2, 3)), "BMP"), [RED, GREEN, (1, 2, 3)]),
    "tga": (lambda: encoded(of("RGB", RED, GREEN, (1, 2, 3)), "TGA"), [RED, GREEN, (1, 2, 3)]),
    "ppm": (lambda: b"P3 2 1 255  255 0 0  1 2 3\n", [RED, (1, 2, 3)]),
    "one pixel": (lambda: encoded(of("RGB", (7, 8, 9)), "PNG"), [(7, 8, 9)]),
    "lossless webp": (lambda: encoded(of("RGB", RED, (1, 2, 3)), "WEBP", lossless=True), [RED, (1, 2, 3)]),
    "jpeg 2000": (lambda: encoded(blocks("RGB", RED, BLUE), "JPEG2000"), [RED, BLUE]),
    "grey": (lambda: encoded(of("L", 0, 77, 255), "PNG"), [BLACK, (77, 77, 77), WHITE]),
    "bilevel": (lambda: encoded(of("1", 0, 255), "PNG"), [BLACK, WHITE]),
    "palette": (lambda: encoded(palette(RED, (9, 8, 7)), "PNG"), [RED, (9, 8, 7)]),
    "palette, one colour transparent": (
        lambda: encoded(palette(RED, BLUE), "PNG", transparency=1),
        [RED, WHITE],
    ),
    "16 bits, grey": (lambda: encoded(of("I;16", 0x0000, 0x4D80, 0xFFFF), "PNG"), [BLACK, (77, 77, 77), WHITE]),
    "16 bits, tiff": (lambda: encoded(of("I;16", 0x00FF, 0x4D80, 0xFFFF), "TIFF"), [BLACK, (77, 77, 77), WHITE]),
    "16 bits, colour": (lambda: deep_png(2, 0x01FF, 0x8000, 0xFFFF), [(1, 128, 255)]),
    # Alpha of 128: 200 x 128/255 + 255 x 127/255 = 227.4.
    "alpha over colour": (lambda: encoded(of("RGBA", (200, 0, 255, 128)), "PNG"), [(227, 127, 255)]),
    "alpha of nought hides any colour": (lambda: encoded(of("RGBA", (9, 9, 9, 0)), "PNG"), [WHITE]),
    "alpha over grey": (lambda: encoded(of("LA", (0, 255), (0, 0)), "PNG"), [BLACK, WHITE]),
    "alpha, webp": (lambda: encoded(of("RGBA", (*RED, 0), (*RED, 255)), "WEBP", lossless=True), [WHITE, RED]),
    "first frame of a gif": (
        lambda: encoded(palette(RED, GREEN), "GIF", save_all=True, append_images=[palette(BLUE, BLUE)]),
        [RED, GREEN],
    ),
    "first frame of a png": (
        lambda: encoded(of("RGB", RED), "PNG", save_all=True, append_images=[of("RGB", BLUE)]),
        [RED],
    ),
    "first frame of a webp": (
        lambda: encoded(of("RGB", RED), "WEBP", save_all=True, append_images=[of("RGB", BLUE)], lossless=True),
        [RED],
    ),
    "first page of a tiff": (
        lambda: encoded(of("RGB", RED), "TIFF", save_all=True, append_images=[of("RGB", BLUE)]),
        [RED],
    ),
    # Ink: (255 - ink) x (255 - black) / 255.
    "cmyk, tiff": (lambda: encoded(of("CMYK", (255, 0, 0, 0), (0, 0, 0, 255)), "TIFF"), [(0, 255, 255), BLACK]),
    "a profile is ignored": (
        lambda: encoded(
            of("RGB", (1, 2, 3)),
            "PNG",
            icc_profile=PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("XYZ")).tobytes(),
        ),
        [(1, 2, 3)],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_decoded_pixels_are_those_worked_out_by_hand(name: str) -> None:
    data, expected = GOLDEN[name]
    decoded = images.decode(data())
    if decoded.shape[0] > 1:  # squares
        decoded = decoded[8:9, 8::16]
    assert decoded.tolist() == [[list(pixel) for pixel in expected]]


@pytest.mark.parametrize(
    ("options", "mode"),
    [({}, "RGB"), ({"progressive": True}, "RGB"), ({}, "CMYK"), ({"progressive": True}, "CMYK")],
)
def test_jpeg_of_every_coding_and_ink_has_its_colours(options: dict[str, object], mode: str) -> None:
    # Pillow writes CMYK inverted, with Adobe's marker, as all programs do.
    colours = {
        "RGB": (RED, (10, 200, 30), WHITE),
        "CMYK": ((0, 255, 255, 0), (245, 55, 225, 0), (0, 0, 0, 0)),
    }[mode]
    data = encoded(blocks(mode, *colours), "JPEG", quality=100, subsampling=0, **options)
    near = images.decode(data)[8, 8::16].astype(int)
    assert np.abs(near - [RED, (10, 200, 30), WHITE]).max() <= 3
    half = images.decode(data, 8)
    assert half.shape == (8, 24, 3)
    assert np.abs(half[4, 4::8].astype(int) - [RED, (10, 200, 30), WHITE]).max() <= 3


def test_the_first_picture_of_an_mpo_is_taken() -> None:
    data = encoded(blocks("RGB", RED), "MPO", save_all=True, append_images=[blocks("RGB", BLUE)])
    assert np.abs(images.decode(data)[8, 8].astype(int) - RED).max() <= 3


# L is the dark corner of a picture of 2 x 3, F the light one beside it: where they are stored, by orientation.
UPRIGHT = np.array([[0, 255], [90, 90], [90, 90]], np.uint8)
STORED = {
    1: [[0, 255], [90, 90], [90, 90]],
    2: [[255, 0], [90, 90], [90, 90]],
    3: [[90, 90], [90, 90], [255, 0]],
    4: [[90, 90], [90, 90], [0, 255]],
    5: [[0, 90, 90], [255, 90, 90]],
    6: [[255, 90, 90], [0, 90, 90]],
    7: [[90, 90, 255], [90, 90, 0]],
    8: [[90, 90, 0], [90, 90, 255]],
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_that_of_the_exif_standard(orientation: int, format: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(np.array(STORED[orientation], np.uint8), np.ones((16, 16), np.uint8))
    data = encoded(PIL.Image.fromarray(stored).convert("RGB"), format, exif=exif, quality=100)
    decoded = images.decode(data)[8::16, 8::16, 0].astype(int)
    assert np.abs(decoded - UPRIGHT).max() <= 3


def test_a_large_picture_is_converted_part_by_part_and_is_the_same() -> None:
    random = np.random.default_rng(0)
    pixels = np.kron(random.integers(0, 256, (30, 30, 4), np.uint8), np.ones((40, 40, 1), np.uint8))
    decoded = images.decode(encoded(PIL.Image.fromarray(pixels), "PNG"))
    assert pixels.shape[0] * pixels.shape[1] > decoding._BAND
    alpha = pixels[:, :, 3:] / 255
    assert np.abs(decoded - (pixels[:, :, :3] * alpha + 255 * (1 - alpha))).max() <= 1


@pytest.mark.parametrize(
    ("data", "scans"),
    [
        (encoded(hostile.photograph(), "JPEG"), 1),
        (encoded(hostile.photograph(), "JPEG", progressive=True), 10),
        (encoded(hostile.photograph(), "MPO", save_all=True, append_images=[hostile.photograph()]), 1),
        (hostile.jpeg(160, 120, 60), 1),  # what follows a whole picture is not looked at
        (hostile.jpeg(160, 120, 60, progressive=True), 70),
        (b"\xff\xd8", 0),
        (b"\xff\xd8\xff", 0),
    ],
)
def test_scans_of_a_jpeg_are_counted(data: bytes, scans: int) -> None:
    assert decoding._scans(data) == scans


@pytest.mark.parametrize(("format", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
def test_memory_is_told_before_decoding(format: str, options: dict[str, object]) -> None:
    read = images.Encoded.of(encoded(PIL.Image.new("RGB", (1600, 1600)), format, **options))
    pixels = 1600 * 1600
    full, reduced = (read.memory([side]) - len(read.data) for side in (None, 200))
    if format == "PNG":
        assert full == reduced == 8 * pixels + len(read.data)
    else:
        kept = 6 * pixels if options else 0
        assert (full, reduced) == (kept + 7 * pixels, kept + 7 * pixels // 64)


# --- files that do not keep still ---------------------------------------------------------------------------


def picture(value: int, size: int = 64) -> bytes:
    pixels = np.random.default_rng(value).integers(0, 256, (size, size, 3), np.uint8)
    return encoded(PIL.Image.fromarray(pixels), "PNG")


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(picture(2)),
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        lambda file: file.write_bytes(b""),
        lambda file: os.utime(file, (1, 1)),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_refused(
    change: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(1))
    status, changes = os.fstat, [change]

    def changing(number: int) -> os.stat_result:
        found = status(number)
        if changes:  # when its size is known, and nothing is read yet
            changes.pop()(file)
        return found

    monkeypatch.setattr(os, "fstat", changing)
    with pytest.raises(images.UnreadableImageError, match="changed while it was read"):
        images.read(str(file))
    assert images.is_worth_another_try(images.CHANGED)
    assert images.read(str(file))[0] == file.read_bytes()


def test_a_pipe_or_a_device_is_never_waited_for(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(images.UnreadableImageError, match="not a regular file"):
            images.read(str(tmp_path / name))
    # One that takes a file's place after it was looked at is not waited for either.
    os.close(local_files._without_waiting(str(tmp_path / "pipe.jpg"), os.O_RDONLY))
    refused = cli("ingest", "pipe.jpg", code=1)
    assert "not a regular file" in refused.err


def test_what_is_recorded_belongs_to_what_was_read(tmp_path: Path) -> None:
    """Between being found and being read a file changes."""
    file = tmp_path / "a.png"
    file.write_bytes(picture(1))
    (found,) = images.find([str(tmp_path)])
    file.write_bytes(picture(2) + b"x")
    os.utime(file, ns=(5, 5))
    item = imgrec.read_item(found)
    assert (item.file.size, item.file.mtime_ns) == (file.stat().st_size, 5)
    assert item.digest == images.read(str(file))[1]


def test_bytes_that_are_read_again_are_those_that_were_planned(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(1))
    (found,) = images.find([str(tmp_path)])
    item = imgrec.read_item(found)
    bytes_before, item.encoded = item.encoded, None
    assert (imgrec.read_again(item).encoded, item.reason) == (bytes_before, None)
    file.write_bytes(picture(2))
    assert (imgrec.read_again(item).encoded, item.reason) == (None, images.CHANGED)
    file.unlink()
    assert imgrec.read_again(item).reason == "cannot be opened: No such file or directory"


@dataclass
class Brightness(imgrec.Extractor):
    """The mean of all values."""

    def extract(self, images: Sequence[Image]) -> Vectors:
        return np.array([[image.mean()] for image in images], np.float32)


def test_a_file_that_vanishes_is_missing_and_not_forgotten(
    few: Path, store: imgrec.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    imgrec.ingest(few, Brightness(), store)
    before = {(record.path, record.digest) for record in store.records()}
    vanishing, read = few / "flower" / "flower-1-2.jpg", images.read_as_found
    os.utime(vanishing, (9, 9))
    (few / "flower" / "new.png").write_bytes(picture(1))
    (few / "flower" / "new-and-gone.png").write_bytes(picture(2))

    def read_too_late(path: str) -> tuple[bytes, str, imgrec.ImageFile]:
        if Path(path) == vanishing or path.endswith("gone.png"):
            Path(path).unlink()
        return read(path)

    monkeypatch.setattr(images, "read_as_found", read_too_late)
    summary = imgrec.ingest(few, Brightness(), store)
    assert (summary.new, summary.unchanged, summary.missing, summary.failed) == (1, 11, 1, 0)
    records = list(store.records())
    assert {(each.path, each.digest) for each in records if "new" not in each.path} == before
    assert [each.path for each in records if each.missing] == [str(vanishing)]
    assert list(store.failures()) == []
    assert {digest for _, digest in before} <= store.digests(store.spaces()[0])


def test_files_that_are_written_all_the_time_are_recorded_as_they_were_or_not_at_all(
    few: Path, store: imgrec.Store
) -> None:
    """A thread writes files anew while they are ingested: a record's size, time and digest are of one moment."""
    files, contents = sorted(few.rglob("*.jpg")), [picture(i, 128 + i) for i in range(2)]
    stop = threading.Event()

    def write() -> None:
        for turn in range(10**9):
            for file in files[::2]:
                if stop.is_set():
                    return
                with file.open("r+b") as opened:
                    for start in range(0, len(contents[turn % 2]), 4096):
                        opened.write(contents[turn % 2][start : start + 4096])
                        opened.flush()
                    opened.truncate()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            imgrec.ingest(few, Brightness(), store)
    finally:
        stop.set()
        thread.join()
    imgrec.ingest(few, Brightness(), store)
    for record in store.records():
        _, digest, found = images.read_as_found(record.path)
        assert (record.size, record.mtime_ns, record.digest) == (found.size, found.mtime_ns, digest)
    assert len(list(store.records())) == 12
    assert list(store.failures()) == []


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder of folders 1,200 deep, which Python's own ways of removing cannot remove."""
    home = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    for _ in range(1_200):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    Path("deep.png").write_bytes(picture(1))
    os.fchdir(home)
    os.close(home)
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_folders_a_thousand_deep_are_searched(deep: Path) -> None:
    (found,) = images.find([str(deep)])
    assert found.path.endswith("/d/d/deep.png")
    assert images.decode(images.read(found.path)[0]).shape == (64, 64, 3)


# --- altered at random --------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_three_hundred_altered_files_are_read_or_refused() -> None:
    counts = fuzz.run(300, seed=1)
    assert sum(counts.outcomes.values()) == 300
    assert min(counts.outcomes["read"], counts.outcomes["refused"]) > 50


def test_a_process_that_dies_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuzz.py").write_text("import os\nprint('begun 7', flush=True)\nos.abort()\n")
    monkeypatch.setattr(fuzz, "__file__", str(tmp_path / "fuzz.py"))
    with pytest.raises(AssertionError, match=r"case 7 of seed 0: exit -6"):
        fuzz.run(8)
