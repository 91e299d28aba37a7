from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

import imgrec
from conftest import Cli
from imgrec.drawing import map as maps
from imgrec.drawing.contact_sheet import contact_sheet
from imgrec.drawing.map import Map
from imgrec.errors import UsageError


@pytest.fixture(scope="module")
def store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> imgrec.Store:
    store = imgrec.build("store", "sqlite", path=str(tmp_path_factory.mktemp("visualise") / "g.sqlite"))
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), store)
    return store  # type: ignore[no-any-return]


def test_map_csv_and_png(cli: Cli, photos: Path) -> None:
    cli("ingest", photos)
    done = cli("visualise", "reducer=pca")
    files = [Path(line) for line in done.out.splitlines()]
    assert [file.name for file in files] == ["map.png", "map.csv"]
    with files[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "x", "y", "label"]
    assert len(rows) == 40
    assert {row["label"] for row in rows} == {"china", "flower"}
    assert all(Path(row["path"]).parent.name == row["label"] for row in rows)
    again = Path(cli("visualise", "reducer=pca").out.splitlines()[1])
    assert again.read_text() == files[1].read_text()
    with PIL.Image.open(files[0]) as picture:
        assert picture.width == 1680


def test_two_kinds_of_photographs_lie_apart(store: imgrec.Store) -> None:
    points = imgrec.visualise(store, imgrec.build("reducer", "tsne", n_iter=250))
    is_china = np.array(points.labels) == "china"
    own = np.linalg.norm(points.positions - points.positions[is_china].mean(axis=0), axis=1)
    other = np.linalg.norm(points.positions - points.positions[~is_china].mean(axis=0), axis=1)
    assert np.mean((own < other) == is_china) > 0.8


def test_highlight_is_one_subset_against_the_rest(store: imgrec.Store) -> None:
    points = imgrec.visualise(store, imgrec.build("reducer", "pca"), highlight="*/china/*")
    assert {label: points.labels.count(label) for label in points.labels} == {"*/china/*": 20, "the rest": 20}
    assert all(
        ("/china/" in path) == (label != "the rest")
        for path, label in zip(points.paths, points.labels, strict=True)
    )


def test_sample_and_labels(store: imgrec.Store) -> None:
    pca = imgrec.build("reducer", "pca")
    sampled = imgrec.visualise(store, pca, sample=10, labels="none", seed=1)
    assert len(sampled.paths) == len(set(sampled.paths)) == len(sampled.positions) == 10
    assert set(sampled.labels) == {""}
    assert sampled.paths == imgrec.visualise(store, pca, sample=10, seed=1).paths
    assert sampled.paths != imgrec.visualise(store, pca, sample=10, seed=2).paths
    assert len(imgrec.visualise(store, pca, sample=1000).paths) == 40


@pytest.mark.parametrize("name", ["tsne", "pca", "umap"])
def test_images_that_are_all_alike(tmp_path: Path, name: str) -> None:
    if name == "umap":
        pytest.importorskip("umap")
    for i in range(12):
        PIL.Image.new("RGB", (20, 20 + i)).save(tmp_path / f"{i}.png")
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(tmp_path, imgrec.build("extractor", "colour"), store)
    points = imgrec.visualise(store, imgrec.build("reducer", name))
    assert len(points.paths) == 12
    points.save(tmp_path / "map.png")


def test_progress_is_told_where_it_is_asked_for(
    store: imgrec.Store, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "imgrec.run.console._line_progress.__defaults__", (0.0,)
    )  # every step, not every ten seconds
    reducer = imgrec.build("reducer", "tsne", n_iter=50)
    imgrec.visualise(store, reducer)
    assert capfd.readouterr() == ("", "")
    imgrec.visualise(store, reducer, sample=30, show_progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "neighbours: 30 of 30" in err
    assert "t-SNE: 300 of 300" in err


def test_what_cannot_be_drawn(store: imgrec.Store) -> None:
    with pytest.raises(UsageError, match="2 dimensions"):
        imgrec.visualise(store, imgrec.build("reducer", "pca", n_components=5))
    with pytest.raises(UsageError, match="labels is one of"):
        imgrec.visualise(store, imgrec.build("reducer", "pca"), labels="colour")
    with pytest.raises(UsageError, match="matches none"):
        imgrec.visualise(store, imgrec.build("reducer", "pca"), highlight="*/dog/*")


def a_map(count: int, labels: int) -> Map:
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(count, 2)).astype(np.float32)
    return Map([f"/none/{i}.jpg" for i in range(count)], positions, [f"$label_{i % labels}" for i in range(count)])


@pytest.mark.parametrize(("count", "labels"), [(1, 1), (50, 3), (2_000, 300), (200_000, 12)])
def test_maps_of_any_size_have_ink_and_room(count: int, labels: int, tmp_path: Path) -> None:
    started = time.monotonic()
    a_map(count, labels).save(tmp_path / "map.png")
    assert time.monotonic() - started < 120
    with PIL.Image.open(tmp_path / "map.png") as picture:
        grey = np.asarray(picture.convert("L"))
    assert 0.0005 < (grey < 250).mean() < 0.75


def test_a_legend_names_at_most_twenty_labels() -> None:
    shown = maps._shown_labels(a_map(2_000, 300))
    assert len(shown) == 20
    assert shown[0][0] == "281 others"
    assert len({colour for _, colour, _ in shown}) == 20
    assert sum(len(members) for _, _, members in shown) == 300


def test_thumbnails_keep_their_distance() -> None:
    positions = np.random.default_rng(0).random((5_000, 2)).astype(np.float32)
    chosen = maps._spread(positions, 40, gap=0.1)
    assert len(chosen) == 40
    apart = np.abs(positions[chosen][:, None] - positions[chosen][None]).max(axis=2) + np.eye(40)
    assert apart.min() >= 0.1


@pytest.mark.parametrize(
    ("query", "caption"), [("img.jpg", "img.jpg"), ("some/img.jpg", "some/img.jpg"), ("/a/b/img.jpg", "b/img.jpg")]
)
def test_a_contact_sheet_names_a_file_and_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, caption: str
) -> None:
    written: list[str] = []
    write = PIL.ImageDraw.ImageDraw.text

    def noted(pen: PIL.ImageDraw.ImageDraw, place: Any, text: str, **options: Any) -> None:
        written.append(text)
        write(pen, place, text, **options)

    monkeypatch.setattr(PIL.ImageDraw.ImageDraw, "text", noted)
    contact_sheet(query, [], tmp_path / "sheet.png", "colour, euclidean")
    assert written[-1] == caption


def test_a_contact_sheet_with_a_file_that_is_gone_and_names_that_are_long(tmp_path: Path, photos: Path) -> None:
    query = sorted(photos.rglob("*.jpg"))[0]
    names = [str(query), str(tmp_path / "gone.jpg"), str(tmp_path / ("ä山" * 60 + "\udcff.jpg"))]
    matches = [imgrec.Match(i + 1, name, 0.5 * i, "x") for i, name in enumerate(names * 3)]
    for count in (0, 1, 5, 9):
        contact_sheet(query, matches[:count], tmp_path / "sheet.png", "colour, euclidean")
        with PIL.Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width <= 1700
            assert sheet.height == 28 + 40 + max(1, -(-count // 5)) * (240 + 62 + 20) - 20 + 28
