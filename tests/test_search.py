from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from imgrec.errors import UsageError
from imgrec.kinds import Doubles, Vectors
from imgrec.kinds.metric import metric_of, names
from imgrec.search import bounds, exact
from imgrec.search.bounds import FLOAT
from imgrec.search.exact import Found, VectorField
from imgrec.search.pruning import Floats, PruningIndex, Rows, pruning_index

SCIPY = {"euclidean": "euclidean", "cosine": "cosine", "manhattan": "cityblock"}
METRICS = [name for name in names() if name != "hamming"]
"""Those of any vectors from 0 on; hamming is of bits alone."""


def expected(metric: str, query: Vectors, vectors: Vectors) -> Doubles:
    points, target = vectors.astype(np.float64), query[None].astype(np.float64)
    if metric == "chi2":
        sums = np.where(points + target > 0, points + target, 1)
        return ((points - target) ** 2 / sums).sum(axis=1) / 2  # type: ignore[no-any-return]
    if metric == "hellinger":
        points, target = (np.sqrt(v / v.sum(axis=1, keepdims=True)) / np.sqrt(2) for v in (points, target))
        metric = "euclidean"
    return cdist(target, points, SCIPY.get(metric, metric))[0]  # type: ignore[no-any-return]


def nearest(
    vectors: Vectors,
    query: Vectors,
    k: int,
    metric: str,
    usable: npt.NDArray[np.bool_] | None = None,
    known: PruningIndex | None = None,
) -> Found:
    field = VectorField(vectors, metric_of(metric), known=known)
    (found,) = exact.nearest([field], [query[None]], k, usable)
    return found


def plain(fields: Sequence[VectorField], query: Sequence[Vectors]) -> Doubles:
    """The distances of all images, one by one."""
    found = []
    for image in range(len(fields[0])):
        total = 0.0
        for field, vector in zip(fields, query, strict=True):
            row = field.of(np.array([image])).astype(np.float64)
            total += field.weight * field.metric.distances(vector.astype(np.float64), row)[0]
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_neighbours_and_distances_are_those_of_cdist(metric: str, offset: float) -> None:
    """Also far from the origin, where the expanded square of float32 has no digit left."""
    rng = np.random.default_rng(0)
    vectors = (rng.random((2000, 64)) + offset).astype(np.float32)
    for query in (vectors[17], (rng.random(64) + offset).astype(np.float32)):
        rows, distances = nearest(vectors, query, 10, metric)
        reference = expected(metric, query, vectors)
        order = np.argsort(reference, kind="stable")[:10]
        assert rows[:10].tolist() == order.tolist()
        np.testing.assert_allclose(distances[:10], reference[order], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_an_image_is_at_distance_zero_from_itself(metric: str) -> None:
    vectors = np.random.default_rng(1).random((50, 300)).astype(np.float32)
    rows, distances = nearest(vectors, vectors[7], 1, metric)
    assert (rows[0], distances[0]) == (7, 0.0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-20, 1e18, 1e30])
def test_values_whose_squares_under_or_overflow(metric: str, scale: float) -> None:
    rng = np.random.default_rng(2)
    vectors = (rng.random((300, 12)) * scale).astype(np.float32)
    vectors[:100] = (rng.random((100, 12)) * 1e-3).astype(np.float32)
    vectors[150] = 0
    query = vectors[200]
    if metric in ("cosine", "hellinger"):
        vectors[150] = vectors[151]
    rows, distances = nearest(vectors, query, 7, metric)
    reference = expected(metric, query, vectors)
    np.testing.assert_allclose(distances[:7], np.sort(reference)[:7], rtol=1e-5, atol=1e-9 * min(1, scale))
    assert 200 in rows


@settings(max_examples=150)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 9)), elements=st.floats(0, 1e3, width=32)),
    st.integers(1, 45),
    st.sampled_from(["euclidean", "manhattan"]),
)
def test_nothing_nearer_is_left_out(vectors: Vectors, k: int, metric: str) -> None:
    rows, distances = nearest(vectors, vectors[0], k, metric)
    reference = np.sort(expected(metric, vectors[0], vectors))[:k]
    assert len(set(rows.tolist())) == len(rows) >= min(k, len(vectors))
    np.testing.assert_allclose(distances[:k], reference, rtol=1e-5, atol=1e-6)


def test_zero_vectors_have_cosine_distance_one_from_others_and_zero_from_each_other() -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    rows, distances = nearest(vectors, np.array([1, 0], np.float32), 3, "cosine")
    assert rows.tolist() == [1, 0, 2]
    assert distances.tolist() == [0, 1, 1]
    _, distances = nearest(vectors, np.zeros(2, np.float32), 3, "cosine")
    assert distances.tolist() == [0, 1, 1]


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(0, 200), st.booleans())
def test_cosine_distances_are_those_of_the_definition(seed: int, k: int, zeros: int, is_zero: bool) -> None:
    """With zero vectors, at 0 from each other and at 1 from all others, in float64."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(400, 6)).astype(np.float32)
    vectors[rng.integers(400, size=zeros)] = 0
    query = np.zeros(6, np.float32) if is_zero else rng.normal(size=6).astype(np.float32)
    true = []
    for row in vectors.astype(np.float64).tolist():
        dot = sum(a * b for a, b in zip(row, query.tolist(), strict=True))
        lengths = math.hypot(*row) * math.hypot(*query.tolist())
        true.append(1 - dot / lengths if lengths else float(any(row) != any(query)))
    for known in (None, pruning_index(vectors, (2, 4), sample=100)):
        rows, distances = nearest(vectors, query, k, "cosine", known=known)
        np.testing.assert_allclose(distances, np.array(true)[rows], atol=1e-12)
        np.testing.assert_allclose(distances[:k], sorted(true)[:k], atol=1e-12)
        field = VectorField(vectors, metric_of("cosine"), known=known)
        ((rows, _),) = exact.within([field], [query[None]], 1.0)
        assert set(rows.tolist()) >= {i for i, distance in enumerate(true) if distance < 1 - 1e-12}
        assert set(rows.tolist()) <= {i for i, distance in enumerate(true) if distance < 1 + 1e-12}


def test_hellinger_of_negative_values_is_refused() -> None:
    with pytest.raises(UsageError, match="hellinger"):
        nearest(np.array([[-1, 2], [1, 2]], np.float32), np.ones(2, np.float32), 1, "hellinger")


@settings(max_examples=200)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["euclidean", "cosine"]), st.integers(1, 7),
    st.lists(st.integers(1, 23), max_size=3),
    st.sampled_from([1e-30, 1e-20, 1e-12, 1.0, 1e6, 1e17, 1e19, 1e30]), st.sampled_from([0.0, 3.0, 300.0]),
)  # fmt: skip
def test_a_compressed_scan_finds_the_same(
    seed: int, metric: str, k: int, sizes: list[int], scale: float, offset: float
) -> None:
    """Whatever the axes: of few, of many, of vectors far from the origin, with doubles and zeros among them."""
    rng = np.random.default_rng(seed)
    spectrum = rng.uniform(0.01, 1, 24) ** 3
    vectors = ((rng.normal(size=(600, 24)) * spectrum + offset) * scale).astype(np.float32)
    vectors[rng.integers(600, size=40)] = vectors[rng.integers(600, size=40)]
    vectors[rng.integers(600, size=3)] = 0
    query = vectors[5] if rng.random() < 0.3 else (vectors[7] * 1.01 + scale * 0.01).astype(np.float32)
    usable = rng.random(600) < 0.9
    compressed = pruning_index(vectors, sizes, sample=100)
    assert len(compressed.levels) == len(sizes) or scale > 1e15
    rows, distances = nearest(vectors, query, k, metric, usable)
    again, same = nearest(vectors, query, k, metric, usable, known=compressed)
    limit = distances[k - 1]
    assert np.array_equal(distances[:k], same[:k])
    assert set(rows[distances <= limit]) == set(again[same <= limit])


def test_a_compressed_scan_measures_few_rows_of_vectors_like_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(128, 128)) * (np.arange(1, 129) ** -0.8)
    vectors = np.maximum(rng.normal(size=(20_000, 128)) @ basis, 0).astype(np.float32)
    compressed = pruning_index(vectors, (8, 32))
    measured: list[int] = []
    original = exact.measured

    def counting(fields: Sequence[VectorField], query: Sequence[Vectors], rows: Rows) -> tuple[Rows, Doubles]:
        measured.append(len(rows))
        return original(fields, query, rows)

    monkeypatch.setattr(exact, "measured", counting)
    for i in range(20):
        nearest(vectors, vectors[i], 5, "euclidean", known=compressed)
    assert max(measured) < 2_000


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METRICS), st.integers(1, 5), st.integers(0, 130))
def test_many_queries_find_what_each_finds(seed: int, metric: str, k: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.random((300, 12)).astype(np.float32)
    vectors[rng.integers(300, size=20)] = vectors[rng.integers(300, size=20)]
    queries = np.concatenate([vectors[:3], rng.random((count, 12)).astype(np.float32)])
    usable = rng.random(300) < 0.9
    together = exact.nearest([VectorField(vectors, metric_of(metric))], [queries], k, usable)
    assert len(together) == len(queries)
    for query, (rows, distances) in zip(queries, together, strict=True):
        alone, expected = nearest(vectors, query, k, metric, usable)
        assert np.array_equal(distances[:k], expected[:k])
        limit = expected[k - 1]
        assert set(rows[distances <= limit]) == set(alone[expected <= limit])


@settings(max_examples=300)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["euclidean", "cosine", "manhattan"]),
    st.lists(st.integers(1, 23), max_size=2), st.booleans(),
    st.sampled_from([1e-40, 1e-30, 1e-20, 1e-12, 1.0, 1e6, 1e17, 1e19, 1e30]), st.sampled_from([0.0, 3.0, 300.0]),
)  # fmt: skip
def test_no_bound_of_any_scan_is_above_the_distance(
    seed: int, metric: str, sizes: list[int], are_some: bool, scale: float, offset: float
) -> None:
    """Whatever float32 makes of it: of one query and of several at once, for all rows and for some."""
    rng = np.random.default_rng(seed)
    spectrum = rng.uniform(0.01, 1, 24) ** 3
    vectors = ((rng.normal(size=(200, 24)) * spectrum + offset) * scale).astype(np.float32)
    vectors[rng.integers(200, size=3)] = 0
    queries = np.concatenate([vectors[:2], vectors[2:4] * np.float32(1.01), vectors[4:5] * np.float32(1e-3)])
    rows = np.sort(rng.choice(200, rng.integers(1, 200), replace=False)) if are_some else None
    among = np.arange(200) if rows is None else rows
    for scan in bounds.scans(vectors, metric_of(metric), pruning_index(vectors, sizes, sample=100)):
        together = list(scan.bounds(queries, rows))
        for query, several in zip(queries, together, strict=True):
            (alone,) = scan.bounds(query[None], rows)
            found, distances = exact.measured([VectorField(vectors, metric_of(metric))], [query], among)
            true = np.full(200, np.nan)
            true[found] = {"euclidean": distances**2, "cosine": 2 * distances}.get(metric, distances)
            limit = np.nextafter(np.minimum(true[among], FLOAT.max).astype(np.float32), FLOAT.max)
            assert (several <= limit).all()
            assert (alone <= limit).all()


def test_the_last_scan_finds_what_the_levels_leave_in_question() -> None:
    """Of vectors without principal axes every level leaves nearly all rows to the next one."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5_000, 64)).astype(np.float32)
    compressed = pruning_index(vectors, (2, 4))
    for metric in ("euclidean", "cosine"):
        rows, distances = nearest(vectors, vectors[9] + 0.01, 5, metric, known=compressed)
        reference = expected(metric, vectors[9] + 0.01, vectors)
        assert rows[:5].tolist() == np.argsort(reference)[:5].tolist()
        np.testing.assert_allclose(distances[:5], np.sort(reference)[:5], rtol=1e-5)


def several_fields(rng: np.random.Generator, count: int, metrics: list[str]) -> list[VectorField]:
    """Fields of other lengths, weights and orders of rows, some of them compressed."""
    fields = []
    for metric in metrics:
        dim = int(rng.integers(2, 40))
        vectors = np.abs(rng.normal(size=(count, dim)) * rng.uniform(0.01, 1, dim) ** 3).astype(np.float32)
        vectors[rng.integers(count, size=3)] = vectors[0]
        vectors[rng.integers(count, size=3)] = 0
        fields.append(
            VectorField(
                vectors,
                metric_of(metric),
                weight=float(10 ** rng.uniform(-3, 3)),
                rows=rng.permutation(count) if rng.random() < 0.5 else None,
                known=pruning_index(vectors, (2, 8), sample=100) if rng.random() < 0.5 else None,
            )
        )
    return fields


@settings(max_examples=120)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(METRICS), min_size=1, max_size=3),
    st.integers(1, 9),
    st.booleans(),
)
def test_all_that_is_asked_is_answered_as_by_a_plain_loop(
    seed: int, metrics: list[str], k: int, are_all_usable: bool
) -> None:
    """The nearest with all ties, all within a distance, and whole rankings: of one to three fields."""
    rng = np.random.default_rng(seed)
    fields = several_fields(rng, 900, metrics)
    queries = [field.of(np.array([5, 6])) * np.float32(rng.choice([1, 1.01])) for field in fields]
    for query in queries:
        query[1] *= rng.random() < 0.7  # else a zero vector
    usable = np.ones(900, np.bool_) if are_all_usable else rng.random(900) < 0.6
    reference = np.array([plain(fields, query) for query in zip(*queries, strict=True)])
    reference[:, ~usable] = np.inf
    for (rows, distances), true in zip(exact.nearest(fields, queries, k, usable), reference, strict=True):
        assert distances.tolist() == true[rows].tolist()
        assert distances[:k].tolist() == np.sort(true)[:k].tolist()
        assert set(rows.tolist()) >= set(np.flatnonzero(true <= distances[k - 1]).tolist())
    radius = float(np.quantile(reference[0][usable], rng.choice([0, 0.02, 0.5])))
    for (rows, distances), true in zip(exact.within(fields, queries, radius, usable), reference, strict=True):
        assert sorted(rows.tolist()) == np.flatnonzero(true <= radius).tolist()
        assert distances.tolist() == np.sort(true[true <= radius]).tolist()
    for (rows, _), true in zip(exact.rankings(fields, queries, usable), reference, strict=True):
        assert sorted(rows.tolist()) == np.flatnonzero(usable).tolist()
        assert true[rows].tolist() == np.sort(true[usable]).tolist()


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["euclidean", "cosine", "manhattan"]),
    st.sampled_from([1e-40, 1e-20, 1e-12, 1.0, 1e6, 1e17]), st.sampled_from([0.0, 3.0, 3000.0]),
)  # fmt: skip
def test_rankings_of_values_of_any_size(seed: int, metric: str, scale: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = ((rng.normal(size=(150, 24)) + offset) * scale).astype(np.float32)
    vectors[rng.integers(150, size=20)] = vectors[rng.integers(150, size=20)]
    vectors[rng.integers(150, size=3)] = 0
    fields = [VectorField(vectors, metric_of(metric))]
    queries = [np.concatenate([vectors[:3], vectors[3:4] * 0])]
    for (rows, _), query in zip(exact.rankings(fields, queries), queries[0], strict=True):
        true = plain(fields, [query])
        assert true[rows].tolist() == np.sort(true).tolist()


def test_rankings_measure_few_images_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    original = exact._distances

    def counting(fields: Sequence[VectorField], query: Sequence[Vectors], rows: Rows) -> Doubles:
        measured.append(len(rows))
        return original(fields, query, rows)

    monkeypatch.setattr(exact, "_distances", counting)
    vectors = np.random.default_rng(0).random((2_000, 64), dtype=np.float32)
    for name in ("euclidean", "cosine", "hellinger"):
        exact.rankings([VectorField(vectors, metric_of(name))], [vectors[:10]])
    assert sum(measured) < 10_000  # of 60,000


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(METRICS), min_size=2, max_size=3))
def test_no_bound_of_several_fields_is_above_the_distance(seed: int, metrics: list[str]) -> None:
    rng = np.random.default_rng(seed)
    fields = several_fields(rng, 200, metrics)
    query = [field.of(np.array([5]))[0] * np.float32(1.01) for field in fields]
    rows, distances = exact.measured(fields, query, np.arange(200))
    for step in exact._steps(fields):
        (lower,) = step.bounds([vector[None] for vector in query])
        assert all(lower[row] <= step.limit(distance) for row, distance in zip(rows, distances, strict=True))
        (some,) = step.bounds([vector[None] for vector in query], rows[:50])
        assert all(low <= step.limit(distance) for low, distance in zip(some, distances, strict=False))


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([*METRICS, "hamming"]), min_size=1, max_size=3),
    st.integers(1, 60),
    st.integers(1, 80),
)
def test_pairs_are_those_of_a_plain_loop(seed: int, metrics: list[str], count: int, at_once: int) -> None:
    """Also at just the distance, near zero, among copies but for rounding, and of some of the images."""
    rng = np.random.default_rng(seed)
    fields = several_fields(rng, count, metrics)
    for i, field in enumerate(fields):
        vectors = field.vectors.copy()
        chosen = rng.integers(len(vectors), size=len(vectors) // 2)
        vectors[: len(chosen)] = vectors[chosen] * np.float32(1 + rng.choice([0, 1e-7, 1e-5]))
        if field.metric.name == "hamming":
            vectors = (vectors > 0.3).astype(np.float32)
        known = pruning_index(vectors, (1, 3)) if rng.random() < 0.7 else None
        fields[i] = replace(field, vectors=vectors, known=known)
    usable = rng.random(len(fields[0])) < rng.choice([0.5, 1])
    images = np.arange(len(usable))
    every = sum(
        (
            field.weight * np.array([field.metric.distances(each, points) for each in points])
            for field in fields
            for points in [field.of(images).astype(np.float64)]
        ),
        np.zeros((len(images), len(images))),
    )
    first, second = np.triu_indices(len(usable), 1)
    is_used = usable[first] & usable[second]
    first, second = first[is_used], second[is_used]
    apart = every[first, second]
    limits = [0.0, *(rng.choice(apart, 1).tolist() if len(apart) else []), float(apart.max(initial=0))]
    for distance in [*limits, 1e-9]:
        near = apart <= distance
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(exact, "AT_ONCE", at_once)
            patched.setattr(exact, "FIRST_LOOK", 3)
            found = list(exact.pairs(fields, distance, usable))
        assert [image for image, *_ in found] == np.flatnonzero(usable).tolist()
        pairs = [(i, *pair) for i, rows, far in found for pair in zip(rows.tolist(), far.tolist(), strict=True)]
        true = zip(first[near].tolist(), second[near].tolist(), apart[near].tolist(), strict=True)
        assert sorted(pairs) == sorted(true)


@given(
    hnp.arrays(np.float32, st.integers(2, 300), elements=st.sampled_from([-np.inf, 0, 1, 2.5, 3, 7, np.inf])),
    st.integers(1, 20),
    st.sampled_from([1, 3, 64]),
)
def test_small_values_are_found_by_groups(values: Floats, count: int, group: int) -> None:
    count = min(count, len(values) - 1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exact, "GROUP", group)
        least = exact._least(values)
        found = exact._smallest(values, least, count)
        assert len({*found.tolist()}) == count
        assert sorted(values[found]) == sorted(values)[:count]
        for limit in np.unique(values):
            assert exact._at_most(values, least, limit).tolist() == np.flatnonzero(values <= limit).tolist()
