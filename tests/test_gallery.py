from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imgrec
from conftest import of_any_values
from imgrec.errors import UsageError
from imgrec.gallery import recorded
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.query import Known, Query
from imgrec.gallery.similarity import of
from imgrec.kinds import Batch, Record, Space
from imgrec.kinds.metric import names


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[imgrec.Store, Space]]:
    """Four contents, the first of them in two files, the last one missing."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite")).open(create=True)
    space = Space.of(imgrec.build("extractor", "colour"))
    names = ["c/0.jpg", "a/1.jpg", "a/2.jpg", "b/3.jpg", "a/copy of 0.jpg"]
    records = [Record(f"/{name}", f"{i % 4:02x}", 1, 1, missing=i == 3) for i, name in enumerate(names)]
    vectors = np.array([[0.0], [1.0], [3.0], [0.5]], np.float32)
    store.write(Batch(records=records, vectors={space: (["00", "01", "02", "03"], vectors)}))
    yield store, space
    store.close()


def test_copies_take_one_rank_or_one_each_and_missing_files_none(filled: tuple[imgrec.Store, Space]) -> None:
    store, space = filled
    gallery = Gallery(store, of(space))
    (matches,) = gallery.search([np.zeros(1, np.float32)], 5)
    assert [(m.rank, m.path, m.distance, m.copies) for m in matches] == [
        (1, "/a/copy of 0.jpg", 0.0, ("/c/0.jpg",)),
        (2, "/a/1.jpg", 1.0, ()),
        (3, "/a/2.jpg", 3.0, ()),
    ]
    assert matches[0].to_json()["copies"] == ["/c/0.jpg"]
    (matches,) = gallery.search([np.zeros(1, np.float32)], 5, copies=True)
    assert [(m.rank, m.path, m.distance, m.copies) for m in matches] == [
        (1, "/a/copy of 0.jpg", 0.0, ()),
        (2, "/c/0.jpg", 0.0, ()),
        (3, "/a/1.jpg", 1.0, ()),
        (4, "/a/2.jpg", 3.0, ()),
    ]
    (matches,) = gallery.search(
        [np.zeros(1, np.float32)], 5, among=lambda record: record.path != "/a/copy of 0.jpg"
    )
    assert (matches[0].path, matches[0].copies) == ("/c/0.jpg", ())
    assert len(gallery) == 4
    assert matches[0].label == "c"


def test_the_query_itself_means_its_content(filled: tuple[imgrec.Store, Space]) -> None:
    store, space = filled
    query = Known({"": np.zeros(1, np.float32)}, "00")
    (matches,) = Gallery(store, of(space)).search([query], 1)
    assert [m.path for m in matches] == ["/a/1.jpg"]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(of_any_values(names())), st.integers(1, 9))
def test_many_queries_find_what_each_finds(seed: int, metric: str, k: int) -> None:
    """With copies, equal vectors, missing files, contents left out, and one forgotten since it was read."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 3, size=(250, 4)).astype(np.float32)  # many are equal
    digests = [f"{i:064x}" for i in range(len(vectors))]
    records = [
        Record(f"/{rng.integers(10**9):09}.jpg", digests[i % len(digests)], 1, 1, missing=bool(rng.random() < 0.1))
        for i in range(300)
    ]
    space = Space.of(imgrec.build("extractor", "colour"))
    with (
        tempfile.TemporaryDirectory() as folder,
        imgrec.build("store", "sqlite", path=f"{folder}/g.sqlite").open(create=True) as store,
    ):
        store.write(Batch(records=records, vectors={space: (digests, vectors)}))
        gallery = Gallery(store, of(space, metric))
        store.write(Batch(forgotten=[records[0].path]))
        left_out = [*digests[:40], *[None] * 30]
        queries = [Known({"": vector}, digest) for vector, digest in zip(vectors, left_out, strict=False)]
        together = gallery.search(queries, k)
        assert together == [gallery.search([query], k)[0] for query in queries]
        assert gallery.search([], k) == []
        digest_of = {record.path: record.digest for record in records}
        for matches, digest in zip(together, left_out, strict=True):
            assert len(matches) == k
            assert digest not in {match.digest for match in matches}
            assert all(match.digest == digest_of[match.path] for match in matches)
            assert records[0].path not in {match.path for match in matches}


@pytest.mark.parametrize(("k", "metric", "message"), [(0, "euclidean", "at least 1"), (1, "euklid", "one of")])
def test_what_cannot_be_asked(filled: tuple[imgrec.Store, Space], k: int, metric: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Gallery(filled[0], of(filled[1], metric)).search([np.zeros(1, np.float32)], k)


def test_spaces_are_named_by_key_beginning_or_extractor_and_listed_in_the_error(
    filled: tuple[imgrec.Store, Space],
) -> None:
    store, space = filled
    other = Space.of(imgrec.build("extractor", "colour", bins=3))
    assert recorded.default_key(store) == space.key
    store.write(Batch(vectors={other: (["00"], np.ones((1, 27), np.float32))}))
    assert recorded.default_key(store) == space.key
    with pytest.raises(UsageError, match=rf"several spaces.*{space.key}.*{other.key} \(bins=3\)"):
        recorded.named(store, "col")
    assert recorded.named(store, other.key[:-3]) == other.key
    assert recorded.space_of(store, imgrec.build("extractor", "colour", bins=3)) == (other, True)
    with pytest.raises(UsageError, match=r"has no vectors of .*bins=7"):
        recorded.space_of(store, imgrec.build("extractor", "colour", bins=7), loosely=True)
    with pytest.raises(UsageError, match="no space 'timm'"):
        recorded.named(store, "timm")


def test_an_extractor_of_another_identity_is_refused_and_what_differs_is_named() -> None:
    space = Space.of(imgrec.build("extractor", "colour"))
    with pytest.raises(UsageError, match="bins was 5 and is 6"):
        recorded.extractor_of(space, {"bins": 6})


KERNELS = {"Haswell": "avx2", "SkylakeX": "avx512f"}
"""OpenBLAS's own for a processor, and what the processor must have for it."""

SELF = """
import sys, numpy as np, imgrec
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.query import Known, Query
from imgrec.gallery.similarity import of
from imgrec.kinds import Batch, Record, Space

space = Space("colour-0123456789ab", "colour", {}, {})
vectors = np.random.default_rng(0).random((400, 1764), dtype=np.float32)
names = [f"{i:064x}" for i in range(len(vectors))]
with imgrec.build("store", "sqlite", path=sys.argv[1]).open(create=True) as store:
    store.write(Batch([Record(f"/{name}.jpg", name, 1, 1) for name in names], vectors={space: (names, vectors)}))
    for projection in (None, imgrec.build("reducer", "pca", n_components=64, whiten=True)):
        for metric in ("euclidean", "cosine", "manhattan", *([] if projection else ["hellinger", "chi2"])):
            gallery = Gallery(store, of(space, metric, projection))
            for row in range(0, 400, 7):
                query = Query.of(Known({"": vectors[row]}, names[row]), include_self=True)
                ((match,),) = gallery.search([query], 1)
                assert (match.path, match.distance) == (f"/{names[row]}.jpg", 0), (metric, projection, match)
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_contents_are_at_distance_zero_whatever_blas_computes_with(kernel: str, tmp_path: Path) -> None:
    processor = Path("/proc/cpuinfo")
    if not processor.exists() or KERNELS[kernel] not in processor.read_text().split():
        pytest.skip(f"this processor has no {KERNELS[kernel]}")
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernel}
    subprocess.run([sys.executable, "-c", SELF, str(tmp_path / "g.sqlite")], check=True, env=environment)


# --- queries, and who is asked -------------------------------------------------------------------------------


@pytest.fixture
def pictured(few: Path, tmp_path: Path) -> imgrec.Store:
    """Twelve tiles, by colour."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    return store  # type: ignore[no-any-return]


def test_a_gallery_from_python(pictured: imgrec.Store, few: Path) -> None:
    query = min(few.rglob("*.jpg"))
    recommended = imgrec.recommend(query, pictured, metric="cosine")
    with imgrec.open(pictured, metric="cosine") as gallery:
        assert gallery.search([query]) == [recommended]
        (again,) = gallery.search([imgrec.Query.of(query, include_self=True)], k=1)
        assert (again[0].path, again[0].distance) == (str(query), 0)
    nothing: Any
    for nothing in ([], [[]], 5):
        with pytest.raises(UsageError, match="query"):
            imgrec.Query.of(nothing)
    with pytest.raises(UsageError, match="combine is one of mean, nearest"):
        imgrec.Query.of(query, combine="least")


def test_what_is_no_query_is_told(pictured: imgrec.Store, few: Path) -> None:
    query, vector = str(min(few.rglob("*.jpg"))), np.ones(125, np.float32)
    wrong: list[tuple[Any, str]] = [
        (query, "queries are several, and this is one"),
        (vector, "queries are several, and this is one"),
        (imgrec.Query.of(query), "queries are several, and this is one"),
        (5, "queries are a list, and this is int"),
        ([vector, vector[:5]], "different numbers of values"),
        ([imgrec.Query.of(query, vector[:5])], "have other lengths"),
        ([vector[:5]], "the query has"),
        ([vector * np.nan], "not finite"),
        ([vector * np.inf], "not finite"),
        ([[imgrec.Query.of(query)]], "this one is of another query"),
        ([query + "x"], "does not exist"),
    ]
    for metric, projection in ((None, None), ("cosine", imgrec.build("reducer", "pca", n_components=3))):
        with imgrec.open(pictured, metric, projection=projection) as gallery:
            for queries, told in wrong:
                expected = told if projection is None else f"{told}|cannot project"
                for ask in (gallery.search, lambda q: gallery.within(q, 1), lambda q: list(gallery.rankings(q))):
                    with pytest.raises(UsageError, match=expected):
                        ask(queries)
            assert len(gallery.search(np.stack([vector, vector]))) == 2
    with pytest.raises(UsageError, match="metric is one of"), imgrec.open(pictured, "cosin"):
        pass
    with pytest.raises(UsageError, match="metric is one of"):
        imgrec.Fusion({"hog": 1}, {"hog": imgrec.build("extractor", "hog")}, metrics={"hog": "cosin"})
    with pytest.raises(UsageError, match="combine is one of"):
        imgrec.Query(("a",), combine="any")


def test_a_filter_before_the_search_only_narrows(pictured: imgrec.Store, few: Path) -> None:
    """The same distances, of those that may be found, and as many as are asked for."""
    query = min(few.rglob("china*.jpg"))
    both = imgrec.Fusion({"colour": 1}, {"colour": imgrec.build("extractor", "colour")})
    with imgrec.open(pictured, extractor=both) as gallery:
        (every,) = gallery.search([query], k=12)
        (flowers,) = gallery.search([query], k=3, among=lambda record: "/flower/" in record.path)
        wanted = [match for match in every if match.label == "flower"][:3]
        assert [(m.path, m.distance) for m in flowers] == [(m.path, m.distance) for m in wanted]
        assert gallery.search([query], k=3, among=lambda _: False) == [[]]
        (near,) = gallery.within([query], every[4].distance, among=lambda record: "/flower/" in record.path)
        assert [m.path for m in near] == [m.path for m in every[:5] if m.label == "flower"]


def test_a_gallery_of_some_files_is_fitted_on_these(pictured: imgrec.Store, few: Path) -> None:
    colour = imgrec.build("extractor", "colour")
    both = imgrec.Fusion({"colour": 1}, {"colour": colour})
    flowers = imgrec.build("store", "sqlite", path=str(few.parent / "flowers.sqlite"))
    imgrec.ingest(few / "flower", colour, flowers)
    query = min(few.rglob("china*.jpg"))
    answers = []
    for store, where in ((pictured, lambda record: "/flower/" in record.path), (flowers, None)):
        pca = imgrec.build("reducer", "pca", n_components=3)
        with imgrec.open(store, where=where, projection=pca, extractor=colour) as gallery:
            answers.append([(m.path, round(m.distance, 5)) for m in gallery.search([query], k=6)[0]])
            assert gallery.about()["projection"]["images"] == 6
        with imgrec.open(store, where=where, extractor=both) as gallery:
            answers.append([(m.path, round(m.distance, 9)) for m in gallery.search([query], k=6)[0]])
    assert answers[:2] == answers[2:]


def test_a_query_of_several_pictures(pictured: imgrec.Store, few: Path) -> None:
    """The mean of vectors, or the least distance from any: and none of the query's own pictures."""
    queries = sorted(few.rglob("*.jpg"))[:2]
    with imgrec.open(pictured) as gallery:
        held = {record.path: record.digest for record in gallery.records}
        digests, vectors = gallery._store.vectors(gallery.spaces[0])
        vector_of = dict(zip(digests, vectors.astype(np.float64), strict=True))
        asked = [vector_of[held[str(query)]] for query in queries]
        mean = np.mean(np.array(asked, np.float32), axis=0, dtype=np.float64).astype(np.float32)
        wanted: dict[str, Callable[[Any], Any]] = {
            "mean": lambda vector: np.linalg.norm(vector - mean),
            "nearest": lambda vector: min(np.linalg.norm(vector - each) for each in asked),
        }
        for combine, distance in wanted.items():
            (matches,) = gallery.search([imgrec.Query.of(*queries, combine=combine)], k=12)
            assert {match.path for match in matches} == held.keys() - set(map(str, queries))
            for match in matches:
                assert match.distance == pytest.approx(distance(vector_of[held[match.path]]), rel=1e-12)
            assert [m.distance for m in matches] == sorted(m.distance for m in matches)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from(of_any_values(names())))
def test_files_are_found_and_ranked_as_by_a_plain_loop(seed: int, metric: str) -> None:
    """Ties in the order of paths, copies each, a mask, several variants: the nearest, within, and rankings."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 3, size=(160, 4)).astype(np.float32)
    digests = [f"{i:064x}" for i in range(len(vectors))]
    records = [Record(f"/{'ab'[i % 2]}/{rng.integers(10**9):09}.jpg", digests[i % 160], 1, 1) for i in range(200)]
    space = Space.of(imgrec.build("extractor", "colour"))
    measure = imgrec.build("metric", metric)
    with (
        tempfile.TemporaryDirectory() as folder,
        imgrec.build("store", "sqlite", path=f"{folder}/g.sqlite").open(create=True) as store,
    ):
        store.write(Batch(records=records, vectors={space: (digests, vectors)}))
        gallery = Gallery(store, of(space, metric))
        asked = vectors[rng.integers(160, size=2)].astype(np.float64)
        by_digest = {
            digest: min(measure.distances(each, row[None])[0] for each in asked)
            for digest, row in zip(digests, vectors.astype(np.float64), strict=True)
        }
        query = Query.of(*asked.astype(np.float32), combine="nearest")
        every = sorted((by_digest[record.digest], record.path) for record in records)
        some = [each for each in every if each[1].startswith("/a")]

        def only_a(record: Record) -> bool:
            return record.path.startswith("/a")

        (matches,) = gallery.search([query], 17, among=only_a, copies=True)
        assert [(match.distance, match.path) for match in matches] == some[:17]
        (matches,) = gallery.search([query], 17, among=only_a)
        contents: dict[str, list[tuple[float, str]]] = {}
        digest_of = {record.path: record.digest for record in records}
        for each in some:
            contents.setdefault(digest_of[each[1]], []).append(each)
        wanted = [(*first, tuple(path for _, path in others)) for first, *others in contents.values()][:17]
        assert [(match.distance, match.path, match.copies) for match in matches] == wanted
        radius = every[40][0]
        (near,) = gallery.within([query], radius)
        assert [(match.distance, match.path) for match in near] == [each for each in every if each[0] <= radius]
        (numbers,) = gallery.rankings([query])
        assert [gallery.records[number].path for number in numbers] == [path for _, path in every]
