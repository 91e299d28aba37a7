"""The files derived from a store: used while they are right, made again when they are not, safe to delete."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import of
from imgrec.kinds import Batch, Record, Space, Vectors
from imgrec.search import files, tables

SPACE = Space.of(imgrec.build("extractor", "colour"))


def batch(numbers: range, values: Vectors) -> Batch:
    digests = [f"{i:064x}" for i in numbers]
    records = [Record(f"/{i:05}.jpg", digest, 1, 1) for i, digest in zip(numbers, digests, strict=True)]
    return Batch(records=records, vectors={SPACE: (digests, values)})


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> Vectors:
    monkeypatch.setattr(files, "WORTH_KEEPING", 100_000)
    return np.random.default_rng(0).normal(size=(2_000, 48)).astype(np.float32)


@pytest.fixture(params=["sqlite", "csv"])
def store(request: pytest.FixtureRequest, tmp_path: Path, vectors: Vectors) -> Iterator[imgrec.Store]:
    with imgrec.build("store", request.param, path=str(tmp_path / "store")).open(create=True) as store:
        store.write(batch(range(2_000), vectors))
        yield store


def kept(store: imgrec.Store) -> list[Path]:
    assert store.cache_folder is not None
    return sorted(path for path in store.cache_folder.glob("*/*") if not path.name.startswith("."))


def looked_at(store: imgrec.Store) -> None:
    """As by a search before."""
    Gallery(store, of(SPACE))


def found(store: imgrec.Store, query: Vectors, metric: str = "euclidean") -> list[tuple[str, float]]:
    (matches,) = Gallery(store, of(SPACE, metric)).search([query], 5)
    return [(match.path, match.distance) for match in matches]


def test_it_is_kept_and_mapped_and_finds_the_same(
    store: imgrec.Store, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(store)
    assert kept(store) == []
    first = {metric: found(store, vectors[7], metric=metric) for metric in ("euclidean", "cosine", "manhattan")}
    assert first["euclidean"][0] == ("/00007.jpg", 0.0)
    assert len(kept(store)) == 1
    with monkeypatch.context() as patched:
        patched.setattr(tables.Source, "blocks", None)  # the store's vectors are not read again
        assert {metric: found(store, vectors[7], metric=metric) for metric in first} == first
    assert isinstance(Gallery(store, of(SPACE)).vectors, np.memmap)
    monkeypatch.setattr(files, "WORTH_KEEPING", 10**9)
    (store.cache_folder or Path()).rename((store.cache_folder or Path()).with_name("away"))
    assert {metric: found(store, vectors[7], metric=metric) for metric in first} == first


def test_every_write_makes_it_anew(store: imgrec.Store, vectors: Vectors) -> None:
    looked_at(store)
    found(store, vectors[7])
    (before,) = kept(store)
    store.write(batch(range(2_000, 2_001), vectors[7:8] + 1e-6))
    looked_at(store)
    assert [path for path, _ in found(store, vectors[7])[:2]] == ["/00007.jpg", "/02000.jpg"]
    (after,) = kept(store)
    assert after != before
    store.write(Batch(forgotten=["/00007.jpg"]))
    assert found(store, vectors[7])[0][0] == "/02000.jpg"
    gone = Record("/02000.jpg", f"{2_000:064x}", 1, 1, missing=True)
    store.write(Batch(records=[gone]))
    assert "/02000.jpg" not in {path for path, _ in found(store, vectors[7])}
    assert len(Gallery(store, of(SPACE))) == 1_999


@pytest.mark.parametrize("name", ["vectors.npy", "digests.npy", "terms-0.npy", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_one_is_never_trusted(
    store: imgrec.Store, vectors: Vectors, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    looked_at(store)
    right = found(store, vectors[7])
    (folder,) = kept(store)
    file = folder / name
    whole = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "other" and name == "vectors.npy":
        np.save(file, vectors[::-1])
    elif damage == "other":
        file.write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        assert found(store, vectors[7]) == right
        assert found(store, vectors[7]) == right
    assert "is made again" in caplog.text
    assert sorted(path.name for path in kept(store)[0].iterdir()) == sorted(
        [
            "about.json",
            *(f"{each}.npy" for each in (*files.ROWS, "squares", *(f"{name}-0" for name in files.LEVEL))),
        ]
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("axes-0", lambda axes: axes[:-1]),
        ("axes-0", lambda axes: (100 * axes).astype(np.int64)),
        ("squares", lambda squares: np.stack([squares, squares], axis=1)),
        ("terms-0", lambda terms: terms.astype(np.float64)),
        ("terms-0", lambda terms: terms[:, :-1]),
        ("usable", lambda usable: usable.astype(np.int8)),
        ("digests", lambda digests: digests.astype(str)),
        ("vectors", lambda vectors: vectors.astype(np.float64)),
    ],
)
def test_arrays_of_other_shapes_or_types_are_never_trusted(
    store: imgrec.Store,
    vectors: Vectors,
    name: str,
    change: Callable[[Any], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    looked_at(store)
    right = found(store, vectors[7])
    file = kept(store)[0] / f"{name}.npy"
    array = np.load(file)
    file.unlink()
    np.save(file, change(array))
    assert found(store, vectors[7]) == right
    assert "is made again" in caplog.text


def test_a_folder_that_cannot_be_written_costs_nothing(store: imgrec.Store, vectors: Vectors) -> None:
    folder = store.cache_folder
    assert folder is not None
    folder.write_text("in the way")
    assert found(store, vectors[7])[0] == ("/00007.jpg", 0.0)


def test_what_is_forgotten_after_the_index_was_loaded_is_not_found(store: imgrec.Store, vectors: Vectors) -> None:
    gallery = Gallery(store, of(SPACE))
    store.write(Batch(forgotten=["/00007.jpg"]))
    (matches,) = gallery.search([vectors[7]], 5)
    assert len(matches) == 5
    assert "/00007.jpg" not in {match.path for match in matches}


def test_what_a_killed_run_left_is_removed(store: imgrec.Store, vectors: Vectors) -> None:
    looked_at(store)
    assert store.cache_folder is not None
    left = store.cache_folder / SPACE.key / ".new-killed"
    left.mkdir()
    os.utime(left, (0, 0))
    found(store, vectors[7])
    assert [path.name for path in left.parent.iterdir()] == [kept(store)[0].name]


def test_searches_beside_an_ingest_make_none(store: imgrec.Store, vectors: Vectors) -> None:
    for i in range(3):
        store.write(batch(range(2_000 + i, 2_001 + i), vectors[:1] + i))
        found(store, vectors[7])
    assert [path.name[:6] for path in kept(store)] == []
    assert len(list((store.cache_folder or Path()).glob("*/.seen-*"))) == 1


def test_a_small_gallery_keeps_no_files(
    store: imgrec.Store, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WORTH_KEEPING", vectors.nbytes + 1)
    assert found(store, vectors[7])[0] == ("/00007.jpg", 0.0)
    assert kept(store) == []
