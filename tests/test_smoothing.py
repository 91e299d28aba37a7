"""Gallery vectors moved towards their own neighbours: what they become, when they are made anew, what is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from broken import Brute
from conftest import Cli, of_any_values
from imgrec import evaluation
from imgrec.errors import UsageError
from imgrec.gallery import similarity as similarities
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity, of
from imgrec.kinds import Batch, Record, Reranker, Space, Vectors, as_euclidean
from imgrec.kinds.metric import metric_of, names_with_form
from imgrec.verification import verify
from test_similarity import COLOUR_AND_HOG, picture

SPACE = Space("colour-0123456789ab", "colour", {}, {"extractor": "colour"})
METRICS = of_any_values(names_with_form())


def neighbours(count: int = 3, alpha: float = 3.0) -> Reranker:
    built: Reranker = imgrec.build("reranker", "query_expansion", neighbours=count, alpha=alpha)
    return built


def some(seed: int, count: int) -> Vectors:
    """Vectors without negative values, some of them equal and some of them zero."""
    rng = np.random.default_rng(seed)
    vectors = rng.gamma(0.7, size=(count, 6)).astype(np.float32)
    vectors[rng.random(count) < 0.2] = vectors[0]
    vectors[rng.random(count) < 0.1] = 0
    return vectors


def write(store: imgrec.Store, numbers: Any, vectors: Vectors, *, missing: bool = False) -> None:
    names = [f"{number * 7919 % 99991:064x}" for number in numbers]
    records = [
        Record(f"/{'ab'[i % 2]}/{i}.jpg", name, 1, 1, missing) for i, name in zip(numbers, names, strict=True)
    ]
    store.write(Batch(records=records, vectors={SPACE: (names, vectors)}))


@contextmanager
def opened() -> Iterator[imgrec.Store]:
    with (
        tempfile.TemporaryDirectory() as folder,
        imgrec.build("store", "sqlite", path=f"{folder}/g.sqlite").open(create=True) as store,
    ):
        yield store


def gallery_of(store: imgrec.Store, smoothing: Reranker, metric: str = "cosine", **how: Any) -> Gallery:
    (term,) = of(SPACE, metric).terms
    return Gallery(store, Similarity((replace(term, smoothing=smoothing),)), **how)


def by_hand(digests: list[str], vectors: Vectors, metric: str, count: int, alpha: float) -> Any:
    """Weighted means, in plain float64 loops."""
    forms = as_euclidean(vectors, "cosine") if metric == "cosine" else vectors
    exact, measure = forms.astype(float), metric_of(metric)
    found = []
    for i, own in enumerate(exact):
        apart = measure.distances(vectors[i].astype(float), vectors.astype(float))
        others = sorted((j for j in range(len(exact)) if j != i), key=lambda j: (apart[j], digests[j]))[:count]
        total, weights = own.copy(), 1.0
        for j in others:
            lengths = np.linalg.norm(own) * np.linalg.norm(exact[j])
            weight = (max(own @ exact[j], 0) / lengths) ** alpha if lengths else 0
            total, weights = total + weight * exact[j], weights + weight
        found.append(total / weights)
    return np.array(found)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12), st.sampled_from(METRICS), st.integers(0, 3)
)
def test_each_vector_is_the_mean_of_itself_and_its_neighbours(
    seed: int, images: int, count: int, metric: str, alpha: int
) -> None:
    vectors = some(seed, images) + np.float32(1e-3 if metric == "hellinger" else 0)
    with opened() as store:
        write(store, range(images), vectors)
        gallery = gallery_of(store, neighbours(count, alpha), metric)
        digests = [digest.decode() for digest in gallery._digests.tolist()]
        _, stored = store.vectors(SPACE)
        expected = by_hand(digests, np.asarray(stored), metric, count, alpha)
        given_here = as_euclidean(gallery.vectors, "cosine") if metric == "cosine" else gallery.vectors
        wanted = as_euclidean(expected.astype(np.float32), "cosine") if metric == "cosine" else expected
        np.testing.assert_allclose(given_here, wanted, rtol=1e-4, atol=1e-5)
        query = np.full(6, 0.5, np.float32)
        (matches,) = gallery.search([query], k=images)
        apart = metric_of(metric).distances(query.astype(float), gallery.vectors.astype(float))
        np.testing.assert_allclose([match.distance for match in matches], np.sort(apart), rtol=1e-9)


class Watched:
    """Counts the vectors that are made, as a progress bar would."""

    def __init__(self) -> None:
        self.made: list[int] = []

    @contextmanager
    def __call__(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        self.made.append(total)
        yield lambda _: None


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METRICS), st.integers(1, 6))
def test_a_gallery_that_changes_has_the_vectors_of_one_made_anew(seed: int, metric: str, count: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = some(seed, 60) + np.float32(1e-3)
    with opened() as store:
        write(store, range(30), vectors[:30])
        gallery_of(store, neighbours(count), metric)
        for step in range(3):
            new = range(30 + 10 * step, 30 + 10 * step + int(rng.integers(0, 4)))
            write(store, new, vectors[new.start : new.stop])
            gone = rng.choice(30, 2, replace=False).tolist()
            change = int(rng.integers(3))
            if change == 0:
                store.write(Batch(forgotten=[f"/{'ab'[i % 2]}/{i}.jpg" for i in gone]))
            elif change == 1:
                write(store, gone, vectors[gone], missing=True)
            else:
                write(store, gone, vectors[gone][:, ::-1])  # other vectors of the same contents
            updated = gallery_of(store, neighbours(count), metric)
            anew = gallery_of(store, neighbours(count), metric, where=lambda _: True)
            np.testing.assert_array_equal(updated.vectors[updated._usable], anew.vectors[anew._usable])


def test_only_vectors_whose_neighbours_have_changed_are_made_anew() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(20, dtype=np.float32), 10, axis=0) + rng.normal(0, 0.01, (200, 20)).astype(
        np.float32
    )
    with opened() as store:
        write(store, range(200), groups)
        for expected in ([200], []):  # then they are kept
            smoothing = neighbours()
            smoothing.progress = watched = Watched()
            gallery_of(store, smoothing)
            assert watched.made == expected
        write(store, [200], np.eye(20, dtype=np.float32)[:1])
        gallery_of(store, smoothing)
        assert 1 <= watched.made[0] <= 11  # itself, and at most its own group


def test_a_filter_smooths_its_own_files_and_keeps_nothing() -> None:
    vectors = some(3, 40)
    with opened() as store:
        write(store, range(40), vectors)
        gallery = gallery_of(store, neighbours(), where=lambda record: record.path.startswith("/a/"))
        (matches,) = gallery.search([vectors[1]], k=40)
        assert store.cache_folder is not None
        assert not list(store.cache_folder.glob("*smoothing*"))
    with opened() as store:
        write(store, range(0, 40, 2), vectors[::2])
        (alone,) = gallery_of(store, neighbours()).search([vectors[1]], k=40)
    assert [(match.path, match.distance) for match in matches] == [(match.path, match.distance) for match in alone]


def test_queries_stay_where_they_are(few: Path, tmp_path: Path) -> None:
    """A picture of the gallery is asked as any other: it has the answers of a copy, and is not at distance 0."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    with imgrec.open(store, "cosine", smoothing=neighbours()) as gallery:
        (space,) = store.spaces()
        digests, vectors = store.vectors(space)
        (record,) = store.records(paths=[str(picture(few))])
        asked = imgrec.Query.of(str(picture(few)), include_self=True)
        known, stranger = gallery.search([asked, np.asarray(vectors[digests.index(record.digest)])], k=12)
        assert known == stranger
        own = next(match for match in known if match.path == str(picture(few)))
        moved = gallery.vectors[digests.index(record.digest)].astype(float)
        apart = metric_of("cosine").distances(vectors[digests.index(record.digest)].astype(float), moved[None])
    assert own.distance == apart[0] > 0


def test_projected_queries_of_the_gallery_are_only_projected(few: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    pca = imgrec.build("reducer", "pca", n_components=4)
    with imgrec.open(store, "cosine", projection=pca) as gallery:
        (plain,) = gallery.targets([str(picture(few))])
    with imgrec.open(store, "cosine", projection=pca, smoothing=neighbours()) as gallery:
        (asked,) = gallery.targets([str(picture(few))])
        assert gallery.key.partition("+smoothing-")[0].endswith(gallery.projections[""].space.key)
    np.testing.assert_allclose(asked, plain, rtol=1e-4, atol=1e-5)


def test_an_index_is_of_the_smoothed_vectors() -> None:
    vectors = some(5, 300)
    with opened() as store:
        write(store, range(300), vectors)
        exact = gallery_of(store, neighbours()).search(vectors[:9], k=4)
        assert gallery_of(store, neighbours(), index=Brute()).search(vectors[:9], k=4) == exact
        assert gallery_of(store, neighbours(), index=None).about()["smoothing"]["neighbours"] == 3


@pytest.mark.parametrize("file", ["vectors", "of-neighbours", "of-reach", "about"])
def test_verify_finds_what_was_changed_and_mends_it(few: Path, tmp_path: Path, file: str) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    expected = imgrec.recommend(picture(few), store, smoothing=neighbours())
    (folder,) = store.cache_folder.glob("*+smoothing-*/*")
    (sound,) = [finding for finding in verify(store) if finding.check == "derived files"]
    assert (sound.looked_at, sound.wrong) == (1, [])
    if file == "about":
        (folder / "about.json").write_text("{}")
    else:
        array = np.load(folder / f"{file}.npy")
        array[4] = array[5] + 1
        np.save(folder / f"{file}.npy", array)
    (found,) = [finding for finding in verify(store, fix=True) if finding.check == "derived files"]
    assert (len(found.wrong), found.left, folder.exists()) == (1, 0, False)
    assert imgrec.recommend(picture(few), store, smoothing=neighbours()) == expected


def test_an_outgrown_projection_takes_its_smoothed_vectors_along() -> None:
    pca = imgrec.build("reducer", "pca", n_components=2)
    with opened() as store:
        for start, stop in ((0, 40), (40, 80)):
            write(store, range(start, stop), some(start, stop - start))
            (term,) = of(SPACE, "cosine", pca).terms
            Gallery(store, Similarity((replace(term, smoothing=neighbours()),)))
            assert store.cache_folder is not None
            assert len(list(store.cache_folder.glob("*+smoothing-*"))) == 1


@dataclass
class Watching(imgrec.Reranker):
    """Moves nothing, and notes by their first value which vectors are to be moved towards which."""

    seen: ClassVar[list[tuple[float, list[float]]]] = []

    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        Watching.seen.append((float(query[0]), nearest[:, 0].tolist()))
        return query


def test_an_evaluation_moves_nothing_towards_what_it_asks_for() -> None:
    vectors = np.arange(60, dtype=np.float32)[:, None] + np.zeros((1, 2), np.float32)
    with opened() as store:
        write(store, range(60), vectors)
        gallery = gallery_of(store, Watching(neighbours=3), "euclidean", where=lambda _: True)
        queries = evaluation.asked_of(gallery, [])
        held = evaluation.held_out(gallery, queries, None, 0)
        number = {record.digest: int(Path(record.path).stem) for record in store.records()}
        assert held.folds == 5
        for fold, each in enumerate(held.galleries):
            Watching.seen.clear()
            vars(each).pop("_loaded")
            _ = each.fields
            moved_to = {int(one) for _, nearest in Watching.seen for one in nearest}
            asked = {number[queries.records[i].digest] for i, own in enumerate(held.gallery_of) if own == fold}
            assert len(Watching.seen) == 60
            assert len(asked) == 12
            assert not moved_to & asked
            assert len(moved_to) > 40


def test_each_part_of_a_fusion_is_smoothed_by_itself(few: Path, tmp_path: Path, here: Cli) -> None:
    here("ingest", few, *COLOUR_AND_HOG, f"store.path={tmp_path}/f.sqlite")
    with imgrec.build("store", "sqlite", path=f"{tmp_path}/f.sqlite") as store:
        fused = Gallery(store, similarities.choose(store, smoothing=neighbours()))
        for term, field in zip(fused.similarity.terms, fused.fields, strict=True):
            digests, vectors = store.vectors(term.space)
            expected = by_hand(digests, np.asarray(vectors), term.metric.name, 3, 3.0)
            np.testing.assert_allclose(field.vectors, expected, rtol=1e-4, atol=1e-5)
        assert all("+smoothing-" in part["space"] for part in fused.about()["parts"].values())
        with pytest.raises(
            UsageError, match=r"metric=manhattan of colour has no Euclidean form: take one of cosine"
        ):
            similarities.choose(store, metric="manhattan", smoothing=neighbours())


def test_from_the_shell_it_is_told_recorded_and_replayed(here: Cli, few: Path, tmp_path: Path) -> None:
    cli = here
    cli("ingest", few, "extractor=colour")
    words = ["smoothing=neighbours", "smoothing.alpha=2", "metric=cosine"]
    found = cli("recommend", picture(few), *words, "format=json").json()
    assert found["smoothing"] == {"reranker": "query_expansion", "neighbours": 10, "alpha": 2.0}
    assert "+smoothing-" in found["space"]
    (run,) = tmp_path.glob("outputs/*/*-recommend")
    assert cli("replay", run).out == "identical\n"
    measured = cli("evaluate", few, *words, "format=json").json()
    assert (measured["folds"], measured["smoothing"]["neighbours"]) == (5, 10)
    altered = cli("evaluate", few, *words, "labels=none", "sample=8", "format=json").json()
    assert altered["folds"] is None
    refused = cli("recommend", picture(few), "smoothing=neighbours", "metric=manhattan", code=2).err
    assert "metric=manhattan has no Euclidean form" in refused
    refused = cli("recommend", picture(few), "smoothing=neighbours", "smoothing.neighbours=0", code=2).err
    assert "smoothing.neighbours is at least 1, not 0" in refused
    assert "a preset of smoothing=query_expansion" in cli("--help", "smoothing=neighbours").out
