"""Components inside components, on the command line and in Python: what is recorded, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
from conftest import Cli
from imgrec.errors import UsageError
from imgrec.gallery import recorded

NESTED = "extractor=fusion extractor.parts.hc=handcrafted extractor.weights.hc=1".split()


def _colour(**options: Any) -> imgrec.Extractor:
    built: imgrec.Extractor = imgrec.build("extractor", "colour", **options)
    return built


def _pca(**options: Any) -> imgrec.Reducer:
    built: imgrec.Reducer = imgrec.build("reducer", "pca", **options)
    return built


def _distances(cli: Cli, *words: str | Path) -> list[tuple[str, float]]:
    return [(m["path"], m["distance"]) for m in cli("recommend", *words, "format=json").json()["matches"]]


@pytest.mark.parametrize(("inner", "outer"), [(99, 0), (0, 99), (5, 99), (99, 5), (5, 5), (99, 99)])
def test_each_fusion_keeps_from_how_many_images_on_it_projects(
    photos: Path, tmp_path: Path, inner: int, outer: int
) -> None:
    """As ingested and as recorded are the same similarity."""
    inside = imgrec.Fusion(
        weights={"a": 1, "b": 1},
        parts={"a": _colour(), "b": _colour(bins=3)},
        projections={"a": _pca(n_components=3)},
        projected_from=inner,
    )
    extractor = imgrec.Fusion(
        weights={"in": 2, "c": 1},
        parts={"in": inside, "c": _colour(bins=5)},
        projections={"c": _pca(n_components=4)},
        projected_from=outer,
    )
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(photos, extractor, store)
    query = str(next(photos.rglob("*.jpg")))
    with imgrec.open(store, extractor=extractor) as gallery:
        given = gallery.search([query], k=9)
    with imgrec.open(store) as gallery:
        projected = [term.projected_from for term in gallery.similarity.terms if term.projection is not None]
        assert projected == [inner, outer]
        assert gallery.search([query], k=9) == given


def test_a_projection_kept_from_another_question_does_not_answer_this_one(photos: Path, tmp_path: Path) -> None:
    parts = {"a": _colour(), "b": _colour(bins=3)}
    from_99, from_0 = (
        imgrec.Fusion({"a": 1, "b": 1}, parts, {"a": _pca(n_components=3)}, projected_from=least)
        for least in (99, 0)
    )
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(photos, from_99, store)

    def asked(extractor: imgrec.Extractor | None) -> list[tuple[str, float]]:
        with imgrec.open(store, extractor=extractor) as gallery:
            (matches,) = gallery.search([str(next(photos.rglob("*.jpg")))], k=9)
        return [(match.path, match.distance) for match in matches]

    before = asked(None)
    assert asked(from_0) != before
    assert asked(None) == asked(from_99) == before


FUSION = ("extractor=fusion", "extractor.weights={colour: 1, hog: 1}")
PCA = ("extractor.projections.hog=pca", "extractor.projections.hog.n_components=3")
REFUSED = [
    (["extractor.weights=null"], "holds values by the names of parts, not None"),
    (["extractor.parts=null"], "holds values by the names of parts, not None"),
    (["extractor.metrics=null"], "holds values by the names of parts, not None"),
    (["extractor.weights=[1,2]"], "holds values by the names of parts"),
    (["extractor.weights={1: 2}"], "has no option '1'"),
    (["extractor.metrics.hog=null"], "metric is one of"),
    (["extractor.parts.hog=colour"], "extractor hog has no option 'bins'"),
    (["extractor.parts.hogg.cell=8"], "did you mean hog?"),
    (["extractor=handcrafted", "extractor.parts=null"], "extractor.parts holds components by name"),
    (["extractor=handcrafted", "extractor.projections=null"], "extractor.projections holds components by name"),
    ([*FUSION, "extractor.projections=pca"], "extractor.projections holds components by name"),
    ([*FUSION, "extractor.parts.extra=colour"], "extra has no weight: extractor.weights.extra=1"),
    ([*FUSION, "extractor.projections.hogg=pca"], "fusion.projections has no option 'hogg' (did you mean hog?)"),
    ([*FUSION, "extractor.parts.colour=3"], "a choice cannot be null or a number"),
    (
        ["metric=hellinger", *FUSION, "extractor.projections.hog=pca", "extractor.projections.hog.n_components=3"],
        "metric=hellinger compares shares",
    ),
]


def test_what_a_fusion_cannot_be_is_refused_in_a_line(cli: Cli, few: Path) -> None:
    cli("ingest", few, *FUSION)
    query = few / "china" / "china-0-0.jpg"
    wrong = {}
    for words, told in REFUSED:
        done = cli("recommend", query, *words, code=None)
        if done.code != 2 or told not in done.err or "Traceback" in done.err:
            wrong[" ".join(words)] = (done.code, done.err[-300:])
    assert not wrong


def test_what_a_preset_chose_inside_is_chosen_otherwise(cli: Cli, few: Path) -> None:
    chosen = ["extractor=handcrafted", "extractor.projections.hog.n_components=3", "extractor.parts.hog"]
    done = cli("ingest", few, *chosen[:2], f"{chosen[2]}=colour", f"{chosen[2]}.bins=3", "store.path=a.sqlite")
    assert done.record()["components"]["extractor.parts.hog"] == "colour"
    assert done.record()["configuration"]["extractor"]["parts"]["hog"]["bins"] == 3
    swept = cli("-m", "ingest", few, *chosen[:2], f"{chosen[2]}=colour,hog", "store.path=b.sqlite")
    assert swept.out.count("12 extracted") == 2
    told = cli("ingest", few, *chosen[:2], "extractor.parts.colour.cell=16", code=2).err
    assert "colour has no option 'cell'" in told


def test_options_of_a_recorded_fusion_two_deep(cli: Cli, few: Path) -> None:
    cli("ingest", few, *NESTED)
    query = few / "china" / "china-0-0.jpg"
    same = _distances(cli, query)
    for path in ("hc.parts.colour", "hc.colour"):
        assert "bins was 5 and is 4" in cli("recommend", query, f"extractor.parts.{path}.bins=4", code=2).err
        assert _distances(cli, query, f"extractor.parts.{path}.bins=5") == same
    only = _distances(cli, query, "extractor.weights.hc.hog=0")
    assert only != same
    assert only == _distances(cli, query, "extractor.weights={hc.hog: 0}")
    told = cli("recommend", query, "extractor.parts.hc.hgo.cell=8", code=2).err
    assert ".parts.hc has no option 'hgo' (did you mean hog?)" in told


def test_an_ingest_with_options_of_a_recorded_fusion(cli: Cli, few: Path) -> None:
    cli("ingest", few, *FUSION)
    assert "12 unchanged" in cli("ingest", few, "extractor.parts.colour.bins=5").out  # as it is
    assert "bins was 5 and is 4" in cli("ingest", few, "extractor.parts.colour.bins=4", code=2).err
    assert "keeps the weights and metrics" in cli("ingest", few, "extractor.weights.hog=3", code=2).err


@pytest.mark.parametrize(
    "note", [{}, [], 3, {"weights": {}}, {"weights": {"a": 1}, "spaces": {}, "projections": {}, "metrics": {}}]
)
def test_a_damaged_note_of_a_fusion_is_told(photos: Path, tmp_path: Path, note: Any) -> None:
    from imgrec.verification import verify

    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(photos, imgrec.Fusion(weights={"a": 1}, parts={"a": _colour()}), store)
    with store:
        (name,) = recorded.fusion_specs(store)
        store.write(imgrec.Batch(metadata={name: note}))
    with pytest.raises(imgrec.ImgrecError, match=f"metadata {name} of .* is damaged"), imgrec.open(store):
        pass
    assert [each.check for each in verify(store) if each.left] == ["database"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": None, "parts": {}}, "weights"),
        ({"weights": [1], "parts": {}}, "weights"),
        ({"weights": {"a": 1}, "parts": None}, "parts"),
        ({"weights": {"a": 1}, "parts": {"a": "hog"}}, "parts.a is of the type Extractor"),
        ({"weights": {"a": 1}, "parts": {"a": _colour()}, "projections": {"a": "pca"}}, "projections.a"),
        ({"weights": {"a": 1}, "parts": {"a": _colour()}, "metrics": {"a": None}}, "metrics.a"),
        ({"weights": {"a.b": 1}, "parts": {"a.b": _colour()}}, "a word without a dot, not 'a.b'"),
        ({"weights": {"a": 1}, "parts": {"a": _colour(), "b": _colour()}}, "b has no weight"),
    ],
)
def test_a_fusion_checks_its_parts(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        imgrec.Fusion(**options)


def test_a_gallery_is_asked_with_numbers(photos: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(photos, _colour(), store)
    with pytest.raises(UsageError, match="takes a store"), imgrec.open(5):  # type: ignore[arg-type]
        pass
    query = str(next(photos.rglob("*.jpg")))
    with imgrec.open(store) as gallery:
        for k in (0, -1, 1.5, "5", None):
            with pytest.raises(UsageError, match="k is at least 1"):
                gallery.search([query], k)  # type: ignore[arg-type]
        for distance in (-1, float("nan"), "1", None):
            with pytest.raises(UsageError, match="distance is at least 0"):
                gallery.within([query], distance)  # type: ignore[arg-type]
        assert gallery.search([query], np.int64(2)) == gallery.search([query], 2)  # type: ignore[arg-type]


def test_weights_whose_sum_is_no_number_are_refused() -> None:
    """Each share of an infinite sum would be 0, and so would all distances."""
    parts = {name: imgrec.build("extractor", name) for name in ("colour", "hog")}
    with pytest.raises(UsageError, match="their sum is too large a number"):
        imgrec.Fusion(weights={"colour": 1e308, "hog": 1e308}, parts=parts)
