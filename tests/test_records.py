"""What the record of an image keeps beside its content, and what an ingest makes of it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import imgrec
import imgrec_sqlite
from imgrec import images
from imgrec.ingestion.report import IngestReport
from imgrec.ingestion.steps import Ingestion
from imgrec.kinds import Batch, Record, Space

COLOUR = imgrec.build("extractor", "colour", bins=2)

SPACE = Space.of(COLOUR)


@pytest.fixture
def store(tmp_path: Path) -> imgrec.Store:
    return imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))  # type: ignore[no-any-return]


def ingested(folder: Path, store: imgrec.Store) -> dict[str, Record]:
    """The records after an ingest, by the names of the files."""
    imgrec.ingest(folder, COLOUR, store)
    with store:
        return {Path(record.path).name: record for record in store.records()}


def picture(file: Path, size: tuple[int, int], exif: PIL.Image.Exif | None = None, shade: int = 90) -> Path:
    file.parent.mkdir(exist_ok=True)
    PIL.Image.new("RGB", size, (shade, 80, 70)).save(file, exif=exif or PIL.Image.Exif())
    return file


def exif(orientation: int = 1, taken: str | None = None, offset: str | None = None) -> PIL.Image.Exif:
    found = PIL.Image.Exif()
    found[0x0112] = orientation
    inner = found.get_ifd(0x8769)
    for tag, value in {0x9003: taken, 0x9011: offset}.items():
        if value is not None:
            inner[tag] = value
    return found


# --- what is kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_width_and_height_are_those_of_the_upright_image(tmp_path: Path, store: imgrec.Store, suffix: str) -> None:
    for orientation in range(1, 9):
        picture(tmp_path / "photos" / f"{orientation}.{suffix}", (400, 300 + orientation), exif(orientation))
    records = ingested(tmp_path / "photos", store)
    for orientation in range(1, 9):
        record = records[f"{orientation}.{suffix}"]
        upright = (400, 300 + orientation) if orientation < 5 else (300 + orientation, 400)
        assert (record.width, record.height) == upright


def test_what_is_reduced_while_it_is_decoded_keeps_its_own_size(tmp_path: Path, store: imgrec.Store) -> None:
    picture(tmp_path / "photos" / "a.jpg", (4000, 3000))
    record = ingested(tmp_path / "photos", store)["a.jpg"]
    assert (record.width, record.height) == (4000, 3000)


@pytest.mark.parametrize(
    ("taken", "offset", "kept"),
    [
        ("2024:05:31 18:04:09", None, "2024-05-31T18:04:09"),
        ("2024:05:31 18:04:09", "+02:00", "2024-05-31T18:04:09+02:00"),
        ("2024:05:31 18:04:09", "somewhere", "2024-05-31T18:04:09"),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        ("yesterday", None, None),
        (None, None, None),
    ],
)
def test_the_time_is_the_cameras(
    tmp_path: Path, store: imgrec.Store, taken: str | None, offset: str | None, kept: str | None
) -> None:
    picture(tmp_path / "photos" / "a.jpg", (40, 30), exif(taken=taken, offset=offset))
    assert ingested(tmp_path / "photos", store)["a.jpg"].taken == kept


def test_damaged_exif_costs_nothing_but_itself(tmp_path: Path, store: imgrec.Store) -> None:
    file = picture(tmp_path / "photos" / "a.jpg", (40, 30), exif(taken="2024:05:31 18:04:09"))
    data = file.read_bytes()
    start = data.index(b"Exif\0\0") + 6
    file.write_bytes(data[: start + 8] + b"\xff" * 20 + data[start + 28 :])
    record = ingested(tmp_path / "photos", store)["a.jpg"]
    assert (record.width, record.height, record.taken) == (40, 30, None)
    assert record.warning is None


# --- what it is for -----------------------------------------------------------------------------------------


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path, store: imgrec.Store) -> None:
    file = picture(tmp_path / "photos" / "a.bmp", (40, 30))
    before = ingested(tmp_path / "photos", store)["a.bmp"]
    status = file.stat()
    picture(file, (40, 30), shade=91)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.size, before.mtime_ns)
    report = imgrec.ingest(tmp_path / "photos", COLOUR, store)
    assert (report.new, report.extracted) == (1, 1)
    assert ingested(tmp_path / "photos", store)["a.bmp"].digest != before.digest


def test_a_failed_file_that_is_mended_with_its_old_time_is_read_again(tmp_path: Path, store: imgrec.Store) -> None:
    file = picture(tmp_path / "photos" / "a.bmp", (40, 30))
    good, status = file.read_bytes(), file.stat()
    picture(tmp_path / "photos" / "b.bmp", (40, 30), shade=3)
    file.write_bytes(good[:2] + bytes(len(good) - 2))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert imgrec.ingest(tmp_path / "photos", COLOUR, store).failed == 1
    file.write_bytes(good)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert imgrec.ingest(tmp_path / "photos", COLOUR, store).failed == 0


def test_a_change_of_rights_has_the_content_read_and_nothing_extracted(
    tmp_path: Path, store: imgrec.Store
) -> None:
    file = picture(tmp_path / "photos" / "a.png", (40, 30))
    before = ingested(tmp_path / "photos", store)["a.png"]
    file.chmod(0o600)
    report = imgrec.ingest(tmp_path / "photos", COLOUR, store)
    assert (report.unchanged, report.extracted) == (1, 0)
    after = ingested(tmp_path / "photos", store)["a.png"]
    assert (after.digest, after.width) == (before.digest, before.width)
    assert after.stamp != before.stamp


def test_what_was_forgotten_on_purpose_stays_away(tmp_path: Path, store: imgrec.Store) -> None:
    for number in range(3):
        picture(tmp_path / "photos" / f"{number}.png", (40, 30), shade=number)
    path = next(
        path for path in (r.path for r in ingested(tmp_path / "photos", store).values()) if "1.png" in path
    )
    with store:
        store.write(Batch(dismissed=[path]))
    assert ingested(tmp_path / "photos", store).keys() == {"0.png", "2.png"}
    report = imgrec.ingest(tmp_path / "photos", COLOUR, store)
    assert (report.unchanged, report.missing) == (2, 0)


def test_copies_are_extracted_once(tmp_path: Path, store: imgrec.Store) -> None:
    first = picture(tmp_path / "photos" / "0.png", (40, 30))
    for number in range(1, 200):
        shutil.copyfile(first, first.with_name(f"{number}.png"))
    report = imgrec.ingest(tmp_path / "photos", COLOUR, store, batch_size=7)
    assert (report.new, report.extracted) == (200, 1)
    with store:
        assert len(list(store.records())) == 200


def test_copies_of_what_cannot_be_decoded_all_fail(tmp_path: Path, store: imgrec.Store) -> None:
    first = picture(tmp_path / "photos" / "0.png", (40, 30))
    first.write_bytes(first.read_bytes()[:60])
    for number in range(1, 20):
        shutil.copyfile(first, first.with_name(f"{number}.png"))
    picture(tmp_path / "photos" / "good.png", (40, 30))
    report = imgrec.ingest(tmp_path / "photos", COLOUR, store, batch_size=7)
    assert (report.new, report.failed) == (1, 20)
    with store:
        assert len(list(store.failures())) == 20


def test_the_first_similarity_is_the_default(tmp_path: Path, store: imgrec.Store) -> None:
    picture(tmp_path / "photos" / "0.png", (40, 30))
    for name in ("colour", "hog"):
        imgrec.ingest(tmp_path / "photos", imgrec.build("extractor", name), store)
    with store:
        assert store.metadata()["default"] == Space.of(imgrec.build("extractor", "colour")).key


# --- galleries that are older than this ---------------------------------------------------------------------

IMAGES = 10_000


def test_an_older_gallery_is_filled_in_from_headers_alone(tmp_path: Path, store: imgrec.Store) -> None:
    """10,000 images: records gain what files tell, and no vector changes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rows, rng = [], np.random.default_rng(0)
    vectors = rng.normal(size=(IMAGES, 8)).astype("<f4")  # none that an extraction would make
    for number in range(IMAGES):
        file = folder / f"{number}.ppm"
        file.write_bytes(b"P6 4 2 255\n" + rng.bytes(24))
        _, digest, found = images.read_as_found(str(file))
        rows.append((number + 1, str(file), digest, found.size, found.mtime_ns, vectors[number].tobytes()))
    with closing(sqlite3.connect(tmp_path / "gallery.sqlite")) as db, db:
        for script in imgrec_sqlite.MIGRATIONS[:2]:
            db.executescript(script)
        db.execute(f"PRAGMA application_id = {imgrec_sqlite.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
        db.execute("CREATE TABLE vectors_1 (content INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        record = json.dumps(SPACE.to_json())
        db.execute("INSERT INTO spaces VALUES (1, ?, 8, ?)", (SPACE.key, record))
        db.executemany("INSERT INTO contents VALUES (?, ?)", ((row[0], row[2]) for row in rows))
        db.executemany("INSERT INTO images VALUES (?, ?, ?, ?, 0)", ((r[1], r[0], r[3], r[4]) for r in rows))
        db.executemany("INSERT INTO vectors_1 VALUES (?, ?)", ((row[0], row[5]) for row in rows))
    report = imgrec.ingest(folder, COLOUR, store)
    assert (report.unchanged, report.new, report.extracted, report.failed) == (IMAGES, 0, 0, 0)
    with store:
        assert all((r.width, r.height) == (4, 2) and r.stamp for r in store.records())
        digests, held = store.vectors(SPACE)
    row_of = {row[2]: row[0] - 1 for row in rows}
    assert np.array_equal(held, vectors[[row_of[digest] for digest in digests]])
    assert (tmp_path / "gallery.sqlite-schema-2").exists()
    assert imgrec.ingest(folder, COLOUR, store).unchanged == IMAGES


def test_planning_and_writing_go_by_what_pays_for_the_store(tmp_path: Path) -> None:
    """Of one whose transactions are dear an ingest asks little, and writes much at a time."""
    asked: list[int] = []
    written: list[int] = []

    class Dear(imgrec_sqlite.Sqlite):
        transaction_size = 100

        def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
            asked.append(len(among or ()))
            return super().digests(space, among)

        def write(self, batch: Batch) -> None:
            written.append(len(batch.records))
            super().write(batch)

    for number in range(250):
        picture(tmp_path / "photos" / f"{number}.png", (4 + number, 4))
    report = imgrec.ingest(tmp_path / "photos", COLOUR, Dear(path=str(tmp_path / "dear.sqlite")), batch_size=7)
    assert report.extracted == 250
    transactions = [count for count in written if count]
    assert sum(transactions) == 250
    assert [100 <= count < 107 for count in transactions] == [True, True, False]
    assert len(asked) <= 3 * 3 + 2  # looked up, planned and written, three times each


def test_what_no_installed_source_recognises_is_missing_and_never_forgotten(
    tmp_path: Path, store: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Its plugin may come back."""
    picture(tmp_path / "photos" / "0.png", (40, 30))
    ingested(tmp_path / "photos", store)
    path = "s3://photos/a.jpg"
    with store:
        store.write(Batch([Record(path, "aa", 1, 1)], vectors={SPACE: (["aa"], np.ones((1, 8), np.float32))}))
        assert images.state(path) is not None
        steps = Ingestion({SPACE: COLOUR}, [store], IngestReport(), images.Exclusion([]), retry_failed=False)
        store.write(Batch([Record(path, "aa", 1, 1, missing=True)]))
        steps.forget_missing([str(tmp_path / "photos"), "s3://photos"], force=True)
        assert {record.path for record in store.records()} >= {path}
    assert "1 missing images are not forgotten" in caplog.text
