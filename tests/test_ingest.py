from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import pytest

import imgrec
import tiles
from conftest import Cli
from imgrec import images
from imgrec.errors import ImgrecError, UsageError
from imgrec.kinds import Image, Vectors
from imgrec.options import option
from test_stores import snapshot


@dataclass
class Mean(imgrec.Extractor):
    """The mean colour, and a count of what was asked for."""

    breaks_after: int = option(10**9, changes_vectors=False)
    calls: list[int] = field(default_factory=list)
    gives: str = option("vectors", changes_vectors=False)

    def identity(self) -> dict[str, Any]:
        return {}

    def extract(self, images: Sequence[Image]) -> Vectors:
        if sum(self.calls) >= self.breaks_after:
            raise RuntimeError("out of order")
        self.calls.append(len(images))
        vectors = np.stack([image.mean(axis=(0, 1)) for image in images]).astype(np.float32)
        return {
            "vectors": vectors,
            "doubles": vectors.astype(np.float64),
            "too few": vectors[:-1],
            "nan": np.full_like(vectors, np.nan),
        }[self.gives]  # type: ignore[return-value]


def counts(summary: imgrec.IngestReport) -> dict[str, int]:
    return {name: count for name, count in vars(summary).items() if count}


def test_again_nothing_is_extracted(few: Path, store: imgrec.Store) -> None:
    mean = Mean()
    assert counts(imgrec.ingest(few, mean, store)) == {"new": 12, "extracted": 12}
    before = snapshot(store)
    assert counts(imgrec.ingest(few, mean, store)) == {"unchanged": 12}
    assert sum(mean.calls) == 12
    assert snapshot(store) == before


def test_every_change_is_recognised(few: Path, store: imgrec.Store) -> None:
    mean = Mean()
    imgrec.ingest(few, mean, store)
    (few / "china" / "china-0-0.jpg").rename(few / "flower" / "renamed.jpg")
    (few / "china" / "china-0-1.jpg").unlink()
    (few / "flower" / "copy.jpg").write_bytes((few / "flower" / "flower-0-0.jpg").read_bytes())
    os.utime(few / "flower" / "flower-0-1.jpg", (1, 1))
    PIL.Image.new("RGB", (9, 9), "red").save(few / "flower" / "flower-0-2.jpg")
    (few / "flower" / "text.jpg").write_text("no image")
    expected = {"new": 2, "unchanged": 9, "moved": 1, "missing": 1, "failed": 1, "extracted": 1}
    assert counts(imgrec.ingest(few, mean, store)) == expected
    paths = {Path(record.path).name: record for record in store.records()}
    assert paths["china-0-1.jpg"].missing
    assert "china-0-0.jpg" not in paths
    assert not paths["renamed.jpg"].missing
    assert [(Path(f.path).name, f.reason) for f in store.failures()] == [
        ("text.jpg", "not an image in a known format")
    ]
    expected = {"unchanged": 12, "missing": 1, "failed": 1}
    assert counts(imgrec.ingest(few, mean, store)) == expected
    assert sum(mean.calls) == 13


def test_a_missing_file_comes_back_and_a_broken_one_is_mended(few: Path, store: imgrec.Store) -> None:
    file = few / "china" / "china-0-0.jpg"
    imgrec.ingest(few, Mean(), store)
    away = few.parent / "away.jpg"
    file.rename(away)
    assert counts(imgrec.ingest(few, Mean(), store)) == {"unchanged": 11, "missing": 1}
    away.rename(file)
    assert counts(imgrec.ingest(few, Mean(), store)) == {"unchanged": 12}
    assert not any(record.missing for record in store.records())
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert counts(imgrec.ingest(few, Mean(), store)) == {"unchanged": 11, "failed": 1}
    assert len(list(store.records())) == 11
    file.write_bytes(whole)
    assert counts(imgrec.ingest(few, Mean(), store)) == {"new": 1, "unchanged": 11, "extracted": 1}
    assert list(store.failures()) == []


def test_a_failure_of_a_file_that_is_gone_is_forgotten_and_a_closed_one_is_tried_again(
    few: Path, store: imgrec.Store
) -> None:
    broken = few / "china" / "broken.jpg"
    broken.write_text("no image")
    link = few / "china" / "link.jpg"
    link.symlink_to(few.parent / "later.jpg")
    assert counts(imgrec.ingest(few, Mean(), store)) == {"new": 12, "extracted": 12, "failed": 2}
    broken.unlink()
    (few.parent / "later.jpg").write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"x")
    assert counts(imgrec.ingest(few, Mean(), store)) == {"new": 1, "extracted": 1, "unchanged": 12}
    assert list(store.failures()) == []


def test_an_emptied_folder_is_missing(few: Path, store: imgrec.Store) -> None:
    imgrec.ingest(few, Mean(), store)
    for file in few.rglob("*.jpg"):
        file.unlink()
    assert counts(imgrec.ingest(few, Mean(), store)) == {"missing": 12}
    assert all(record.missing for record in store.records())


def test_a_full_backup_does_not_follow_a_store_that_was_lost(cli: Cli, few: Path) -> None:
    cli("ingest", few, "backup=csv")
    for file in few.parent.glob("outputs/gallery.sqlite*"):
        file.unlink()
    refused = cli("ingest", few / "china", "backup=csv", code=2)
    assert "`imgrec restore` it first" in refused.err
    assert not (few.parent / "outputs" / "gallery.sqlite").exists()
    assert "12 images restored" in cli("restore", "backup=csv").out
    assert "6 unchanged" in cli("ingest", few / "china", "backup=csv").out


def test_a_huge_file_is_a_failure_and_nothing_more(few: Path, store: imgrec.Store) -> None:
    with (few / "china" / "a huge.jpg").open("wb") as file:
        file.truncate(12 * 2**30)  # sparse
    assert counts(imgrec.ingest(few, Mean(), store)) == {"new": 12, "extracted": 12, "failed": 1}
    assert "too large" in next(store.failures()).reason


def test_a_second_source_leaves_the_first_alone(few: Path, store: imgrec.Store) -> None:
    imgrec.ingest(few / "china", Mean(), store)
    assert counts(imgrec.ingest([few / "flower"], Mean(), store)) == {"new": 6, "extracted": 6}
    assert len(list(store.records())) == 12


def test_a_second_extractor_fills_its_own_space_beside_the_first(few: Path, store: imgrec.Store) -> None:
    colour, mean = imgrec.build("extractor", "colour"), Mean()
    imgrec.ingest(few, colour, store)
    assert counts(imgrec.ingest(few, [colour, mean], store)) == {"unchanged": 12, "extracted": 12}
    assert sum(mean.calls) == 12
    assert [len(store.digests(space)) for space in store.spaces()] == [12, 12]


def test_interrupted_it_goes_on_where_it_stopped(few: Path, tmp_path: Path) -> None:
    store, whole = (imgrec.build("store", "sqlite", path=str(tmp_path / f"{i}.sqlite")) for i in range(2))
    breaking = Mean(breaks_after=9)  # one of them before the store is made
    with pytest.raises(imgrec.ImgrecError, match=r"extractor mean of .* failed on .*: RuntimeError: out of order"):
        imgrec.ingest(few, breaking, store, batch_size=4)
    with store.open():
        assert len(list(store.records())) == 8
    summary = imgrec.ingest(few, Mean(), store, batch_size=4)
    assert counts(summary) == {"new": 4, "unchanged": 8, "extracted": 4}
    imgrec.ingest(few, Mean(), whole)
    with store, whole:
        assert snapshot(store) == snapshot(whole)


@dataclass
class Patient(imgrec.Extractor):
    """Extracts its first batch when a file of the third has been read."""

    name = "patient"
    calls: ClassVar[list[int]]
    third_is_read: ClassVar[threading.Event]

    def extract(self, batch: Sequence[Image]) -> Vectors:
        """The means."""
        if len(batch) > 1:  # not the trial before a store is made
            self.calls.append(len(batch))
            assert self.third_is_read.wait(30)
        return np.array([[image.mean()] for image in batch], np.float32)


def test_reading_and_decoding_go_on_while_a_batch_is_extracted(
    few: Path, store: imgrec.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    Patient.calls, Patient.third_is_read = [], threading.Event()
    decode, decoded = images.Encoded.decode, 0

    def counted(encoded: images.Encoded, sides: Collection[int | None]) -> dict[int | None, Image]:
        nonlocal decoded
        decoded += 1
        if decoded == 5:
            Patient.third_is_read.set()
        return decode(encoded, sides)

    monkeypatch.setattr(images.Encoded, "decode", counted)
    assert imgrec.ingest(few, Patient(), store, batch_size=2).extracted == 12
    assert Patient.calls == [2] * 6
    with store:
        (space,) = store.spaces()
        names, vectors = store.vectors(space)
        right = {r.digest: images.decode(Path(r.path).read_bytes()).mean() for r in store.records()}
    np.testing.assert_allclose(vectors[:, 0], [right[name] for name in names], rtol=1e-6)


@pytest.mark.parametrize(
    ("gives", "message"), [("doubles", "float64"), ("too few", "vectors for 1 images"), ("nan", "not finite")]
)
def test_an_extractor_that_breaks_its_contract_is_named(
    few: Path, tmp_path: Path, gives: str, message: str
) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    with pytest.raises(ImgrecError, match=f"extractor mean returned.*{message}"):
        imgrec.ingest(few, Mean(gives=gives), store)
    assert not (tmp_path / "g.sqlite").exists()


def test_a_source_of_which_nothing_is_read_names_a_file_of_its_own(few: Path, store: imgrec.Store) -> None:
    (few / "china" / "broken.jpg").write_text("no image")
    other = few.parent / "other"
    other.mkdir()
    (other / "broken.jpg").write_text("no image")
    summary = imgrec.IngestReport()
    imgrec.ingest(few, Mean(), store, report=summary)
    with pytest.raises(ImgrecError, match=f"none of the 1 files could be read: {other}/broken.jpg: "):
        imgrec.ingest(other, Mean(), store, report=summary)
    assert summary.failed == 2


def test_what_was_not_used_is_not_recorded(cli: Cli, few: Path) -> None:
    used = cli("ingest", few, "extractor=colour").record()["plugins"]
    assert used.keys() == {"stage=ingest", "extractor=colour", "store=sqlite", "engine=threads"}


def test_nothing_to_ingest(tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    for source, message in [
        (tmp_path, "no images"),
        (tmp_path / "none", "does not exist"),
        ([], "source is empty"),
    ]:
        with pytest.raises(UsageError, match=message):
            imgrec.ingest(source, Mean(), store)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_gallery(tmp_path: Path) -> None:
    picture = PIL.Image.new("RGB", (32, 32))
    peaks = []
    for count in (400, 4000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            picture.putpixel((0, 0), (i % 256, i // 256, 0))
            picture.save(folder / f"{i}.png")
        tracemalloc.start()
        imgrec.ingest(folder, Mean(), imgrec.build("store", "sqlite", path=str(tmp_path / f"{count}.sqlite")))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3_000_000


def test_backup_and_restore_give_equal_results(cli: Cli, few: Path) -> None:
    cli("ingest", few / "china")
    (few / "china" / "broken.jpg").write_text("no image")
    assert "6 new" in cli("ingest", few, "backup=csv").out  # the backup gets what the store had before as well
    base = few.parent
    kept = {file.name for file in (base / "outputs" / "gallery-csv").glob("[0-9]*/*")}
    assert kept >= {"records.csv", "spaces.json"}
    query = few / "flower" / "flower-0-0.jpg"
    expected = cli("recommend", query, "format=json", "k=11").json()
    with imgrec.build("store", "sqlite", path=str(base / "outputs" / "gallery.sqlite")) as store:
        before = snapshot(store)
    for file in (base / "outputs").glob("gallery.sqlite*"):
        file.unlink()
    assert cli("recommend", query, "format=json", "k=11", "store=csv").json() == expected
    assert "12 images restored" in cli("restore", "backup=csv").out
    assert cli("recommend", query, "format=json", "k=11").json() == expected
    with imgrec.build("store", "sqlite", path=str(base / "outputs" / "gallery.sqlite")) as store:
        assert snapshot(store) == before
    assert "0 new, 12 unchanged, 0 moved, 0 missing, 1 failed, 0 extracted" in cli("ingest", few).out


def test_each_store_works_alone_with_its_backup_beside_it(cli: Cli, few: Path) -> None:
    cli("ingest", few, "store=csv", "store.path=mine/photos", "backup=sqlite")
    assert list((few.parent / "mine" / "photos").glob("[0-9]*/records.csv"))
    assert (few.parent / "mine" / "photos-sqlite").exists()
    assert "12 images" in cli("info", "store=csv", "store.path=mine/photos").out


def test_default_extractor_of_a_new_gallery(cli: Cli, few: Path) -> None:
    cli("ingest", few, "default_extractor=colour", "extractor.bins=2", "store.path=two.sqlite")
    assert "bins=2" in cli("info", "store.path=two.sqlite").out
    assert "12 extracted" in cli("ingest", few, "default_extractor=hog", "store.path=three.sqlite").out
    cli("ingest", few, "default_extractor=nonsense", code=2)


def test_info(cli: Cli, few: Path) -> None:
    (few / "broken.jpg").write_text("no image")
    cli("ingest", few, "extractor=colour", "extractor.colour_space=lab")
    told = cli("info", "format=json").json()
    assert {name: told[name] for name in ("images", "missing", "contents")} == {
        "images": 12, "missing": 0, "contents": 12
    }  # fmt: skip
    (space,) = told["spaces"]
    assert (space["extractor"], space["vectors"], space["dim"], space["bytes"]) == (
        "colour",
        12,
        125,
        12 * 125 * 4,
    )
    assert space["options"] == {
        "bins": 5,
        "colour_space": "lab",
        "joint": True,
        "normalise": True,
        "min_side": 128,
    }
    assert told["failed"] == [{"path": str(few / "broken.jpg"), "reason": "not an image in a known format"}]
    assert told["bytes"] > 0
    text = cli("info").out
    assert "12 images" in text
    assert "colour_space=lab" in text
    assert "broken.jpg" in text


def test_a_match_that_is_gone_is_told(cli: Cli, few: Path) -> None:
    cli("ingest", few)
    for file in (few / "china").glob("china-0-[12].jpg"):
        file.unlink()
    assert "2 of these files are gone" in cli("recommend", few / "china" / "china-0-0.jpg", "k=11").err
    assert "2 missing" in cli("ingest", few).out
    assert len(cli("recommend", few / "china" / "china-0-0.jpg", "k=11", "format=paths").out.splitlines()) == 9


def test_names_that_are_not_utf8(cli: Cli, tmp_path: Path) -> None:
    (photograph, *_) = tiles.cut(tmp_path / "t", columns=1, rows=1)
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"caf\xe9.jpg", b"plain.jpg"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(photograph.read_bytes() + name)
    cli("ingest", folder, "backup=csv")
    found = cli("recommend", photograph, "format=paths").out
    assert os.fsdecode(b"caf\xe9.jpg") in found
    assert len(cli("recommend", photograph, "format=json").json()["matches"]) == 2
    cli("recommend", os.fsdecode(bytes(folder) + b"/caf\xe9.jpg"), "k=1")
