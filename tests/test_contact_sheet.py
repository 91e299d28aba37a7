"""Contact sheets, and the worst queries of an evaluation: what is written on them, and that it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from imgrec.drawing.contact_sheet import contact_sheet
from imgrec.drawing.pictures import captions, in_words
from imgrec.drawing.worst import worst_queries
from imgrec.gallery import titles
from imgrec.gallery.similarity import Similarity, Term
from imgrec.kinds import Space
from imgrec.kinds.metric import metric_of

LONG = "/photos/hat/" + "a-name-of-which-there-is-no-end-" * 4 + "1.jpg"

Written = list[tuple[str, tuple[float, float, float, float]]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """Every text that is drawn, with its box in pixels."""
    found: Written = []
    write = PIL.ImageDraw.ImageDraw.text

    def noted(pen: PIL.ImageDraw.ImageDraw, place: Any, text: str, **options: Any) -> None:
        wanted = {name: options[name] for name in ("font", "anchor") if name in options}
        found.append((text, pen.textbbox(place, text, **wanted)))
        write(pen, place, text, **options)

    monkeypatch.setattr(PIL.ImageDraw.ImageDraw, "text", noted)
    return found


def matches_of(*paths: str) -> list[imgrec.Match]:
    return [imgrec.Match(i + 1, path, 0.5 * i + 0.25, "x") for i, path in enumerate(paths)]


@pytest.mark.parametrize(
    ("count", "asked", "unlike"),
    [*((count, 1, 0) for count in (0, 1, 2, 3, 5, 9, 120)), (5, 2, 0), (1, 1, 1), (6, 9, 3), (3, 0, 20)],
)
def test_no_text_runs_into_another_or_out_of_the_sheet(
    tmp_path: Path, written: Written, count: int, asked: int, unlike: int
) -> None:
    matches = matches_of(*(f"/photos/{i % 3}/{i}-{LONG.replace('/', '-')}" for i in range(count)))
    subtitle = "a preset of a name that is long, cosine distance, " * 3
    contact_sheet([LONG] * asked, matches, tmp_path / "sheet.png", subtitle, [LONG] * unlike)
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        width, height = sheet.size
    for i, (text, (left, top, right, bottom)) in enumerate(written):
        assert left >= 0 <= top, text
        assert right <= width, text
        assert bottom <= height, text
        for other, box in written[:i]:
            is_apart = right <= box[0] or box[2] <= left or bottom <= box[1] or box[3] <= top
            assert is_apart, f"{text!r} runs into {other!r}"


def test_distances_are_called_so(tmp_path: Path, written: Written) -> None:
    contact_sheet(
        ["q.jpg"], matches_of("/a/1.jpg", "/a/2.jpg"), tmp_path / "sheet.png", "colour, euclidean distance"
    )
    texts = [text for text, _ in written]
    assert "distance 0.2500" in texts
    assert "The 2 most similar" in texts
    assert "colour, euclidean distance" in texts


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        ([], []),
        (["1.jpg"], ["1.jpg"]),
        (["/a/b/1.jpg", "/a/b/2.jpg"], ["1.jpg", "2.jpg"]),
        (["/a/b/1.jpg", "/a/c/1.jpg"], ["b/1.jpg", "c/1.jpg"]),
        (["/a/1.jpg", "/a/c/1.jpg"], ["1.jpg", "c/1.jpg"]),
        (["x/1.jpg", "/a/1.jpg"], ["x/1.jpg", "/a/1.jpg"]),
        (["/a/b/1.jpg", "/a/b/1.jpg"], ["1.jpg", "1.jpg"]),
        (
            ["/p/IMG_20240102_holiday_1.jpg", "/p/IMG_20240102_holiday_2.jpg"],
            ["…_holiday_1.jpg", "…_holiday_2.jpg"],
        ),
    ],
)
def test_captions_are_what_differs(paths: list[str], shown: list[str]) -> None:
    assert captions(paths) == shown


@settings(max_examples=200)
@given(st.lists(st.lists(st.text("ab1.", max_size=30), min_size=2, max_size=4), max_size=8))
def test_captions_of_different_files_differ(paths: list[list[str]]) -> None:
    names = sorted({"/" + "/".join(f"x{part}" for part in path) for path in paths})
    assert len(set(captions(names))) == len(names)


def test_a_query_that_is_no_file_has_no_place(tmp_path: Path, written: Written) -> None:
    contact_sheet([], matches_of("/a/1.jpg"), tmp_path / "sheet.png", "colour")
    assert "Query" not in [text for text, _ in written]


def test_a_contact_sheet_with_a_file_that_is_gone_and_names_that_are_long(tmp_path: Path, photos: Path) -> None:
    query = sorted(photos.rglob("*.jpg"))[0]
    names = [str(query), str(tmp_path / "gone.jpg"), str(tmp_path / ("ä山" * 60 + "\udcff.jpg"))]
    matches = matches_of(*names * 3)
    for count in (0, 1, 5, 9):
        contact_sheet([str(query)], matches[:count], tmp_path / "sheet.png", "colour, euclidean distance")
        with PIL.Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width <= 1700
            assert sheet.height == 28 + 62 + max(1, -(-count // 5)) * (240 + 62 + 20) - 20 + 28


def test_the_worst_queries_have_a_key_and_marks(tmp_path: Path, written: Written) -> None:
    rows = [(None, "hat: 1.jpg", [("/photos/hat/2.jpg", True), ("/photos/shoe/3.jpg", False)])]
    worst_queries(rows, tmp_path / "worst.png", "colour, euclidean distance")
    texts = [text for text, _ in written]
    assert texts[2:5] == ["query", "✓ hit", "✗ miss"]
    assert texts[-2:] == ["✓ hat", "✗ shoe"]


# --- titles -------------------------------------------------------------------------------------------------

MODEL = {
    "model": "mobilenetv2_100.ra_in1k",
    "model_kwargs": {"pad_type": "same"},
    "mean": [0.5],
    "pretrained": True,
}


def space(extractor: str, **options: Any) -> Space:
    return Space("key", extractor, options, {})


@pytest.mark.parametrize(
    ("terms", "title"),
    [
        ([("", 1, space("timm", **MODEL), "cosine")], "mobilenetv2, cosine distance"),
        ([("", 1, space("timm", **{**MODEL, "model": "x_1"}), "cosine")], "x_1, cosine distance"),
        ([("", 1, space("hog"), "euclidean")], "hog, euclidean distance"),
        ([("", 1, space("gone", a={"b": 1}, c=2), "chi2")], "gone, c=2, chi2 distance"),
        (
            [("hog", 3, space("hog"), "cosine"), ("colour", 1, space("colour"), "hellinger")],
            "handcrafted: 3 hog (cosine) + 1 colour (hellinger)",
        ),
        (
            [("hog", 0.5, space("hog"), "cosine"), ("colour", 0.5, space("colour"), "cosine")],
            "0.5 hog + 0.5 colour, cosine distance",
        ),
    ],
)
def test_titles_name_preset_or_model_and_distance(terms: list[tuple[str, float, Space, str]], title: str) -> None:
    similarity = Similarity(tuple(Term(of, metric_of(metric), name, weight) for name, weight, of, metric in terms))
    assert titles.title(similarity) == title
    assert "{" not in title


@pytest.mark.parametrize(
    "text", ["hat", "a red hat with a broad brim " * 40, "x" * 300, "\u200f帽子 " * 9, "a\nb"]
)
@pytest.mark.parametrize("side", [110, 240])
def test_words_that_are_asked_for_fit_their_square(written: Written, text: str, side: int) -> None:
    drawn = in_words(text, side)
    assert drawn.size == (side, side)
    assert written
    for line, (left, top, right, bottom) in written:
        assert min(left, top) >= 0, line
        assert max(right, bottom) <= side, line
