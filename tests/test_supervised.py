"""Reducers that learn from labels: `lda` and `logistic`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import clothing
import imgrec
from clothing import Split
from conftest import shared_timm
from imgrec import linear
from imgrec.errors import UsageError

NAMES = ["lda", "logistic"]
QUICK: dict[str, dict[str, Any]] = {"lda": {"shrinkage": 0.3}, "logistic": {"penalty": 0.01}}


def quick(name: str, **options: Any) -> imgrec.Reducer:
    """Without a search for the best strength."""
    return imgrec.build("reducer", name, **QUICK[name], **options)  # type: ignore[no-any-return]


def digits(start: int, stop: int) -> Split:
    """Handwritten digits of 64 pixels each, which scikit-learn ships."""
    data = load_digits()
    return Split(data.data[start:stop].astype(np.float32), [str(label) for label in data.target[start:stop]])


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "hellinger"])
@pytest.mark.parametrize("name", NAMES)
def test_digits_are_told_apart_by_few_dimensions(name: str, metric: str) -> None:
    learnt, new = digits(0, 300), digits(300, 600)
    fitted = quick(name, n_components=4, metric=metric).fit(learnt.vectors, learnt.labels)
    unsupervised = imgrec.build("reducer", "pca", n_components=4, metric=metric).fit(learnt.vectors)
    better, worse = (clothing.precision(learnt, new, reducer) for reducer in (fitted, unsupervised))
    assert better > worse


@pytest.mark.parametrize("name", NAMES)
def test_more_dimensions_than_labels_do_no_harm(name: str) -> None:
    learnt, new = digits(0, 300), digits(300, 600)
    nine, more = (
        clothing.precision(learnt, new, quick(name, n_components=count).fit(learnt.vectors, learnt.labels))
        for count in (9, 40)
    )
    assert more > nine - 0.03


def test_the_first_dimensions_of_lda_are_those_that_scikit_learn_finds() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    given = digits(0, 300)
    vectors = given.vectors + np.random.default_rng(0).normal(0, 0.1, given.vectors.shape).astype(np.float32)
    ours = quick("lda", n_components=12, metric="euclidean").fit_transform(vectors, given.labels)
    theirs = (
        LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3).fit(vectors, given.labels).transform(vectors)
    )
    theirs -= theirs.mean(axis=0)
    signs = np.sign((ours[:, :9] * theirs).sum(axis=0))
    np.testing.assert_allclose(ours[:, :9], signs * theirs, atol=0.01)


def test_distances_in_logistic_are_those_of_the_logits() -> None:
    from sklearn.linear_model import LogisticRegression

    given = digits(0, 300)
    vectors = given.vectors - given.vectors.mean(axis=0)
    vectors /= np.sqrt((vectors**2).sum(axis=1).mean())
    ours = quick("logistic", n_components=9, metric="euclidean").fit_transform(vectors, given.labels)
    logits = LogisticRegression(C=100, max_iter=10_000).fit(vectors, given.labels).decision_function(vectors)
    apart, expected = (np.linalg.norm(each[:150] - each[150:], axis=1) for each in (ours, logits))
    assert np.corrcoef(apart, expected)[0, 1] > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_the_accuracy_reported_is_that_of_images_left_out(name: str) -> None:
    given = digits(0, 300)
    assert quick(name).fit(given.vectors, given.labels).report()["accuracy"] > 0.85
    shuffled = np.random.default_rng(0).permutation(given.labels).tolist()
    assert quick(name).fit(given.vectors, shuffled).report()["accuracy"] < 0.3


def test_the_shrinkage_is_the_one_that_scikit_learn_finds() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    given = digits(0, 300)
    vectors = given.vectors + np.random.default_rng(0).normal(0, 3, given.vectors.shape).astype(np.float32)
    search = GridSearchCV(
        LinearDiscriminantAnalysis(solver="eigen"),
        {"shrinkage": [0.1, 0.3, 0.5, 0.7, 0.9]},
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
    ).fit(vectors.astype(np.float64), given.labels)
    found = imgrec.build("reducer", "lda", metric="euclidean").fit(vectors, given.labels).report()
    assert found == pytest.approx({"accuracy": search.best_score_, **search.best_params_})


@pytest.mark.parametrize(("name", "steps"), [("lda", 5 * 5), ("logistic", 5 * 4)])
def test_the_progress_of_learning_is_told(name: str, steps: int) -> None:
    given = digits(0, 100)
    told: list[int] = []

    @contextlib.contextmanager
    def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
        assert (description, total) == (name, steps)
        yield told.append

    reducer = imgrec.build("reducer", name)
    reducer.progress = progress
    reducer.fit(given.vectors, given.labels)
    assert sum(told) == steps


@pytest.mark.parametrize("name", NAMES)
def test_very_long_vectors_are_learnt_from_by_their_principal_components(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt, new = digits(0, 300), digits(300, 600)
    whole = clothing.precision(learnt, new, quick(name, n_components=9).fit(learnt.vectors, learnt.labels))
    monkeypatch.setattr(linear, "MOST_COORDINATES", 30)
    fitted = quick(name, n_components=9).fit(learnt.vectors, learnt.labels)
    assert np.linalg.matrix_rank(fitted.state()["components"]) == 9
    assert clothing.precision(learnt, new, fitted) > whole - 0.05


@pytest.mark.parametrize("name", NAMES)
def test_what_was_learnt_is_kept(name: str) -> None:
    given, file = digits(0, 300), io.BytesIO()
    fitted = quick(name, n_components=5).fit(given.vectors, given.labels)
    np.savez(file, **fitted.state())  # type: ignore[arg-type]
    file.seek(0)
    again = quick(name, n_components=5).restore(dict(np.load(file, allow_pickle=False)))
    assert np.array_equal(again.transform(given.vectors), fitted.transform(given.vectors))
    assert again.report() == fitted.report()
    assert set(fitted.report()) == {"accuracy", *QUICK[name]}


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_learnt_from(name: str) -> None:
    given = digits(0, 30)
    labels: Any
    for labels, message in (
        (None, "there are 0 for 30 images"),
        ([], "there are 0 for 30 images"),
        (["1"] * 29, "there are 29 for 30 images"),
        (["1"] * 30, "all 30 images have '1'"),
        (["1"] * 28 + ["2"] * 2, "needs 3 images of each label: '2' has 2"),
    ):
        with pytest.raises(UsageError, match=message):
            quick(name).fit(given.vectors, labels)
    with pytest.raises(UsageError, match=f"{name} to 31 dimensions needs as many images"):
        quick(name, n_components=31).fit(given.vectors, ["1", "2"] * 15)
    with pytest.raises(UsageError, match="the same vector"):
        quick(name).fit(np.ones((30, 8), np.float32), ["1", "2"] * 15)


def test_lda_needs_images_of_one_label_that_differ() -> None:
    with pytest.raises(UsageError, match="of one label that differ"):
        quick("lda").fit(np.repeat(np.eye(2, 8, dtype=np.float32), 9, axis=0), ["1"] * 9 + ["2"] * 9)


@pytest.mark.parametrize("name", NAMES)
def test_two_labels_are_enough(name: str) -> None:
    given = digits(0, 300)
    odd = [str(int(label) % 2) for label in given.labels]
    one = quick(name, n_components=1).fit_transform(given.vectors, odd)[:, 0]
    groups = [one[np.array(odd) == label] for label in "01"]
    assert abs(groups[0].mean() - groups[1].mean()) > np.mean([group.std() for group in groups])


# --- real photographs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clothes() -> list[Split]:
    """The gallery and the queries, as unit-length MobileNet v2 vectors."""
    extractor = shared_timm("mobilenetv2_100", normalise=True)
    return [clothing.extracted(extractor, part) for part in ("validation", "test")]


@pytest.mark.parametrize(("name", "count", "floor"), [("lda", 9, 0.8), ("lda", 128, 0.8), ("logistic", 128, 0.82)])
def test_labels_help_to_find_clothes_of_one_kind(
    clothes: list[Split], name: str, count: int, floor: float
) -> None:
    gallery, queries = clothes
    fitted = imgrec.build("reducer", name, n_components=count).fit(gallery.vectors, gallery.labels)
    assert clothing.precision(gallery, queries, fitted) >= floor
    assert 0.75 < fitted.report()["accuracy"] < 0.9


def test_principal_components_lose_nothing_of_clothes(clothes: list[Split]) -> None:
    fitted = imgrec.build("reducer", "pca", n_components=128).fit(clothes[0].vectors)
    assert clothing.precision(clothes[0], clothes[1], fitted) >= 0.69
