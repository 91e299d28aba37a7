"""Typicality: p-values that are uniform for queries like the gallery's images, whatever compares them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from broken import Brute
from conftest import Cli
from imgrec.gallery import typicality
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity, Term, of
from imgrec.gallery.typicality import Typical
from imgrec.kinds import Store, Vectors
from imgrec.kinds.metric import metric_of
from test_selection import SPACES, write
from test_smoothing import neighbours, opened


def cloud(rng: np.random.Generator, count: int) -> Vectors:
    """Vectors without negative values, in groups, some sparser than others."""
    groups = np.random.default_rng(0).gamma(2.0, size=(12, 8))
    spread = np.linspace(0.2, 0.5, 12)
    chosen = rng.integers(12, size=count)
    return np.abs(groups[chosen] + spread[chosen, None] * rng.normal(size=(count, 8))).astype(np.float32)


def gallery_of(store: Store, vectors: Vectors, how: str) -> Gallery:
    if how == "fusion":
        write(store, dict.fromkeys(SPACES, vectors))
        terms = [Term(SPACES[0], metric_of("cosine"), "x", 0.3), Term(SPACES[1], metric_of("euclidean"), "y", 0.7)]
        return Gallery(store, Similarity(tuple(terms), "fusion-1"))
    write(store, {SPACES[0]: vectors})
    (term,) = of(SPACES[0], {"manhattan": "manhattan", "lda": "euclidean"}.get(how, "cosine")).terms
    if how == "smoothing":
        term = replace(term, smoothing=neighbours(3))
    if how in ("pca", "lda"):
        options = {"n_components": 3} if how == "pca" else {"n_components": 1}
        term = replace(term, projection=imgrec.build("reducer", how, **options))
    return Gallery(store, Similarity((term,)), index=Brute() if how == "index" else None)


@pytest.mark.parametrize(
    "how", ["euclidean", "manhattan", "fusion", "pca", "lda", "smoothing", "rerank", "index", "where"]
)
def test_queries_like_the_gallery_have_uniform_typicality(how: str) -> None:
    """Of queries from the same distribution a share alpha is below alpha, and of others more."""
    rng = np.random.default_rng(7)
    rerank = neighbours(3) if how == "rerank" else None
    with opened() as store:
        gallery = gallery_of(store, cloud(rng, 400), how)
        if how == "where":
            gallery = Gallery(store, of(SPACES[0]), where=lambda record: record.path.startswith("/a/"))
        ask: Any = (lambda v: {"x": v, "y": v}) if how == "fusion" else (lambda v: v)
        found = gallery.search([ask(v) for v in cloud(rng, 400)], 1, rerank=rerank, threshold="auto", alpha=1e-9)
        told = np.sort([matches[0].typicality or 0 for matches in found])
        # Kolmogorov and Smirnov's difference of two samples, which chance alone exceeds once in 100,000 times.
        most = math.sqrt(-math.log(1e-5 / 2) / 2 * (1 / 400 + 1 / gallery.contents))
        # Above the middle it is a little higher: the nearest of some images is left out as if it were a copy.
        assert np.abs(told - np.arange(1, 401) / 400)[:200].max() < most
        strange = [ask(v) for v in rng.permuted(cloud(rng, 100), axis=1)]
        others = gallery.search(strange, 1, rerank=rerank, threshold="auto", alpha=0.05)
        assert np.mean([not matches for matches in others]) > 0.08


@settings(max_examples=100)
@given(st.lists(st.floats(0, 9), max_size=50), st.floats(0, 10))
def test_typicality_is_the_share_of_those_at_least_as_far(known: list[float], distance: float) -> None:
    share = (1 + sum(each >= distance for each in known)) / (1 + len(known))
    assert Typical(np.sort(known)).of(np.array(distance)) == share


def test_near_copies_in_the_gallery_do_not_make_others_strange() -> None:
    """Where each image has two more that hardly differ, typical distances are those without them."""
    rng = np.random.default_rng(3)
    vectors = np.abs(rng.normal(1, 0.3, (100, 8))).astype(np.float32)
    found = []
    for copies in (1, 3):
        noise = rng.normal(1, 0.0001, (copies, *vectors.shape)).astype(np.float32)
        with opened() as store:
            gallery = gallery_of(store, np.concatenate(vectors * noise), "cosine")
            found.append(typicality.typical(gallery, None, 0.05).distances)
    levels = [0.8, 0.9, 0.95]
    assert np.quantile(found[1], levels) == pytest.approx(np.quantile(found[0], levels), rel=0.05)


def test_distances_are_measured_once_a_revision(caplog: pytest.LogCaptureFixture) -> None:
    """They are kept for the same similarity alone, and made again if they are damaged or the gallery changed."""
    rng = np.random.default_rng(5)
    caplog.set_level("INFO", "imgrec.gallery.typicality")
    vectors = cloud(rng, 60)

    def measured(store: Store, metric: str = "cosine", **how: Any) -> int:
        caplog.clear()
        query = how.pop("query", vectors[0])
        Gallery(store, of(SPACES[0], metric)).search([query], 1, threshold="auto", alpha=0.1, **how)
        return sum("typical distances are those of" in record.message for record in caplog.records)

    with opened() as store:
        write(store, {SPACES[0]: vectors})
        assert [measured(store), measured(store), measured(store, among={"label": "a"})] == [1, 0, 0]
        assert [measured(store, "euclidean"), measured(store, rerank=neighbours(3))] == [1, 1]
        assert [measured(store, rerank=neighbours(3)), measured(store)] == [0, 0]
        (folder,) = [Path(store.cache_folder or "") / "typical"]
        for file in folder.rglob("distances.npy"):
            file.write_bytes(file.read_bytes()[:-8])
        assert [measured(store), measured(store)] == [1, 0]
        write(store, {SPACES[0]: cloud(rng, 61)})
        assert [measured(store), measured(store)] == [1, 0]


def test_the_shell_says_that_nothing_is_similar(here: Cli, photos: Path) -> None:
    """Another kind of picture is refused, one of the gallery is not, and a replay finds the same."""
    query = min(photos.rglob("*.jpg"))
    here("ingest", photos, "extractor=colour")
    told = here("recommend", query, "threshold=auto", "alpha=0.1", "format=json", "include_self=true").json()
    assert (told["threshold"], told["alpha"]) == ("auto", 0.1)
    assert told["matches"][0]["typicality"] == 1
    assert all(match["typicality"] >= 0.1 for match in told["matches"])
    PIL.Image.new("RGB", (64, 64), (255, 0, 255)).save("strange.png")
    nothing = here("recommend", "strange.png", "threshold=auto", "format=json")
    assert nothing.json()["matches"] == []
    assert "nothing similar" in nothing.err
    here("replay", nothing.runs()[-1])
