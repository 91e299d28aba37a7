"""Map files: points on a grid, which images they are, and where a query is."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec.drawing import map_file
from imgrec.drawing.map import Map
from imgrec.drawing.map_file import BLOCK, GRID, packed, points_of, unpacked
from imgrec.gallery.placing import by_neighbours


def a_map(count: int, labels: int = 3) -> Map:
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(count, 2)).astype(np.float32) * [3, 1]
    names = [f"label {min(i % 7, labels - 1)}" for i in range(count)]
    return Map([f"{i}.jpg" for i in range(count)], positions.astype(np.float32), names, rest="label 1")


def test_points_are_where_the_map_has_them() -> None:
    drawn = a_map(3 * BLOCK // 2)
    points = points_of(drawn)
    left, bottom, side = points.about["frame"]
    found = np.array([left, bottom]) + side * points.positions / GRID
    assert np.abs(found - drawn.positions[points.rows]).max() <= side / GRID
    assert sorted(points.rows.tolist()) == list(range(len(drawn.paths)))
    names = [name for name, _ in points.about["labels"]]
    assert [names[number] for number in points.labels] == [drawn.labels[row] for row in points.rows]
    assert names == ["label 2", "label 0", "label 1"]
    assert points.about["rest"] == 2
    assert dict(points.about["labels"]) == {name: drawn.labels.count(name) for name in names}


@pytest.mark.parametrize("count", [1, 100, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("columns", [1, 2])
def test_what_is_packed_is_unpacked(count: int, columns: int) -> None:
    values = np.random.default_rng(0).integers(65_536, size=(count, columns), dtype=np.uint16)
    assert np.array_equal(unpacked(packed(values), columns), values)


def test_the_first_block_is_a_sample_of_all_and_neighbours_follow_each_other() -> None:
    points = points_of(a_map(5 * BLOCK))
    first, every = points.positions[:BLOCK].astype(float), points.positions.astype(float)
    assert np.abs(first.mean(axis=0) - every.mean(axis=0)).max() < 0.01 * GRID
    assert np.abs(first.std(axis=0) - every.std(axis=0)).max() < 0.01 * GRID
    shares = [np.mean(points.labels[:BLOCK] == number) - np.mean(points.labels == number) for number in range(3)]
    assert np.abs(shares).max() < 0.02
    steps = np.abs(np.diff(first, axis=0)).sum(axis=1)
    assert np.median(steps) < 0.02 * GRID


def test_images_at_one_place_and_more_labels_than_have_numbers() -> None:
    count = 70_000
    drawn = Map(["x"] * count, np.ones((count, 2), np.float32), [f"{i}" for i in range(count)])
    points = points_of(drawn)
    assert len(points.about["labels"]) == map_file.MOST_LABELS
    assert points.about["labels"][-1] == ["4,465 others", 4_465]
    assert np.count_nonzero(points.labels == 65_535) == 4_465
    assert len(np.unique(points.positions, axis=0)) == 1


def test_a_map_is_kept_until_the_gallery_changes(cli: Cli, few: Path, tmp_path: Path) -> None:
    cli("ingest", few)
    cli("visualise", "reducer=pca")
    folder = tmp_path / "outputs" / "gallery.sqlite-index" / "maps"
    kept = list(folder.glob("*/*"))
    assert len(kept) == 1
    path, pca = tmp_path / "outputs" / "gallery.sqlite", imgrec.build("reducer", "pca")
    with imgrec.open(path) as gallery:
        found = map_file.opened(gallery, pca)
        first = found.items(range(12))
        assert map_file.kept(gallery, imgrec.build("reducer", "pca", seed=1)) is None
    assert found.about["title"].startswith("pca of ")
    assert {item.path for item in first} == {str(file) for file in few.rglob("*.jpg")}
    assert {item.label for item in first} == {"china", "flower"}
    assert [item.row for item in found.items([5, 99, 3])] == [5, 3]
    assert found.rows_of([first[7].path, "elsewhere.jpg"]) == {first[7].path: 7}
    assert found.rows_with(first[7].digest) == [7]
    next(few.rglob("*.jpg")).rename(few / "moved.jpg")
    cli("ingest", few)
    with imgrec.open(path) as gallery:
        assert map_file.kept(gallery, pca) is None
        newer = map_file.opened(gallery, pca)
    assert str(few / "moved.jpg") in {item.path for item in newer.items(range(12))}
    assert found.items(range(12)) == first  # an open one stays as it was
    assert len(list(folder.glob("*/*"))) == 1


def test_a_damaged_map_is_made_anew(few: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    with imgrec.open(store) as gallery:
        pca = imgrec.build("reducer", "pca")
        sound = map_file.opened(gallery, pca)
        (folder,) = (tmp_path / "g.sqlite-index" / "maps").glob("*/*")
        for file in sorted(folder.iterdir()):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                again = map_file.opened(gallery, pca)
            assert "is made anew" in caplog.text, file.name
            assert np.array_equal(again.positions, sound.positions)
            assert map_file.kept(gallery, pca) is not None


def test_a_gallery_with_a_filter_keeps_none(few: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    with imgrec.open(store, where={"label": "china"}) as gallery:
        found = map_file.opened(gallery, imgrec.build("reducer", "pca"))
    assert len(found.items(range(12))) == 6
    assert not (tmp_path / "g.sqlite-index" / "maps").exists()


@pytest.fixture(scope="module")
def gallery_path(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "g.sqlite"
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), imgrec.build("store", "sqlite", path=str(path)))
    return path


def test_another_map_in_the_rows_of_the_first(gallery_path: Path) -> None:
    with imgrec.open(gallery_path) as gallery:
        a, b = (map_file.opened(gallery, imgrec.build("reducer", "pca", whiten=each)) for each in (False, True))
    moved = b.positions_for(a)
    assert not np.array_equal(a.positions, moved)
    for item in a.items(range(40)):
        (row,) = b.rows_of([item.path]).values()
        assert np.array_equal(moved[item.row], b.positions[row])


@pytest.mark.parametrize("name", ["pca", "tsne"])
def test_where_a_picture_is(gallery_path: Path, photos: Path, tmp_path: Path, name: str) -> None:
    options = {"n_iter": 250} if name == "tsne" else {}
    with imgrec.open(gallery_path, "cosine") as gallery:
        found = map_file.opened(gallery, imgrec.build("reducer", name, **options))
        for path in sorted(photos.rglob("*.jpg"))[::10]:
            place = found.place(gallery, gallery.resolve(str(path)))
            (row,) = found.rows_of([str(path)]).values()
            assert ([place.x, place.y], place.is_estimated) == (found.positions[row].tolist(), False)
            with PIL.Image.open(path) as picture:
                picture.resize((64, 64)).save(tmp_path / "smaller.png")
            smaller = found.place(gallery, gallery.resolve(str(tmp_path / "smaller.png")))
            assert smaller.is_estimated == (name == "tsne")
            assert smaller.spread == 0 or smaller.is_estimated
            assert np.hypot(smaller.x - place.x, smaller.y - place.y) < 0.05 * GRID


def test_neighbours_far_away_hardly_move_a_place() -> None:
    rng = np.random.default_rng(0)
    near = rng.normal(1000, 10, size=(12, 2))
    far = np.full((3, 2), 60_000.0)
    place = by_neighbours(np.vstack([near, far]), np.linspace(0.5, 1, 15))
    assert np.hypot(place.x - 1000, place.y - 1000) < 20
    assert place.spread < 30
    assert by_neighbours(near, np.zeros(12)).x == pytest.approx(1000, abs=20)
    same = by_neighbours(np.full((15, 2), 7.0), np.ones(15))
    assert (same.x, same.y, same.spread) == (7, 7, 0)
