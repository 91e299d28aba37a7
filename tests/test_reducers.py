from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.fft
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

import imgrec
from conftest import shared, shared_timm
from imgrec import neighbours
from imgrec.errors import UsageError
from imgrec.kinds import Vectors

REDUCERS = ["pca", "tsne", "umap"]
QUICK: dict[str, dict[str, Any]] = {"pca": {}, "tsne": {"n_iter": 100}, "umap": {"n_epochs": 100}}


def build(name: str, **options: Any) -> imgrec.Reducer:
    if name == "umap":
        pytest.importorskip("umap")
    return imgrec.build("reducer", name, **{**QUICK[name], **options})  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def digits() -> Vectors:
    """300 handwritten digits of 64 pixels each, which scikit-learn ships."""
    return load_digits().data[:300].astype(np.float32)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", REDUCERS)
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "hellinger"])
def test_every_metric(digits: Vectors, name: str, metric: str) -> None:
    reduced = build(name, metric=metric).fit_transform(digits[:100])
    assert trustworthiness(digits[:100], reduced, n_neighbors=10) > 0.75


def test_pca_is_the_projection_that_scikit_learn_finds(digits: Vectors) -> None:
    from sklearn.decomposition import PCA

    ours = build("pca", n_components=10, metric="euclidean", whiten=True).fit_transform(digits)
    theirs = PCA(10, whiten=True, svd_solver="full").fit_transform(digits)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-3)


def test_tsne_makes_maps_only() -> None:
    with pytest.raises(UsageError, match=r"tsne\.n_components is at most 2"):
        build("tsne", n_components=3)


@pytest.mark.parametrize("what", ["the module", "its NumPy", "a NumPy that can be replaced"])
def test_tsne_draws_the_same_map_when_the_module_that_it_patches_has_moved(
    digits: Vectors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """By Fourier transforms, which openTSNE takes from 10,000 points on."""
    import openTSNE
    from openTSNE import _matrix_mul

    caplog.set_level("INFO", "imgrec_tsne")
    monkeypatch.setattr("imgrec_tsne.EXAGGERATED", 10)
    monkeypatch.setattr(openTSNE, "TSNE", functools.partial(openTSNE.TSNE, negative_gradient_method="fft"))
    called: list[object] = []
    transform = scipy.fft.rfft2

    def told(*given: Any, **options: Any) -> Any:
        called.append(given)
        return transform(*given, **options)

    monkeypatch.setattr("scipy.fft.rfft2", told)
    usual = build("tsne", n_iter=10, n_jobs=1).fit_transform(digits[:100])
    assert called
    assert "by openTSNE itself" not in caplog.text
    called.clear()
    if what == "the module":
        monkeypatch.delattr(_matrix_mul, "matrix_mul")
        monkeypatch.setitem(sys.modules, "openTSNE._matrix_mul.matrix_mul", None)
    else:
        moved = types.SimpleNamespace() if what == "its NumPy" else _Fixed()
        monkeypatch.setitem(sys.modules, "openTSNE._matrix_mul.matrix_mul", moved)
    again = build("tsne", n_iter=10, n_jobs=1).fit_transform(digits[:100])
    np.testing.assert_allclose(again, usual, rtol=1e-3, atol=1e-3)
    assert not called
    assert "by openTSNE itself" in caplog.text


class _Fixed:
    """A module whose names cannot be set, as those of an extension type."""

    __slots__ = ()
    np = np


@pytest.mark.parametrize(("name", "floor"), [("tsne", 0.93), ("umap", 0.91), ("pca", 0.78)])
def test_neighbours_of_real_photographs_stay_neighbours(clothing: Vectors, name: str, floor: float) -> None:
    if name == "umap":
        pytest.importorskip("umap")
    reduced = imgrec.build("reducer", name).fit_transform(clothing)
    assert trustworthiness(clothing, reduced, n_neighbors=10) >= floor


class Told:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.totals: dict[str, int] = {}

    @contextlib.contextmanager
    def __call__(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        self.totals[description], self.done[description] = total, 0

        def advance(count: int) -> None:
            self.done[description] += count

        yield advance


def test_neighbours_are_computed_once_and_shared(digits: Vectors) -> None:
    vectors = digits[:250]
    first, second, other = Told(), Told(), Told()
    umap, tsne = build("umap"), build("tsne")
    umap.progress, tsne.progress = first, second
    umap.fit(vectors)
    shared_map = tsne.fit_transform(vectors)
    assert first.done == first.totals == {"neighbours": 250, "UMAP": 100}
    assert second.done == second.totals == {"t-SNE": 350}
    tsne.progress = other
    tsne.fit(digits[:200])  # other vectors have other neighbours
    assert other.done["neighbours"] == 200
    np.testing.assert_array_equal(tsne.fit_transform(vectors), shared_map)


@pytest.mark.parametrize("name", ["tsne", "umap"])
def test_progress_is_the_callers_alone(digits: Vectors, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """umap-learn's own bar filled logs."""
    for progress in (Told(), None):
        reducer = build(name)
        if progress is not None:
            reducer.progress = progress
        reducer.fit(digits[:50])
        reducer.transform(digits[:5])
        assert capfd.readouterr() == ("", "")


def test_few_points_take_one_thread(digits: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(**options: int) -> int:
        tsne = build("tsne", **options).fit(digits[:50])
        return tsne._model.gradient_descent_params["n_jobs"]  # type: ignore[attr-defined, no-any-return]

    assert (threads(), threads(n_jobs=2)) == (1, 2)
    monkeypatch.setattr(sys.modules[imgrec.available("reducer")["tsne"].cls.__module__], "MANY", 50)
    assert threads() == -1


def test_neighbours_are_exact_also_among_copies(digits: Vectors) -> None:
    vectors = np.repeat(digits[:40], 5, axis=0)
    rows, distances = neighbours.among(vectors, 10)
    assert (rows != np.arange(len(vectors))[:, None]).all()
    assert all(len(set(row)) == 10 for row in rows.tolist())
    exact = cdist(vectors, vectors)
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, 1:11], atol=1e-3)
    np.testing.assert_allclose(distances, np.take_along_axis(exact, rows.astype(np.int64), axis=1), atol=1e-3)


def test_neighbours_are_the_callers_own(digits: Vectors) -> None:
    neighbours.among(digits, 5).rows[:] = -1
    assert neighbours.among(digits, 5).rows.min() >= 0
    assert neighbours.among(digits, 120).rows.shape == (300, 120)  # more than are found for all


@pytest.mark.parametrize("name", ["tsne", "umap"])
@pytest.mark.parametrize(("pca", "dim"), [(10, 10), (None, 64), (64, 64)])
def test_principal_components_first(digits: Vectors, name: str, pca: int | None, dim: int) -> None:
    reducer = build(name, pca=pca)
    reduced = reducer.fit_transform(digits)
    assert reducer.state()["vectors"].shape == (300, dim)
    assert trustworthiness(digits, reduced, n_neighbors=10) > 0.93
    placed = build(name, pca=pca).restore(reducer.state()).transform(digits[:20] * np.float32(1.001))
    assert np.median(np.linalg.norm(placed - reduced[:20], axis=1)) < 0.1 * np.ptp(reduced)


@pytest.fixture(scope="module")
def clothing(tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    """Unit-length MobileNet v2 vectors of the 713 photographs of clothes."""
    extractor = shared_timm("mobilenetv2_100", normalise=True)
    store = imgrec.build("store", "sqlite", path=str(tmp_path_factory.mktemp("clothing") / "g.sqlite"))
    imgrec.ingest(shared("photos", "clothing"), extractor, store)
    with store:
        _, vectors = store.vectors(store.spaces()[0])
    assert vectors.shape == (713, 1280)
    return vectors  # type: ignore[no-any-return]
