"""The index of exact search: made in a stream, follows the store, and comes with the ingest of a large gallery."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli
from imgrec.kinds import Batch, Record, Space, Vectors
from imgrec.kinds.metric import metric_of
from imgrec.search import exact, files, tables
from imgrec.search.exact import VectorField
from imgrec.search.tables import VectorTable

SPACE = Space("made-0123456789ab", "made", {}, {})
DIM = 40
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(4_000, DIM)).astype(np.float32) * np.exp(-np.arange(DIM, dtype=np.float32) / 8)

KILLED = """
import os, sys
import imgrec
from imgrec.search import files, tables
files.WORTH_KEEPING, tables.ROWS = 1_000, 64
left, fsync = int(sys.argv[2]), os.fsync

def fatal(file):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    fsync(file)

os.fsync = fatal
with imgrec.build("store", "sqlite", path=sys.argv[1]) as store:
    files.prepare(files.whole(store, store.spaces()[0]))
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WORTH_KEEPING", 1_000)
    monkeypatch.setattr(tables, "ROWS", 64)


@pytest.fixture(params=["sqlite", "csv"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[imgrec.Store]:
    with imgrec.build("store", request.param, path=str(tmp_path / "store")).open(create=True) as store:
        yield store


def add(store: imgrec.Store, numbers: range, shift: int = 0) -> None:
    digests = [f"{i:064x}" for i in numbers]
    records = [Record(f"/{i:05}.jpg", digest, 1, 1) for i, digest in zip(numbers, digests, strict=True)]
    values = VECTORS[[(i + shift) % len(VECTORS) for i in numbers]]
    store.write(Batch(records=records, vectors={SPACE: (digests, values)}))


def source(store: imgrec.Store) -> tables.Source:
    return files.whole(store, SPACE)


def rows(table: VectorTable) -> dict[bytes, tuple[bytes, bool]]:
    """All that a table says of each content."""
    return {
        digest: (vector.tobytes(), usable)
        for digest, vector, usable in zip(
            table.digests.tolist(), table.vectors, table.usable.tolist(), strict=True
        )
    }


def check_like_new(store: imgrec.Store) -> VectorTable:
    """The cached table is that of today, sound to the last row, and finds what one from the store finds."""
    assert [problem for _, problem in files.check(source(store))] == [None]
    table, new = files.load(store, SPACE), tables.in_memory(source(store))
    assert table.pruning.levels
    assert (rows(table), table.images, table.fingerprint) == (rows(new), new.images, new.fingerprint)
    queries = VECTORS[:7] + np.float32(0.01)
    found = [found_by(each, queries) for each in (table, new)]
    assert found[0] == found[1]
    return table


def found_by(table: VectorTable, queries: Vectors) -> list[list[tuple[float, bytes]]]:
    field = VectorField(table.vectors, metric_of("euclidean"), known=table.pruning)
    return [
        sorted(zip(distances.tolist(), table.digests[nearest].tolist(), strict=True))[:5]
        for nearest, distances in exact.nearest([field], [queries], 5)
    ]


def test_a_first_search_leaves_nothing_and_has_what_the_store_has(store: imgrec.Store) -> None:
    add(store, range(500))
    store.write(Batch(forgotten=["/00007.jpg"], records=[Record("/00008.jpg", f"{8:064x}", 1, 1, missing=True)]))
    table, new = files.load(store, SPACE), tables.in_memory(source(store))
    assert isinstance(table.vectors, np.memmap)
    assert [path.name[:6] for path in (store.cache_folder or Path()).glob("*/*")] == [".seen-"]
    assert (rows(table), table.images, table.fingerprint) == (rows(new), 498, new.fingerprint)
    assert table.digests.tolist() == new.digests.tolist()


@settings(max_examples=12)
@given(st.lists(st.tuples(st.sampled_from("acdmr"), st.integers(0, 300), st.integers(1, 60)), max_size=5))
def test_whatever_changes_an_index_that_follows_is_like_a_new_one(changes: list[tuple[str, int, int]]) -> None:
    with (
        pytest.MonkeyPatch.context() as patched,
        tempfile.TemporaryDirectory() as folder,
        imgrec.build("store", "sqlite", path=f"{folder}/store").open(create=True) as store,
    ):
        add(store, range(300))
        files.prepare(source(store))
        patched.setattr(files, "CHANGED", 1e9)
        patched.setattr(tables, "streamed", None)  # none is made anew
        for number, change in enumerate(changes):
            make(store, number, *change)
            files.prepare(source(store))
        table = check_like_new(store)
        if not any(kind == "r" for kind, *_ in changes):
            assert table.digests.tolist() == tables.in_memory(source(store)).digests.tolist()


def make(store: imgrec.Store, number: int, kind: str, first: int, count: int) -> None:
    """Add contents, copies, forget, mark as missing, or replace vectors."""
    numbers = range(first, first + count)
    if kind == "a":
        add(store, range(1_000 * (number + 1), 1_000 * (number + 1) + count))
    elif kind == "c":
        store.write(Batch([Record(f"/copy-{i}.jpg", f"{i:064x}", 1, 1) for i in numbers if i < 300]))
    elif kind == "d":
        store.write(Batch(forgotten=[f"/{i:05}.jpg" for i in numbers]))
    elif kind == "m":
        here = store.records(paths=[f"/{i:05}.jpg" for i in numbers])
        store.write(Batch([Record(each.path, each.digest, 1, 1, missing=True) for each in here]))
    else:
        names = sorted(store.digests(SPACE, [f"{i:064x}" for i in numbers]))
        store.write(Batch(vectors={SPACE: (names, VECTORS[number : number + len(names)])}))


def test_little_is_added_and_after_much_it_is_made_anew(
    store: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, range(400))
    files.prepare(source(store))
    assert "making a search index of 400 vectors, once" in caplog.text
    caplog.clear()
    for start, told in ((400, "follows"), (450, "follows"), (500, "making a search index of 550")):
        add(store, range(start, start + 50))
        files.prepare(source(store))
        assert told in caplog.text
        caplog.clear()
        check_like_new(store)
    assert len(list((store.cache_folder or Path()).glob("*/*"))) == 1


def test_an_older_index_that_is_damaged_is_not_followed(
    store: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, range(400))
    files.prepare(source(store))
    (vectors,) = (store.cache_folder or Path()).glob("*/*/vectors.npy")
    array = np.load(vectors)
    vectors.unlink()
    np.save(vectors, array[::-1])
    add(store, range(400, 410))
    caplog.clear()
    files.prepare(source(store))
    assert "making a search index of 410" in caplog.text
    check_like_new(store)


def test_vectors_whose_squares_overflow_have_no_axes(store: imgrec.Store) -> None:
    add(store, range(300))
    files.prepare(source(store))
    store.write(
        Batch([Record("/long.jpg", "ff", 1, 1)], vectors={SPACE: (["ff"], np.full((1, DIM), 1e30, np.float32))})
    )
    files.prepare(source(store))
    table = files.load(store, SPACE)
    assert [problem for _, problem in files.check(source(store))] == [None]
    assert (len(table.digests), table.pruning.levels) == (301, [])


def test_what_cannot_be_written_is_searched_in_memory(
    store: imgrec.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    add(store, range(300))
    monkeypatch.setattr(tables, "_written", full)
    new = tables.in_memory(source(store))
    for _ in range(2):
        files.prepare(source(store))
        assert rows(files.load(store, SPACE)) == rows(new)
    assert not list((store.cache_folder or Path()).glob("*/*"))


@pytest.mark.parametrize("moment", [0, 3, 5])
def test_a_kill_while_it_is_made_costs_nothing(tmp_path: Path, moment: int) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "store")).open(create=True) as store:
        add(store, range(300))
        if moment == 3:  # it follows an older one
            files.prepare(source(store))
            add(store, range(300, 310))
        done = subprocess.run([sys.executable, "-c", KILLED, store.location, str(moment)], check=False)
        assert done.returncode == -9
        (left,) = store.cache_folder.glob("*/.new-*") if store.cache_folder else []
        assert (left / "vectors.npy").exists()
        files.prepare(source(store))
        check_like_new(store)


@pytest.mark.parametrize("is_made", [True, False])
def test_the_ingest_of_a_large_gallery_makes_it(here: Cli, few: Path, is_made: bool) -> None:
    option = [] if is_made else ["search_index=false"]
    for more in ([], ["extractor=hog"]):
        done = here("ingest", few, "extractor=colour", *more, *option)
        told = [line for line in done.err.splitlines() if "making a search index of 12 vectors" in line]
        assert len(told) == is_made
    assert len(list(Path("outputs").glob("gallery.sqlite-index/*/*/vectors.npy"))) == (2 if is_made else 0)


def test_ctrl_c_while_it_is_made_at_an_ingests_end(here: Cli, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "prepare", interrupted)
        done = here("ingest", few, "extractor=colour", code=130)
    assert "12 new" in done.out
    assert "interrupted; all is ingested, and only the search index is left to be made" in done.err
    assert "12 unchanged" in here("ingest", few, "extractor=colour").out
