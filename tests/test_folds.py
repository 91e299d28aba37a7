"""Whatever learns from labels does so without those of the images that are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import imgrec
from imgrec import evaluation
from imgrec.errors import UsageError
from imgrec.evaluation.folds import FOLDS, HeldOut, folds
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity, of
from imgrec.kinds import Batch, Record, Space, Vectors

SPACE = Space("colour-0123456789ab", "colour", {}, {"extractor": "colour"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[imgrec.Store]:
    with imgrec.build("store", "sqlite", path=str(tmp_path / "store")).open(create=True) as store:
        yield store


@given(st.dictionaries(st.text("0123456789abcdef", min_size=1), st.sampled_from("abc")), st.integers(0, 9))
def test_folds_are_of_one_size_and_have_equal_shares_of_each_label(label_of: dict[str, str], seed: int) -> None:
    found = folds(label_of, seed)
    assert found.keys() == label_of.keys()
    for label in ("abc", *"abc"):
        sizes = Counter(fold for digest, fold in found.items() if label_of[digest] in label)
        assert max(sizes.values(), default=0) - min(sizes[fold] for fold in range(FOLDS)) <= 1
    assert found == folds(dict(reversed(label_of.items())), seed)


def test_the_seed_divides_otherwise() -> None:
    label_of = dict.fromkeys(map(str, range(100)), "a")
    assert folds(label_of, 0) != folds(label_of, 1)


@dataclass
class Spy(imgrec.Reducer):
    """Keeps every vector that it was fitted on, and reduces nothing."""

    supervised: ClassVar[bool] = True
    seen: ClassVar[list[Vectors]] = []

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        assert labels is not None
        assert len(labels) == len(vectors)
        Spy.seen.append(vectors)
        return self

    def transform(self, vectors: Vectors) -> Vectors:
        return vectors

    def state(self) -> dict[str, npt.NDArray[Any]]:
        return {}


def filled(store: imgrec.Store, vectors: Vectors, labels: Sequence[str], copies: int = 0) -> None:
    """A gallery of one image a vector, and copies of some in the folder of the same label."""
    digests = [f"{i:064x}" for i in range(len(vectors))]
    records = [Record(f"/{label}/{i}.jpg", digests[i], 1, 1) for i, label in enumerate(labels)]
    records += [replace(record, path=record.path + "-copy") for record in records[:copies]]
    store.write(Batch(records=records, vectors={SPACE: (digests, vectors)}))


def opened(store: imgrec.Store, projection: imgrec.Reducer | None, where: Any = lambda _: True) -> Gallery:
    return Gallery(store, of(SPACE, projection=projection), where=where)


def asked(gallery: Gallery, **options: Any) -> tuple[HeldOut, evaluation.Queries]:
    queries = evaluation.asked_of(gallery, [], sample=None, **options)
    return evaluation.held_out(gallery, queries, None, seed=0), queries


def figures(gallery: Gallery) -> dict[str, Any]:
    found, queries = asked(gallery)
    rankings = evaluation.hits(found, queries, None)
    relevant = evaluation.relevant(gallery, queries)
    return evaluation.summary(evaluation.evaluate_rankings(rankings, 5, relevant), seed=0)


@pytest.mark.parametrize("in_a_fusion", [False, True])
def test_nothing_learns_from_what_is_asked_for(store: imgrec.Store, in_a_fusion: bool) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.random((60, 4), dtype=np.float32)
    filled(store, vectors, ["ab"[i % 2] for i in range(60)], copies=20)
    Spy.seen.clear()
    similarity = of(SPACE, projection=Spy(n_components=4))
    if in_a_fusion:
        (term,) = similarity.terms
        plain = replace(term, name="plain", projection=None, weight=0.5)
        similarity = Similarity((plain, replace(term, name="learned", weight=0.5)), key="fusion-0", fusion_spec={})
    gallery = Gallery(store, similarity, where=lambda _: True)
    found, queries = asked(gallery)
    assert found.folds == len(Spy.seen) == FOLDS
    assert len(queries.records) == 80
    for fold, learned in enumerate(Spy.seen):
        own = [
            int(r.digest, 16) for r, each in zip(queries.records, found.gallery_of, strict=True) if each == fold
        ]
        assert len(learned) == 60 - len(set(own))
        assert not {vectors[i].tobytes() for i in own} & {each.tobytes() for each in learned}
    (first, *_) = evaluation.hits(found, queries, None)
    assert len(first) == 80 - 2  # all are searched, but for the query and its copy


@pytest.mark.parametrize("name", ["lda", "logistic"])
def test_random_labels_give_chance(store: imgrec.Store, name: str) -> None:
    """Fitted on what is asked for, the projection knew them by heart."""
    rng = np.random.default_rng(0)
    labels = [str(label) for label in rng.permutation(np.arange(240) % 4)]
    filled(store, rng.normal(size=(240, 150)).astype(np.float32), labels, copies=0)
    strength = {"lda": {"shrinkage": 0.1}, "logistic": {"penalty": 0.001}}[name]
    learned = imgrec.build("reducer", name, n_components=3, **strength)
    chance, spread = 59 / 239, np.sqrt(0.25 * 0.75 / (5 * 240))
    assert abs(figures(opened(store, learned))["precision_at_k"] - chance) < 4 * spread
    leaking = opened(store, learned)
    queries = evaluation.asked_of(leaking, [], sample=None)
    by_heart = evaluation.hits(HeldOut([leaking], [0] * 240), queries, None)
    assert np.mean([ranking[:5].mean() for ranking in by_heart]) > 0.7


def test_folds_find_what_images_that_were_never_seen_find(store: imgrec.Store) -> None:
    data = load_digits()
    mixed = np.random.default_rng(0).permutation(len(data.data))[:500]  # neighbouring rows are of one writer
    vectors, labels = data.data[mixed].astype(np.float32), [str(label) for label in data.target[mixed]]
    filled(store, vectors, labels)
    learned = imgrec.build("reducer", "lda", n_components=9, shrinkage=0.3)
    by_folds = figures(opened(store, learned))["precision_at_k"]
    fitted = learned.fit(vectors[:400], labels[:400])
    known, new = fitted.transform(vectors[:400]), fitted.transform(vectors[400:])
    nearest = np.argsort(np.linalg.norm(new[:, None] - known, axis=2), axis=1)[:, :5]
    apart = np.mean(np.array(labels)[:400][nearest] == np.array(labels)[400:, None])
    assert by_folds == pytest.approx(apart, abs=0.04)


def test_copies_of_queries_that_are_apart_are_not_learned_from(store: imgrec.Store) -> None:
    vectors = np.random.default_rng(0).random((40, 4), dtype=np.float32)
    filled(store, vectors, ["ab"[i % 2] for i in range(40)], copies=6)
    Spy.seen.clear()
    gallery = opened(store, Spy(n_components=4), lambda record: not record.path.endswith("-copy"))
    apart = opened(store, None, lambda record: record.path.endswith("-copy"))
    found, _ = asked(gallery, apart=apart)
    _ = found.gallery.projections
    assert found.folds is None
    (learned,) = Spy.seen
    assert sorted(each.tobytes() for each in learned) == sorted(each.tobytes() for each in vectors[6:])


@pytest.mark.parametrize("name", ["none", "pca"])
def test_what_learns_from_no_labels_is_fitted_once(store: imgrec.Store, name: str) -> None:
    filled(store, np.random.default_rng(0).random((20, 4), dtype=np.float32), ["ab"[i % 2] for i in range(20)])
    reducer = None if name == "none" else imgrec.build("reducer", name)
    found, _ = asked(opened(store, reducer))
    assert (found.folds, len(found.galleries)) == (None, 1)


def test_too_few_images_of_a_label_are_told(store: imgrec.Store) -> None:
    filled(store, np.random.default_rng(0).random((13, 4), dtype=np.float32), ["a"] * 10 + ["b"] * 3)
    lda = imgrec.build("reducer", "lda", n_components=1)
    with pytest.raises(
        UsageError, match="'b' has 2, without the fifth of the images that is asked for: have more"
    ):
        asked(opened(store, lda))


def test_held_out_labels_are_not_to_be_had(store: imgrec.Store) -> None:
    filled(store, np.ones((4, 2), np.float32), list("abab"))
    gallery = opened(store, None).without_learning_from([f"{0:064x}"])
    assert gallery._labels_of([f"{1:064x}"]) == ["b"]
    with pytest.raises(ValueError, match="must not be learned from"):
        gallery._labels_of([f"{i:064x}" for i in range(2)])
