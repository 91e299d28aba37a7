"""Projections before the search: fitted once, kept, fitted anew when the gallery has grown."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import imgrec
from conftest import Cli
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery import fitted
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity, of
from imgrec.kinds import Batch, Record, Space
from imgrec.search import files
from test_registry import install

SPACE = Space("colour-0123456789ab", "colour", {}, {"extractor": "colour"})
RNG = np.random.default_rng(0)
VECTORS = RNG.random((200, 12), dtype=np.float32)


def write(store: imgrec.Store, rows: range, folder: str = "a") -> None:
    names = [f"{i:064x}" for i in rows]
    records = [Record(f"/{folder}/{'ab'[i % 2]}/{i}.jpg", name, 1, 1) for i, name in zip(rows, names, strict=True)]
    store.write(Batch(records=records, vectors={SPACE: (names, VECTORS[rows.start : rows.stop])}))


def projected(store: imgrec.Store, name: str = "pca", least: int = 0) -> Gallery:
    reducer = imgrec.build("reducer", name, n_components=3, metric="euclidean")
    (term,) = of(SPACE, projection=reducer).terms
    return Gallery(store, Similarity((replace(term, projected_from=least),)))


def test_it_is_fitted_once_and_its_fit_is_part_of_the_space(
    store: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, range(100))
    first = projected(store)
    assert "pca is fitted on 100 images" in caplog.text
    caplog.clear()
    again = projected(store)
    assert ("fitted" in caplog.text) == (store.cache_folder is None)
    assert first.key == again.key
    assert first.key.startswith(f"{SPACE.key}+pca-")
    (matches,) = again.search([VECTORS[7]], 5)
    reduced = imgrec.build("reducer", "pca", n_components=3, metric="euclidean").fit_transform(VECTORS[:100])
    distances = np.linalg.norm(reduced - reduced[7], axis=1)
    assert [Path(match.path).stem for match in matches] == [str(row) for row in np.argsort(distances)[:5]]
    assert again.about()["projection"]["images"] == 100


def test_it_is_fitted_anew_when_a_quarter_has_come(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g")).open(create=True) as store:
        write(store, range(100))
        first = projected(store)
        write(store, range(100, 124))
        caplog.clear()
        few_more = projected(store)
        assert (few_more.key, caplog.text, len(few_more)) == (first.key, "", 124)
        write(store, range(124, 125))
        grown = projected(store)
        assert "pca was fitted on 100 images, and the gallery has 125 now: it is fitted anew" in caplog.text
        assert grown.key != first.key
        assert projected(store).key == grown.key


def test_many_missing_images_make_no_other_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g")).open(create=True) as store:
        write(store, range(100))
        gone = [Record(r.path, r.digest, r.size, r.mtime_ns, missing=True) for r in store.records()][:30]
        store.write(Batch(records=gone))
        first = projected(store)
        assert "pca is fitted on 70 images" in caplog.text
        caplog.clear()
        assert (projected(store).key, caplog.text) == (first.key, "")


def test_labels_are_the_folders_names_and_copies_change_nothing(tmp_path: Path) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g")).open(create=True) as store:
        write(store, range(60))
        learned = projected(store, "lda")
        told = learned.about()["projection"]
        assert 0 <= told["accuracy"] <= 1
        shutil.rmtree(store.cache_folder or tmp_path)
        write(store, range(30), folder="copies")
        assert projected(store, "lda").key == learned.key


@pytest.mark.parametrize("file", ["state.npz", "about.json"])
@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not an archive", b"{}"])
def test_a_damaged_one_is_never_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: bytes
) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g")).open(create=True) as store:
        write(store, range(100))
        key = projected(store).key
        assert store.cache_folder is not None
        (kept,) = (store.cache_folder / "projections").iterdir()
        (kept / file).write_bytes(damage)
        caplog.clear()
        assert projected(store).key == key
        assert "is not used" in caplog.text
        caplog.clear()
        assert projected(store).key == key
        assert caplog.text == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_kept_one_that_is_not_finite_is_never_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g")).open(create=True) as store:
        write(store, range(100))
        key = projected(store).key
        assert store.cache_folder is not None
        (kept,) = (store.cache_folder / "projections").iterdir()
        with np.load(kept / "state.npz") as arrays:
            state = dict(arrays)
        state["mean"][2] = value
        np.savez(kept / "state.npz", **state)
        caplog.clear()
        assert projected(store).key == key
        assert "is not used: its state has values that are not finite" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_of_a_store_that_are_not_finite_are_told(store: imgrec.Store, value: float) -> None:
    write(store, range(20))
    bad = np.full((1, 12), value, np.float32)
    store.write(Batch(vectors={SPACE: ([f"{3:064x}"], bad)}))
    told = rf"1 of 20 vectors of {SPACE.key} .* not finite, such as .*{3:064x}: .*verify"
    with pytest.raises(ImgrecError, match=rf"{told}|{SPACE.key}.csv is damaged"):  # pandas takes no nan
        Gallery(store, of(SPACE))


def test_a_reducer_whose_results_are_not_finite_is_named(
    store: imgrec.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, range(20))
    cls = type(imgrec.build("reducer", "pca"))
    monkeypatch.setattr(cls, "transform", lambda self, vectors: np.full((len(vectors), 3), np.nan, np.float32))
    with pytest.raises(ImgrecError, match=r"reducer pca of .* returned values that are not finite"):
        projected(store)


def test_vectors_projected_are_kept_with_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WORTH_KEEPING", 1_000)
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g")).open(create=True) as store:
        write(store, range(200))
        expected = [projected(store).search([VECTORS[3]], 9) for _ in range(3)][-1]
        assert isinstance(projected(store).vectors, np.memmap)
        assert store.cache_folder is not None
        (folder,) = store.cache_folder.glob("*+pca-*")
        (kept,) = folder.iterdir()
        vectors = np.load(kept / "vectors.npy")
        vectors[0] += 1
        np.save(kept / "vectors.npy", vectors)
        again = projected(store)
        assert getattr(again.vectors, "filename", None) is None  # it did not agree with the store
        assert again.search([VECTORS[3]], 9) == expected


def test_of_few_images_nothing_is_projected(tmp_path: Path) -> None:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "g")).open(create=True) as store:
        write(store, range(20))
        assert projected(store, least=21).key == SPACE.key
        assert projected(store, least=20).key != SPACE.key


def test_of_many_images_some_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones in whatever order they come."""
    monkeypatch.setattr(fitted, "MOST_FITTED", 50)
    names = np.array([f"{i * 37 % 200:064x}".encode() for i in range(200)])
    order = RNG.permutation(200)
    keys = {
        fitted.fit(
            imgrec.build("reducer", "pca", n_components=2), SPACE, names[rows], VECTORS[rows], lambda _: []
        ).space.key
        for rows in (np.arange(200), order)
    }
    assert len(keys) == 1


def test_what_cannot_be_fitted_is_told(cli: Cli, few: Path) -> None:
    cli("ingest", few, "extractor=colour")
    query = min(few.rglob("*.jpg"))
    assert "needs as many images" in cli("recommend", query, "projection=pca", code=2).err
    done = cli("recommend", query, "projection=lda", "projection.n_components=1", "format=json")
    assert "lda is fitted on 12 images" in done.err
    assert done.json()["projection"]["accuracy"] >= 0.5
    assert done.json()["space"].startswith("colour-")
    again = cli("recommend", query, "projection=lda", "projection.n_components=1", "format=json")
    assert again.json() == done.json()


INTERRUPTED = """
from dataclasses import dataclass
import imgrec

@dataclass
class Interrupted(imgrec.LinearReducer):
    def fit(self, vectors, labels=None):
        raise KeyboardInterrupt

@imgrec.hookimpl
def imgrec_components():
    return [Interrupted]
"""


def test_ctrl_c_in_a_fit_promises_nothing(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_interrupted", INTERRUPTED)
    cli("ingest", few, "extractor=colour")
    done = cli("recommend", min(few.rglob("*.jpg")), "projection=interrupted", env=env, code=130)
    assert done.err.splitlines() == [
        "imgrec: interrupted is fitted on 12 images",
        "imgrec: interrupted; the same command starts again",
    ]


def test_a_projection_of_another_gallery_is_another_space(few: Path, tmp_path: Path) -> None:
    colour = imgrec.build("extractor", "colour")
    keys = set()
    for i in range(2):
        store = imgrec.build("store", "sqlite", path=str(tmp_path / f"{i}.sqlite"))
        imgrec.ingest(few if i == 0 else few / "china", colour, store)
        reducer = imgrec.build("reducer", "pca", n_components=2)
        with store:
            keys.add(Gallery(store, of(Space.of(colour), projection=reducer)).key)
    assert len(keys) == 2
    with pytest.raises(UsageError, match="has no option"):
        imgrec.build("reducer", "pca", components=2)
