from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

import imgrec
from imgrec import gallery
from imgrec.contracts import Batch, Record, Space, Vectors
from imgrec.errors import UsageError
from imgrec.gallery import Gallery

SCIPY = {"euclidean": "euclidean", "cosine": "cosine", "manhattan": "cityblock"}


def expected(metric: str, query: Vectors, vectors: Vectors) -> Vectors:
    points, target = vectors.astype(np.float64), query[None].astype(np.float64)
    if metric == "hellinger":
        points, target = (np.sqrt(v / v.sum(axis=1, keepdims=True)) / np.sqrt(2) for v in (points, target))
        metric = "euclidean"
    return cdist(target, points, SCIPY.get(metric, metric))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("metric", gallery.METRICS)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_neighbours_and_distances_are_those_of_cdist(metric: str, offset: float) -> None:
    """Also far from the origin, where the expanded square of float32 has no digit left."""
    rng = np.random.default_rng(0)
    vectors = (rng.random((2000, 64)) + offset).astype(np.float32)
    for query in (vectors[17], (rng.random(64) + offset).astype(np.float32)):
        rows, distances = gallery.nearest(vectors, query, 10, metric)
        reference = expected(metric, query, vectors)
        order = np.argsort(reference, kind="stable")[:10]
        assert rows[:10].tolist() == order.tolist()
        np.testing.assert_allclose(distances[:10], reference[order], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("metric", gallery.METRICS)
def test_an_image_is_at_distance_zero_from_itself(metric: str) -> None:
    vectors = np.random.default_rng(1).random((50, 300)).astype(np.float32)
    rows, distances = gallery.nearest(vectors, vectors[7], 1, metric)
    assert (rows[0], distances[0]) == (7, 0.0)


@pytest.mark.parametrize("metric", gallery.METRICS)
@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-20, 1e18, 1e30])
def test_values_whose_squares_under_or_overflow(metric: str, scale: float) -> None:
    rng = np.random.default_rng(2)
    vectors = (rng.random((300, 12)) * scale).astype(np.float32)
    vectors[:100] = (rng.random((100, 12)) * 1e-3).astype(np.float32)
    vectors[150] = 0
    query = vectors[200]
    if metric in ("cosine", "hellinger"):
        vectors[150] = vectors[151]
    rows, distances = gallery.nearest(vectors, query, 7, metric)
    reference = expected(metric, query, vectors)
    np.testing.assert_allclose(distances[:7], np.sort(reference)[:7], rtol=1e-5, atol=1e-9 * min(1, scale))
    assert 200 in rows


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 9)), elements=st.floats(0, 1e3, width=32)),
    st.integers(1, 45),
    st.sampled_from(["euclidean", "manhattan"]),
)
def test_nothing_nearer_is_left_out(vectors: Vectors, k: int, metric: str) -> None:
    rows, distances = gallery.nearest(vectors, vectors[0], k, metric)
    reference = np.sort(expected(metric, vectors[0], vectors))[:k]
    assert len(set(rows.tolist())) == len(rows) >= min(k, len(vectors))
    np.testing.assert_allclose(distances[:k], reference, rtol=1e-5, atol=1e-6)


def test_zero_vectors_have_cosine_distance_one_and_not_nan() -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    rows, distances = gallery.nearest(vectors, np.array([1, 0], np.float32), 3, "cosine")
    assert rows.tolist() == [1, 0, 2]
    assert distances.tolist() == [0, 1, 1]


def test_hellinger_of_negative_values_is_refused() -> None:
    with pytest.raises(UsageError, match="hellinger"):
        gallery.nearest(np.array([[-1, 2], [1, 2]], np.float32), np.ones(2, np.float32), 1, "hellinger")


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


def test_copies_are_found_each_and_missing_files_are_not(filled: tuple[imgrec.Store, Space]) -> None:
    pool = Gallery(*filled)
    matches = pool.neighbours(np.zeros(1, np.float32), 5)
    assert [(m.rank, m.path, m.distance) for m in matches] == [
        (1, "/a/copy of 0.jpg", 0.0),
        (2, "/c/0.jpg", 0.0),
        (3, "/a/1.jpg", 1.0),
        (4, "/a/2.jpg", 3.0),
    ]
    assert len(pool) == 4
    assert matches[0].label == "a"


def test_the_query_itself_means_its_content(filled: tuple[imgrec.Store, Space]) -> None:
    matches = Gallery(*filled).neighbours(np.zeros(1, np.float32), 1, leave_out="00")
    assert [m.path for m in matches] == ["/a/1.jpg"]


@pytest.mark.parametrize(("k", "metric", "message"), [(0, "euclidean", "at least 1"), (1, "euklid", "one of")])
def test_what_cannot_be_asked(filled: tuple[imgrec.Store, Space], k: int, metric: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Gallery(*filled).neighbours(np.zeros(1, np.float32), k, metric)


def test_spaces_are_chosen_by_key_beginning_extractor_or_named_in_the_error(
    filled: tuple[imgrec.Store, Space],
) -> None:
    store, space = filled
    other = Space.of(imgrec.build("extractor", "colour", bins=3))
    assert gallery.choose_space(store) == space
    store.write(Batch(vectors={other: (["00"], np.ones((1, 27), np.float32))}))
    with pytest.raises(UsageError, match=rf"several spaces.*{space.key}.*{other.key} \(bins=3\)"):
        gallery.choose_space(store)
    assert gallery.choose_space(store, other.key[:-3]) == other
    assert gallery.choose_space(store, extractor=imgrec.build("extractor", "colour", bins=3)) == other
    with pytest.raises(UsageError, match=r"has no vectors of .*bins=7"):
        gallery.choose_space(store, extractor=imgrec.build("extractor", "colour", bins=7))
    with pytest.raises(UsageError, match="no space 'timm'"):
        gallery.choose_space(store, "timm")


def test_an_extractor_of_another_identity_is_refused_and_what_differs_is_named() -> None:
    space = Space.of(imgrec.build("extractor", "colour"))
    with pytest.raises(UsageError, match="bins was 5 and is 6"):
        gallery.extractor_of(space, {"bins": 6})
