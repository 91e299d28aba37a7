"""Approximate searches: how much they find, what is kept and followed, and when a search is exact nevertheless."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import imgrec
import tiles
from broken import Brute
from imgrec.gallery import similarity
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.holdings import describe
from imgrec.gallery.similarity import Similarity, Term
from imgrec.kinds import Batch, Numbers, Record, Space, Vectors
from imgrec.kinds.metric import metric_of
from imgrec.search import exact
from imgrec.search.approximate import lower_bound
from imgrec.serving.galleries import Galleries, Which
from test_smoothing import SPACE, opened


@dataclass
class Slow(Brute):
    """Something happens while it is built."""

    meanwhile: ClassVar[Callable[[], object]] = staticmethod(lambda: None)

    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        type(self).meanwhile()
        super().build(blocks, count, sample, folder)


@dataclass
class Graded(Brute):
    """A row in sixty-four is seen with the least effort, all of them with the greatest."""

    exact_up_to: int = 20
    log: ClassVar[list[Any]] = []
    """What was done: `built`, or the effort of each search."""

    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        self.log.append("built")
        super().build(blocks, count, sample, folder)

    def efforts(self) -> Sequence[int]:
        return (1, 2, 4, 8, 16, 32, 64)

    def candidates(
        self, queries: Vectors, count: int, effort: int, usable: npt.NDArray[np.bool_] | None
    ) -> list[Numbers]:
        self.log.append(effort)
        is_seen = np.arange(len(self.vectors)) * 7 % 64 < effort
        return super().candidates(queries, count, effort, is_seen if usable is None else is_seen & usable)

    def update(self, older: Path, gone: Numbers, blocks: Iterator[Vectors], folder: Path) -> bool:
        vectors = np.concatenate([np.load(older / "vectors.npy"), *blocks])
        vectors[gone] = 1e6
        np.save(folder / "vectors.npy", vectors)
        self.log.append(f"updated by {len(gone)} and {len(vectors)}")
        return True


class Spoilt(Brute):
    """It fails where it should follow."""

    def update(self, older: Path, gone: Numbers, blocks: Iterator[Vectors], folder: Path) -> bool:
        (folder / "half").write_text("")
        raise ValueError("no room for rows")


def some(count: int, seed: int = 1) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


def path_of(number: int) -> str:
    return f"/{'ab'[number % 2]}/{number}.jpg"


def write(store: imgrec.Store, numbers: Sequence[int], vectors: Vectors, space: Space = SPACE) -> None:
    """Images of some numbers, with the vectors of these rows."""
    names = [f"{number:064x}" for number in numbers]
    records = [Record(path_of(number), name, 1, 1) for number, name in zip(numbers, names, strict=True)]
    store.write(Batch(records, vectors={space: (names, vectors[list(numbers)])}))


@pytest.fixture(autouse=True)
def empty() -> None:
    Graded.log.clear()


def gallery_of(store: imgrec.Store, index: imgrec.Index | None, **how: Any) -> Gallery:
    return Gallery(store, similarity.of(SPACE, how.pop("metric", "euclidean")), index=index, **how)


def measured(gallery: Gallery) -> dict[str, Any]:
    (found,) = gallery.about()["index"]["measured"]
    return dict(found)


@pytest.mark.parametrize(("recall", "effort"), [(0.0, 1), (0.2, 16), (0.45, 32), (0.99, 64), (1.0, None)])
def test_the_least_effort_that_is_sure_to_find_enough(
    recall: float, effort: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = some(500)
    with opened() as store:
        write(store, range(500), vectors)
        exact = gallery_of(store, None).search(vectors[:9], k=4)
        gallery = gallery_of(store, Graded(recall=recall))
        assert (gallery.search(vectors[:9], k=4) == exact) == (effort in (64, None))
        told = measured(gallery)
        assert told["effort"] == (None if effort is None else [effort])
        assert (told["images"], told["of"], told["nearest"]) == (500, 500, 10)
        assert effort is None or told["at_least"] >= recall
        assert told["recall"] == pytest.approx((effort or 64) / 64, abs=0.06)
        is_told = "is not used: it finds 1.0000 of the nearest 10, at least 0.9926, and not" in caplog.text
        assert is_told == (effort is None)
        assert (gallery.about()["index"]["exact"] is None) == (effort is not None)
        assert (gallery.says_approximate() is None) == (effort is None)


def test_of_a_large_gallery_some_are_asked_for() -> None:
    vectors = some(1_200)
    with opened() as store:
        write(store, range(1_200), vectors)
        gallery = gallery_of(store, Graded())
        gallery.search(vectors[:1], k=4)
        told = measured(gallery)
        assert (told["images"], told["of"], told["recall"]) == (1_000, 1_200, 1.0)
        assert told["at_least"] == lower_bound(np.ones(1_000), 10)


def test_it_is_measured_once_and_for_each_target_and_depth() -> None:
    vectors = some(500)
    with opened() as store:
        write(store, range(500), vectors)
        gallery_of(store, Graded(recall=0.4)).search(vectors[:1], k=4)
        assert Graded.log[-1] == 32
        Graded.log.clear()
        gallery_of(store, Graded(recall=0.4)).search(vectors[:1], k=4)
        assert Graded.log == [32]
        Graded.log.clear()
        gallery = gallery_of(store, Graded(recall=0.7))
        gallery.search(vectors[:1], k=4)
        gallery.search(vectors[:1], k=11)
        assert Graded.log == [1, 2, 4, 8, 16, 32, 64, 64] * 2
        assert [each["nearest"] for each in gallery.about()["index"]["measured"]] == [10, 20]
        (kept,) = describe(store)["indexes"]
        assert sorted(each["nearest"] for each in kept["measured"]) == [10, 10, 20]


@pytest.mark.parametrize(("left", "efforts"), [(500, [8]), (460, [8]), (250, [16]), (240, []), (120, []), (9, [])])
def test_a_filter_has_the_effort_divided_by_what_it_leaves(left: int, efforts: list[int]) -> None:
    vectors = some(500)
    with opened() as store:
        write(store, range(500), vectors)
        gallery = gallery_of(store, Graded(recall=0.1))
        gallery.search(vectors[:1], k=1)
        Graded.log.clear()
        (found,) = gallery.search(vectors[:1], k=2, among=lambda record: int(Path(record.path).stem) < left)
        assert Graded.log == efforts
        assert all(int(Path(match.path).stem) < left for match in found)
        assert len(found) == 2


@pytest.mark.parametrize(
    ("metric", "most", "reason"),
    [
        ("manhattan", 20, "metric=manhattan has no Euclidean form"),
        ("cosine", 500, r"among 500 images all are looked at \(index.exact_up_to=500\)"),
    ],
)
def test_an_index_that_is_not_used_is_not_made_and_said(
    metric: str, most: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = some(500)
    with opened() as store:
        write(store, range(500), vectors)
        gallery = gallery_of(store, Graded(exact_up_to=most), metric=metric)
        assert gallery.search(vectors[:9], k=4) == gallery_of(store, None, metric=metric).search(vectors[:9], k=4)
        assert Graded.log == []
        assert re.fullmatch(reason, gallery.about()["index"]["exact"])
        assert re.search(f"index=graded is not used: {reason}, so the search is exact", caplog.text)


def test_it_follows_the_store_and_rows_do_not_shift() -> None:
    vectors = some(510)
    with opened() as store:
        write(store, range(400), vectors)
        gallery_of(store, Graded()).search(vectors[:1], k=4)
        for change in range(3):
            Graded.log.clear()
            store.write(Batch(forgotten=[path_of(change)]))
            vectors[50 + change] *= -1
            write(store, [50 + change, 400 + change], vectors)
            gallery, exact = gallery_of(store, Graded()), gallery_of(store, None)
            assert gallery.search(vectors[:60], k=4) == exact.search(vectors[:60], k=4)
            assert Graded.log == [f"updated by 2 and {402 + 2 * change}", 64]  # and not measured again
            assert measured(gallery)["changed"] == 4 * (change + 1)
        Graded.log.clear()
        write(store, range(403, 440), vectors)
        gallery = gallery_of(store, Graded())
        gallery.search(vectors[:1], k=4)
        assert Graded.log == ["updated by 0 and 443", 1, 2, 4, 8, 16, 32, 64, 64]  # a tenth has changed
        Graded.log.clear()
        write(store, range(440, 510), vectors)
        gallery_of(store, Graded()).search(vectors[:1], k=4)
        assert Graded.log[0] == "built"  # more than a quarter has changed since it was built


@pytest.mark.parametrize("wrong", [Brute, Spoilt])
def test_an_index_that_cannot_follow_is_built_anew(wrong: type[Brute]) -> None:
    vectors = some(500)
    with opened() as store:
        write(store, range(400), vectors)
        gallery_of(store, wrong()).search(vectors[:1], k=4)
        write(store, range(400, 410), vectors)
        exact = gallery_of(store, None).search(vectors[:9], k=4)
        assert gallery_of(store, wrong()).search(vectors[:9], k=4) == exact


def test_a_fusion_takes_the_candidates_of_all_terms_and_more_of_them() -> None:
    vectors, others = some(4_500), some(4_500, seed=2)
    other = Space("hog-0123456789ab", "hog", {}, {"extractor": "hog"})
    with opened() as store:
        write(store, range(4_500), vectors)
        write(store, range(4_500), others, other)
        metric = metric_of("euclidean")
        terms = tuple(Term(space, metric, name) for space, name in ((SPACE, "colour"), (other, "hog")))
        both = Similarity(terms)
        gallery = Gallery(store, both, index=Brute(recall=0.999))
        fields = [some[:20] for some in (vectors, others)]
        assert gallery.approximate is not None
        exactly = exact.nearest(gallery.fields, fields, 4)
        for (rows, far), (true, apart) in zip(gallery.approximate.nearest(fields, 4), exactly, strict=True):
            assert np.isin(true[:4], rows).mean() >= 0.75
            assert far[0] == apart[0] == 0
        told = measured(gallery)
        assert told["candidates"] > 88
        assert len(told["effort"]) == 2


def test_the_page_and_evaluations_use_it_and_say_so(photos: Path, tmp_path: Path) -> None:
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), _store(tmp_path))
    exact = imgrec.evaluate(_store(tmp_path), labels="folder")
    assert exact["index"] is None
    good = imgrec.evaluate(_store(tmp_path), labels="folder", index=Graded(recall=0.9))
    assert good.pop("index")["measured"][0]["effort"] == [64]
    figures = ("map", "precision_at_k", "recall_at_k", "hit_rate", "by_class")
    assert all(good[name] == exact[name] for name in figures)
    poor = imgrec.evaluate(_store(tmp_path), labels="folder", index=Graded(recall=0.1))
    assert poor["index"]["measured"][0]["effort"] is not None
    assert any(poor[name] != exact[name] for name in figures)
    with _store(tmp_path) as store:
        moment = Galleries(store, Graded(recall=0.9)).now
        gallery = moment.gallery(Which())
        assert "built" not in Graded.log[-1:]
        gallery.search([min(photos.rglob("*.jpg"))], k=3)
        assert Graded.log[-1] == 64
        cosine = moment.gallery(Which(metric="cosine"))
        assert len(cosine.search([min(photos.rglob("*.jpg"))], k=3)[0]) == 3
        assert measured(cosine)["effort"] == [64]


@pytest.mark.parametrize(
    "wrong", ["", "[]", "{", '{"NAME": 3}', '{"NAME": {"effort": [7]}}', "3 efforts", "another"]
)
def test_what_was_measured_is_measured_again_where_it_was_changed(wrong: str) -> None:
    vectors = some(500)
    with opened() as store:
        write(store, range(500), vectors)
        exact = gallery_of(store, None).search(vectors[:9], k=4)
        gallery_of(store, Graded()).search(vectors[:9], k=4)
        assert store.cache_folder is not None
        (file,) = store.cache_folder.glob("indexes/*/*/*/imgrec-recall.json")
        (name,) = kept = json.loads(file.read_text())
        others = {"3 efforts": {"effort": [64, 64, 64]}, "another": {"effort": [3]}}
        changed = {name: {**kept[name], **others[wrong]}} if wrong in others else None
        file.write_text(json.dumps(changed) if changed else wrong.replace("NAME", name))
        assert gallery_of(store, Graded()).search(vectors[:9], k=4) == exact
        assert json.loads(file.read_text()) == kept


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.floats(0.5, 1), st.floats(0.01, 1))
@example(0, 0.998, 1.0)
@example(0, 0.999, 1.0)
def test_a_lower_bound_is_below_the_truth_nearly_always(seed: int, share: float, together: float) -> None:
    """Of 400 images, whose ten neighbours are found or missed alone or together."""
    rng = np.random.default_rng(seed)
    each = rng.beta(share / together, (1 - share + 1e-9) / together, (400, 200))
    shares = rng.binomial(10, each) / 10
    bounds = [lower_bound(some, 10) for some in shares.T]
    assert np.mean(np.array(bounds) <= share) >= 0.9


def _store(tmp_path: Path) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    return store


def test_a_run_of_an_older_revision_leaves_alone_what_a_newer_one_is_building(few: Path, tmp_path: Path) -> None:
    colour = imgrec.build("extractor", "colour")
    imgrec.ingest(few, colour, _store(tmp_path))
    query = min(few.rglob("*.jpg"))
    with _store(tmp_path) as older, older.snapshot():
        early = Gallery(older, similarity.choose(older), index=Brute())
        tiles.cut(tmp_path / "more", columns=5, rows=4)
        imgrec.ingest(tmp_path / "more", colour, _store(tmp_path))
        Slow.meanwhile = lambda: early.search([query], 3)
        with imgrec.open(_store(tmp_path), index=Slow()) as gallery:
            found = gallery.search([query], k=5)
    with imgrec.open(_store(tmp_path)) as gallery:
        assert gallery.search([query], k=5) == found


def test_a_full_medium_costs_an_index_that_is_built_for_each_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), _store(tmp_path))
    query = min(photos.rglob("*.jpg"))
    with imgrec.open(_store(tmp_path)) as gallery:
        exact = gallery.search([query], k=5)
    save, index_folder = np.save, f"{tmp_path}/g.sqlite-index"

    def full(file: Any, *given: Any, **options: Any) -> None:
        if str(file if isinstance(file, Path) else file.name).startswith(index_folder):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, *given, **options)

    monkeypatch.setattr(np, "save", full)
    with imgrec.open(_store(tmp_path), index=Brute()) as gallery:
        assert gallery.search([query], k=5) == exact
    assert not list(Path(index_folder).rglob("*.npy"))


def test_queries_for_which_an_index_names_too_few_are_searched_exactly(photos: Path, tmp_path: Path) -> None:
    class Blind(Brute):
        def candidates(self, *given: Any) -> Any:
            found = super().candidates(*given)
            return [each if i % 2 else each[:1] for i, each in enumerate(found)]

    imgrec.ingest(photos, imgrec.build("extractor", "colour"), _store(tmp_path))
    queries = sorted(photos.rglob("*.jpg"))[:7]
    with imgrec.open(_store(tmp_path)) as gallery:
        exact = gallery.search(queries, k=5)
    with imgrec.open(_store(tmp_path), index=Blind()) as gallery:
        assert gallery.search(queries, k=5) == exact
