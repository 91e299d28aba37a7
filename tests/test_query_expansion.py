"""Alpha query expansion, and second searches in general."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import imgrec
from conftest import Cli
from imgrec.kinds import as_euclidean
from test_similarity import COLOUR_AND_HOG, picture

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_it_is_the_mean_weighted_by_powers_of_similarities(alpha: float) -> None:
    query = RNG.normal(size=6).astype(np.float32)
    nearest = (query + RNG.normal(size=(4, 6)) / 3).astype(np.float32)
    cosines = (as_euclidean(nearest, "cosine") @ as_euclidean(query[None], "cosine")[0]).clip(0)
    weights = np.concatenate([[1], cosines**alpha])
    expected = np.average(np.vstack([query, nearest]), axis=0, weights=weights)
    made = imgrec.build("reranker", "query_expansion", alpha=alpha).expand(query, nearest)
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_what_points_the_other_way_counts_for_nothing() -> None:
    query = np.array([1, 0], np.float32)
    made = imgrec.build("reranker", "query_expansion").expand(query, np.array([[-1, 0.1]], np.float32))
    np.testing.assert_array_equal(made, query)


def test_a_recommendation_asks_twice(few: Path, tmp_path: Path) -> None:
    """The answer is that to the expanded query, and the query's own content is in neither."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    colour = imgrec.build("extractor", "colour")
    imgrec.ingest(few, colour, store)
    reranker = imgrec.build("reranker", "query_expansion", neighbours=3)
    with store:
        (space,) = store.spaces()
        digests, vectors = store.vectors(space)
        path_of = {record.digest: record.path for record in store.records()}
    own = next(i for i, digest in enumerate(digests) if path_of[digest] == str(picture(few)))
    unit = as_euclidean(vectors, "cosine")
    others = [i for i in np.argsort(1 - unit @ unit[own], kind="stable") if i != own]
    again = as_euclidean(reranker.expand(unit[own], unit[others[:3]])[None], "cosine")[0]
    expected = sorted(others, key=lambda i: 1 - float(unit[i] @ again))
    found = imgrec.recommend(picture(few), store, k=11, metric="cosine", rerank=reranker)
    assert [match.path for match in found] == [path_of[digests[i]] for i in expected]


def test_each_part_of_a_fusion_is_expanded(cli: Cli, few: Path) -> None:
    cli("ingest", few, *COLOUR_AND_HOG)
    words = ["rerank=query_expansion", "rerank.neighbours=4", "rerank.alpha=1"]
    plain, expanded = (cli("recommend", picture(few), *some, "format=json").json() for some in ([], words))
    assert {match["path"] for match in plain["matches"]} != set()
    assert plain["matches"][0]["distance"] > expanded["matches"][0]["distance"]  # it has moved to its neighbours
    found = cli("evaluate", few, *words, "format=json").json()
    assert found["rerank"] == {"reranker": "query_expansion", "neighbours": 4, "alpha": 1.0}
    refused = cli("recommend", picture(few), "rerank=query_expansion", "rerank.neighbours=0", code=2).err
    assert "rerank.neighbours is at least 1, not 0" in refused
