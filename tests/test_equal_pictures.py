"""Equal bytes are at distance 0, equal pixels at most 1e-5 of the vectors' length: blank pages among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from broken import Brute
from conftest import of_any_values
from imgrec.kinds import Image, Vectors
from imgrec.kinds.extractor import are_equal
from imgrec.kinds.metric import metric_of, names
from imgrec.search import exact

CLOSE = 1e-5

METRICS = of_any_values(names())


def picture(seed: int) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(PIL.Image.fromarray(coarse).resize((120, 90), PIL.Image.Resampling.BICUBIC))


PAGES = {
    "white": np.full((160, 120, 3), 255, np.uint8),
    "black": np.zeros((90, 200, 3), np.uint8),
    "cream": np.tile(np.array([250, 249, 240], np.uint8), (100, 100, 1)),
    "photo": picture(1),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each page in three files of other bytes, one of them apart, among many blank pages and a few pictures."""
    made = tmp_path_factory.mktemp("pages")
    (made / "p").mkdir()
    for name, pixels in PAGES.items():
        page = PIL.Image.fromarray(pixels)
        page.save(made / "p" / f"{name}.png")
        page.save(made / "p" / f"{name}.webp", lossless=True)
        page.save(made / f"{name}.bmp")
    for i in range(20):
        PIL.Image.fromarray(PAGES["white"]).save(
            made / "p" / f"blank{i}.png", compress_level=1, dpi=(100 + i, 100)
        )
    for i in range(8):
        PIL.Image.fromarray(picture(i + 2)).save(made / "p" / f"other{i}.png")
    return made


def build(name: str, **options: Any) -> Any:
    kind = "reducer" if name == "pca" else "extractor"
    return imgrec.build(kind, name, **options)


def handcrafted(projected_from: int) -> imgrec.Fusion:
    """The default, with a projection to more dimensions than these pages have."""
    return imgrec.Fusion(
        weights={"hog": 0.75, "colour": 0.25},
        parts={"hog": build("hog"), "colour": build("colour")},
        projections={"hog": build("pca", n_components=24, whiten=True)},
        metrics={"hog": "cosine", "colour": "hellinger"},
        projected_from=projected_from,
    )


def check(folder: Path, extractor: imgrec.Extractor, tmp_path: Path, **how: Any) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(folder / "p", extractor, store)
    with imgrec.open(store, **how) as gallery:
        for name in PAGES:
            equal = [str(folder / "p" / f"{name}.{suffix}") for suffix in ("png", "webp")]
            query = imgrec.Query.of(equal[0], include_self=True)
            (same,) = gallery.search([query], k=100)
            assert {match.path: match.distance for match in same}[equal[0]] == 0
            for asked in (query, str(folder / f"{name}.bmp")):
                (near,) = gallery.within([asked], CLOSE)
                assert {match.path for match in near} >= set(equal), (name, asked)
            (ranked,) = gallery.search([str(folder / f"{name}.bmp")], k=100)
            assert all(match.distance <= CLOSE for match in ranked if match.path in equal)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("name", "options"),
    [("hog", {}), ("hog", {"window": 60, "cell": 6}), ("colour", {}), ("colour", {"normalise": False})],
)
def test_of_every_light_extractor_in_every_metric(
    folder: Path, tmp_path: Path, name: str, options: dict[str, Any], metric: str
) -> None:
    check(folder, build(name, **options), tmp_path, metric=metric)


@pytest.mark.parametrize("metric", ["cosine", "manhattan"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("pca", {"n_components": 24}), ("pca", {"n_components": 24, "whiten": True})],
)
def test_of_every_projection(
    folder: Path, tmp_path: Path, name: str, options: dict[str, Any], metric: str
) -> None:
    check(folder, build("hog"), tmp_path, metric=metric, projection=build(name, **options))


@pytest.mark.parametrize("projected_from", [0, 10**6])
def test_of_the_default_fusion(folder: Path, tmp_path: Path, projected_from: int) -> None:
    check(folder, handcrafted(projected_from), tmp_path)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "hellinger"])
def test_of_an_index(folder: Path, tmp_path: Path, metric: str) -> None:
    check(folder, build("hog"), tmp_path, metric=metric, index=Brute())


def test_of_a_network(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    for normalise in (False, True):
        extractor = build("timm", model="test_resnet", pretrained=False, runtime="torch", normalise=normalise)
        (tmp_path / str(normalise)).mkdir()
        check(folder, extractor, tmp_path / str(normalise), metric="cosine")


def test_blank_pages_do_not_push_out_of_an_index_what_is_nearer(tmp_path: Path) -> None:
    """At unit length a zero vector is nearer to all others than its distance of 1."""
    rng = np.random.default_rng(0)
    vectors = np.zeros((400, 8), np.float32)
    vectors[:20] = rng.normal(size=(20, 8)) * 0.1
    vectors[:20, 0] = 1
    vectors[:20, 1] = 1.4
    query = np.zeros(8, np.float32)
    query[0] = 1
    space = imgrec.Space("colour-0123456789ab", "colour", {}, {"extractor": "colour"})
    digests = [f"{i:064x}" for i in range(400)]
    records = [imgrec.Record(f"/{i:03}.jpg", digest, 1, 1) for i, digest in enumerate(digests)]
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    with store.open(create=True):
        store.write(imgrec.Batch(records=records, vectors={space: (digests, vectors)}))
        with imgrec.open(store, "cosine") as gallery:
            wanted = gallery.search([query, np.zeros(8, np.float32)], k=5)
        with imgrec.open(store, "cosine", index=Brute()) as gallery:
            found = gallery.search([query, np.zeros(8, np.float32)], k=5)
    assert found[0] == wanted[0]
    assert wanted[0][0].distance < 1
    assert [match.distance for match in found[1]] == [0] * 5


@dataclass
class Scattered(imgrec.NeighbourReducer):
    """Places each point anywhere, as t-SNE and UMAP do with equal ones."""

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        self._prepare(vectors)
        return self._embedded(np.random.default_rng(0).normal(size=(len(vectors), 2)))

    def _placed(self, prepared: Vectors) -> Any:
        return np.random.default_rng(1).normal(size=(len(prepared), 2))


@settings(max_examples=10)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, 5]),
    st.sampled_from(["euclidean", "cosine"]),
    st.sampled_from([None, 100]),
)
def test_maps_have_equal_vectors_at_one_place(
    seed: int, pca: int | None, metric: str, landmarks: int | None
) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(6, 9)).astype(np.float32)
    kinds[5] = 0
    which = rng.integers(6, size=200)
    vectors = (kinds[which] * (1 + 1e-7 * rng.uniform(-1, 1, size=(200, 9)))).astype(np.float32)
    reducer = Scattered(pca=pca, metric=metric, landmarks=landmarks)
    places = reducer.fit_transform(vectors)
    assert len(np.unique(places, axis=0)) == len(np.unique(which))
    np.testing.assert_array_equal(reducer.transform(vectors[::-1]), places[::-1])
    far = reducer.transform(vectors + np.float32(3))
    assert not (far[:, None] == places).all(axis=2).any()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from(METRICS))
def test_the_usual_distance_is_not_that_of_rounding_errors(seed: int, copies: int, metric: str) -> None:
    """However many copies there are, it is as among the others alone, or as from one of the copies to them."""
    rng = np.random.default_rng(seed)
    others = rng.gamma(0.5, size=(6, 9)).astype(np.float32)
    noise = 1 + 1e-6 * rng.uniform(-1, 1, size=(copies, 9))
    vectors = np.concatenate([others, (others[0] * noise).astype(np.float32)])
    apart = [metric_of(metric).distances(a.astype(float), others.astype(float)) for a in others]
    true = np.array(apart)[~np.eye(6, dtype=bool)]
    assert true.min() * 0.99 <= exact.usual_distance(vectors, metric_of(metric)) <= true.max() * 1.01


def test_equal_is_to_a_hundred_thousandth_of_the_length() -> None:
    one = np.array([3.0, 4.0])
    rows: Vectors = np.array([[3, 4], [3, 4.00004], [3, 4.00006], [0, 0], [-3, -4]], np.float64)
    assert are_equal(rows, one).tolist() == [True, True, False, False, False]
    assert are_equal(np.zeros((2, 2)), np.zeros(2)).tolist() == [True, True]
    assert are_equal(np.full((1, 2), 1e30, np.float32), np.full(2, 2e30, np.float32)).tolist() == [False]
