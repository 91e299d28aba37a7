"""Options that would have no effect are refused, and those that have one are taken."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
from conftest import Cli
from imgrec import images, registry
from imgrec.kinds import Reducer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with a gallery by colours, `outputs/gallery.sqlite`, and one by the default fusion."""
    folder = tmp_path_factory.mktemp("effects")
    shutil.copytree(photos, folder / "photos")
    colour = imgrec.build("extractor", "colour")
    both = imgrec.Fusion(
        weights={"hog": 1, "colour": 1}, parts={"hog": imgrec.build("extractor", "hog"), "colour": colour}
    )
    imgrec.ingest(folder / "photos", colour, store(folder / "outputs" / "gallery.sqlite"))
    imgrec.ingest(folder / "photos", both, store(folder / "fusion.sqlite"))
    return folder


def store(path: Path) -> imgrec.Store:
    return imgrec.build("store", "sqlite", path=str(path))  # type: ignore[no-any-return]


Q = "photos/china/china-0-0.jpg"

REFUSED = [
    ("ingest photos force=true", "force=true has no effect without prune=true"),
    ("ingest photos backup.path=x", "backup.path has no effect: no backup is chosen"),
    ("ingest photos engine.threads=3", "engine=threads has no option 'threads'"),
    ("ingest photos default_extractor=hog", "default_extractor= is for a new gallery, and .* has colour-"),
    ("ingest photos extractor=colour default_extractor=hog", "default_extractor= has no effect beside extractor="),
    ("ingest photos extractor.device=cpu", "colour has no option 'device'"),
    ("ingest photos extractor=hog extractor.bins=3", "hog has no option 'bins'"),
    ("ingest photos extractor.weights.colour=3", "extractor colour has no option 'weights'"),
    ("ingest photos hydra.sweep.dir=x", "hydra.sweep.dir= is of sweeps, and has no effect without -m"),
    ("ingest photos hydra/launcher=basic", "hydra/launcher= is of sweeps"),
    ("-m ingest photos hydra.run.dir=x", "hydra.run.dir= has no effect in a sweep"),
    (f"recommend {Q} projection.n_components=3", "projection.n_components has no effect: no projection is chosen"),
    (f"recommend {Q} projection.whiten=true", "projection.whiten has no effect"),
    (f"recommend {Q} rerank.alpha=3", "rerank.alpha has no effect: no rerank is chosen"),
    (f"recommend {Q} rerank.neighbours=3", "rerank.neighbours has no effect"),
    (f"recommend {Q} index.effort=3", "index.effort has no effect: no index is chosen"),
    (f"recommend {Q} space=hog extractor=colour", "are not of one space"),
    (f"recommend {Q} projection=tsne", "tsne draws maps only, of 2 dimensions at most"),
    (f"recommend {Q} store.path=fusion.sqlite extractor.device=cpu", "has no option 'device'"),
    (f"recommend {Q} store.path=fusion.sqlite extractor.bins=3", "bins was 5 and is 3"),
    (f"recommend {Q} store.path=fusion.sqlite projection=pca projection.n_components=5000", "has no effect: no"),
    (f"recommend {Q} store.path=fusion.sqlite metric=cosine extractor.metrics.hog=cosine", "is of all parts"),
    ("visualise reducer=pca highlight=*/china/* labels=none", "labels= has no effect beside highlight="),
    ("visualise reducer=pca highlight=*/nothing/*", "matches none of 40 images"),
    ("visualise reducer=pca extractor.min_side=128", "extractor.min_side has no effect: nothing is extracted"),
    ("visualise reducer=pca reducer.perplexity=3", "pca has no option 'perplexity'"),
    ("visualise reducer=pca metric=cosine", "visualise has no option 'metric'"),
    ("evaluate queries=photos/china sample=10", "sample= has no effect beside queries="),
    ("evaluate queries=photos/china labels=none", "queries= needs labels"),
    ("evaluate default_extractor=hog", "default_extractor= is for a new gallery"),
    ("evaluate projection=lda labels=none", "lda learns from labels, and there are none"),
    ("evaluate projection.n_components=3", "projection.n_components has no effect"),
    ("info failures=3 format=json", "failures= has no effect with format=json"),
    ("verify backup.path=x", "backup.path has no effect: no backup is chosen"),
    ("restore backup.path=x", "backup.path has no effect: no backup is chosen"),
    ("restore backup=csv", "there is no backup at outputs/gallery-csv: .*`imgrec ingest FOLDER backup=csv`"),
    (f"-m recommend {Q} metric=cosine,foo", "metric is one of chi2, cosine.*, not 'foo'"),
    (f"-m recommend {Q} k=3,0", "k is at least 1, not 0"),
    ("-m ingest photos extractor=colour extractor.bins=3,257", "extractor.bins is at most 256, not 257"),
    ("-m visualise reducer=pca format=png,foo", "format is one of .*, not 'foo'"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "told"), REFUSED)
def test_what_would_have_no_effect_is_refused(
    here: Cli, made: Path, monkeypatch: pytest.MonkeyPatch, command: str, told: str
) -> None:
    monkeypatch.chdir(made)
    before = sorted(made.rglob("*"))
    done = here(*shlex.split(command), code=2)
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert re.search(told, line), line
    assert [path for path in sorted(made.rglob("*")) if path not in before and "gallery" not in path.name] == []


TAKEN = [
    "ingest photos default_extractor=colour",  # what the gallery has: the same command again
    "ingest photos store.path=fusion.sqlite extractor.min_side=128",
    "ingest photos prune=true force=true",
    f"recommend {Q} store.path=fusion.sqlite extractor.min_side=128",
    "evaluate queries=photos/china sample=null",
    "visualise reducer=pca highlight=*/china/*",
    "visualise reducer=pca store.path=fusion.sqlite extractor.weights.hog=3",
    "info failures=3",
]


@pytest.mark.parametrize("command", TAKEN)
def test_what_has_an_effect_is_taken(here: Cli, made: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(made)
    here(*shlex.split(command))


def test_a_projection_of_a_fusion_is_one_of_each_part_that_is_larger(made: Path) -> None:
    gallery = store(made / "fusion.sqlite")
    pca = imgrec.build("reducer", "pca", n_components=30)
    with imgrec.open(gallery, projection=pca) as opened:
        dims = [field.vectors.shape[1] for field in opened.fields]
        found = [match.path for match in opened.search([made / Q], k=39)[0]]
    assert dims == [30, 30]
    # By hand: the distances of both parts, projected one by one, over their medians.
    with imgrec.open(gallery) as whole:
        digests = [record.digest for record in whole.records]
        paths = [record.path for record in whole.records]
        vectors = whole.stored_vectors(whole.records)
    query = paths.index(str(made / Q))
    total = np.zeros(len(paths))
    first = np.argsort(np.array(digests))  # all 40 are in the sample of which the usual distance is the median
    for part in vectors.values():
        projected = imgrec.build("reducer", "pca", n_components=30).fit(part[first]).transform(part).astype(float)
        apart = np.linalg.norm(projected[:, None] - projected[None], axis=2)
        total += apart[query] / np.median(apart[~np.eye(len(paths), dtype=bool)]) / 2
    total[query] = np.inf
    assert found == [paths[i] for i in np.argsort(total)[:-1]]
    with imgrec.open(gallery, projection=imgrec.build("reducer", "pca", n_components=39)) as opened:
        assert [field.vectors.shape[1] for field in opened.fields] == [39, 39]


def test_a_part_whose_metric_compares_shares_is_projected_in_its_euclidean_form(made: Path) -> None:
    gallery = store(made / "fusion.sqlite")
    pca = imgrec.build("reducer", "pca", n_components=20)
    with imgrec.open(gallery, extractor={"metrics": {"colour": "hellinger"}}, projection=pca) as opened:
        hog, colour = opened.similarity.terms
    assert (colour.metric.name, colour.projection and colour.projection.metric) == ("euclidean", "hellinger")
    assert hog.projection is not None
    assert hog.projection.metric == "cosine"


# --- each option of a component changes what it does ------------------------------------------------------------

CHANGES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("extractor", "colour", {"bins": 4, "colour_space": "hsv", "joint": False, "normalise": False}, {}),
    ("extractor", "colour", {"min_side": 32}, {}),
    (
        "extractor",
        "hog",
        {"window": 32, "cell": 16, "block": 3, "orientations": 5, "signed": True, "fit": "crop", "smoothing": 0.0,
         "clip": 0.2},
        {},
    ),
    ("reducer", "pca", {"n_components": 1, "metric": "euclidean", "whiten": True}, {}),
    ("reducer", "lda", {"n_components": 1, "metric": "euclidean", "shrinkage": 0.9}, {"n_components": 2}),
    ("reducer", "logistic", {"n_components": 1, "metric": "euclidean", "penalty": 100.0}, {"n_components": 2}),
    (
        "reducer",
        "tsne",
        {"n_components": 1, "metric": "euclidean", "perplexity": 5.0, "exaggeration": 4.0, "n_iter": 20, "pca": 3},
        {"n_iter": 10},
    ),
    ("reducer", "tsne", {"landmarks": 30}, {"n_iter": 10}),
    ("rerank", "query_expansion", {"neighbours": 2, "alpha": 0.5}, {}),
]  # fmt: skip

IDLE = {"seed", "n_jobs"}
"""Options that need not change a result: seeds of what is not random on so little, and numbers of threads."""


@pytest.mark.parametrize(("kind", "name", "changes", "base"), CHANGES)
def test_each_option_has_an_effect(
    made: Path, kind: str, name: str, changes: dict[str, Any], base: dict[str, Any]
) -> None:
    plain = registry.build("reranker" if kind == "rerank" else kind, name, **base)
    covered = {key for k, n, each, _ in CHANGES if (k, n) == (kind, name) for key in each}
    harmless = {s.name for s in dataclasses.fields(plain) if not s.metadata.get("changes_vectors", True)}
    assert covered | IDLE | harmless >= set(plain.options())
    rng = np.random.default_rng(0)
    vectors = (rng.random((40, 12)) * np.arange(1, 13)).astype(np.float32)
    labels = ["a", "b"] * 20
    vectors[::2, 0] += 4

    def result(component: Any) -> Any:
        if kind == "extractor":
            photograph = (made / Q).read_bytes()
            return component.extract([images.decode(photograph, component.side)[10:]])
        if isinstance(component, Reducer):
            return component.fit_transform(vectors, labels)
        nearest = vectors[1 : 1 + component.neighbours]
        return component.expand(vectors[0], nearest)

    before = result(plain)
    for key, value in changes.items():
        after = result(registry.changed(plain, {key: value}))
        assert after.shape != before.shape or not np.allclose(after, before, atol=1e-3 * before.std()), key


# --- from Python --------------------------------------------------------------------------------------------

COLOUR, PCA = ("extractor", "colour"), ("reducer", "pca")

WRONG = [
    ("open", {"metric": 3}, "metric is one of chi2"),
    ("open", {"metric": ["cosine"]}, "metric is one of chi2"),
    ("open", {"where": "hat"}, "where takes a function of a record"),
    ("open", {"space": 3}, "space takes a key"),
    ("open", {"extractor": "colour"}, r"extractor takes what imgrec.build\('extractor', ...\) builds"),
    ("open", {"projection": "pca"}, r"projection takes what imgrec.build\('reducer', ...\) builds, not 'pca'"),
    ("open", {"index": "ivf"}, r"index takes what imgrec.build\('index', ...\) builds"),
    ("search", {"rerank": "query_expansion"}, r"rerank takes what imgrec.build\('reranker', ...\) builds"),
    ("search", {"among": "hat"}, "among takes a function of a record"),
    ("search", {"k": "5"}, "k is at least 1, not '5'"),
    ("ingest", {"extractor": "colour"}, "extractor takes what"),
    ("ingest", {"extractor": [3]}, "extractor takes what"),
    ("ingest", {"store": "gallery.sqlite"}, "store takes what"),
    ("ingest", {"backup": "csv"}, "backup takes what"),
    ("ingest", {"engine": "threads"}, "engine takes what"),
    ("ingest", {"force": True}, "force=true has no effect without prune"),
    ("recommend", {"store": "gallery.sqlite"}, "store takes what"),
    ("recommend", {"metric": 3}, "metric is one of chi2"),
    ("visualise", {"reducer": "pca"}, "reducer takes what"),
    ("visualise", {"store": "gallery.sqlite"}, "store takes what"),
    ("evaluate", {"store": "gallery.sqlite"}, "store takes what"),
    ("evaluate", {"queries": "gallery.sqlite"}, "queries takes what"),
    ("duplicates", {"store": "gallery.sqlite"}, "store takes what"),
    ("export_vectors", {"store": "gallery.sqlite"}, "store takes what"),
    ("import_vectors", {"store": "gallery.sqlite"}, "store takes what"),
    ("visualise", {"labels": "none", "highlight": "*"}, "labels= has no effect beside highlight="),
    ("visualise", {"extractor": {"min_side": 3}}, "extractor.min_side has no effect"),
]


@pytest.mark.parametrize(("call", "options", "told"), WRONG)
def test_what_is_wrong_in_python_is_a_usage_error(
    made: Path, call: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(imgrec.UsageError, match=told):
        _called(call, made, options)


def _called(call: str, made: Path, options: dict[str, Any]) -> None:
    gallery, query = store(made / "outputs" / "gallery.sqlite"), str(made / Q)
    if call in ("open", "search"):
        with imgrec.open(gallery, **(options if call == "open" else {})) as opened:
            opened.search([query], **(options if call == "search" else {}))
    elif call == "ingest":
        given = {"extractor": imgrec.build(*COLOUR), "store": gallery, **options}
        imgrec.ingest(made / "photos", **given)
    elif call == "recommend":
        imgrec.recommend(query, **{"store": gallery, **options})
    elif call == "export_vectors":
        imgrec.export_vectors(**{"store": gallery, "to": made / "vectors.parquet", **options})
    elif call == "import_vectors":
        imgrec.import_vectors(made / "vectors.parquet", **options)
    elif call in ("duplicates", "evaluate"):
        getattr(imgrec, call)(**{"store": gallery, **options})
    else:
        imgrec.visualise(**{"store": gallery, "reducer": imgrec.build(*PCA), **options})
