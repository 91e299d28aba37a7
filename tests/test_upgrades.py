"""Galleries of older schemas are upgraded and kept as they were; those of newer ones are refused."""

from __future__ import annotations

import json
import os
import shutil
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
from imgrec.kinds import Batch, Failure, Record, Space

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


def columns_of(file: Path) -> dict[str, list[str]]:
    """The columns of all tables, but of what only tells one state from another."""
    tables = [name for (name,) in asked(file, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {
        name: [column for _, column, *_ in asked(file, f"PRAGMA table_info({name})")]
        for name in tables
        if name != "generation"
    }


def content_of(file: Path, columns: dict[str, list[str]]) -> dict[str, Any]:
    """All rows, as far as there were such columns."""
    return {name: asked(file, f"SELECT {', '.join(some)} FROM {name}") for name, some in columns.items()}


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of a store's files."""
    files = [path] if path.is_file() else [file for file in path.iterdir() if not file.name.startswith(".")]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def newest() -> int:
    return len(imgrec_sqlite.MIGRATIONS)


def test_there_is_a_gallery_of_every_older_schema() -> None:
    databases = {f"sqlite-{version}.sql" for version in range(1, newest())}
    assert {file.name for file in SCHEMAS.iterdir()} == {*databases, "csv-1"}  # of CSV there is no second one


@pytest.mark.parametrize(
    ("version", "changes"), [*((version, []) for version in range(1, newest())), (1, [WITHOUT_GENERATION])]
)
def test_an_older_gallery_is_upgraded_and_kept_as_it_was(
    cli: Cli, tmp_path: Path, version: int, changes: list[str]
) -> None:
    file = restored(version, tmp_path / "g.sqlite", *changes)
    columns = columns_of(file)
    before = content_of(file, columns)
    done = cli("info", "store.path=g.sqlite")
    assert done.out.startswith("g.sqlite: 3 images, 4 contents, 1 missing, 1 failed")
    copy = tmp_path / f"g.sqlite-schema-{version}"
    kept = f"g.sqlite is upgraded from schema {version} to {newest()}; it is kept as it was in {copy.name}"
    assert [line for line in done.err.splitlines() if "schema" in line] == [f"imgrec: {kept}"]
    assert content_of(file, columns) == content_of(copy, columns) == before
    assert (version_of(file), version_of(copy)) == (newest(), version)
    assert asked(file, "PRAGMA integrity_check") == asked(copy, "PRAGMA integrity_check") == [("ok",)]
    assert "schema" not in cli("info", "store.path=g.sqlite").err
    assert {each.name for each in tmp_path.iterdir()} == {"g.sqlite", copy.name}


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
    assert version_of(file) == newest() == 4
    assert asked(file, "SELECT DISTINCT stars FROM images") == [(3,)]
    assert asked(file, "SELECT count(*) FROM notes") == [(0,)]


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "DROP TABLE failures;\nALTER TABLE nowhere ADD COLUMN x"
    monkeypatch.setattr(imgrec_sqlite, "MIGRATIONS", (*imgrec_sqlite.MIGRATIONS, bad))
    file = restored(1, tmp_path / "g.sqlite")
    before = content_of(file, columns_of(file))
    with pytest.raises(UsageError, match="stays so: it cannot be upgraded to 4: no such table: nowhere"):
        imgrec.build("store", "sqlite", path=str(file)).open()
    assert (version_of(file), content_of(file, columns_of(file))) == (1, before)
    assert [each.name for each in tmp_path.iterdir()] == ["g.sqlite"]


def test_a_medium_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = restored(1, tmp_path / "g.sqlite")
    before = file.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as on a read-only one: root may write everywhere
    with pytest.raises(UsageError, match="cannot be upgraded to 3: attempt to write a readonly database"):
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


# --- CSV ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CSV store of the first schema."""
    return Path(shutil.copytree(SCHEMAS / "csv-1", tmp_path / "csv"))


def csv_store(folder: Path, *, create: bool = False) -> imgrec.Store:
    return imgrec.build("store", "csv", path=str(folder)).open(create=create)  # type: ignore[no-any-return]


def held_by(store: imgrec.Store) -> dict[str, Any]:
    vectors = {space.key: store.vectors(space) for space in store.spaces()}
    return {
        "records": {record.path: record for record in store.records()},
        "failures": list(store.failures()),
        "notes": store.metadata(),
        "vectors": {key: dict(zip(names, rows.tolist(), strict=True)) for key, (names, rows) in vectors.items()},
    }


def check_first(held: dict[str, Any]) -> None:
    """What there is in the folder of the first schema."""
    digests = {path: record.digest[:2] for path, record in held["records"].items()}
    copies = {"/photos/line\nbreak.jpg": "cc", "/photos/copy.jpg": "cc"}
    assert digests == {"/photos/a.jpg": "dd", '/photos/b, "b".jpg': "bb", **copies}
    gone = held["records"]["/photos/line\nbreak.jpg"]
    assert gone == Record("/photos/line\nbreak.jpg", "cc" * 32, 12, 3, missing=True)
    assert held["failures"] == [Failure("/photos/bad.jpg", 1, 2, 'broken image: x, "y"\nz', 1700000000.25)]
    assert held["notes"] == {"default": {"weights": [0.25, 1]}, "other": "ä"}
    (rgb, hsv) = held["vectors"].values()  # the only one of HSV is of a content that is gone
    assert ({name[:2] for name in rgb}, hsv) == ({"bb", "cc", "dd"}, {})
    values = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    assert [rgb["bb" * 32], rgb["cc" * 32], rgb["dd" * 32]] == values[1:].tolist()


def test_a_new_folder_says_its_schema(tmp_path: Path) -> None:
    csv_store(tmp_path / "csv", create=True)
    assert json.loads((tmp_path / "csv" / "schema.json").read_text()) == {"schema": 3}


@pytest.mark.parametrize("create", [True, False])
def test_an_older_folder_is_only_read_until_it_is_written_to(folder: Path, create: bool) -> None:
    (folder / "schema.json").unlink()  # as the first ones had none
    before = contents(folder)
    store = csv_store(folder, create=create)
    check_first(held_by(store))
    assert list(store.problems()) == []
    assert store.revision(store.spaces()[0]) is None
    assert contents(folder) == before
    assert [each.name for each in folder.parent.iterdir()] == ["csv"]


def test_an_older_folder_is_upgraded_by_the_next_write_and_kept_as_it_was(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(folder)
    store, reader = csv_store(folder), csv_store(folder)
    (space, _) = store.spaces()
    with reader.snapshot():
        new = np.ones((1, 8), np.float32)
        store.write(Batch(records=[Record("/b.jpg", "ee", 1, 1)], vectors={space: (["ee"], new)}))
        assert "/b.jpg" not in held_by(csv_store(folder.with_name("csv-schema-1")))["records"]
    copy = folder.with_name("csv-schema-1")
    assert caplog.messages == [f"{folder} is upgraded from schema 1 to 3; it is kept as it was in {copy}"]
    assert contents(copy) == before
    assert sorted(each.name for each in folder.parent.iterdir()) == ["csv", "csv-schema-1"]
    for each in (store, reader, csv_store(folder)):
        held = held_by(each)
        assert held["records"].pop("/b.jpg").digest == "ee"
        assert held["vectors"][space.key].pop("ee") == new[0].tolist()
        check_first(held)
    store.write(Batch(forgotten=["/b.jpg"]))
    check_first(held_by(csv_store(folder)))
    check_first(held_by(csv_store(copy)))
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("name", ["records.csv", "failures.csv", "colour-35760381895d.csv"])
def test_a_torn_last_row_of_an_older_folder_does_not_count(folder: Path, tmp_path: Path, name: str) -> None:
    """Cut off at any byte: every row before it is there, and after an upgrade too."""
    whole = (folder / name).read_bytes()
    last = 1 + (whole.index(b"\n") if name == "failures.csv" else whole.rindex(b"\n/photos"))
    for length in range(last, len(whole), 7):
        torn = Path(shutil.copytree(folder, tmp_path / str(length)))
        (torn / name).write_bytes(whole[:length])
        store = csv_store(torn)
        before = held_by(store)
        counts = {
            "records.csv": len(before["records"]),
            "failures.csv": len(before["failures"]),
            "colour-35760381895d.csv": len(before["vectors"]["colour-35760381895d"]),
        }
        assert counts[name] == {"records.csv": 3, "failures.csv": 0, "colour-35760381895d.csv": 2}[name]
        store.write(Batch(records=[Record("/b.jpg", "ee", 1, 1)]))
        after = held_by(csv_store(torn))
        del after["records"]["/b.jpg"]
        assert after == before


def test_a_space_of_an_older_folder_that_was_never_filled_is_none(folder: Path) -> None:
    listed = json.loads((folder / "spaces.json").read_text())
    lab = Space.of(imgrec.build("extractor", "colour", colour_space="lab"))
    (folder / "spaces.json").write_text(json.dumps([*listed, lab.to_json()]))
    for begun in (None, "", "path,digest,v0", "path,digest,v0,v1\n", "path,digest,v0,v1\n/a,aa,0.1,"):
        if begun is not None:
            (folder / f"{lab.key}.csv").write_text(begun)
        assert [space.key for space in csv_store(folder).spaces()] == [each["key"] for each in listed]
    csv_store(folder).write(Batch(metadata={"x": 1}))
    assert [space.key for space in csv_store(folder).spaces()] == [each["key"] for each in listed]


@pytest.mark.parametrize("step", ["_copy_vectors", "_write_schema_version"])
def test_a_folder_whose_upgrade_fails_is_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = contents(folder)
    monkeypatch.setattr(imgrec_csv, step, full)
    with pytest.raises(UsageError, match=r"stays so: it cannot be upgraded to 3: .*No space left"):
        csv_store(folder).write(Batch(metadata={"x": 1}))
    assert {name: data for name, data in contents(folder).items() if name in before} == before
    check_first(held_by(csv_store(folder)))
    monkeypatch.undo()
    csv_store(folder).write(Batch(records=[Record("/b.jpg", "ee", 1, 1)]))
    assert len(held_by(csv_store(folder))["records"]) == 5
    assert contents(folder.with_name("csv-schema-1")) == before


def test_an_upgrade_that_was_killed_before_its_last_step_is_finished(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment is in place, and some of the old files are out of the way."""
    before, moved = contents(folder), []

    def rename(file: Path, target: Path) -> Path:
        moved.append(file)
        if len(moved) == 4:  # the segment, the schema, two of the old files
            raise KeyboardInterrupt
        return file.replace(target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            csv_store(folder).write(Batch(metadata={"x": 1}))
    check_first(held_by(csv_store(folder)))
    csv_store(folder).write(Batch(metadata={"x": None}))
    check_first(held_by(csv_store(folder)))
    assert contents(folder.with_name("csv-schema-1")) == before
    assert [each.name for each in folder.iterdir() if each.is_file()] == ["schema.json"]


def test_a_folder_that_another_run_writes_to_is_upgraded_when_that_is_done(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = csv_store(folder)
    writing = threading.Thread(target=store.write, args=(Batch(metadata={"x": 1}),))
    with csv_store(folder).writing():
        before = contents(folder)
        writing.start()
        while not caplog.messages:
            pass
        assert "waiting to write to" in caplog.text
        assert contents(folder) == before
    writing.join()
    assert "is upgraded from schema 1 to 3" in caplog.messages[1]
    assert sorted(each.name for each in folder.parent.iterdir()) == ["csv", "csv-schema-1"]


@pytest.mark.parametrize("text", ["", "[]", '{"schema": null}', '{"schema": "new"}', '{"scheme": 1}'])
def test_a_schema_that_is_not_told_is_refused(folder: Path, text: str) -> None:
    (folder / "schema.json").write_text(text)
    with pytest.raises(UsageError, match="does not say which schema it is"):
        csv_store(folder)
