"""The store of Lance datasets: in a folder, and on the S3 servers of this machine."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imgrec
import imgrec.search.files
from conftest import Cli
from imgrec import Batch, ImgrecError, NoStoreError, Record, Space, UsageError
from imgrec.testing import check_store
from imgrec.testing.kit import SeenError
from imgrec.testing.store import Subject, a_half_written_second_space_is_unseen, snapshot
from object_storage import ObjectStorage, environment_of
from soak import writers

lance = pytest.importorskip("lance")

import imgrec_lance  # noqa: E402 - where the library is
from imgrec_lance import tables, writing  # noqa: E402
from imgrec_lance.state import State  # noqa: E402

RGB = Space.of(imgrec.build("extractor", "colour"))
HSV = Space.of(imgrec.build("extractor", "colour", colour_space="hsv"))


def opened(path: Path | str, **options: Any) -> imgrec_lance.Lance:
    return imgrec_lance.Lance(path=str(path), **options).open(create=not options)


def images(*names: str) -> Batch:
    """A record and a vector for each."""
    vectors = np.array([[ord(name[0]), len(name)] for name in names], np.float32)
    return Batch([Record(f"/{name}.jpg", name, 1, 1) for name in names], vectors={RGB: (list(names), vectors)})


def held(store: imgrec.Store) -> dict[str, list[float]]:
    return dict(
        zip(*(each if isinstance(each, list) else each.tolist() for each in store.vectors(RGB)), strict=True)
    )


def test_the_contract_holds_in_object_storage(
    seaweedfs_server: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make soak ONLY=writers` checks it on moto's server too."""
    for name, value in seaweedfs_server.environment.items():
        monkeypatch.setenv(name, value)
    check_store(lambda folder: imgrec.build("store", "lance", path=seaweedfs_server.url(folder.name)))


def test_writers_are_killed_in_object_storage(object_storage: ObjectStorage) -> None:
    assert writers.kill_many((object_storage.url("gallery"), object_storage.environment), 2, Random(0)) > 0


def test_four_write_at_once_to_object_storage(seaweedfs_server: ObjectStorage) -> None:
    """And to moto's server in `make soak ONLY=writers`."""
    assert writers.write_at_once((seaweedfs_server.url("four"), seaweedfs_server.environment), batches=1) == 4


def test_writers_are_killed_and_write_at_once_in_a_folder_without_a_lock(tmp_path: Path) -> None:
    assert writers.kill_many((str(tmp_path / "gallery"), {}), 6, Random(0)) > 0
    assert writers.write_at_once((str(tmp_path / "four"), {}), batches=1) == 4
    assert {each.name for each in tmp_path.iterdir()} == {"gallery", "four"}
    assert not list(tmp_path.rglob("*lock*"))


@pytest.mark.parametrize(
    "path",
    [
        "s3://photos?x=1/g",
        "s3://photos/g#1",
        "s3://",
        "http://photos/g",
        "S3://photos/g",
        "s3://me:secret@photos/g",
    ],
)
def test_an_address_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        imgrec_lance.Lance(path=path)
    assert "secret" not in str(caught.value)


def test_an_environment_that_lance_panics_of_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of("nonsense").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="cannot be opened: request valid: InvalidUri"):
        opened("s3://photos/gallery")


@pytest.mark.parametrize("is_made_by_another", [False, True])
def test_a_place_that_cannot_be_written_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made_by_another: bool
) -> None:
    write = lance.write_dataset

    def fail(*args: Any, **options: Any) -> None:
        if is_made_by_another:
            write(*args, **options)
        raise OSError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(lance, "write_dataset", fail)
    if is_made_by_another:
        assert not list(opened(tmp_path / "gallery").records())
    else:
        with pytest.raises(UsageError, match="No space left on device"):
            opened(tmp_path / "gallery")


class ReadsAhead(imgrec_lance.Lance):
    """Reads the newest vectors, those too that no commit has named."""

    def _now(self) -> State:
        state = super()._now()
        head = state.draft(is_new_revision=False)
        for key, entry in head["spaces"].items():
            if table := state.vectors(key):
                entry["version"] = table.dataset.latest_version
        return replace(state, head=head, spaces={})


def test_the_kit_finds_a_store_that_reads_vectors_which_no_commit_names() -> None:
    subject = Subject(lambda folder: ReadsAhead(path=str(folder / "gallery")))
    try:
        with pytest.raises(SeenError, match="after the error the store holds"):
            a_half_written_second_space_is_unseen(subject)
    finally:
        subject.closed()


def test_what_a_commit_that_never_came_has_left_is_not_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    for lost, kept in (("lost", "first"), ("gone", "second")):  # of a new space, and of one that is there
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(State, "next", _interrupted)
            store.write(images(lost, f"{lost}-too"))
        store.write(images(kept))
    assert held(opened(tmp_path)).keys() == {"first", "second"}
    assert list(store.problems()) == []


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_older_state_is_read_and_not_written(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write(images("first"))
    version = store._now().files.version
    store.write(Batch(forgotten=["/first.jpg"]))
    store.write(images("second"))
    old = opened(tmp_path, version=version)
    assert held(old).keys() == {"first"} == {record.digest for record in old.records()}
    with pytest.raises(UsageError, match=f"version {version} can only be read"):
        old.write(images("third"))
    with pytest.raises(NoStoreError, match="there is no version 99 of the gallery at"):
        opened(tmp_path, version=99)


def test_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    store, reader = opened(tmp_path), opened(tmp_path)
    store.write(images("first"))
    with reader.snapshot():
        before, revision = held(reader), reader.revision(RGB)
        store.write(Batch(images("second").records, forgotten=["/first.jpg"], vectors=images("second").vectors))
        assert held(reader) == before
        assert reader.revision(RGB) == revision
    assert held(reader).keys() == {"second"}


PATHS = st.sampled_from([f"/{name}.jpg" for name in "abcd"])
DIGESTS = st.sampled_from("xyz")
VECTORS = st.lists(DIGESTS, unique=True, max_size=3)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Any batch of few paths and contents, each path once among what is new."""
    paths = draw(st.lists(PATHS, unique=True, max_size=3))
    kinds = [draw(st.sampled_from(["record", "failure", "dismissed"])) for _ in paths]
    new = list(zip(paths, kinds, strict=True))
    value = draw(st.integers(1, 9))
    return Batch(
        [Record(path, draw(DIGESTS), value, 1) for path, kind in new if kind == "record"],
        [imgrec.Failure(path, value, 1, "broken", 1.0) for path, kind in new if kind == "failure"],
        forgotten=draw(st.lists(PATHS, unique=True, max_size=2)),
        dismissed=[path for path, kind in new if kind == "dismissed"],
        vectors={
            space: (names, np.full((len(names), 2), value, np.float32))
            for space in (RGB, HSV)
            if (names := draw(VECTORS))
        },
        metadata=draw(st.dictionaries(st.sampled_from("mn"), st.sampled_from([None, 1, [2]]), max_size=2)),
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(several=st.lists(batches(), min_size=1, max_size=6))
def test_any_batches_make_what_they_make_in_sqlite(
    tmp_path_factory: pytest.TempPathFactory, several: list[Batch]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with (
        opened(folder / "lance") as mine,
        imgrec.build("store", "sqlite", path=str(folder / "sqlite")).open(create=True) as other,
    ):
        begun, before = mine.revision(RGB), mine.snapshot()
        with before:
            for batch in several:
                for store in (mine, other):
                    store.write(deepcopy(batch))
        assert snapshot(mine) == snapshot(other)
        assert mine.metadata() == other.metadata()
        assert list(mine.problems()) == []
        gone, added = mine.changes(RGB, begun or "") or (set(), set())
        assert added == mine.digests(RGB) <= gone | added


def test_small_fragments_are_joined_and_old_states_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TOO_MANY", 4)
    monkeypatch.setattr(writing, "CLEANED_EVERY", 5)
    monkeypatch.setattr(writing, "KEPT", timedelta())
    store, reader = opened(tmp_path), opened(tmp_path)
    names = [f"{i}" for i in range(30)]
    store.write(images("before"))
    revision = store.revision(RGB)
    assert revision is not None
    for name in names:
        store.write(images(name))
        assert held(reader).keys() >= {"before", name}
    store.write(Batch(forgotten=["/before.jpg"]))
    for each in (store, reader, opened(tmp_path)):
        assert held(each).keys() == set(names)
        assert each.changes(RGB, revision) == ({"before", *names}, set(names))
        assert list(each.problems()) == []
    assert len(store._now().files.dataset.get_fragments()) < 10
    assert len(list(tmp_path.glob("files.lance/_versions/*.manifest"))) < 30
    store.drop(RGB)
    monkeypatch.setattr(writing, "CLEANED_EVERY", 1)
    store.write(images("last"))
    assert len(list(tmp_path.glob("vectors/*"))) == 1
    assert held(opened(tmp_path)).keys() == {"last"}


def test_old_changes_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHANGES_KEPT", 3)
    monkeypatch.setattr(writing, "CLEANED_EVERY", 1)
    store, revisions = opened(tmp_path), []
    for name in "abcdefgh":
        store.write(images(name))
        revisions.append(store.revision(RGB) or "")
    assert store.changes(RGB, revisions[0]) is None
    assert store.changes(RGB, revisions[-2]) == ({"h"}, {"h"})


def test_a_gallery_in_object_storage_from_ingest_to_restore(
    moto_server: ObjectStorage, here: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever reads what is left of it finds no credentials."""
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(imgrec.search.files, "WORTH_KEEPING", 0)
    place = moto_server.url("whole/gallery")
    chosen = ["store=lance", f"store.path={place}"]
    told = [here("ingest", photos, "extractor=colour", *chosen, "backup=csv")]
    assert "40 new" in told[0].out
    assert (tmp_path / "outputs" / "gallery-csv").is_dir()  # beside a store on this machine it would be there
    told.append(here("ingest", photos, "extractor=colour", *chosen, "backup=csv"))
    assert "40 unchanged" in told[-1].out
    query = photos / "china" / "china-0-0.jpg"
    told += [here("recommend", query, *chosen, "k=3", "format=json"), here("verify", *chosen, "backup=csv")]
    other = ["store=lance", f"store.path={tmp_path / 'again'}"]
    told.append(here("restore", "backup=lance", f"backup.path={place}", *other))
    assert "40 images restored" in told[-1].out
    assert here("recommend", query, *other, "k=3", "format=json").json()["matches"] == told[2].json()["matches"]
    with imgrec.open(place) as gallery:
        assert len(gallery.recommend(query, k=3)) == 3
    assert list((tmp_path / "cache" / "imgrec" / "lance").glob("*/colour-*/*/vectors.npy"))
    texts = [text.encode() for each in told for text in (each.out, each.err)]
    texts += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    client = moto_server.client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=moto_server.bucket, Prefix="whole/"):
        texts += [
            client.get_object(Bucket=moto_server.bucket, Key=each["Key"])["Body"].read()
            for each in page["Contents"]
        ]
    assert len(texts) > 40
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert not any(moto_server.environment[name].encode() in text for text in texts)


@pytest.mark.parametrize("kind", ["csv", "sqlite"])
def test_copies_to_and_from_other_stores_are_equal(tmp_path: Path, kind: str) -> None:
    first, other, last = (
        opened(tmp_path / "first"),
        imgrec.build("store", kind, path=str(tmp_path / kind)),
        opened(tmp_path / "last"),
    )
    first.write(images("a", "bb", "ccc"))
    first.write(
        Batch(failures=[imgrec.Failure("/bad.jpg", 1, 2, "broken", 3.5)], dismissed=["/a.jpg"], metadata={"x": 1})
    )
    with other.open(create=True):
        assert other.copy_from(first) == 2
        assert last.copy_from(other) == 2
        for each in (other, last):
            assert sorted(each.records(), key=lambda r: r.path) == sorted(first.records(), key=lambda r: r.path)
            assert list(each.failures()) == list(first.failures())
            assert (each.dismissed(), each.metadata(), held(each)) == ({"/a.jpg"}, {"x": 1}, held(first))


def test_a_transaction_takes_few_requests_however_many_there_were(
    moto_server: ObjectStorage, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(imgrec_lance.Lance, "transaction_size", 8)
    monkeypatch.setattr(tables, "TOO_MANY", 10**6)  # of so small ones, that is
    monkeypatch.setattr("imgrec.ingestion.steps.LOOKED_UP", 8)
    requests = []
    write = imgrec_lance.Lance.write

    def counted(store: imgrec_lance.Lance, batch: Batch) -> None:
        write(store, batch)
        if batch.vectors:
            requests.append(moto_server.requests())

    monkeypatch.setattr(imgrec_lance.Lance, "write", counted)
    store = imgrec.build("store", "lance", path=moto_server.url("few"))
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), store, batch_size=8)
    each = np.diff(requests)
    assert len(each) == 4
    assert each.max() <= 20


@pytest.mark.parametrize("lost", ["vectors/*/data/*", "files.lance/data/*", "vectors/*/_versions/*"])
def test_what_is_damaged_is_told_in_a_line(tmp_path: Path, lost: str) -> None:
    store = opened(tmp_path / "gallery")
    store.write(images("a", "bb"))
    for file in Path(store.location).glob(lost):
        file.unlink()
    again = imgrec_lance.Lance(path=store.location)
    try:
        problems = list(again.open().problems())
    except ImgrecError as error:
        problems = [str(error)]
    assert problems
    assert all("\n" not in each and ".rs" not in each for each in problems)
    if lost.startswith("vectors"):
        with pytest.raises(ImgrecError, match=r"store .*gallery: "):
            again.vectors(RGB)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_SECRET_ACCESS_KEY", "another", "403 Forbidden: SignatureDoesNotMatch"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "error sending request"),
    ],
)
def test_storage_that_does_not_answer_or_refuses_is_no_storage_without_a_gallery(
    seaweedfs_server: ObjectStorage, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    for each, usual in {**seaweedfs_server.environment, name: value}.items():
        monkeypatch.setenv(each, usual)
    with pytest.raises(UsageError) as caught:
        opened(seaweedfs_server.url("closed"))
    assert not isinstance(caught.value, NoStoreError)
    assert f"store {seaweedfs_server.url('closed')} cannot be opened: " in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
