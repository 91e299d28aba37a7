"""Galleries of older schemas are upgraded and kept as they were; those of newer ones are refused."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
import imgrec_csv
import imgrec_sqlite
from conftest import Cli
from imgrec.errors import UsageError
from imgrec.kinds import Batch, Record, Space

SCHEMAS = Path(__file__).parent / "schemas"
"""A small gallery of each released schema, as SQL: as an imgrec of that time left it."""

WITHOUT_GENERATION = "DROP TABLE generation;"
"""The first layout there was lacks a table that the last of schema 1 has."""


def restored(version: int, file: Path, *changes: str) -> Path:
    """The gallery of a released schema."""
    with closing(sqlite3.connect(file)) as db:
        db.executescript((SCHEMAS / f"sqlite-{version}.sql").read_text())
        for change in changes:
            db.executescript(change)
    return file


def asked(file: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as db:
        return db.execute(query).fetchall()


def version_of(file: Path) -> int:
    return int(asked(file, "PRAGMA user_version")[0][0])


def content_of(file: Path) -> dict[str, Any]:
    """All rows of all tables of the galleries of users."""
    tables = [name for (name,) in asked(file, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {name: asked(file, f"SELECT * FROM {name}") for name in tables if name not in ("notes", "generation")}


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of a store's files."""
    files = [path] if path.is_file() else [file for file in path.iterdir() if not file.name.startswith(".")]
    return {file.name: file.read_bytes() for file in files}


def newest() -> int:
    return 1 + len(imgrec_sqlite.MIGRATIONS)


def test_there_is_a_gallery_of_every_older_schema() -> None:
    assert {file.name for file in SCHEMAS.iterdir()} == {f"sqlite-{version}.sql" for version in range(1, newest())}


@pytest.mark.parametrize("changes", [[], [WITHOUT_GENERATION]], ids=["last", "first"])
@pytest.mark.parametrize("version", range(1, newest()))
def test_an_older_gallery_is_upgraded_and_kept_as_it_was(
    cli: Cli, tmp_path: Path, version: int, changes: list[str]
) -> None:
    file = restored(version, tmp_path / "g.sqlite", *changes)
    before = content_of(file)
    done = cli("info", "store.path=g.sqlite")
    assert done.out.startswith("g.sqlite: 3 images, 4 contents, 1 missing, 1 failed")
    copy = tmp_path / f"g.sqlite-schema-{version}"
    kept = f"g.sqlite is upgraded from schema {version} to {newest()}; it is kept as it was in {copy.name}"
    assert [line for line in done.err.splitlines() if "schema" in line] == [f"imgrec: {kept}"]
    assert content_of(file) == content_of(copy) == before
    assert (version_of(file), version_of(copy)) == (newest(), version)
    assert asked(file, "PRAGMA integrity_check") == asked(copy, "PRAGMA integrity_check") == [("ok",)]
    assert "schema" not in cli("info", "store.path=g.sqlite").err
    assert {each.name for each in tmp_path.iterdir()} == {"g.sqlite", copy.name, "outputs"}


def test_an_upgraded_gallery_has_the_layout_of_a_new_one(tmp_path: Path) -> None:
    new, old = tmp_path / "new.sqlite", restored(1, tmp_path / "old.sqlite", WITHOUT_GENERATION)
    for file in (new, old):
        imgrec.build("store", "sqlite", path=str(file)).open(create=True).close()
    layout = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'vectors_%' ORDER BY name"
    assert asked(new, layout) == asked(old, layout)


def test_an_upgraded_gallery_is_searched_and_filled(cli: Cli, few: Path, tmp_path: Path) -> None:
    restored(1, tmp_path / "g.sqlite")
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite")) as store:
        keys = [space.key for space in store.spaces()]
    assert "12 new" in cli("ingest", few, "store.path=g.sqlite").out
    found = cli("recommend", few / "china" / "china-0-0.jpg", "store.path=g.sqlite", f"space={keys[0]}", "k=14")
    assert len(found.out.splitlines()) == 1 + 14  # of 3 + 12 images all but the query itself


def test_several_that_come_at_once_upgrade_once(tmp_path: Path) -> None:
    restored(1, tmp_path / "g.sqlite")
    script = "import imgrec; print(len(list(imgrec.build('store', 'sqlite', path='g.sqlite').open().records())))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = [process.communicate() for process in started]
    assert [out for out, _ in said] == ["4\n"] * 4, said
    assert sum("is upgraded" in err for _, err in said) == 1
    assert [each.name for each in tmp_path.glob("g.sqlite-schema*")] == ["g.sqlite-schema-1"]


def test_a_copy_that_is_there_already_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "g.sqlite-schema-1").write_text("of another gallery")
    imgrec.build("store", "sqlite", path=str(restored(1, tmp_path / "g.sqlite"))).open().close()
    assert (tmp_path / "g.sqlite-schema-1").read_text() == "of another gallery"
    assert version_of(tmp_path / "g.sqlite-schema-1-2") == 1


def test_every_schema_in_between_is_passed_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ("ALTER TABLE images ADD COLUMN stars INTEGER;\nUPDATE images SET stars = 3",)
    monkeypatch.setattr(imgrec_sqlite, "MIGRATIONS", imgrec_sqlite.MIGRATIONS + more)
    file = restored(1, tmp_path / "g.sqlite")
    imgrec.build("store", "sqlite", path=str(file)).open().close()
    assert version_of(file) == newest() == 3
    assert asked(file, "SELECT DISTINCT stars FROM images") == [(3,)]
    assert asked(file, "SELECT count(*) FROM notes") == [(0,)]


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "DROP TABLE failures;\nALTER TABLE nowhere ADD COLUMN x"
    monkeypatch.setattr(imgrec_sqlite, "MIGRATIONS", (*imgrec_sqlite.MIGRATIONS, bad))
    file = restored(1, tmp_path / "g.sqlite")
    before = content_of(file)
    with pytest.raises(UsageError, match="stays so: it cannot be upgraded to 3: no such table: nowhere"):
        imgrec.build("store", "sqlite", path=str(file)).open()
    assert (version_of(file), content_of(file)) == (1, before)
    assert [each.name for each in tmp_path.iterdir()] == ["g.sqlite"]


def test_a_medium_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = restored(1, tmp_path / "g.sqlite")
    before = file.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as on a read-only one: root may write everywhere
    with pytest.raises(UsageError, match="cannot be upgraded to 2: attempt to write a readonly database"):
        imgrec.build("store", "sqlite", path=str(file)).open()
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["g.sqlite"]


@pytest.mark.parametrize("stage", ["ingest few", "info", "recommend few/china/china-0-0.jpg"])
@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_a_newer_gallery_is_refused_and_left_alone(
    cli: Cli, few: Path, tmp_path: Path, kind: str, stage: str
) -> None:
    path = tmp_path / "newer"
    imgrec.build("store", kind, path=str(path)).open(create=True).close()
    if kind == "sqlite":
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        (path / "schema.json").write_text('{"schema": 99}')
    before = contents(path)
    told = cli(*stage.split(), f"store={kind}", "store.path=newer", code=2).err.splitlines()[-1]
    assert told.startswith("imgrec: newer has schema version 99, and this imgrec reads 1 to ")
    assert told.endswith(": update imgrec")
    assert contents(path) == before


# --- CSV: there is one schema so far, and the second is the test's ------------------------------------------

SPACE = Space.of(imgrec.build("extractor", "colour"))


def _shout(folder: Path) -> None:
    file = folder / "records.csv"
    file.write_text(file.read_text().replace("/a.jpg", "/A.jpg"))


def _fail(folder: Path) -> None:
    _shout(folder)
    raise OSError("no space left")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CSV store with one image, of the first schema: it does not say so."""
    vectors = {SPACE: (["aa"], np.ones((1, 2), np.float32))}
    with imgrec.build("store", "csv", path=str(tmp_path / "csv")).open(create=True) as store:
        store.write(Batch(records=[Record("/a.jpg", "aa", 1, 1)], vectors=vectors))
    (tmp_path / "csv" / "schema.json").unlink()
    return tmp_path / "csv"


def test_a_new_folder_says_its_schema(tmp_path: Path) -> None:
    imgrec.build("store", "csv", path=str(tmp_path / "csv")).open(create=True).close()
    assert json.loads((tmp_path / "csv" / "schema.json").read_text()) == {"schema": 1}


@pytest.mark.parametrize("create", [True, False])
def test_an_older_folder_is_upgraded_and_kept_as_it_was(
    folder: Path, create: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(imgrec_csv, "MIGRATIONS", (_shout,))
    before = contents(folder)
    with imgrec.build("store", "csv", path=str(folder)).open(create=create) as store:
        assert [record.path for record in store.records()] == ["/A.jpg"]
        store.write(Batch(records=[Record("/b.jpg", "bb", 1, 1)]))
        assert store.digests(SPACE) == {"aa"}
    copy = folder.with_name("csv-schema-1")
    assert caplog.messages == [f"{folder} is upgraded from schema 1 to 2; it is kept as it was in {copy}"]
    assert contents(copy) == before
    assert json.loads((folder / "schema.json").read_text()) == {"schema": 2}
    assert sorted(each.name for each in folder.parent.iterdir()) == ["csv", "csv-schema-1"]
    with imgrec.build("store", "csv", path=str(folder)) as store:
        assert {record.path for record in store.records()} == {"/A.jpg", "/b.jpg"}
    assert len(caplog.messages) == 1


def test_a_folder_whose_upgrade_fails_is_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    monkeypatch.setattr(imgrec_csv, "MIGRATIONS", (_fail,))
    with pytest.raises(UsageError, match="stays so: it cannot be upgraded to 2: no space left"):
        imgrec.build("store", "csv", path=str(folder)).open(create=True)
    assert contents(folder) == before
    assert [each.name for each in folder.parent.iterdir()] == ["csv"]


def test_a_folder_that_another_run_writes_to_is_upgraded_when_that_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(imgrec_csv, "MIGRATIONS", (_shout,))
    store = imgrec.build("store", "csv", path=str(folder))
    opening = threading.Thread(target=store.open)
    with imgrec.build("store", "csv", path=str(folder)).writing():
        before = contents(folder)
        opening.start()
        while not caplog.messages:
            pass
        assert "waiting to write to" in caplog.text
        assert contents(folder) == before
    opening.join()
    assert "is upgraded from schema 1 to 2" in caplog.messages[1]
    assert sorted(each.name for each in folder.parent.iterdir()) == ["csv", "csv-schema-1"]


def test_an_upgrade_that_was_killed_before_its_last_step_is_finished(folder: Path) -> None:
    (folder / "schema.json").write_text('{"schema": 1}\n')
    before = contents(folder)
    folder.rename(f"{folder}.new")  # the old folder is out of the way, the new one not yet in its place
    with imgrec.build("store", "csv", path=str(folder)).open(create=True):
        assert contents(folder) == before


@pytest.mark.parametrize("text", ["", "[]", '{"schema": null}', '{"schema": "new"}', '{"scheme": 1}'])
def test_a_schema_that_is_not_told_is_refused(folder: Path, text: str) -> None:
    (folder / "schema.json").write_text(text)
    with pytest.raises(UsageError, match="does not say which schema it is"):
        imgrec.build("store", "csv", path=str(folder)).open()
