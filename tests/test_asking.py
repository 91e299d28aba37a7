"""What is asked for: several pictures, what to keep away from, variants; against plain loops in float64."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import imgrec
from conftest import Cli, of_any_values
from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery.each import AT_ONCE, answers
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.query import Known, Query
from imgrec.gallery.similarity import Similarity, Term
from imgrec.kinds import Batch, Doubles, Record, Space
from imgrec.kinds.metric import metric_of, names

METRICS = of_any_values(names())

UNIT = ("cosine",)


def as_compared(vector: Sequence[float], metric: str) -> list[float]:
    """A vector at unit length, if the metric compares these."""
    length = sum(value * value for value in vector) ** 0.5
    return [value / length for value in vector] if metric in UNIT and length else list(vector)


def asked_for(
    items: Sequence[Sequence[float]], unlike: Sequence[Sequence[float]], combine: str, weight: float, metric: str
) -> list[list[float]]:
    """What is looked for, worked out value by value."""
    if (combine == "nearest" or len(items) == 1) and not unlike:
        return [list(each) for each in items]
    points = [as_compared(each, metric) for each in items]
    away = [as_compared(each, metric) for each in unlike]
    if combine == "mean":
        points = [[sum(values) / len(points) for values in zip(*points, strict=True)]]
    if away:
        centre = [sum(values) / len(away) for values in zip(*away, strict=True)]
        is_positive = all(value >= 0 for each in [*points, centre] for value in each)
        points = [[(a - weight * b) / (1 - weight) for a, b in zip(each, centre, strict=True)] for each in points]
        if is_positive:
            points = [[max(value, 0) for value in each] for each in points]
    return points


def gallery_of(folder: str, vectors: Sequence[Doubles], metrics: Sequence[str]) -> tuple[imgrec.Store, Similarity]:
    """A store whose images have a vector in a space for each metric, and the similarity of all of these."""
    spaces = [Space.of(imgrec.build("extractor", "colour", bins=2 + i)) for i in range(len(metrics))]
    store = imgrec.build("store", "sqlite", path=f"{folder}/g.sqlite").open(create=True)
    digests = [f"{i:064x}" for i in range(len(vectors[0]))]
    rows = {space: (digests, each.astype(np.float32)) for space, each in zip(spaces, vectors, strict=True)}
    store.write(Batch(records=[Record(f"/{each}.jpg", each, 1, 1) for each in digests], vectors=rows))
    some = len(metrics) > 1
    terms = [
        Term(space, metric_of(metric), f"part{i}" if some else "", 1 + i)
        for i, (space, metric) in enumerate(zip(spaces, metrics, strict=True))
    ]
    return store, Similarity(tuple(terms), "fusion-x" if some else None)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    metrics=st.lists(st.sampled_from(METRICS), min_size=1, max_size=2),
    items=st.integers(1, 3),
    unlike=st.integers(0, 2),
    combine=st.sampled_from(["mean", "nearest"]),
    weight=st.sampled_from([0.0, 0.15, 0.8]),
)
def test_answers_are_those_of_a_plain_loop(
    seed: int, metrics: list[str], items: int, unlike: int, combine: str, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    low = 0 if {"chi2", "hellinger"} & set(metrics) else -3
    vectors = [rng.integers(low, 4, (30, 3 + i)) + rng.random((30, 3 + i)) for i in range(len(metrics))]
    vectors = [each.astype(np.float32).astype(np.float64) for each in vectors]
    with tempfile.TemporaryDirectory() as folder:
        store, similarity = gallery_of(folder, vectors, metrics)
        with store:
            gallery = Gallery(store, similarity)
            known = [
                Known(
                    {
                        t.name: each[i].astype(np.float32)
                        for t, each in zip(similarity.terms, vectors, strict=True)
                    },
                    f"{i:064x}",
                )
                for i in range(items + unlike)
            ]
            query = Query.of(known[:items], combine=combine, unlike=known[items:], unlike_weight=weight)
            (matches,) = gallery.search([query], 8)
            scales = [field.weight for field in gallery.fields]
    wanted = [
        asked_for(each[:items].tolist(), each[items : items + unlike].tolist(), combine, weight, metric)
        for each, metric in zip(vectors, metrics, strict=True)
    ]
    every = np.zeros((len(wanted[0]), 30))
    for i in range(len(wanted[0])):
        for points, each, metric, scale in zip(wanted, vectors, metrics, scales, strict=True):
            every[i] += scale * metric_of(metric).distances(np.array(points[i]), each)
    expected = np.sort(every.min(axis=0)[items + unlike :])[:8]
    np.testing.assert_allclose([match.distance for match in matches], expected, rtol=2e-5, atol=2e-6)
    left_out = {f"/{i:064x}.jpg" for i in range(items + unlike)}
    assert left_out.isdisjoint(match.path for match in matches)


@pytest.fixture
def filled(tmp_path: Path, photos: Path) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(tmp_path / "photos.sqlite"))
    imgrec.ingest(str(photos), imgrec.build("extractor", "colour"), store)
    return store


def test_what_is_pushed_away_ranks_lower_and_is_never_found(filled: imgrec.Store, photos: Path) -> None:
    china, flower = (sorted((photos / name).iterdir()) for name in ("china", "flower"))
    both: list[Any] = [china[0], str(flower[0])]
    mean = imgrec.recommend(both, filled, k=100, copies=True)
    how: dict[str, Any] = {"unlike": flower[1], "unlike_weight": 0.5, "include_self": True}
    away = imgrec.recommend(both, filled, k=100, copies=True, **how)
    like_it = {match.path for match in imgrec.recommend(flower[1], filled, k=6)} - set(map(str, both))
    ranks = [np.mean([match.rank for match in matches if match.path in like_it]) for matches in (mean, away)]
    assert ranks[1] > ranks[0] + 2
    assert str(flower[1]) not in {match.path for match in away}
    assert {str(each) for each in both} <= {match.path for match in away}
    assert not {str(each) for each in both} & {match.path for match in mean}


def test_near_to_one_of_several_is_near(filled: imgrec.Store, photos: Path) -> None:
    pictures = sorted(photos.rglob("*.jpg"))[::13]
    alone = [imgrec.recommend(each, filled, k=40, include_self=True) for each in pictures]
    distances: dict[str, float] = {}
    for match in (match for matches in alone for match in matches):
        distances[match.path] = min(match.distance, distances.get(match.path, np.inf))
    together = imgrec.recommend(pictures, filled, k=40, combine="nearest", include_self=True)
    assert {match.path: match.distance for match in together} == distances


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"combine": "sum"}, "combine is one of mean, nearest"),
        ({"variants": "some"}, "variants is one of turns, crops, all"),
        ({"unlike_weight": 1.0}, "from 0 to below 1"),
        ({"unlike_weight": float("nan")}, "from 0 to below 1"),
        ({"unlike": "nofile.jpg"}, "unlike 'nofile.jpg' does not exist"),
        ({"unlike": ""}, "unlike is empty"),
        ({"unlike": 5}, "a query is of pictures and vectors, and this is int"),
    ],
)
def test_what_is_refused(filled: imgrec.Store, photos: Path, how: dict[str, Any], message: str) -> None:
    query = next(photos.rglob("*.jpg"))
    with pytest.raises(UsageError, match=message):
        imgrec.recommend(query, filled, **how)


# --- variants -----------------------------------------------------------------------------------------------

TRANSPOSED = {
    "whole": None,
    "turned 90": PIL.Image.Transpose.ROTATE_270,  # Pillow turns the other way round
    "turned 180": PIL.Image.Transpose.ROTATE_180,
    "turned 270": PIL.Image.Transpose.ROTATE_90,
    "mirrored": PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    "mirrored, turned 90": PIL.Image.Transpose.TRANSVERSE,
    "mirrored, turned 180": PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    "mirrored, turned 270": PIL.Image.Transpose.TRANSPOSE,
}


def test_the_variant_that_matched_is_told(tmp_path: Path) -> None:
    """Each gallery image is the query turned otherwise, by Pillow, or cut out of it; beside unlike ones."""
    rng = np.random.default_rng(5)
    (tmp_path / "photos").mkdir()
    small = PIL.Image.fromarray(rng.integers(0, 255, (8, 10, 3), dtype=np.uint8))
    whole = small.resize((300, 240), PIL.Image.Resampling.BICUBIC)
    whole.save(tmp_path / "query.png")
    for name, method in TRANSPOSED.items():
        (whole.transpose(method) if method is not None else whole.convert("RGB")).save(
            tmp_path / "photos" / f"{name}.png"
        )
    boxes = {
        "centre": (45, 36),
        "top left": (0, 0),
        "top right": (90, 0),
        "bottom left": (0, 72),
        "bottom right": (90, 72),
    }
    for name, (x, y) in boxes.items():
        whole.crop((x, y, x + 210, y + 168)).save(tmp_path / "photos" / f"{name}.png")
    PIL.Image.fromarray(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(tmp_path / "photos" / "noise.png")
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(str(tmp_path / "photos"), imgrec.build("extractor", "hog"), store)
    found = imgrec.recommend(tmp_path / "query.png", store, k=20, variants="all", include_self=True)
    told = {Path(match.path).stem: match for match in found}
    for name in [*TRANSPOSED, *boxes]:
        assert told[name].variant == name, told[name]
        assert told[name].distance < 1e-5
    assert told["noise"].distance > 0.1
    turned = imgrec.recommend(tmp_path / "query.png", store, k=20, variants="turns", include_self=True)
    by_name = {Path(match.path).stem: match.distance for match in turned}
    assert max(by_name[name] for name in TRANSPOSED) < 1e-5 < min(by_name[name] for name in boxes)
    assert found[0].to_json()["variant"] == found[0].variant
    assert "variant" not in imgrec.recommend(tmp_path / "query.png", store)[0].to_json()


def test_vectors_have_no_variants(filled: imgrec.Store) -> None:
    with imgrec.open(filled) as gallery, pytest.raises(UsageError, match="variants=turns are of pictures"):
        gallery.resolve(Query.of(np.zeros(3), variants="turns"))


# --- from the shell -----------------------------------------------------------------------------------------


def test_from_the_shell(here: Cli, few: Path) -> None:
    here("ingest", "few", "extractor=fusion", "extractor.weights={colour: 1, hog: 1}")
    a, b, c = (f"few/{name}-0-0.jpg" for name in ("china/china", "flower/flower", "flower/flower"))
    c = "few/flower/flower-0-1.jpg"
    words = [a, b, f"unlike={c}", "combine=nearest", "variants=turns", "k=4"]
    result = here("recommend", *words, "format=json").json()
    assert result["query"] == [str(few.parent / each) for each in (a, b)]
    assert {result[name] for name in ("combine", "unlike_weight", "variants")} == {"nearest", 0.15, "turns"}
    assert result["unlike"] == [str(few.parent / c)]
    assert {match["variant"] for match in result["matches"]} <= set(TRANSPOSED)
    assert result["unlike"][0] not in {match["path"] for match in result["matches"]}
    run = here("recommend", *words).runs()[-1]
    record = json.loads((run / "run.json").read_text())
    assert record["configuration"]["unlike"] == c
    assert len(record["inputs"]["query"]) == 128
    assert here("replay", run).out == "identical\n"
    assert here("recommend", a, "format=json").json()["query"] == str(few.parent / a)
    assert "variant" in here("recommend", a, "variants=crops", "format=csv").out.splitlines()[0].split(",")
    assert "variant" not in here("recommend", a, "format=csv").out
    two = here("-m", "recommend", f"query={a},{b}", "k=1")
    assert (
        len({json.loads((each / "results.json").read_text())["query"] for each in two.cwd.glob("outputs/**/[01]")})
        == 2
    )
    assert "unlike_weight= has no effect" in here("recommend", a, "unlike_weight=0.5", code=2).err
    assert "query is empty" in here("recommend", "query=[]", code=2).err


# --- each picture of a folder -----------------------------------------------------------------------------------


def test_each_picture_is_a_query_of_its_own(
    here: Cli, few: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of the gallery, others not, one broken: as they are answered one by one, in batches of three."""
    monkeypatch.setattr("imgrec.gallery.each.AT_ONCE", 3)
    monkeypatch.setattr("imgrec.stages.recommend.WRITTEN_AT_ONCE", 2)
    here("ingest", photos, "extractor=fusion", "extractor.weights={colour: 1, hog: 1}")
    (few / "broken.jpg").write_bytes(b"no picture")
    words = ["recommend", few, "each=true", "variants=turns", "unlike=few/china/china-0-0.jpg", "k=3"]
    done = here(*words)
    run = done.runs()[-1]
    result = json.loads((run / "results.json").read_text())
    assert (result["queries"], result["unreadable"], result["matches"]) == (13, 1, 36)
    assert result["failures"] == [{"path": str(few / "broken.jpg"), "reason": result["failures"][0]["reason"]}]
    assert "broken.jpg' cannot be read" in done.err
    rows = parquet.read_table(run / "results.parquet").to_pylist()
    for path in sorted(few.rglob("*-*.jpg"))[::4]:
        alone = here("recommend", path, *words[3:], "format=json").json()["matches"]
        own = [row for row in rows if row["query"] == str(path)]
        for name in ("rank", "path", "label", "variant", "copies"):
            assert [row[name] for row in own] == [match[name] for match in alone]
        np.testing.assert_allclose(
            [row["distance"] for row in own], [match["distance"] for match in alone], rtol=1e-4
        )
        assert [row["share_hog"] for row in own] == pytest.approx(
            [match["shares"]["hog"] for match in alone], rel=1e-3
        )
    assert here("replay", run).out == "identical\n"
    table = list(csv.DictReader(io.StringIO(here(*words, "format=csv").out)))
    assert [(row["query"], row["path"]) for row in table] == [(row["query"], row["path"]) for row in rows]
    lines = here(*words, "format=jsonl").out.splitlines()
    assert [json.loads(line)["distance"] for line in lines] == [row["distance"] for row in rows]
    assert len(here(*words, "format=markdown").out.splitlines()) == 36 + 2
    assert here(*words, "format=json").json()["sha256"] == result["sha256"]


def test_what_each_refuses(here: Cli, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here("ingest", few, "extractor=colour")
    (few / "empty").mkdir()
    for words, message in (
        (["few/empty", "each=true"], "has no pictures"),
        (["nofile", "each=true"], "query 'nofile' does not exist"),
        (["few", "each=true", "combine=nearest"], "combine= has no effect with each=true"),
        (["few"], "each=true asks with each picture"),
    ):
        assert message in here("recommend", *words, code=2).err
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "Parquet needs pyarrow" in here("recommend", "few", "each=true", code=2).err


def test_pictures_are_read_as_they_are_answered(filled: imgrec.Store, photos: Path) -> None:
    """A few batches ahead, and not all at once, which bounds the memory needed."""
    taken = 0

    def files() -> Iterator[imgrec.ImageFile]:
        nonlocal taken
        for file in list(images.find([str(photos)])) * 100:
            taken += 1
            yield file

    with (
        imgrec.open(filled) as gallery,
        contextlib.closing(answers(gallery, filled, Query.of("-"), files(), 2)) as found,
    ):
        first = next(found)
        assert first.matches is not None
        assert len(first.matches) == 2
        assert taken < 2 * AT_ONCE


def test_many_queries_say_what_they_do_not_find(here: Cli, few: Path, tmp_path: Path) -> None:
    here("ingest", few, "extractor=colour")
    done = here("recommend", few, "each=true", "threshold=0", "format=json")
    assert "nothing similar for 12 of 12 queries: no image is within a distance of 0" in done.err
    assert (done.json()["queries"], done.json()["nothing_similar"]) == (12, 12)
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.jpg").write_bytes(b"junk")
    refused = here("recommend", tmp_path / "junk", "each=true", code=2)
    assert "none of the queries can be read" in refused.err
    query = few / "china" / "china-0-0.jpg"
    auto = here("recommend", query, "variants=turns", "threshold=auto", code=2)
    assert "threshold=auto goes by pictures as they are" in auto.err
