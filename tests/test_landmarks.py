"""Maps of many images: computed of some, the landmarks, with the others beside these; and how good maps are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

import imgrec
from conftest import Cli
from imgrec.drawing.visualise import NEAREST, neighbours_kept
from imgrec.kinds import Vectors


@dataclass
class Shadow(imgrec.NeighbourReducer):
    """A third party's: places each vector by two of its values."""

    name = "shadow"

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        self.fitted, self.labels = vectors, labels
        self._prepare(vectors)
        return self._embedded(self._placed(self._vectors))

    def _placed(self, prepared: Vectors) -> Any:
        return prepared[:, :2]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 4]), st.integers(1, 3))
def test_others_are_beside_the_landmark_that_is_nearest_to_them(seed: int, pca: int | None, places: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(300, 6)).astype(np.float32)
    vectors[:, :2] = rng.integers(places * 20, size=(300, 2))  # some landmarks share a place
    labels = [str(i) for i in range(300)]
    reducer = Shadow(metric="euclidean", seed=seed, landmarks=60, pca=pca)
    found = reducer.fit_transform(vectors, labels)
    np.testing.assert_array_equal(found, reducer.fit_transform(vectors, labels))
    chosen = [int(label) for label in reducer.labels or ()]
    assert len(chosen) == 60 == reducer.report()["landmarks"]
    np.testing.assert_array_equal(reducer.fitted, vectors[chosen])
    again = Shadow(metric="euclidean", pca=pca)
    np.testing.assert_array_equal(found[chosen], again.fit_transform(vectors[chosen]))
    assert again.report() == {}
    assert again.restore(reducer.state()).report() == {"landmarks": 60}
    nearest = cdist(again._prepared(vectors), again._vectors).argmin(axis=1)
    between = cdist(found[chosen], found[chosen])
    spacing = np.where(between > 0, between, np.inf).min(axis=1)
    apart = np.linalg.norm(found - found[chosen][nearest], axis=1)
    assert (apart <= spacing[nearest] * (1 + 1e-5)).all()


def test_landmarks_are_drawn_by_the_seed_and_by_default_of_many_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    for whole in (Shadow(), Shadow(landmarks=400), Shadow(landmarks=1_000)):
        assert len(whole.fit(vectors).fit_transform(vectors)) == len(whole.fitted) == 400
    assert not caplog.text
    monkeypatch.setattr("imgrec.neighbours.MANY", 399)
    monkeypatch.setattr("imgrec.neighbours.LANDMARKS", 50)
    fitted = []
    for seed in (0, 0, 1):
        some = Shadow(seed=seed)
        some.fit_transform(vectors)
        fitted.append(some.fitted)
    assert len(fitted[0]) == 50
    assert np.array_equal(fitted[0], fitted[1])
    assert not np.array_equal(fitted[0], fitted[2])
    assert "shadow of 50 of 400 images; the others are placed among their 15 nearest of these" in caplog.text


def test_a_map_of_landmarks_keeps_most_of_the_neighbours_that_the_whole_one_keeps() -> None:
    """Measured: 0.77 to 0.80 of them, as with UMAP."""
    digits = load_digits().data[:900].astype(np.float32)
    kept = []
    for landmarks in (200, None):
        reducer = imgrec.build("reducer", "tsne", n_iter=100, landmarks=landmarks)
        kept.append(neighbours_kept(digits, reducer.fit_transform(digits), reducer.metric))
    assert kept[0] >= 0.7 * kept[1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 15, 16, 17, 60]), st.sampled_from([1, 3, 1_000]))
def test_how_many_neighbours_a_map_keeps(seed: int, count: int, different: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 3)).astype(np.float32)
    places = rng.integers(different, size=(count, 2)).astype(np.float32)
    kept = []
    for image in range(count):
        others = np.delete(np.arange(count), image)
        if len(others):
            near = others[np.argsort(cdist(vectors[[image]], vectors[others])[0])[:NEAREST]]
            apart = cdist(places[[image]], places)[0]
            kept += (apart[near] <= np.sort(apart[others])[: len(near)].max()).tolist()
    assert neighbours_kept(vectors, places, "euclidean") == pytest.approx(np.mean(kept) if kept else 1)
    assert neighbours_kept(vectors, vectors, "euclidean") == 1


def test_a_run_records_what_its_map_keeps(here: Cli, photos: Path) -> None:
    here("ingest", photos)
    landmarks = ("reducer.landmarks=20", "reducer.n_iter=20")
    done = here("visualise", *landmarks, "highlight=*/china/*")
    assert "tsne of 20 of 40 images; the others are placed among their 15 nearest of these" in done.err
    counts = done.record()["counts"]
    assert (counts["images"], counts["labels"], counts["landmarks"]) == (40, 2, 20)
    assert 0.2 < counts["neighbours_kept"] <= 1
    with Path(done.out.splitlines()[1]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(("/china/" in row["path"]) == (row["label"] != "the rest") for row in rows)
    assert len({(row["x"], row["y"]) for row in rows}) == 40
    whole = here("visualise", "reducer=pca", "format=html").record()["counts"]
    assert "landmarks" not in whole
    assert 0.2 < whole["neighbours_kept"] <= 1
