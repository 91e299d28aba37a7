from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

import imgrec
from conftest import shared, shared_timm
from imgrec.contracts import Vectors
from imgrec.errors import UsageError

REDUCERS = ["pca", "tsne", "umap"]
QUICK: dict[str, dict[str, Any]] = {"pca": {}, "tsne": {"n_iter": 100}, "umap": {"n_epochs": 100}}


def build(name: str, **options: Any) -> imgrec.Reducer:
    if name == "umap":
        pytest.importorskip("umap")
    return imgrec.build("reducer", name, **{**QUICK[name], **options})


@pytest.fixture(scope="module")
def digits() -> Vectors:
    """300 handwritten digits of 64 pixels each, which scikit-learn ships."""
    return load_digits().data[:300].astype(np.float32)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", REDUCERS)
def test_the_same_seed_gives_the_same_map(digits: Vectors, name: str) -> None:
    first, second = (build(name, seed=3).fit_transform(digits) for _ in range(2))
    assert first.shape == (300, 2)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", REDUCERS)
def test_new_points_are_placed_the_same_by_a_restored_reducer(digits: Vectors, name: str) -> None:
    fitted = build(name).fit(digits[:280])
    file = io.BytesIO()
    np.savez(file, **fitted.state())  # type: ignore[arg-type]
    file.seek(0)
    with np.load(file, allow_pickle=False) as state:
        restored = build(name).restore(state)
        placed, again = fitted.transform(digits[280:]), restored.transform(digits[280:])
    assert placed.shape == (20, 2)
    np.testing.assert_allclose(placed, again, atol=1e-3 * np.ptp(fitted.state().get("embedding", placed)))


@pytest.mark.parametrize("name", ["tsne", "umap"])
def test_new_points_land_among_their_own_kind(digits: Vectors, name: str) -> None:
    kinds = load_digits().target
    fitted = build(name).fit(digits[:280])
    placed, embedding = fitted.transform(digits[280:]), fitted.state()["embedding"]
    nearest = [int(np.linalg.norm(embedding - point, axis=1).argmin()) for point in placed]
    assert np.mean(kinds[nearest] == kinds[280:300]) > 0.7


@pytest.mark.parametrize("name", REDUCERS)
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "hellinger"])
def test_every_metric(digits: Vectors, name: str, metric: str) -> None:
    reduced = build(name, metric=metric).fit_transform(digits[:100])
    assert trustworthiness(digits[:100], reduced, n_neighbors=10) > 0.75


@pytest.mark.parametrize("name", REDUCERS)
@pytest.mark.parametrize("count", [6, 9, 20])
def test_fewer_points_than_neighbours(digits: Vectors, name: str, count: int) -> None:
    assert np.isfinite(build(name).fit_transform(digits[:count])).all()


@pytest.mark.parametrize("name", REDUCERS)
def test_too_few_points_are_refused(digits: Vectors, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}.* need"):
        build(name).fit_transform(digits[:1])


def test_pca_is_the_projection_that_scikit_learn_finds(digits: Vectors) -> None:
    from sklearn.decomposition import PCA

    ours = build("pca", n_components=10, metric="euclidean", whiten=True).fit_transform(digits)
    theirs = PCA(10, whiten=True, svd_solver="full").fit_transform(digits)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-3)


def test_tsne_makes_maps_only() -> None:
    with pytest.raises(UsageError, match="1 or 2 dimensions"):
        build("tsne", n_components=3)


@pytest.mark.parametrize(("name", "floor"), [("tsne", 0.93), ("umap", 0.91), ("pca", 0.78)])
def test_neighbours_of_real_photographs_stay_neighbours(clothing: Vectors, name: str, floor: float) -> None:
    if name == "umap":
        pytest.importorskip("umap")
    reduced = imgrec.build("reducer", name).fit_transform(clothing)
    assert trustworthiness(clothing, reduced, n_neighbors=10) >= floor


@pytest.fixture(scope="module")
def clothing(tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    """Unit-length MobileNet v2 vectors of the 713 photographs of clothes."""
    extractor = shared_timm("mobilenetv2_100", normalise=True)
    store = imgrec.build("store", "sqlite", path=str(tmp_path_factory.mktemp("clothing") / "g.sqlite"))
    imgrec.ingest(shared("photos", "clothing"), extractor, store)
    with store:
        _, vectors = store.vectors(store.spaces()[0])
    assert vectors.shape == (713, 1280)
    return vectors
