"""Thresholds, near-duplicates folded into one match, and varied answers: equal to plain loops in float64."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli, of_any_values
from imgrec.errors import UsageError
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.selection import POOL, Selection
from imgrec.gallery.similarity import Similarity, Term, of
from imgrec.gallery.spacing import limit
from imgrec.kinds import Batch, Record, Space, Store, Vectors
from imgrec.kinds.metric import metric_of, names
from imgrec.testing import write_pictures
from test_smoothing import opened

SPACES = [Space(f"colour-{i}123456789ab", "colour", {}, {"extractor": "colour", "i": i}) for i in range(2)]


def points(seed: int, count: int) -> Vectors:
    """Vectors without negative values in groups of near ones, some of them equal and some of them zero."""
    rng = np.random.default_rng(seed)
    groups = rng.gamma(0.7, size=(max(1, count // 3), 5))
    vectors = groups[rng.integers(len(groups), size=count)] + rng.choice([0, 0.01, 0.2], (count, 1)) * rng.random(
        5
    )
    vectors[rng.random(count) < 0.1] = 0
    return vectors.astype(np.float32)


def write(store: Store, by_space: dict[Space, Vectors]) -> list[Record]:
    count = len(next(iter(by_space.values())))
    digests = [f"{number * 7919 % 99991:064x}" for number in range(count)]
    records = [Record(f"/{'ab'[i % 2]}/{i * 37 % 1009}.jpg", digests[i], 1, 1) for i in range(count)]
    store.write(Batch(records=records, vectors={space: (digests, each) for space, each in by_space.items()}))
    return records


def apart(gallery: Gallery, vectors: list[Vectors], a: list[Any], b: int) -> float:
    """The distance of a query from an image: a sum over terms in float64."""
    return sum(
        field.weight * float(field.metric.distances(one.astype(float), each[b : b + 1].astype(float))[0])
        for field, one, each in zip(gallery.fields, a, vectors, strict=True)
    )


def by_hand(distance: Any, to_query: list[float], paths: list[str], k: int, how: Selection) -> list[Any]:
    """Path, distance and the near copies of each match, by loops over everything."""
    left = sorted(range(len(paths)), key=lambda i: (to_query[i], paths[i]))
    found: list[tuple[int, set[str] | None]] = []
    while left:
        first, *others = left
        near = {i for i in others if distance(first, i) <= how.collapse} if how.collapse is not None else set()
        found.append((first, None if how.collapse is None else {paths[i] for i in near}))
        left = [i for i in others if i not in near]
    found = found[: max(k, POOL)] if how.diversity else found[:k]
    if how.threshold is not None:
        found = [each for each in found if to_query[each[0]] <= how.threshold]
    chosen: list[tuple[int, set[str] | None]] = []
    while found and len(chosen) < k:

        def score(each: tuple[int, set[str] | None]) -> float:
            least = min((distance(i, each[0]) for i, _ in chosen), default=0.0)
            return how.diversity * least - (1 - how.diversity) * to_query[each[0]]

        best = max(found, key=score) if chosen and how.diversity else found[0]  # the first of equal ones
        chosen.append(best)
        found.remove(best)
    return [(paths[i], to_query[i], near) for i, near in chosen]


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 150),
    st.integers(1, 8),
    st.sampled_from(of_any_values(names())),
    st.sampled_from([None, 0.0, 0.02, 0.3]),
    st.sampled_from([None, 0.0, 0.1, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.booleans(),
    st.booleans(),
)
def test_an_answer_is_that_of_plain_loops(
    seed: int,
    count: int,
    k: int,
    metric: str,
    collapse: float | None,
    threshold: float | None,
    diversity: float,
    fused: bool,
    narrowed: bool,
) -> None:
    """Whatever the metric, of a fusion and with a filter too; the query's own content is never found or folded."""
    vectors = [points(seed, count), points(seed + 1, count)][: 1 + fused]
    how = Selection(threshold=threshold, collapse=collapse, diversity=diversity)
    among = (lambda record: record.path.startswith("/a/")) if narrowed else None
    with opened() as store:
        records = write(store, dict(zip(SPACES, vectors, strict=False)))
        terms = [
            Term(SPACES[0], metric_of(metric), "x", 0.3),
            Term(SPACES[1], metric_of("euclidean"), "y", 0.7),
        ]
        similarity = Similarity(tuple(terms), "fusion-1") if fused else of(SPACES[0], metric)
        gallery = Gallery(store, similarity)
        own = [each[0] for each in vectors]
        query: Any = dict(zip("xy", own, strict=True)) if fused else own[0]
        (found,) = gallery.search([query], k, among, **how.selection)
        kept = [i for i, record in enumerate(records) if among is None or among(record)]
        held = [each[kept] for each in vectors]
        paths = [records[i].path for i in kept]
        wanted = by_hand(
            lambda a, b: apart(gallery, held, [each[a] for each in held], b),
            [apart(gallery, held, own, i) for i in range(len(kept))],
            paths,
            k,
            how,
        )
    told = [(m.path, m.distance, None if m.near_copies is None else set(m.near_copies)) for m in found]
    assert [each[0] for each in told] == [each[0] for each in wanted]
    assert [each[1] for each in told] == pytest.approx([each[1] for each in wanted], rel=1e-12, abs=1e-15)
    assert [each[2] for each in told] == [each[2] for each in wanted]
    assert [match.rank for match in found] == list(range(1, len(found) + 1))


def test_near_copies_are_folded_once_nearest_first_and_never_the_query(tmp_path: Path) -> None:
    """By hand: the query at 0, a row of points at 1, 1.1, 1.15, 1.3 and 5."""
    values = np.array([[0], [1], [1.1], [1.15], [1.3], [5]], np.float32)
    with opened() as store:
        records = write(store, {SPACES[0]: values})
        gallery = Gallery(store, of(SPACES[0]))
        (query,) = gallery.asked_for(np.array([0]), [np.empty(0, np.intp)])
        (found,) = gallery.search([query], 5, collapse=0.2)
        assert [match.path for match in found] == [records[i].path for i in (1, 4, 5)]
        assert [match.near_copies for match in found] == [(records[2].path, records[3].path), (), ()]
        (found,) = gallery.search([query], 5, collapse=math.nextafter(1.0, 2))
        assert len(found) == 2  # the query is within the distance of the first one, and is no near copy of it
        assert found[0].near_copies == tuple(records[i].path for i in (2, 3, 4))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(20, 200), st.floats(0, 0.3))
def test_near_duplicates_are_told_from_others_by_the_gallery_itself(seed: int, count: int, share: float) -> None:
    """Copies a hundredth of the usual distance away are near, with many of them or none, and others are not."""
    rng = np.random.default_rng(seed)
    usual = rng.lognormal(0, 0.2, count)
    copies = 0.01 * rng.lognormal(0, 0.2, int(share * count))
    distance, reason = limit(np.concatenate([usual, copies]))
    assert max(copies, default=0.0) < distance < np.quantile(usual, 0.05)
    assert "median" in reason
    assert limit(np.zeros(count)) == (0.0, "only 0 images differ: too few to say what is near")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"threshold": math.nan}, "finite"),
        ({"threshold": -0.1}, "threshold is auto or a distance"),
        ({"threshold": "close"}, "threshold is auto or a distance"),
        ({"threshold": True}, "threshold is auto or a distance"),
        ({"threshold": "auto", "alpha": 0.0}, "alpha is between 0 and 1"),
        ({"threshold": "auto", "alpha": 1.0}, "alpha is between 0 and 1"),
        ({"threshold": "auto", "alpha": math.nan}, "finite"),
        ({"alpha": 0.1}, "no effect without threshold=auto"),
        ({"collapse": math.inf}, "finite"),
        ({"collapse": -1}, "collapse is auto or a distance"),
        ({"diversity": 1.1}, "at most 1"),
        ({"diversity": -0.1}, "at least 0"),
        ({"diversity": 0.1, "copies": True}, "copies=true"),
        ({"collapse": 0, "copies": True}, "copies=true"),
    ],
)
def test_bad_options_are_refused(how: dict[str, Any], said: str) -> None:
    with opened() as store:
        write(store, {SPACES[0]: points(1, 5)})
        with pytest.raises(UsageError, match=said):
            Gallery(store, of(SPACES[0])).search([points(1, 1)[0]], 1, **how)


def test_the_shell_tells_what_was_folded_and_refused(here: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos)
    first = min(photos.rglob("*.png"))
    for i in range(3):  # equal but for one pixel
        with PIL.Image.open(first) as picture:
            other = picture.convert("RGB")
            other.putpixel((i, 0), (0, 0, 0))
            other.save(photos / f"near-{i}.png")
    shutil.copy(first, query := tmp_path / "query.png")
    here("ingest", photos, "extractor=colour")
    told = here("recommend", query, "collapse=0.05", "diversity=0.2", "threshold=9", "format=json", "k=2").json()
    assert told["collapse"] == {"distance": 0.05, "reason": "as asked for"}
    assert (told["threshold"], told["diversity"]) == (9, 0.2)
    near = [path for match in told["matches"] for path in match["near_copies"]]
    assert sorted(Path(match["path"]).stem for match in told["matches"])[-1].startswith("near-")
    assert sum(Path(path).name.startswith("near-") for path in near) == 2
    nothing = here("recommend", query, "threshold=0", "among=*/b/*", "format=json")
    assert nothing.json()["matches"] == []
    assert "nothing similar: no image is within a distance of 0" in nothing.err
    runs = nothing.runs()
    assert json.loads((runs[-1] / "results.json").read_text())["matches"] == []
    with PIL.Image.open(runs[-1] / "recommendations.png") as sheet:
        assert sheet.width > 500  # the query beside an empty place
    assert "near" in here("recommend", query, "collapse=0.05").out.splitlines()[0]
    here("recommend", query, "threshold=nan", code=2)


def test_python_takes_the_same(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos")
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(tmp_path / "photos", imgrec.build("extractor", "colour"), store)
    query = min((tmp_path / "photos").rglob("*.png"))
    every = imgrec.recommend(query, store, k=100)
    limit_ = every[2].distance
    assert imgrec.recommend(query, store, k=100, threshold=limit_) == [m for m in every if m.distance <= limit_]
    assert len(imgrec.recommend(query, store, k=100, collapse=every[-1].distance * 3)) == 1
    assert imgrec.recommend(query, store, k=100, diversity=1.0)[0] == every[0]
