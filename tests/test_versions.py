"""What is read again, and what not: after a change of the decoding rules, and of what was refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import PIL.Image
import pytest

import imgrec
import tiles
from imgrec import images
from imgrec.gallery import recorded
from imgrec.images import versions
from imgrec.kinds import Batch, Record, Space

COLOUR, HOG = imgrec.build("extractor", "colour"), imgrec.build("extractor", "hog")

Rules = Callable[[dict[int, str]], None]


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rules]:
    """Sets which version changed which suffixes."""

    def set_to(changes: dict[int, str]) -> None:
        monkeypatch.setattr(
            versions, "CHANGES", {number: frozenset(each.split()) for number, each in changes.items()}
        )
        monkeypatch.setattr(versions, "CURRENT", max(changes, default=1))
        versions.readers.cache_clear()
        recorded._TOLD.clear()

    yield set_to
    monkeypatch.undo()
    versions.readers.cache_clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four JPEG and two PNG files."""
    folder = tmp_path / "photos"
    made = tiles.cut(folder, columns=3, rows=1)
    for file in made[:2]:
        PIL.Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    return folder


def ingested(photos: Path, store: imgrec.Store, extractor: imgrec.Extractor = COLOUR) -> tuple[int, int, int]:
    """How many were new, unchanged, extracted."""
    report = imgrec.ingest(photos, extractor, store)
    assert (report.moved, report.missing, report.failed) == (0, 0, 0)
    return report.new, report.unchanged, report.extracted


def warnings_of_search(store: imgrec.Store, caplog: pytest.LogCaptureFixture, space: str = "colour") -> list[str]:
    caplog.clear()
    with imgrec.open(store, space=space) as gallery, caplog.at_level(logging.WARNING):
        assert gallery
    store.open()
    return [record.getMessage() for record in caplog.records if "older rules" in record.getMessage()]


def test_only_what_a_change_concerns_is_decoded_anew_and_it_is_told_once(
    photos: Path, store: imgrec.Store, rules: Rules, caplog: pytest.LogCaptureFixture
) -> None:
    rules({})
    assert ingested(photos, store) == (6, 0, 6)
    key = Space.of(COLOUR).key
    rules({2: ".tif"})
    assert warnings_of_search(store, caplog) == []
    rules({2: ".png .tif"})
    (warning,) = warnings_of_search(store, caplog)
    assert warning.startswith(f"2 images of {store.location} were decoded by older rules")
    assert warnings_of_search(store, caplog) == []  # once a run
    caplog.clear()
    assert ingested(photos, store) == (0, 6, 2)
    assert sum("decoded anew" in record.getMessage() for record in caplog.records) == 1
    assert Space.of(COLOUR).key == key
    rules({2: ".png .tif"})
    assert warnings_of_search(store, caplog) == []
    assert ingested(photos, store) == (0, 6, 0)
    rules({2: ".png .tif", 3: ".jpg"})
    assert "4 images" in warnings_of_search(store, caplog)[0]
    assert ingested(photos, store) == (0, 6, 4)
    assert ingested(photos, store) == (0, 6, 0)


def test_one_more_space_is_no_change_of_decoding(
    photos: Path, store: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    ingested(photos, store, HOG)
    caplog.clear()
    both = imgrec.Fusion(weights={"colour": 1, "hog": 1}, parts={"colour": COLOUR, "hog": HOG})
    assert ingested(photos, store, both) == (0, 6, 6)
    assert not any("decoded anew" in record.getMessage() for record in caplog.records)


def test_what_is_of_older_decoding_is_extracted_anew_together_with_a_space_that_lacks(
    photos: Path, store: imgrec.Store, rules: Rules, caplog: pytest.LogCaptureFixture
) -> None:
    """Else its record would note it as current, though its vector is of the older rules."""
    rules({})
    ingested(photos, store)
    rules({2: ".png"})
    both = imgrec.Fusion(weights={"colour": 1, "hog": 1}, parts={"colour": COLOUR, "hog": HOG})
    caplog.clear()
    assert ingested(photos, store, both) == (0, 6, 6 + 2)
    assert sum("decoded anew" in record.getMessage() for record in caplog.records) == 1
    assert warnings_of_search(store, caplog) == []


def test_many_records_are_gone_over_once_a_revision(
    photos: Path,
    store: imgrec.Store,
    rules: Rules,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not at every search: of a million it would take longer than the search."""
    looked_at: list[str] = []
    is_outdated = recorded.is_outdated

    def noting(record: Record, spaces: Sequence[str]) -> bool:
        looked_at.append(record.path)
        return is_outdated(record, spaces)

    monkeypatch.setattr(recorded, "is_outdated", noting)
    monkeypatch.setattr(recorded, "MANY", 3)
    rules({})
    ingested(photos, store)

    def told(space: str = "colour") -> tuple[list[str], int]:
        looked_at.clear()
        recorded._TOLD.clear()  # as another process
        return [warning.split()[0] for warning in warnings_of_search(store, caplog, space)], len(looked_at)

    ingested(photos, store, HOG)
    rules({2: ".png .tif"})
    for space in ("colour", "hog"):
        assert told(space) == (["2"], 6)
    for space in ("colour", "hog"):
        assert told(space) == (["2"], 0)  # neither takes the other's place
    rules({2: ".png .tif", 3: ".jpg"})
    assert told() == (["6"], 6)
    for kept in store.cache_folder.glob("decoding/*/*"):  # type: ignore[union-attr]
        (kept / "count.json").write_text("damaged")
    assert told() == (["6"], 6)
    assert told() == (["6"], 0)
    store.write(Batch(forgotten=[next(iter(store.records())).path]))
    assert told() == (["5"], 5)


def test_the_vectors_are_those_of_the_new_pixels(
    photos: Path, store: imgrec.Store, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By older rules every picture was a negative."""
    decode = images.Encoded.decode
    rules({})
    with monkeypatch.context() as patched:
        patched.setattr(
            images.Encoded, "decode", lambda *args: {side: 255 - image for side, image in decode(*args).items()}
        )
        ingested(photos, store)
    rules({2: ".png"})
    ingested(photos, store)
    space = Space.of(COLOUR)
    for record in store.records():
        _, (vector,) = store.vectors(space, [record.digest])
        (right,) = COLOUR.extract([images.decode(images.read(record.path)[0], COLOUR.side)])
        assert (vector == right).all() == record.path.endswith(".png")


def test_each_space_has_its_turn(
    photos: Path, store: imgrec.Store, rules: Rules, caplog: pytest.LogCaptureFixture
) -> None:
    rules({})
    ingested(photos, store)
    ingested(photos, store, HOG)
    rules({2: ".png"})
    assert ingested(photos, store) == (0, 6, 2)
    assert warnings_of_search(store, caplog) == []
    assert "2 images" in warnings_of_search(store, caplog, "hog")[0]
    assert ingested(photos, store, HOG) == (0, 6, 2)
    assert [ingested(photos, store, each) for each in (COLOUR, HOG)] == [(0, 6, 0), (0, 6, 0)]


def test_what_is_outside_of_the_source_waits_for_its_own_ingest(
    photos: Path, store: imgrec.Store, rules: Rules, caplog: pytest.LogCaptureFixture
) -> None:
    other = photos.parent / "other"
    other.mkdir()
    PIL.Image.new("RGB", (40, 40), "teal").save(other / "teal.png")
    rules({})
    imgrec.ingest([photos, other], COLOUR, store)
    rules({2: ".png"})
    assert ingested(photos, store) == (0, 6, 2)
    assert "1 images" in warnings_of_search(store, caplog)[0]
    assert ingested(other, store) == (0, 1, 1)
    rules({2: ".png"})
    assert warnings_of_search(store, caplog) == []


def test_a_copy_moved_or_touched_afterwards_costs_no_extraction(
    photos: Path, store: imgrec.Store, rules: Rules
) -> None:
    rules({2: ".png"})
    ingested(photos, store)
    file = next(photos.rglob("*.png"))
    file.with_name("copy.png").write_bytes(file.read_bytes())
    assert ingested(photos, store) == (1, 6, 0)
    for each in photos.rglob("*.*"):
        each.chmod(0o600)
    assert ingested(photos, store) == (0, 7, 0)
    file.rename(file.with_name("renamed.png"))
    report = imgrec.ingest(photos, COLOUR, store)
    assert (report.new + report.moved, report.extracted) == (1, 0)


def test_versions_are_of_suffixes() -> None:
    assert versions.of("/a/b.jpg") == versions.of("/a/b.JPEG") == 1
    assert versions.of("/a/b.PNG") == versions.of("/a.jpg/b") == versions.CURRENT
    assert versions.stamp_of(versions.noted("a.png", "1-2-3", ["x-1"])) == "1-2-3"
    assert versions.stamp_of(versions.noted("a.png", None, ["x-1"])) is None
    assert versions.stamp_of(None) is versions.stamp_of(versions.noted("a.jpg", None, [])) is None


# --- what was refused -----------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose contents are read, as they are."""
    names: list[str] = []
    original = images.read_as_found

    def noted(path: str) -> tuple[bytes, str, imgrec.ImageFile]:
        names.append(Path(path).name)
        return original(path)

    monkeypatch.setattr(images, "read_as_found", noted)
    return names


REFUSED = {
    "text.jpg": b"no image at all",
    "page.jpg": b"<!DOCTYPE html><html>",
    "empty.png": b"",
    "cut.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "zeros.jpg": bytes(1000),
}


def test_what_was_refused_is_read_again_only_after_a_change_of_it_or_of_what_reads_it(
    photos: Path, store: imgrec.Store, rules: Rules, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in REFUSED.items():
        (photos / name).write_bytes(content)

    def again(**options: bool) -> set[str]:
        read.clear()
        assert imgrec.ingest(photos, COLOUR, store, **options).failed == len(REFUSED)  # type: ignore[arg-type]
        return set(read)

    assert again() >= REFUSED.keys()
    reasons = {each.path: each.reason for each in store.failures()}
    assert again() == set()
    assert again(retry_failed=True) == REFUSED.keys()
    assert again() == set()
    os.utime(photos / "text.jpg", (1, 1))
    assert again() == {"text.jpg"}
    rules({**dict.fromkeys(versions.CHANGES, ""), 99: ""})  # a new version of imgrec
    assert again() == REFUSED.keys()
    assert again() == set()
    monkeypatch.setattr(PIL, "__version__", "99.0")
    versions.readers.cache_clear()
    assert again() == REFUSED.keys()
    assert {each.path: each.reason for each in store.failures()} == reasons
