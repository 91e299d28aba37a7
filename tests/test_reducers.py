from __future__ import annotations

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
