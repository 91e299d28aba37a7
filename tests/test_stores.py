from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imgrec
from imgrec.errors import ImgrecError, UsageError
from imgrec.kinds import Batch, Failure, Record, Space, Vectors

RGB = Space.of(imgrec.build("extractor", "colour"))
HSV = Space.of(imgrec.build("extractor", "colour", colour_space="hsv"))


def record(path: str, digest: str, **changes: Any) -> Record:
    return Record(path, digest, **{"size": 10, "mtime_ns": 1_700_000_000_123_456_789, **changes})


def rows(*values: float) -> Vectors:
    return np.array([[value, value / 3] for value in values], np.float32)


def held(store: imgrec.Store, space: Space) -> dict[str, list[float]]:
    digests, vectors = store.vectors(space)
    return dict(zip(digests, vectors.tolist(), strict=True))


def snapshot(store: imgrec.Store) -> Any:
    return (
        sorted(store.records(), key=lambda r: r.path),
        sorted(store.failures(), key=lambda f: f.path),
        {space.key: sorted(held(store, space).items()) for space in store.spaces()},
    )


_opened: list[imgrec.Store] = []


@pytest.fixture(autouse=True)
def _closed_in_the_end() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def opened(kind: str, path: Path, *, create: bool = False) -> imgrec.Store:
    _opened.append(imgrec.build("store", kind, path=str(path)).open(create=create))
    return _opened[-1]


def reopened(store: imgrec.Store) -> imgrec.Store:
    store.close()
    return opened(store.name, Path(store.location))


PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(PATHS, unique=True, min_size=1, max_size=5), odd=st.booleans())
def test_paths_with_any_character(
    tmp_path_factory: pytest.TempPathFactory, kind: str, names: list[str], odd: bool
) -> None:
    paths = [f"/{name}" for name in names] + (["/not \udcff utf-8"] if odd else [])
    store = opened(kind, tmp_path_factory.mktemp("any") / "store", create=True)
    digests = [f"{i:02x}" for i in range(len(paths))]
    records = [record(path, digest) for path, digest in zip(paths, digests, strict=True)]
    store.write(Batch(records=records, vectors={RGB: (digests, rows(*range(len(paths))))}))
    again = reopened(store)
    assert {(r.path, r.digest) for r in again.records()} == set(zip(paths, digests, strict=True))
    assert {r.path for r in again.records(paths=paths)} == set(paths)
    assert again.digests(RGB) == set(digests)
    again.close()


@pytest.mark.parametrize("kinds", [("sqlite", "csv"), ("csv", "sqlite"), ("csv", "csv")])
def test_a_copy_is_equal_and_copying_again_copies_nothing(tmp_path: Path, kinds: tuple[str, str]) -> None:
    first, second = (opened(kind, tmp_path / str(i), create=True) for i, kind in enumerate(kinds))
    rng = np.random.default_rng(0)
    digests = [f"{i:04x}" for i in range(100)]
    first.write(
        Batch(
            records=[record(f"/{d}.jpg", d) for d in digests],
            failures=[Failure("/bad.jpg", 1, 2, "broken", 3.5)],
            vectors={
                RGB: (digests, rng.normal(size=(100, 7)).astype(np.float32)),
                HSV: (digests[:3], rows(1, 2, 3)),
            },
        )
    )
    assert second.copy_from(first, batch_size=16) == 100
    assert snapshot(second) == snapshot(first)
    assert second.copy_from(first) == 0
    second.write(Batch(records=[record("/extra.jpg", "ee")]))
    second.copy_from(first, exactly=True)
    assert snapshot(second) == snapshot(first)


def test_a_snapshot_is_of_one_moment(store: imgrec.Store) -> None:
    old = [record("/a.jpg", "aa"), record("/b.jpg", "bb")]
    store.write(Batch(records=old, vectors={RGB: (["aa", "bb"], rows(1, 2))}))
    reader = opened(store.name, Path(store.location))
    with reader.snapshot():
        before, generation = snapshot(reader), reader.generation(RGB)
        edited = Batch(records=[record("/a.jpg", "cc")], forgotten=["/b.jpg"], vectors={RGB: (["cc"], rows(3))})
        store.write(edited)
        assert snapshot(reader) == before
        assert reader.generation(RGB) in (generation, None)
    assert snapshot(reader) == snapshot(store) != before
    assert reader.generation(RGB) == store.generation(RGB) != generation


# --- sqlite only --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 10, b""])
def test_a_file_that_is_no_sqlite_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.sqlite").write_bytes(content)
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "x.sqlite"))
    if content:
        with pytest.raises(UsageError, match="not an imgrec store"):
            store.open(create=True)
        assert (tmp_path / "x.sqlite").read_bytes() == content
    else:
        with pytest.raises(UsageError, match="not an imgrec store"):
            store.open()


def test_a_foreign_or_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "foreign.sqlite") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(UsageError, match="not an imgrec store"):
        imgrec.build("store", "sqlite", path=str(tmp_path / "foreign.sqlite")).open(create=True)
    imgrec.build("store", "sqlite", path=str(tmp_path / "newer.sqlite")).open(create=True).close()
    with sqlite3.connect(tmp_path / "newer.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="99"):
        imgrec.build("store", "sqlite", path=str(tmp_path / "newer.sqlite")).open()


def test_vectors_of_another_length_are_refused(tmp_path: Path) -> None:
    store = opened("sqlite", tmp_path / "g.sqlite", create=True)
    store.write(Batch(records=[record("/a", "aa")], vectors={RGB: (["aa"], rows(1))}))
    with pytest.raises(ImgrecError, match="2 values, and these have 3"):
        store.write(Batch(records=[record("/b", "bb")], vectors={RGB: (["bb"], np.ones((1, 3), np.float32))}))


# --- csv only -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> imgrec.Store:
    store = opened("csv", tmp_path / "csv", create=True)
    names = ["aa", "bb"]
    records = [record('/a, "b".jpg', "aa"), record("/with\nbreak.jpg", "bb")]
    store.write(Batch(records=records, vectors={RGB: (names, rows(0.1, -2.5e-7)), HSV: (names, rows(5, 6))}))
    return store


def test_plain_for_pandas(folder: imgrec.Store) -> None:
    path = Path(folder.location)
    records = pd.read_csv(path / "records.csv")
    assert list(records.columns) == ["path", "digest", "size", "time", "missing"]
    assert list(records.path) == ['/a, "b".jpg', "/with\nbreak.jpg"]
    assert pd.to_datetime(records.time)[0].year == 2023
    vectors = pd.read_csv(path / f"{RGB.key}.csv", index_col=["path", "digest"]).astype(np.float32)
    assert np.array_equal(vectors.to_numpy(), rows(0.1, -2.5e-7))
    assert [space["key"] for space in json.loads((path / "spaces.json").read_text())] == [RGB.key, HSV.key]


@pytest.mark.parametrize("name", ["records.csv", f"{RGB.key}.csv"])
def test_a_torn_last_line_costs_nothing(folder: imgrec.Store, tmp_path: Path, name: str) -> None:
    """Cut off at any byte the row does not count, and the next batch is written where it began."""
    whole = (Path(folder.location) / name).read_bytes()
    for length in range(whole.index(b'"/with'), len(whole)):
        copy = Path(shutil.copytree(folder.location, tmp_path / str(length)))
        (copy / name).write_bytes(whole[:length])
        torn = opened("csv", copy)
        assert {r.digest for r in torn.records()} & torn.digests(RGB) == {"aa"}
        assert held(torn, RGB) == {"aa": rows(0.1)[0].tolist()}
        torn.write(Batch(records=[record("/c.jpg", "cc")], vectors={RGB: (["cc"], rows(7))}))
        again = reopened(torn)
        assert held(again, RGB) == {"aa": rows(0.1)[0].tolist(), "cc": rows(7)[0].tolist()}
        assert (copy / name).read_bytes().startswith(whole[: whole.index(b'"/with')])
        shutil.rmtree(copy)


def test_a_space_that_was_cut_off_before_its_first_vector_is_none(folder: imgrec.Store) -> None:
    listed = json.loads((Path(folder.location) / "spaces.json").read_text())
    lab = Space.of(imgrec.build("extractor", "colour", colour_space="lab"))
    for begun in ("", "path,digest,v0", "path,digest,v0,v1\n", "path,digest,v0,v1\n/a,aa,0.1,"):
        (Path(folder.location) / f"{lab.key}.csv").write_text(begun)
        (Path(folder.location) / "spaces.json").write_text(json.dumps([*listed, lab.to_json()]))
        assert reopened(folder).spaces() == [RGB, HSV]


def test_a_batch_cut_off_between_failures_and_records_leaves_one_of_both(folder: imgrec.Store) -> None:
    failure = '"/a, ""b"".jpg",1,2,broken,3.5\n'
    (Path(folder.location) / "failures.csv").write_text("path,size,time,reason,tried\n" + failure)
    again = reopened(folder)
    assert (len(list(again.records())), list(again.failures())) == (2, [])


def test_a_row_that_is_torn_while_the_file_is_read(folder: imgrec.Store) -> None:
    """Whatever is behind the last whole row when a reader looks, the rows before it are as they were written."""
    file = Path(folder.location) / f"{RGB.key}.csv"
    whole = file.read_bytes()
    reader = opened("csv", Path(folder.location))
    for tail in (b"/c", b"/c,cc,1", b"/c,cc,1,2.3", b'"/c\n'):
        file.write_bytes(whole + tail)
        assert held(reader, RGB) == {"aa": rows(0.1)[0].tolist(), "bb": rows(-2.5e-7)[0].tolist()}


@pytest.mark.parametrize("keep", [0, 7])
@pytest.mark.parametrize("name", ["records.csv", "failures.csv", f"{RGB.key}.csv"])
def test_a_file_cut_off_in_its_first_line_recovers(folder: imgrec.Store, name: str, keep: int) -> None:
    folder.write(Batch(failures=[Failure("/bad.jpg", 1, 2, "broken", 3.5)]))
    file = Path(folder.location) / name
    file.write_bytes(file.read_bytes()[:keep])
    again = reopened(folder)
    assert "cc" not in again.digests(RGB)
    failure = Failure("/worse.jpg", 1, 2, "broken", 3.5)
    again.write(Batch(records=[record("/c.jpg", "cc")], failures=[failure], vectors={RGB: (["cc"], rows(7))}))
    for each in (again, reopened(again)):
        assert failure in list(each.failures())
        assert held(each, RGB)["cc"] == rows(7)[0].tolist()
    assert len(pd.read_csv(file)) >= 1


def test_failures_that_end_and_come_again(store: imgrec.Store) -> None:
    for i in range(3):
        failure = Failure(f"/{i}.jpg", 1, 2, "broken", 3.5)
        store.write(Batch(failures=[failure]))
        assert list(reopened(store).failures()) == [failure]
        store.write(Batch(records=[record(f"/{i}.jpg", f"{i:02}")]))
        assert list(reopened(store).failures()) == []


def test_a_sqlite_store_serves_several_threads(tmp_path: Path) -> None:
    store = opened("sqlite", tmp_path / "g.sqlite", create=True)
    store.write(Batch(records=[record("/a.jpg", "aa")], vectors={RGB: (["aa"], rows(1))}))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: held(store, RGB), range(20)))
    assert found == [{"aa": rows(1)[0].tolist()}] * 20


def test_who_may_not_write_sees_what_a_writer_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = opened("sqlite", tmp_path / "g.sqlite", create=True)
    writer.write(Batch(records=[record("/a.jpg", "aa")], vectors={RGB: (["aa"], rows(1))}))
    monkeypatch.setattr(os, "access", lambda *_: False)
    reader = opened("sqlite", tmp_path / "g.sqlite")
    assert held(reader, RGB) == {"aa": rows(1)[0].tolist()}
    writer.write(Batch(records=[record("/b.jpg", "bb")], vectors={RGB: (["bb"], rows(2))}))
    assert held(reader, RGB).keys() == {"aa", "bb"}
    with pytest.raises(ImgrecError, match="readonly"):
        reader.write(Batch(forgotten=["/a.jpg"]))


def test_a_full_disk_leaves_every_file_as_it_was(folder: imgrec.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written any more when the vectors of a new space are, so nothing to undo it either."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    def add_vectors(*_: Any) -> None:
        monkeypatch.setattr(Path, "write_text", full)
        monkeypatch.setattr(Path, "write_bytes", full)
        full()

    before, files = snapshot(folder), {file.name for file in Path(folder.location).iterdir()}
    monkeypatch.setattr("imgrec_csv._Change.add_vectors", add_vectors)
    with pytest.raises(ImgrecError, match="cannot be written: No space left on device"):
        folder.write(Batch(records=[record("/new.jpg", "ff")], vectors={HSV: (["ff"], rows(9))}))
    monkeypatch.undo()
    assert snapshot(reopened(folder)) == before
    assert {file.name for file in Path(folder.location).iterdir()} == files


def test_what_is_copied_to_complete_a_store_replaces_nothing(tmp_path: Path) -> None:
    store, backup = (opened(kind, tmp_path / kind, create=True) for kind in ("sqlite", "csv"))
    older = [record("/changed.jpg", "aa"), record("/broken.jpg", "bb"), record("/lost.jpg", "cc")]
    older += [record("/copy.jpg", "cc"), record("/same.jpg", "dd")]
    names = ["aa", "bb", "cc", "dd"]
    backup.write(Batch(records=older, vectors={RGB: (names, rows(1, 2, 3, 4))}, notes={"one": 1, "two": 2}))
    backup.write(
        Batch(failures=[Failure("/mended.jpg", 1, 1, "broken", 1.0), Failure("/bad.jpg", 1, 1, "bad", 1.0)])
    )
    newer = [record("/changed.jpg", "ee"), record("/mended.jpg", "ff"), record("/same.jpg", "dd", mtime_ns=5)]
    store.write(Batch(records=newer, vectors={RGB: (["ee", "ff"], rows(5, 6))}, notes={"two": 22}))
    store.write(Batch(failures=[Failure("/broken.jpg", 9, 9, "broken", 9.0)]))
    assert store.copy_from(backup, only_lacking=True) == 3  # lost, copy, and same, which has its vector now
    assert {r.path: r.digest for r in store.records()} == {
        "/changed.jpg": "ee", "/mended.jpg": "ff", "/same.jpg": "dd", "/lost.jpg": "cc", "/copy.jpg": "cc",
    }  # fmt: skip
    assert next(store.records(paths=["/same.jpg"])).mtime_ns == 5
    assert held(store, RGB).keys() == {"cc", "dd", "ee", "ff"}
    assert {f.path: f.time for f in store.failures()} == {"/broken.jpg": 9.0, "/bad.jpg": 1.0}
    assert store.notes() == {"one": 1, "two": 22}


def test_a_store_on_a_read_only_medium_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened("sqlite", tmp_path / "g #1?.sqlite", create=True)
    store.write(Batch(records=[record("/a.jpg", "aa")], vectors={RGB: (["aa"], rows(1))}))
    store.close()
    monkeypatch.setattr(os, "access", lambda *_: False)
    fixed = opened("sqlite", tmp_path / "g #1?.sqlite")
    assert held(fixed, RGB) == {"aa": rows(1)[0].tolist()}
    with pytest.raises(ImgrecError, match="readonly"):
        fixed.write(Batch(forgotten=["/a.jpg"]))
    assert [file.name for file in tmp_path.iterdir()] == ["g #1?.sqlite"]
