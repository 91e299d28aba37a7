"""Damage in the picture itself: read and marked, or refused, never passed over; no line without a file's name."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

import imgrec
from conftest import Cli
from hostile import encoded
from imgrec import images
from imgrec.images import warned
from imgrec.kinds import Image

RANDOM = np.random.default_rng(3)
SMOOTH = cv2.resize(RANDOM.integers(0, 255, (30, 40, 3), np.uint8), (800, 600), interpolation=cv2.INTER_CUBIC)


def jpeg(quality: int = 85, **options: Any) -> bytes:
    return encoded(PIL.Image.fromarray(SMOOTH), "JPEG", quality=quality, **options)


def decoded(data: bytes, side: int | None = None) -> tuple[Image | None, list[str]]:
    """The image, or None where it is refused, and the warnings or the reason."""
    with warned.heard() as warnings:
        try:
            return images.decode(data, side), warnings
        except images.UnreadableImageError as error:
            return None, [str(error)]


def damaged(data: bytes, seed: int) -> bytes:
    """Sixty-four bytes of the picture's coded data are others."""
    random, at = np.random.default_rng(seed), data.index(b"\xff\xda") + 20
    at += int(random.integers(0, len(data) - at - 80))
    return data[:at] + random.integers(0, 255, 64, dtype=np.uint8).tobytes() + data[at + 64 :]


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 2}, {"subsampling": 0}], ids=str
)
def test_a_jpeg_is_marked_just_where_libjpeg_complains(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV prints the complaints of its libjpeg, another build, on stderr."""
    whole, marked = jpeg(**options), 0
    for seed in range(25):
        data = damaged(whole, seed)
        capfd.readouterr()
        for side in (None, 70):
            image, warnings = decoded(data, side)
            assert capfd.readouterr().err == ""
            theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            complaint = capfd.readouterr().err
            if complaint.startswith("Corrupt JPEG data"):
                assert image is None or warnings, complaint
            if image is not None and side is None and theirs is not None:
                assert np.abs(image.astype(int) - theirs).max() <= 2
            marked += bool(warnings)
    assert marked >= 10


def test_a_whole_one_has_no_mark() -> None:
    kinds: list[dict[str, Any]] = [{}, {"progressive": True}, {"restart_marker_rows": 2}, {"optimize": True}]
    for options in kinds:
        assert decoded(jpeg(**options))[1] == []


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("side", [None, 70])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read(options: dict[str, Any], side: int | None) -> None:
    whole = jpeg(**options)
    for cut in (1, 2):
        image, warnings = decoded(whole[:-cut], side)
        assert warnings == ["Premature end of JPEG file"]
        assert image is not None
        assert np.array_equal(image, images.decode(whole, side))
    for length in (len(whole) - 8, len(whole) // 2, whole.index(b"\xff\xda") + 40):
        image, (reason,) = decoded(whole[:length], side)
        assert image is None
        assert reason.startswith("broken image: truncated: Premature end of JPEG file")


def with_odd_sampling(data: bytes) -> bytes:
    """Luminance twice in each direction, one colour once, the other twice: no sampling that has a name."""
    picture = PIL.Image.open(io.BytesIO(data))
    at = data.index(b"\xff\xc0")
    assert picture.mode == "RGB"
    return data[: at + 17] + b"\x21" + data[at + 18 :]


def test_what_simplejpeg_does_not_read_is_read_by_pillow() -> None:
    """Bytes before a marker in the header, and a version of JFIF to come: the picture is whole, and marked."""
    whole = jpeg()
    at = whole.index(b"\xff\xda")
    for data, complaint in (
        (whole[:at] + b"abc" + whole[at:], "Corrupt JPEG data: 3 extraneous bytes before marker 0xda"),
        (whole[:11] + b"\3" + whole[12:], "Warning: unknown JFIF revision number 3.01"),
    ):
        for side in (None, 70):
            image, warnings = decoded(data, side)
            assert warnings == [complaint]
            assert image is not None
            assert np.abs(image.astype(int) - images.decode(whole, side)).max() <= 2


def test_an_unusual_sampling_is_decoded_as_pillow_and_opencv_do() -> None:
    data = with_odd_sampling(encoded(PIL.Image.new("RGB", (64, 64), (200, 30, 60)), "JPEG", subsampling=0))
    image, _ = decoded(data)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    assert theirs is not None
    assert np.abs(image.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize(
    ("at", "byte", "reason"),
    [(4, 12, "cannot handle 12-bit"), (1, 0xC3, "broken image"), (9, 0, "broken image")],
)
def test_a_jpeg_of_a_kind_that_is_not_read_has_libjpegs_reason(at: int, byte: int, reason: str) -> None:
    whole = jpeg()
    start = whole.index(b"\xff\xc0") + at
    image, (told,) = decoded(whole[:start] + bytes([byte]) + whole[start + 1 :])
    assert image is None
    assert reason in told


def tiff(compression: str) -> bytes:
    picture = PIL.Image.fromarray(SMOOTH)
    return encoded(picture.convert("1" if compression == "group4" else "RGB"), "TIFF", compression=compression)


def test_a_damaged_fax_is_marked_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    whole, marked = tiff("group4"), 0
    assert decoded(whole)[1] == []
    for seed in range(8):
        random = np.random.default_rng(seed)
        at = int(random.integers(len(whole) // 5, len(whole) // 2))
        image, warnings = decoded(whole[:at] + random.bytes(16) + whole[at + 16 :])
        marked += image is None or any("Fax4Decode" in each for each in warnings)
        assert len(warnings) <= 3
    assert marked == 8
    assert capfd.readouterr().err == ""


def test_libtiffs_reason_is_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    whole = tiff("tiff_lzw")
    image, (reason,) = decoded(whole[: len(whole) // 2] + bytes([255] * 64) + whole[len(whole) // 2 + 64 :])
    assert image is None
    assert "decoder error" not in reason
    assert capfd.readouterr().err == ""


# --- in an ingest ---------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(quality=80 + number))
    (folder / "damaged.jpg").write_bytes(damaged(jpeg(), 1))
    (folder / "fax.tif").write_bytes((whole := tiff("group4"))[:3000] + bytes(range(64)) + whole[3064:])
    (folder / "gone.jpg").write_bytes(b"")
    return folder


def test_it_is_told_with_the_files_name_counted_and_listed(cli: Cli, photos: Path) -> None:
    shutil.copy(photos / "damaged.jpg", photos / "copy.jpg")
    done = cli("ingest", "photos", "extractor=colour")
    assert "6 new, 0 unchanged, 0 moved, 0 missing, 1 failed, 5 extracted, 3 damaged" in done.out
    assert done.record()["counts"]["damaged"] == 3
    lines = [line for line in done.err.splitlines() if "read with damage" in line]
    assert {Path(line.split(": ")[1]).name for line in lines} == {"copy.jpg", "damaged.jpg", "fax.tif"}
    assert not [line for line in done.err.splitlines() if line.startswith(("Corrupt", "Fax"))]
    listed = cli("failures", "format=json").json()
    assert [(Path(row["path"]).name, row["outcome"]) for row in listed] == [
        ("gone.jpg", "refused"),
        ("copy.jpg", "read with damage"),
        ("damaged.jpg", "read with damage"),
        ("fax.tif", "read with damage"),
    ]
    assert listed[1]["reason"].startswith("Corrupt JPEG data")
    assert "1 empty file" in (table := cli("failures").out)
    assert "3 read with damage" in table


def test_a_mark_stays_when_the_file_is_only_read_again(photos: Path, store: imgrec.Store) -> None:
    colour = imgrec.build("extractor", "colour")
    assert imgrec.ingest(photos, colour, store).damaged == 2
    before = {record.path: record.warning for record in store.records()}
    for file in photos.iterdir():
        file.chmod(0o600)  # only its ctime changes
    report = imgrec.ingest(photos, colour, store)
    assert (report.unchanged, report.extracted, report.failed) == (5, 0, 1)
    assert {record.path: record.warning for record in store.records()} == before
    assert sum(warning is not None for warning in before.values()) == 2


def test_a_damaged_query_is_told(cli: Cli, photos: Path, tmp_path: Path) -> None:
    cli("ingest", "photos", "extractor=colour")
    (tmp_path / "query.jpg").write_bytes(damaged(jpeg(quality=50), 2))
    found = cli("recommend", "query.jpg", "k=2", "format=json")
    assert len(json.loads(found.out)["matches"]) == 2
    assert "query.jpg' is read with damage: Corrupt JPEG data" in found.err
