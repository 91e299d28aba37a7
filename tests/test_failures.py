"""Files that could not be read: listed by a stage, tried again when they change or when it is asked for."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import PIL.Image
import pytest

import imgrec
from conftest import Cli


@pytest.fixture
def broken(few: Path) -> list[Path]:
    """Files of a folder that fail, each for a reason of its own, with names that a table has trouble with."""
    cut = few / "china" / "cut, off.jpg"
    cut.write_bytes((few / "china" / "china-0-0.jpg").read_bytes()[:300])
    empty = few / 'of "nothing".png'
    empty.touch()
    return sorted((cut, empty))


def test_they_are_listed_as_a_table_as_csv_and_as_json(cli: Cli, few: Path, broken: list[Path]) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    cli("ingest", few)
    told = cli("failures").out.splitlines()
    assert told[0].startswith("outputs/gallery.sqlite: 1 ")
    assert "1 empty file" in told[0]
    assert told[2].split() == ["tried", "outcome", "reason", "path"]
    assert [line.endswith(str(file)) for line, file in zip(told[3:], broken, strict=True)] == [True, True]
    found = cli("failures", "format=csv", "hydra.run.dir=kept")
    rows = list(csv.DictReader(io.StringIO(found.out)))
    assert [row["path"] for row in rows] == list(map(str, broken))
    assert [row["reason"].partition(":")[0] for row in rows] == ["broken image", "empty file"]
    assert all(before <= datetime.fromisoformat(row["time"]) <= datetime.now(UTC) for row in rows)
    assert cli("+stage=failures", "format=json").json() == rows
    folder = found.cwd / "kept"
    assert (folder / "failures.csv").read_text() == found.out
    assert json.loads((folder / "results.json").read_text())["failures"] == rows
    counts = json.loads((folder / "run.json").read_text())["counts"]
    assert counts == {"failed": 2, "reasons": 2, "damaged": 0}


def test_where_none_failed_and_where_there_is_no_gallery(cli: Cli, few: Path) -> None:
    assert "there is no gallery" in cli("failures", code=2).err
    cli("ingest", few)
    assert cli("failures").out == "outputs/gallery.sqlite: no file has failed\n"
    assert cli("failures", "format=csv").out == "path,reason,time,outcome\n"
    assert cli("failures", "format=json").json() == []


def test_a_name_that_is_not_utf_8_and_one_with_a_line_break(cli: Cli, few: Path) -> None:
    names = [few / "a\nb.jpg", few / os.fsdecode(b"\xff.jpg")]
    for file in names:
        file.touch()
    cli("ingest", few)
    rows = list(csv.DictReader(io.StringIO(cli("failures", "format=csv").out, newline="")))
    assert [row["path"] for row in rows] == list(map(str, names))
    assert [row["path"] for row in cli("failures", "format=json").json()] == list(map(str, names))
    assert cli("failures").code == 0


def test_they_are_tried_again_when_asked_for(cli: Cli, few: Path, broken: list[Path]) -> None:
    """One that is mended is tried by itself, also with its old size and time; the others only when asked."""
    file = few / "healed.png"
    PIL.Image.open(few / "flower" / "flower-0-0.jpg").rotate(90).save(file)
    good, status = file.read_bytes(), file.stat()
    half = len(good) // 2
    file.write_bytes(good[:half] + bytes(100) + good[half + 100 :])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ", 3 failed" in cli("ingest", few, "extractor=colour", "backup=csv").out
    file.write_bytes(good)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    tried = {row["path"]: row["time"] for row in cli("failures", "format=json").json()}
    assert "1 new, 12 unchanged, 0 moved, 0 missing, 2 failed, 1 extracted" in cli("ingest", few, "backup=csv").out
    time.sleep(1)  # times are told in seconds
    for words, is_tried in (([], False), (["retry_failed=true"], True)):
        done = cli("ingest", few, "backup=csv", *words)
        assert "0 new, 13 unchanged, 0 moved, 0 missing, 2 failed, 0 extracted" in done.out
        rows = cli("failures", "format=json").json()
        assert all((row["time"] > tried[row["path"]]) == is_tried for row in rows)
    left = cli("failures", "format=json").json()
    assert [row["path"] for row in left] == list(map(str, broken))
    assert cli("failures", "store=csv", "store.path=outputs/gallery-csv", "format=json").json() == left


def test_one_that_changed_is_tried_anyway(cli: Cli, few: Path, broken: list[Path]) -> None:
    cli("ingest", few)
    shutil.copy(few / "flower" / "flower-0-0.jpg", broken[1])
    assert "1 new, 12 unchanged, 0 moved, 0 missing, 1 failed, 0 extracted" in cli("ingest", few).out


def test_the_time_of_the_last_try_is_kept(few: Path, broken: list[Path], store: imgrec.Store) -> None:
    extractor = imgrec.build("extractor", "colour")
    imgrec.ingest(few, extractor, store)
    first = {failure.path: failure for failure in store.failures()}
    assert set(first) == set(map(str, broken))
    imgrec.ingest(few, extractor, store)
    assert {failure.path: failure for failure in store.failures()} == first
    imgrec.ingest(few, extractor, store, retry_failed=True)
    again = {failure.path: failure for failure in store.failures()}
    assert {path: failure.reason for path, failure in again.items()} == {
        path: failure.reason for path, failure in first.items()
    }
    assert all(again[path].time > first[path].time for path in first)
