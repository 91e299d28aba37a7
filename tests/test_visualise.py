from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import pickle
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec.drawing import fonts
from imgrec.drawing import map as maps
from imgrec.drawing.map import Map
from imgrec.drawing.pictures import HIT, INK, MISS
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
    with pytest.raises(UsageError, match="there is no file 'colour'"):
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


def test_a_legend_names_at_most_twenty_labels_each_by_a_colour_and_a_mark_of_its_own() -> None:
    shown = maps._shown_labels(a_map(2_000, 300))
    assert len(shown) == 20
    assert shown[0].name == "281 others"
    assert len({(entry.colour, entry.marker) for entry in shown}) == 20
    assert {entry.marker for entry in maps._shown_labels(a_map(2_000, 10))} == {"o"}
    assert sum(len(entry.labels) for entry in shown) == 300


def test_thumbnails_keep_their_distance() -> None:
    positions = np.random.default_rng(0).random((5_000, 2)).astype(np.float32)
    chosen = maps._spread(positions, 40, gap=0.1)
    assert len(chosen) == 40
    apart = np.abs(positions[chosen][:, None] - positions[chosen][None]).max(axis=2) + np.eye(40)
    assert apart.min() >= 0.1


# --- how a map is drawn -------------------------------------------------------------------------------------


def pixels(file: Path) -> np.ndarray[Any, Any]:
    with PIL.Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def where(picture: np.ndarray[Any, Any], colour: str) -> np.ndarray[Any, Any]:
    """Rows and columns of the pixels of a colour, `int (n, 2)`."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere(np.abs(picture.astype(int) - wanted).max(axis=2) <= 2)


@pytest.mark.parametrize("shape", [(1.0, 1.0), (1.0, 0.3), (1.0, 1.4)])
def test_points_use_the_frame(tmp_path: Path, shape: tuple[float, float]) -> None:
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32) * np.array(shape, np.float32)
    Map(["/none"] * 4, corners, ["a"] * 4).save(tmp_path / "map.png", thumbnails=0, title="")
    picture = pixels(tmp_path / "map.png")
    found, frame = where(picture, maps.COLOURS[0]), where(picture, "#eaeef2")
    assert (np.ptp(found, axis=0) > 0.93 * np.ptp(frame, axis=0)).all()
    assert (np.ptp(frame, axis=0) > 0.92 * np.array(picture.shape[:2])).all()


def test_copies_at_one_place_show_each_colour_unmixed(tmp_path: Path) -> None:
    positions = np.array([[0, 0], [0, 0], [0, 0], [1, 1]], np.float32)
    Map(["/none"] * 4, positions, ["a", "b", "a", "c"]).save(tmp_path / "map.png", thumbnails=0)
    picture = pixels(tmp_path / "map.png")
    map_alone = picture[:, : where(picture, "#eaeef2")[:, 1].max()]
    counts = [len(where(map_alone, colour)) for colour in maps.COLOURS[:3]]
    assert min(counts) > 60
    inner, outer = (where(map_alone, colour) for colour in maps.COLOURS[:2])
    assert np.abs(inner.mean(axis=0) - outer.mean(axis=0)).max() < 1  # a ring around the other


def maps_rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_thumbnails_hide_neither_each_other_nor_the_points_that_they_belong_to() -> None:
    at = np.random.default_rng(1).random((400, 2)) * [12.0, 8.0]
    frame, side, dot = np.array([[0.0, 0.0], [12.0, 8.0]]), 0.4, 0.05
    crowd = maps._Crowd(at, frame, side / 8)
    taken: Any = np.empty((0, 2))
    owners: Any = np.empty((0, 2))
    for point in at[maps._spread(at, 400, 0.4 * side)]:
        if (place := maps._free_place(point, taken, owners, crowd, side, dot, frame)) is not None:
            taken, owners = np.vstack([taken, place]), np.vstack([owners, point])
    assert len(taken) > 100
    between = np.abs(taken[:, None] - taken).max(axis=2) + 9 * np.eye(len(taken))
    assert between.min() >= side
    assert np.abs(taken[:, None] - owners).max(axis=2).min() >= side / 2 + dot - 1e-9
    assert (taken - side / 2 >= frame[0]).all()
    assert (taken + side / 2 <= frame[1]).all()
    covered = (np.abs(at[:, None] - taken).max(axis=2) < side / 2).any(axis=1).sum()
    at_random = len(at) * len(taken) * side**2 / 96
    assert covered < 0.7 * at_random


def test_the_points_in_squares_are_counted() -> None:
    at = np.random.default_rng(2).random((3_000, 2)) * [4, 3]
    crowd = maps._Crowd(at, np.array([[0.0, 0.0], [4.0, 3.0]]), 0.05)
    centres = np.array([[1.0, 1.0], [2.5, 2.0], [0.0, 0.0], [3.9, 2.9]])
    counted = [(np.abs(at - centre) < 0.5).all(axis=1).sum() for centre in centres]
    assert crowd.inside(centres, 0.5) == pytest.approx(counted, rel=0.02)


def test_as_many_thumbnails_as_asked_for_or_a_word_how_many(
    store: imgrec.Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    points = imgrec.visualise(store, imgrec.build("reducer", "pca"))
    assert maps.draw_map(points, tmp_path / "map.png", thumbnails=25, width=10) == 25
    assert caplog.text == ""
    drawn = maps.draw_map(points, tmp_path / "map.png", thumbnails=400, width=3)
    said = re.findall(r"(\d+) of (\d+) thumbnails are drawn", caplog.text)
    places = len(np.unique(points.positions, axis=0))  # two of the tiles are alike
    assert said == [(str(drawn), str(places))]
    assert 10 < drawn < places
    gone = replace(points, paths=[f"{path}.gone" for path in points.paths])
    assert maps.draw_map(gone, tmp_path / "map.png", thumbnails=39) == 0
    assert f"0 of {places} thumbnails are drawn" in caplog.text


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files of the fonts that are installed: what is put into it."""
    files: list[str] = []

    def forgotten() -> None:
        for each in (fonts._other, fonts._installed):
            each.cache_clear()
        fonts._used.clear()
        fonts._nowhere.clear()

    forgotten()
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: files)
    yield files
    forgotten()


@pytest.mark.parametrize("has_font", [False, True])
def test_letters_that_the_usual_font_lacks_are_of_another_or_told_in_one_line(
    has_font: bool,
    installed: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    (package,) = importlib.util.find_spec("matplotlib").submodule_search_locations  # type: ignore[union-attr,misc]
    folder = Path(package) / "mpl-data" / "fonts" / "ttf"
    installed += [str(folder / f"{name}.ttf") for name in (["STIXGeneral"] if has_font else []) + ["cmr10"]]
    points = Map(["a", "b"], np.array([[0, 0], [1, 1]], np.float32), ["ᶁの", "hat"])
    maps.draw_map(points, tmp_path / "map.png", thumbnails=0, title="ᶊ")
    maps.draw_map(points, tmp_path / "map.svg", thumbnails=0, title="ᶊ")
    said = [each.getMessage() for each in caplog.records if each.name.startswith("imgrec")]
    assert said == [] if has_font else (len(said) == 1 and "ᶁᶊの" in said[0])
    assert [str(each.message) for each in recwarn if "Glyph" in str(each.message)] == []
    assert ("STIXGeneral" in (tmp_path / "map.svg").read_text()) == has_font
    taken: list[Any] = [fonts.font(14, of=text) for text in ("hat", "Ž", "の")]
    stems = [Path(each.path).stem for each in taken]
    assert stems == ["DejaVuSans", "DejaVuSans", "STIXGeneral" if has_font else "DejaVuSans"]


def srgb_to_lab(colours: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """CIE L*a*b* (D65) of linear RGB."""
    xyz = colours @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    part = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 0, None))
    return np.column_stack(
        [116 * part[:, 1] - 16, 500 * (part[:, 0] - part[:, 1]), 200 * (part[:, 1] - part[:, 2])]
    )


# Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency (2009).
VISION = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("colours", "apart"), [(maps.COLOURS, 17), ([HIT, MISS], 40), ([HIT, MISS, INK], 25)])
def test_colours_can_be_told_apart(vision: str, colours: list[str], apart: float) -> None:
    values = np.array([maps_rgb(colour) for colour in colours]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = srgb_to_lab(np.clip(linear @ np.array(VISION[vision]).T, 0, 1))
    distances = np.linalg.norm(seen[:, None] - seen, axis=2) + 1_000 * np.eye(len(seen))
    assert distances.min() > apart


# --- for a paper --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_map_is_the_same_file_of_the_size_that_was_asked_for(
    store: imgrec.Store, tmp_path: Path, ending: str
) -> None:
    points = imgrec.visualise(store, imgrec.build("reducer", "pca"))
    files = [tmp_path / f"{number}.{ending}" for number in range(2)]
    for file in files:
        points.save(file, width=3.5, dpi=200, thumbnails=5, title="A title: $x^2$ & <b>")
    assert files[0].read_bytes() == files[1].read_bytes()
    if ending == "png":
        with PIL.Image.open(files[0]) as picture:
            assert picture.width == 700
            assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    elif ending == "svg":
        text = files[0].read_text()
        assert re.search(r'<svg [^>]*width="252pt"', text)  # 72 points an inch
        assert "A title: $x^2$ &amp; &lt;b&gt;</text>" in text
        assert "china (20)</text>" in text
        assert text.count("<image ") == 5
        assert "<dc:date>" not in text
    else:
        data = files[0].read_bytes()
        assert re.search(rb"/MediaBox \[ 0 0 252(\.\d+)? ", data)
        assert b"/Type /Font /Subtype /Type0" in data.replace(
            b"\n", b" "
        )  # of fonttype 42: text that can be edited
        assert b"/Subtype /Type3" not in data
        assert b"CreationDate" not in data


def test_a_map_with_labels_of_a_file(cli: Cli, photos: Path, tmp_path: Path) -> None:
    cli("ingest", photos)
    some = sorted(photos.rglob("*.jpg"))[:7]
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n" + "".join(f"{path},mine\n" for path in some))
    words = ["visualise", "reducer=pca", "labels=labels.csv", "format=svg", "width=7", "title=Mine, and others"]
    done = cli(*words)
    svg, table = map(Path, done.out.splitlines())
    assert svg.name == "map.svg"
    assert "unlabelled (33)</text>" in (text := svg.read_text())
    assert "mine (7)</text>" in text
    assert "Mine, and others</text>" in text
    with table.open(newline="") as opened:
        labels = {row["path"]: row["label"] for row in csv.DictReader(opened)}
    assert {path for path, label in labels.items() if label == "mine"} == set(map(str, some))
    assert done.record()["inputs"]["labels"] == hashlib.sha256(file.read_bytes()).hexdigest()
    too_large = cli("visualise", "width=100", "dpi=2400", code=2).err
    assert "width=100 at dpi=2400 is 240,000 pixels wide" in too_large


def test_a_notebook_shows_a_map_as_a_picture(store: imgrec.Store) -> None:
    shown = displayed(imgrec.visualise(store, imgrec.build("reducer", "pca")))
    assert shown["text/plain"] == "<Map of 40 images with 2 labels>"
    with PIL.Image.open(io.BytesIO(shown["image/png"])) as picture:
        assert picture.width == 900


def test_a_notebook_shows_matches_as_a_contact_sheet(store: imgrec.Store, photos: Path) -> None:
    query = sorted(photos.rglob("*.jpg"))[0]
    with imgrec.open(store) as gallery:
        (searched,) = gallery.search([query], k=3)
        (by_vector,) = gallery.search([gallery.resolve(query).vectors[""][0]], k=3)
    for matches, cells in ((imgrec.recommend(query, store, k=3), 4), (searched, 4), (by_vector, 3)):
        assert isinstance(matches, list)
        assert [match.rank for match in matches] == [1, 2, 3]
        with PIL.Image.open(io.BytesIO(displayed(matches)["image/png"])) as picture:
            assert picture.width == 2 * 28 + cells * 260 - 20 + (20 if cells == 4 else 0)
    assert pickle.loads(pickle.dumps(searched)) == searched


def displayed(value: object) -> dict[str, Any]:
    """What IPython's own formatter makes of a value, by MIME type."""
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(value)
    return dict(data)
