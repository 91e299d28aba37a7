from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from imgrec import evaluation
from imgrec.errors import UsageError
from imgrec.evaluation import FIGURES, Quality, evaluate_rankings, labels_of

Ranking = npt.NDArray[np.bool_]

rankings = st.lists(st.booleans(), min_size=1, max_size=30).map(lambda values: np.array(values, bool))


def evaluated(*found: Ranking, k: int = 3) -> list[Quality]:
    return evaluate_rankings(found, k, [int(ranking.sum()) for ranking in found])


# --- one query ----------------------------------------------------------------------------------------------


@given(rankings, st.integers(1, 40))
def test_average_precision_is_that_of_scikit_learn(ranking: Ranking, k: int) -> None:
    assume(ranking.any())
    (quality,) = evaluated(ranking, k=k)
    distances = np.arange(len(ranking))
    assert quality.average_precision == pytest.approx(average_precision_score(ranking, -distances))


def test_of_equal_distances_the_first_one_given_counts_first() -> None:
    (first,), (last,) = evaluated(np.array([True, False])), evaluated(np.array([False, True]))
    assert (first.average_precision, last.average_precision) == (1.0, 0.5)
    assert average_precision_score([True, False], [0.0, 0.0]) == 0.5


def test_precision_recall_and_hit_by_hand() -> None:
    ranking = np.array([False, True, True, False, True, False, False, True])
    (quality,) = evaluated(ranking, k=5)
    assert quality == pytest.approx((3 / 5, 3 / 4, (1 / 2 + 2 / 3 + 3 / 5 + 4 / 8) / 4, 1.0, 4))
    (quality,) = evaluated(ranking, k=1)
    assert (quality.precision, quality.recall, quality.hit) == (0.0, 0.0, 0.0)


def test_a_gallery_of_less_than_k_images_can_still_be_answered_perfectly() -> None:
    assert evaluated(np.array([True, True]), k=10) == [Quality(1.0, 1.0, 1.0, 1.0, 2)]


def test_what_a_cut_ranking_leaves_out_counts_as_not_found() -> None:
    assert evaluate_rankings([np.array([True, False])], 2, [4]) == [Quality(0.5, 0.25, 0.25, 1.0, 4)]


@pytest.mark.parametrize("ranking", [[False, False], []])
def test_a_query_without_anything_relevant_counts_as_zero(ranking: list[bool]) -> None:
    assert evaluate_rankings([np.array(ranking, bool)], 3, [0]) == [Quality(0.0, 0.0, 0.0, 0.0, 0)]


@given(rankings, st.integers(1, 40))
def test_values_are_between_the_worst_and_the_best_order(ranking: Ranking, k: int) -> None:
    worst, quality, best = evaluated(np.sort(ranking), ranking, np.sort(ranking)[::-1], k=k)
    for low, value, high in zip(worst[:4], quality[:4], best[:4], strict=True):
        assert 0 <= low <= value + 1e-12
        assert value <= high + 1e-12 <= 1 + 2e-12
    if ranking.any():
        assert best.average_precision == pytest.approx(1)
        assert best.recall == pytest.approx(min(1, k / ranking.sum()))
        assert best.hit == 1


def test_rankings_are_taken_one_by_one() -> None:
    lazily = (np.array([True, False]) for _ in range(3))
    assert len(evaluate_rankings(lazily, 1, [1, 1, 1])) == 3


def test_what_cannot_be_is_refused() -> None:
    ranking = np.array([True, True])
    with pytest.raises(ValueError, match="k is at least 1"):
        evaluate_rankings([ranking], 0, [2])
    with pytest.raises(ValueError, match="2 relevant images, and the gallery only 1"):
        evaluate_rankings([ranking], 1, [1])
    with pytest.raises(ValueError, match="zip"):
        evaluate_rankings([ranking], 1, [2, 2])


# --- many queries -------------------------------------------------------------------------------------------


def some_queries(count: int, seed: int = 0) -> list[Quality]:
    rng = np.random.default_rng(seed)
    return evaluated(*(rng.random((count, 20)) < 0.3), k=5)


@given(st.lists(rankings, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_means_do_not_depend_on_the_order_and_lie_in_their_intervals(found: list[Ranking], random: object) -> None:
    per_query = evaluated(*found)
    shuffled = list(per_query)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    summary, other = (evaluation.summary(each, seed=0, resamples=200) for each in (per_query, shuffled))
    for metric in FIGURES:
        assert summary[metric] == pytest.approx(other[metric])
        low, high = summary["confidence"][metric]
        assert -1e-9 <= low <= summary[metric] + 1e-9
        assert summary[metric] - 1e-9 <= high <= 1 + 1e-9
    assert summary["queries"] == len(found)
    assert summary["without_relevant"] == sum(not ranking.any() for ranking in found)


def test_means_are_those_of_numpy_and_the_summary_is_json() -> None:
    per_query = some_queries(50)
    summary = evaluation.summary(per_query, seed=0)
    assert [summary[metric] for metric in FIGURES] == pytest.approx(np.mean([q[:4] for q in per_query], axis=0))
    assert json.loads(json.dumps(summary)) == summary
    assert list(summary) == ["queries", "without_relevant", *FIGURES, "confidence"]


def test_intervals_are_repeatable_and_change_with_the_seed() -> None:
    per_query = some_queries(50)
    assert evaluation.summary(per_query, seed=1) == evaluation.summary(per_query, seed=1)
    assert evaluation.summary(per_query, seed=1) != evaluation.summary(per_query, seed=2)


def test_intervals_are_those_of_scipy() -> None:
    """And so narrower with more queries or less confidence."""
    from scipy import stats

    def width(count: int, confidence: float) -> float:
        per_query = some_queries(count)
        low, high = evaluation.summary(per_query, seed=0, confidence=confidence)["confidence"]["map"]
        values = [quality.average_precision for quality in per_query]
        options = {"confidence_level": confidence, "method": "percentile", "n_resamples": 2000}
        expected = stats.bootstrap((values,), np.mean, random_state=np.random.default_rng(1), **options)
        assert (low, high) == pytest.approx(tuple(expected.confidence_interval), rel=0.02)
        return float(high - low)

    assert width(400, 0.95) < width(40, 0.95)
    assert width(400, 0.5) < width(400, 0.95)


def test_no_queries_are_an_error() -> None:
    with pytest.raises(UsageError, match="no queries"):
        evaluation.summary([], seed=0)


def test_each_class_has_the_means_of_its_queries() -> None:
    per_query = some_queries(30)
    labels = [("shoe", "hat", "dress")[i % 3] for i in range(30)]
    rows = evaluation.by_class(per_query, labels)
    assert [(row["label"], row["queries"]) for row in rows] == [("dress", 10), ("hat", 10), ("shoe", 10)]
    assert list(rows[0]) == ["label", "queries", *FIGURES]
    for metric in FIGURES:
        whole = evaluation.summary(per_query, seed=0)[metric]
        assert np.mean([row[metric] for row in rows]) == pytest.approx(whole)
    assert rows[1]["map"] == pytest.approx(np.mean([q.average_precision for q in per_query[1::3]]))
    assert evaluation.by_class([], []) == []
    with pytest.raises(ValueError, match="zip"):
        evaluation.by_class(per_query, labels[1:])


def test_the_worst_queries_come_first() -> None:
    per_query = [
        Quality(0.2, 0.1, 0.5, 1.0, 9),
        Quality(0.1, 0.1, 0.5, 1.0, 9),
        Quality(0.0, 0.0, 0.1, 0.0, 9),
        Quality(0.1, 0.9, 0.5, 1.0, 9),
    ]
    assert evaluation.worst(per_query) == [2, 1, 3, 0]
    assert evaluation.worst(per_query, 2) == [2, 1]


# --- labels -------------------------------------------------------------------------------------------------

PATHS = ["/photos/hat/1.jpg", "/photos/hat/2.jpg", "/photos/shoe/1.jpg"]


def test_labels_are_folders_or_none() -> None:
    assert labels_of(PATHS, "folder") == ["hat", "hat", "shoe"]
    assert labels_of(PATHS, "none") is None


def test_auto_takes_folders_that_tell_something() -> None:
    assert labels_of(PATHS, "auto") == ["hat", "hat", "shoe"]
    assert labels_of(PATHS[:2], "auto") is None
    assert labels_of(PATHS[1:], "auto") is None
    assert labels_of([], "auto") is None


def test_labels_of_a_csv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a byte order mark, other columns and files, a comma, a short line, a name that is not UTF-8."""
    odd = os.fsdecode(b"\xff.jpg")
    (tmp_path / "labels.csv").write_bytes(
        b'\xef\xbb\xbfnumber,label,path\r\n1,NA,a.jpg\r\n2,"a, b",sub/../sub/b.jpg\r\n'
        b"3,x,gone.jpg\r\n4,y,\xff.jpg\r\n" + f"5,z,{tmp_path}/c.jpg\r\n6\r\n".encode()
    )
    paths = [str(tmp_path / name) for name in ("sub/b.jpg", "a.jpg", "c.jpg", odd)]
    assert labels_of(paths, str(tmp_path / "labels.csv")) == ["a, b", "NA", "z", "y"]
    monkeypatch.chdir(tmp_path)
    assert labels_of(paths, "labels.csv") == ["a, b", "NA", "z", "y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;label\na.jpg;x\n", "lacks the column path; it has path;label$"),
        ("path,class\na.jpg,x\n", "lacks the column label; it has path, class$"),
        ("", "lacks the column path; it has none$"),
        ("path,label\nelsewhere.jpg,x\n", "has no image of the gallery"),
        ("path,label\na.jpg,x\nb.jpg,\n", r"has no label for 2 of 3 images, the first is .*b.jpg: add them"),
        ("path,label\na.jpg,x\n./a.jpg,y\n", "has two labels for .*a.jpg: 'x' and 'y'$"),
        ("path,label\na.jpg," + 200_000 * "x" + "\n", "cannot be read: field larger than"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_told_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        labels_of([str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")], str(tmp_path / "labels.csv"))
    assert "\n" not in str(caught.value)


def test_a_csv_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="labels is folder, none, auto or a CSV file, and there is no file 'foldr'"
    ):
        labels_of(PATHS, "foldr")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        labels_of(PATHS, str(tmp_path))
