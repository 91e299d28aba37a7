"""Colours as queries: what they are parsed to, the histogram that is asked for, alone and beside a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli
from imgrec.errors import UsageError
from imgrec.gallery import colours
from imgrec.gallery.similarity import of
from imgrec.kinds import Space

RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red", {RED: 1}),
        ("RED, White", {RED: 0.5, WHITE: 0.5}),
        ("f00", {RED: 1}),
        ("#ff0000:3,fff:1", {RED: 0.75, WHITE: 0.25}),
        ("c03020:0.7,white:0.3", {(192, 48, 32): 0.7, WHITE: 0.3}),
        ("red:1,ff0000:1,blue:2", {RED: 0.5, BLUE: 0.5}),
        ("rebeccapurple:1e-3", {(102, 51, 153): 1}),
    ],
)
def test_what_is_understood(text: str, expected: dict[colours.Colour, float]) -> None:
    assert colours.parsed(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no colour"),
        ("reddish", "'reddish' is no colour"),
        ("red,", "'' is no colour"),
        ("12345", "'12345' is no colour"),
        ("ff0000ff", "'ff0000ff' is no colour"),
        ("red:0.5,white", "a share to every colour, or to none"),
        ("red:", "above 0, not ''"),
        ("red:0", "above 0, not '0'"),
        ("red:-1", "above 0, not '-1'"),
        ("red:nan", "above 0, not 'nan'"),
        ("red:inf", "above 0, not 'inf'"),
        ("red:1e308,blue:1e308", "too large"),
        ("red:a", "above 0, not 'a'"),
        ("red:1:2", "above 0, not '1:2'"),
    ],
)
def test_what_is_not(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        colours.parsed(text)


SHARES = st.dictionaries(st.tuples(*[st.integers(0, 255)] * 3), st.floats(0.01, 100), min_size=1, max_size=8)


@settings(max_examples=10)
@given(SHARES)
def test_every_colour_has_its_area_and_the_noise_is_small(shares: dict[colours.Colour, float]) -> None:
    text = ",".join(f"{bytes(colour).hex()}:{share!r}" for colour, share in shares.items())
    parsed = colours.parsed(text)
    assert sum(parsed.values()) == pytest.approx(1)
    pixels = colours.areas(parsed)
    for colour, share in shares.items():
        count = (pixels == colour).all(axis=1).sum()
        assert abs(count - share / sum(shares.values()) * len(pixels)) <= 1
    cloth, pixels = colours.as_cloth(parsed).reshape(-1, 3).astype(float), pixels.astype(float)
    # A pixel is at most as bright as its colour, at least 0.7 as bright, and four deviations of noise off that.
    beyond = (cloth > pixels + 80) | (cloth < 0.7 * pixels - 80)
    assert beyond.mean() < 1e-3


@pytest.mark.parametrize("options", [{}, {"bins": 3, "joint": False}, {"colour_space": "hsv", "bins": 4}])
def test_the_histogram_that_is_asked_for(options: dict[str, object]) -> None:
    """Mostly in the bins of the colours, and the same each time."""
    extractor = imgrec.build("extractor", "colour", **options)
    (term,) = of(Space.of(extractor)).terms
    asked = colours.parsed("red:0.75,white:0.25")
    vector = colours.vector(asked, term)
    assert vector.tolist() == colours.vector(asked, term).tolist()
    pure = np.repeat(np.array([RED, RED, RED, WHITE], np.uint8)[None], 4, axis=0)
    exact = extractor.extract([pure])[0]
    assert vector.sum() == pytest.approx(exact.sum(), abs=1e-4)
    others = [
        extractor.extract([np.full((4, 4, 3), each, np.uint8)])[0] for each in (BLUE, (0, 255, 0), (0, 0, 0))
    ]
    apart = [np.linalg.norm(vector - each) for each in (exact, *others)]
    assert np.argmin(apart) == 0


def test_by_hand_for_two_bins() -> None:
    """With two bins a channel, light between 0.7 and 1 moves neither red nor black to another bin."""
    extractor = imgrec.build("extractor", "colour", bins=2)
    (term,) = of(Space.of(extractor)).terms
    # The bin of red, green and blue is 4 r + 2 g + b; 255 x 0.7 = 178.5 is 2.5 deviations above 128.
    expected = np.zeros(8)
    expected[4], expected[0] = 0.25, 0.75
    assert colours.vector(colours.parsed("red:1,black:3"), term) == pytest.approx(expected, abs=2e-3)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Pictures of one colour each, and one that is half white."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for name in ("firebrick", "navy", "white", "green", "black"):
        PIL.Image.new("RGB", (40, 40), name).save(folder / f"{name}.png")
    half = PIL.Image.new("RGB", (40, 40), "navy")
    half.paste("white", (0, 0, 40, 20))
    half.save(folder / "half.png")
    return folder


def names(result: dict[str, list[dict[str, str]]]) -> list[str]:
    return [Path(match["path"]).stem for match in result["matches"]]


def test_colours_alone(here: Cli, plain: Path) -> None:
    here("ingest", plain, "extractor=colour")
    for colour, nearest in (("firebrick", "firebrick"), ("#000080", "navy"), ("navy,white", "half")):
        assert names(here("recommend", f"colour={colour}", "k=2", "format=json").json())[0] == nearest
    done = here("recommend", "colour=navy:0.75,white:0.25", "k=3", "format=json")
    assert set(names(done.json())[:2]) == {"navy", "half"}
    assert done.json()["query"] is None
    assert done.json()["colours"] == {"000080": 0.75, "ffffff": 0.25}
    run = done.runs()[-1]
    assert done.record()["configuration"]["colour"] == "navy:0.75,white:0.25"
    with PIL.Image.open(run / "recommendations.png") as sheet:
        assert sheet.getpixel((40, 200)) == (0, 0, 128)
        assert sheet.getpixel((260, 200)) == WHITE
    assert here("replay", run).out == "identical\n"


def test_beside_a_picture(here: Cli, plain: Path) -> None:
    here("ingest", plain, "extractor=hog")
    here("ingest", plain, "extractor=colour")
    query = plain / "half.png"
    alone = here("recommend", query, "format=json").json()
    done = here("recommend", query, "colour=firebrick", "colour_weight=0.9", "format=json")
    assert names(done.json())[0] == "firebrick"
    assert names(alone)[0] != "firebrick" or alone["matches"][0]["distance"] == alone["matches"][1]["distance"]
    assert done.json()["matches"][0]["shares"].keys() == {"hog", "colours"}
    assert "colours are compared in colour-" in done.err
    weights = {name: each["weight"] for name, each in done.json()["parts"].items()}
    assert weights == pytest.approx({"hog": 0.1, "colours": 0.9})
    run = done.runs()[-1]
    assert json.loads((run / "results.json").read_text()) == done.json()
    assert here("replay", run).out == "identical\n"
    # hog is the gallery's default, so that another space answers
    switched = here("recommend", "colour=firebrick", "format=json")
    assert names(switched.json())[0] == "firebrick"
    assert "colours are compared in colour-" in switched.err
    assert here("replay", switched.runs()[-1]).out == "identical\n"


def test_a_fusion_equals_a_loop(here: Cli, plain: Path, tmp_path: Path) -> None:
    fusion = ["extractor=fusion", "extractor.weights={colour: 1, hog: 3}"]
    here("ingest", plain, *fusion)
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "outputs" / "gallery.sqlite"))
    query = imgrec.Query.of(str(plain / "half.png"), colours="green")
    with imgrec.open(store, colour_weight=0.4) as gallery:
        (matches,) = gallery.search([query], 5)
        resolved, about = gallery.resolve(query), gallery.about()["parts"]
        assert {name: about[name]["weight"] for name in about} == pytest.approx(
            {"colour": 0.15, "hog": 0.45, "colours": 0.4}
        )
        for match in matches:
            data = Path(match.path).read_bytes()
            with PIL.Image.open(match.path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            expected = 0.0
            for term in gallery.similarity.terms:
                there = term.ready_extractor().extract([pixels])[0].astype(float)
                distance = np.linalg.norm(resolved.vectors[term.name][0].astype(float) - there)
                expected += term.weight * distance / about[term.name]["usual_distance"]
            assert match.distance == pytest.approx(expected, rel=1e-5), data[:4]
    with imgrec.open(store, colour_weight=1) as gallery:
        (found,) = gallery.search([imgrec.Query.of(colours="green")], 1)
        assert Path(found[0].path).stem == "green"
        with pytest.raises(UsageError, match="not opened for the query"):
            gallery.search([query])
    with imgrec.open(store) as gallery, pytest.raises(UsageError, match="not opened for the query"):
        gallery.search([query])


def test_beside_several_turned_and_away(here: Cli, plain: Path, tmp_path: Path) -> None:
    """Each term is asked as if alone: the pictures' with their variants and what they keep away from."""
    here("ingest", plain, "extractor=fusion", "extractor.weights={colour: 1, hog: 3}")
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "outputs" / "gallery.sqlite"))
    pictures = [str(plain / "half.png"), str(plain / "green.png")]
    how: dict[str, Any] = {"combine": "nearest", "unlike": str(plain / "black.png"), "variants": "turns"}
    with imgrec.open(store) as gallery:
        alone = gallery.resolve(imgrec.Query.of(pictures, **how))
    with imgrec.open(store, colour_weight=0.4) as gallery:
        both = gallery.resolve(imgrec.Query.of(pictures, colours="green", **how))
        assert len(gallery.recommend(pictures, colours="green", collapse="auto", diversity=0.3, **how)) == 3
        with pytest.raises(UsageError, match="threshold=auto goes by distances between pictures"):
            gallery.recommend(pictures, colours="green", threshold="auto", **how)
        assert gallery.recommend(str(plain / "navy.png"), 1)  # colours may be left out
    for name, rows in alone.vectors.items():
        np.testing.assert_array_equal(both.vectors[name], rows)
    of_colours = both.vectors["colours"]
    assert of_colours.shape == (16, 125)
    assert len(np.unique(of_colours, axis=0)) == 1
    assert (both.variants, both.digests, both.left_out) == (alone.variants, alone.digests, alone.left_out)
    away = imgrec.recommend([], store, colours="green,black", unlike=str(plain / "black.png"), unlike_weight=0.8)
    assert Path(away[0].path).stem == "green"
    assert "black" not in {Path(match.path).stem for match in away}
    near = imgrec.recommend(pictures[0], store, colours="black", colour_weight=0.95)
    assert Path(near[0].path).stem == "black"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "recommend needs query=, a picture, text= or colour="),
        (["colour=reddish"], "'reddish' is no colour"),
        (["colour=red", "colour_weight=0.3"], "colour_weight= has no effect without colour= beside query="),
        (["firebrick.png", "colour_weight=0.3"], "colour_weight= has no effect without colour= beside query="),
        (["plain/navy.png", "colour=red", "colour_weight=1.5"], "colour_weight is above 0 and below 1, not 1.5"),
        (["colour=red", "variants=turns"], "variants=turns are of pictures, and this query has others or none"),
        (["colour=red"], "sees colours alone, which colour= needs: ingest again with extractor=colour"),
    ],
)
def test_bad_colours(here: Cli, plain: Path, words: list[str], reason: str) -> None:
    here("ingest", plain, "extractor=hog")
    done = here("recommend", *words, code=2)
    assert reason in done.err
    assert done.err.count("\n") == 1


def test_several_spaces(here: Cli, plain: Path) -> None:
    here("ingest", plain, "extractor=hog")
    for bins in (3, 4):
        here("ingest", plain, "extractor=colour", f"extractor.bins={bins}")
    assert "several spaces see colours: colour-" in here("recommend", "colour=red", code=2).err
    here("recommend", "colour=red", "extractor=colour", "extractor.bins=4")
