from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imgrec
import imgrec_csv
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
        before, revision = snapshot(reader), reader.revision(RGB)
        edited = Batch(records=[record("/a.jpg", "cc")], forgotten=["/b.jpg"], vectors={RGB: (["cc"], rows(3))})
        store.write(edited)
        assert snapshot(reader) == before
        assert reader.revision(RGB) in (revision, None)
    assert snapshot(reader) == snapshot(store) != before
    assert reader.revision(RGB) == store.revision(RGB) != revision


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


def segments(store: imgrec.Store) -> list[str]:
    return sorted(file.name for file in Path(store.location).iterdir() if file.is_dir())


def test_plain_for_pandas(folder: imgrec.Store) -> None:
    (segment,) = segments(folder)
    records = pd.read_csv(Path(folder.location) / segment / "records.csv")
    assert list(records.columns) == [
        "path", "digest", "size", "time", "missing", "stamp", "width", "height", "taken", "warning",
    ]  # fmt: skip
    assert list(records.path) == ['/a, "b".jpg', "/with\nbreak.jpg"]
    assert pd.to_datetime(records.time)[0].year == 2023


def test_the_line_for_pandas_reads_all_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgrec_csv.FAN_IN", 3)
    store = opened("csv", tmp_path / "outputs" / "gallery-csv", create=True)
    for i in range(8):
        name = f"a{i}"
        store.write(Batch(records=[record(f"/{i}\r\n.jpg", name)], vectors={RGB: ([name], rows(i))}))
    store.write(Batch(vectors={RGB: (["a3"], rows(0.1))}))
    (line,) = [line.strip() for line in imgrec_csv.Csv.__doc__.splitlines() if "pd.concat" in line]  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    read = eval(line, {"pd": pd, "Path": Path}).drop_duplicates("digest", keep="last").set_index("digest")
    values = read.drop(columns="path").astype(np.float32)
    assert dict(zip(values.index, values.to_numpy().tolist(), strict=True)) == held(store, RGB)


SPACES = [RGB, HSV]


class Model:
    """What a store shall hold, in dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.vectors: dict[str, dict[str, list[float]]] = {space.key: {} for space in SPACES}

    def write(self, batch: Batch) -> None:
        for path in [*batch.forgotten, *batch.dismissed]:
            self.rows.pop(path, None)
        self.rows |= dict.fromkeys(batch.dismissed)
        self.rows |= {row.path: row for row in batch.failures}
        self.rows |= {row.path: row for row in batch.records}
        wanted = {row.digest for row in self.rows.values() if isinstance(row, Record)}
        for space, (digests, values) in batch.vectors.items():
            self.vectors[space.key] |= dict(zip(digests, values.tolist(), strict=True))
        for key, some in self.vectors.items():
            self.vectors[key] = {digest: vector for digest, vector in some.items() if digest in wanted}
        self.metadata = {
            name: value for name, value in (self.metadata | batch.metadata).items() if value is not None
        }

    def check(self, store: imgrec.Store) -> None:
        found: dict[str, Any] = {row.path: row for row in store.records()}
        found |= {row.path: row for row in store.failures()}
        assert found | dict.fromkeys(store.dismissed()) == self.rows
        assert store.metadata() == self.metadata
        for space in SPACES:
            assert held(store, space) == self.vectors[space.key]
            assert store.digests(space) == self.vectors[space.key].keys()


def random_batch(random: Random) -> Batch:
    """Adds, edits, moves, copies, failures, and what is forgotten, of a few paths and contents."""
    some = {
        kind: random.sample(range(12), random.randrange(3)) for kind in ("record", "bad", "gone", "no", "vector")
    }
    records = [
        record(f"/{i}.jpg", f"{random.randrange(15):02x}", size=random.randrange(9)) for i in some["record"]
    ]
    names = [*{each.digest for each in records if random.random() < 0.8}, *(f"{i:02x}" for i in some["vector"])]
    names = list(dict.fromkeys(names))
    vectors = {random.choice(SPACES): (names, rows(*(random.random() for _ in names)))} if names else {}
    return Batch(
        records,
        [Failure(f"/{i}.jpg", 1, 2, "broken", 3.5) for i in some["bad"] if i not in some["record"]],
        forgotten=[f"/{i}.jpg" for i in some["gone"]],
        dismissed=[f"/{i}.jpg" for i in some["no"]],
        vectors=vectors,
        metadata={random.choice("abc"): random.choice([None, 1, "x"])} if random.random() < 0.2 else {},
    )


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
@pytest.mark.parametrize("seed", range(4))
def test_many_batches_are_as_their_sum(
    tmp_path: Path, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined many times over; for who writes, who follows now and then, who opens anew, and for changes."""
    monkeypatch.setattr("imgrec_csv.FAN_IN", 2 + seed % 2)
    random, model = Random(seed), Model()
    writer, reader = (opened(kind, tmp_path / "store", create=True) for _ in range(2))
    moments = []
    for i in range(120):
        batch = random_batch(random)
        before = [writer.revision(space) for space in SPACES]
        writer.write(batch)
        model.write(batch)
        if replace(batch, metadata={}):
            assert writer.revision(RGB) not in before
        moments.append((writer.revision(RGB), {key: dict(some) for key, some in model.vectors.items()}))
        if i % 7 == 0:
            model.check(writer)
        if random.random() < 0.3:
            model.check(reader)
            assert reader.revision(RGB) == writer.revision(RGB)
    for each in (writer, reader, opened(kind, tmp_path / "store")):
        model.check(each)
        assert list(each.problems()) == []
    told = 0
    for revision, then in moments:
        for space in SPACES:
            if revision is not None and (changed := writer.changes(space, revision)) is not None:
                gone, added = changed
                kept = {name: vector for name, vector in then[space.key].items() if name not in gone}
                assert kept | {name: held(writer, space)[name] for name in added} == model.vectors[space.key]
                told += 1
    assert told > 0
    if kind == "csv":
        assert len(segments(writer)) < 20


def test_a_folder_has_few_segments_however_many_batches(tmp_path: Path) -> None:
    store = opened("csv", tmp_path / "csv", create=True)
    for i in range(16 * 3 + 2):
        store.write(Batch(records=[record(f"/{i}.jpg", f"{i:02x}")], vectors={RGB: ([f"{i:02x}"], rows(i))}))
    assert [name[:17] for name in segments(store)] == [
        "00000001-00000016", "00000017-00000032", "00000033-00000048", "00000049-00000049", "00000050-00000050",
    ]  # fmt: skip
    assert held(reopened(store), RGB) == {f"{i:02x}": rows(i)[0].tolist() for i in range(50)}


def test_a_killed_write_leaves_what_nobody_sees(folder: imgrec.Store) -> None:
    """Killed at any file, or before the segment is put in its place; the next write removes what is left."""
    before, path = snapshot(folder), Path(folder.location)
    more = Batch([record("/c.jpg", "cc")], [Failure("/d.jpg", 1, 2, "x", 3.5)], ["/with\nbreak.jpg"],
                 vectors={RGB: (["cc"], rows(7))})  # fmt: skip
    whole = opened("csv", Path(shutil.copytree(path, path.with_name("whole"))))
    whole.write(more)
    (new,) = set(segments(whole)) - set(segments(folder))
    files = sorted((Path(whole.location) / new).iterdir())
    assert len(files) == 6
    (path / f".new-{new}").mkdir()
    for file in files:
        shutil.copy(file, path / f".new-{new}")
        assert snapshot(opened("csv", path)) == before
    again = reopened(folder)
    again.write(more)
    assert snapshot(again) == snapshot(whole)
    assert [name for name in segments(again) if name.startswith(".")] == []


@pytest.mark.parametrize("left", [1, 5, 16])
def test_a_killed_join_leaves_segments_that_do_not_count(tmp_path: Path, left: int) -> None:
    store = opened("csv", tmp_path / "csv", create=True)
    for i in range(16):
        store.write(Batch(records=[record(f"/{i}.jpg", f"{i:02x}")], vectors={RGB: ([f"{i:02x}"], rows(i))}))
        if i < 15:
            shutil.copytree(store.location, tmp_path / "parts", dirs_exist_ok=True)
    (joined,) = segments(store)
    before = snapshot(store)
    shutil.copytree(Path(store.location) / joined, tmp_path / "parts" / f"00000016-00000016-{joined[18:]}")
    for name in sorted(file.name for file in (tmp_path / "parts").iterdir() if file.is_dir())[16 - left :]:
        shutil.copytree(tmp_path / "parts" / name, Path(store.location) / name)
    assert len(segments(store)) == 1 + left
    for each in (store, opened("csv", tmp_path / "csv")):
        assert snapshot(each) == before
    store.write(Batch(forgotten=["/0.jpg"]))
    assert segments(store)[0] == joined
    assert len(segments(store)) == 2
    assert len(list(reopened(store).records())) == 15


def test_readers_beside_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole batches, the later ones later, and in a snapshot what it began with."""
    monkeypatch.setattr("imgrec_csv.FAN_IN", 2)
    writer = opened("csv", tmp_path / "csv", create=True)
    writer.write(Batch(metadata={"begun": True}))
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            last = 0
            reader = imgrec.build("store", "csv", path=str(tmp_path / "csv"))
            while not done.is_set():
                with reader.open(), reader.snapshot():
                    count = len(list(reader.records()))
                    assert count >= last
                    assert count % 2 == 0
                    for _ in range(3):
                        assert len(held(reader, RGB)) == len(list(reader.records())) == count
                last = count
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(100):
        names = [f"{i:04x}", f"{i:04x}ff"]
        writer.write(Batch([record(f"/{name}.jpg", name) for name in names], vectors={RGB: (names, rows(i, i))}))
    done.set()
    for thread in threads:
        thread.join()
    assert not errors, errors


def test_a_snapshot_holds_while_all_of_it_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgrec_csv.FAN_IN", 2)
    writer = opened("csv", tmp_path / "csv", create=True)
    for i in range(3):
        writer.write(Batch([record(f"/{i}.jpg", f"{i:02x}")], vectors={RGB: ([f"{i:02x}"], rows(i))}))
    reader = opened("csv", tmp_path / "csv")
    with reader.snapshot(), reader.snapshot():
        writer.write(Batch(forgotten=["/0.jpg"], vectors={RGB: (["01"], rows(11))}))
        assert len(segments(writer)) == 1
        assert held(reader, RGB) == {f"{i:02x}": rows(i)[0].tolist() for i in range(3)}
    assert held(reader, RGB) == {"01": rows(11)[0].tolist(), "02": rows(2)[0].tolist()}


def test_a_lost_content_that_comes_back_has_no_vector_after_a_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgrec_csv.FAN_IN", 2)
    store = opened("csv", tmp_path / "csv", create=True)
    store.write(Batch([record("/a.jpg", "aa")], vectors={RGB: (["aa"], rows(1))}))
    store.write(Batch([record("/b.jpg", "bb")]))
    store.write(Batch(forgotten=["/a.jpg"]))
    store.write(Batch([record("/again.jpg", "aa")]))
    for each in (store, reopened(store)):
        assert (each.digests(RGB), held(each, RGB)) == (set(), {})


def test_a_folder_of_which_a_batch_was_removed_says_so(folder: imgrec.Store) -> None:
    folder.write(Batch(records=[record("/c.jpg", "cc")]))
    shutil.rmtree(Path(folder.location) / segments(folder)[0])
    again = reopened(folder)
    assert [r.path for r in again.records()] == ["/c.jpg"]
    assert list(again.problems()) == [f"{folder.location}: batches 1 to 1 are not there"]


@pytest.mark.parametrize("step", ["_write_vectors", "_sync", "_text", "_Content.save"])
def test_a_full_disk_leaves_the_folder_as_it_was(
    folder: imgrec.Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    before, files = snapshot(folder), segments(folder)
    monkeypatch.setattr(f"imgrec_csv.{step}", full)
    with pytest.raises(ImgrecError, match="cannot be written: No space left on device"):
        folder.write(Batch(records=[record("/new.jpg", "ff")], vectors={HSV: (["ff"], rows(9))}))
    monkeypatch.undo()
    assert snapshot(folder) == snapshot(reopened(folder)) == before
    assert segments(folder) == files


def test_a_join_that_fails_leaves_the_batch_written(folder: imgrec.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imgrec_csv.FAN_IN", 2)
    monkeypatch.setattr("imgrec_csv._copy_vectors", full)
    folder.write(Batch(records=[record("/new.jpg", "ff")], vectors={RGB: (["ff"], rows(9))}))
    assert held(reopened(folder), RGB).keys() == {"aa", "bb", "ff"}
    assert len(segments(folder)) == 2


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


def test_what_is_copied_to_complete_a_store_replaces_nothing(tmp_path: Path) -> None:
    store, backup = (opened(kind, tmp_path / kind, create=True) for kind in ("sqlite", "csv"))
    older = [record("/changed.jpg", "aa"), record("/broken.jpg", "bb"), record("/lost.jpg", "cc")]
    older += [record("/copy.jpg", "cc"), record("/same.jpg", "dd")]
    names = ["aa", "bb", "cc", "dd"]
    backup.write(Batch(records=older, vectors={RGB: (names, rows(1, 2, 3, 4))}, metadata={"one": 1, "two": 2}))
    backup.write(
        Batch(failures=[Failure("/mended.jpg", 1, 1, "broken", 1.0), Failure("/bad.jpg", 1, 1, "bad", 1.0)])
    )
    newer = [record("/changed.jpg", "ee"), record("/mended.jpg", "ff"), record("/same.jpg", "dd", mtime_ns=5)]
    store.write(Batch(records=newer, vectors={RGB: (["ee", "ff"], rows(5, 6))}, metadata={"two": 22}))
    store.write(Batch(failures=[Failure("/broken.jpg", 9, 9, "broken", 9.0)]))
    assert store.copy_from(backup, only_lacking=True) == 3  # lost, copy, and same, which has its vector now
    assert {r.path: r.digest for r in store.records()} == {
        "/changed.jpg": "ee", "/mended.jpg": "ff", "/same.jpg": "dd", "/lost.jpg": "cc", "/copy.jpg": "cc",
    }  # fmt: skip
    assert next(store.records(paths=["/same.jpg"])).mtime_ns == 5
    assert held(store, RGB).keys() == {"cc", "dd", "ee", "ff"}
    assert {f.path: f.time for f in store.failures()} == {"/broken.jpg": 9.0, "/bad.jpg": 1.0}
    assert store.metadata() == {"one": 1, "two": 22}


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


@pytest.mark.parametrize("what", ["records.csv", f"{RGB.key}.csv", "notes.json", "spaces.json", ""])
def test_what_is_gone_of_a_segment_is_told_and_the_next_write_makes_the_rest_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """A file, or the whole of a batch in the middle."""
    store = opened("csv", tmp_path / "csv", create=True)
    for i in range(3):
        digest = f"{i:02x}"
        vectors = {RGB: ([digest], rows(i))}
        store.write(Batch([record(f"/{i}.jpg", digest)], vectors=vectors, metadata={f"{i}": i}))
    lost = Path(store.location) / segments(store)[0 if what == "spaces.json" else 1]
    shutil.rmtree(lost) if not what else (lost / what).unlink()
    again = opened("csv", tmp_path / "csv")
    (problem,) = again.problems()
    assert ("are not there" if not what else "has 0 rows of") in problem
    assert bool(what) == ("is damaged" in caplog.text)
    again.write(Batch([record("/new.jpg", "ff")], vectors={RGB: (["ff"], rows(9))}))
    healed = opened("csv", tmp_path / "csv")
    assert list(healed.problems()) == []
    assert {r.path for r in healed.records()} >= {"/0.jpg", "/2.jpg", "/new.jpg"}
    assert len(segments(healed)) == 1


def test_a_folder_that_is_damaged_otherwise_is_told_in_a_line_and_never_waited_for(tmp_path: Path) -> None:
    store = opened("csv", tmp_path / "csv", create=True)
    store.write(Batch([record("/a.jpg", "aa")], vectors={RGB: (["aa"], rows(1))}))
    whole = shutil.copytree(store.location, tmp_path / "whole")
    (name,) = segments(store)

    def replace_by_link(path: Path) -> None:
        (path / name / "records.csv").unlink()
        (path / name / "records.csv").symlink_to(path)

    damages: list[Callable[[Path], object]] = [
        lambda path: os.symlink("nowhere", path / "00000002-00000002-0000000000000000"),  # noqa: PTH211
        lambda path: (path / name / "lost.json").write_text("[1, [2]]"),
        lambda path: (path / name / "forgotten.json").write_text("[[1]]"),
        lambda path: (path / f"{name[:18]}{'f' * 16}").mkdir(),
        replace_by_link,
    ]
    for number, damage in enumerate(damages):
        path = Path(shutil.copytree(whole, tmp_path / f"{number}"))
        damage(path)
        with pytest.raises(imgrec.ImgrecError, match="is damaged"):
            list(opened("csv", path).records())
    for version in (1, 2):
        (Path(whole) / "schema.json").write_text(f'{{"schema": {version}}}')
        with pytest.raises(imgrec.UsageError, match="does not say which schema it is"):
            opened("csv", Path(whole))
