"""The stage `evaluate`, from the shell."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sklearn.metrics import average_precision_score

import imgrec
from conftest import Cli, shared
from imgrec import evaluation

LIGHT = ["extractor=colour", "extractor.bins=3"]


@pytest.mark.parametrize("with_copy", [False, True])
def test_leave_one_out_agrees_with_scikit_learn(cli: Cli, few: Path, with_copy: bool) -> None:
    if with_copy:
        shutil.copy(few / "china" / "china-0-0.jpg", few / "china" / "copy.jpg")
    done = cli("+stage=evaluate", f"source={few}", *LIGHT, "metric=cosine", "k=3", "format=json")
    found = done.json()
    store = imgrec.build("store", "sqlite", path=str(few.parent / "outputs" / "gallery.sqlite"))
    with store:
        (space,) = store.spaces()
        records = sorted(store.records(), key=lambda record: record.path)
        rows = dict(zip(*store.vectors(space), strict=True))
    vectors = np.stack([rows[record.digest] for record in records]).astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.array([Path(record.path).parent.name for record in records])
    digests = np.array([record.digest for record in records])
    precisions, averages = [], []
    for i, similar in enumerate(unit @ unit.T):
        others = digests != digests[i]  # neither itself nor its copy
        hits, scores = (labels == labels[i])[others], similar[others]
        precisions.append(hits[np.argsort(-scores, kind="stable")[:3]].mean())
        averages.append(average_precision_score(hits, scores))
    assert found["queries"] == found["gallery"] == len(records) == 12 + with_copy
    assert found["precision_at_k"] == pytest.approx(np.mean(precisions))
    if not with_copy:  # ties, of which scikit-learn thinks otherwise
        assert found["map"] == pytest.approx(np.mean(averages), abs=1e-6)
    low, high = found["confidence"]["map"]
    assert low <= found["map"] <= high
    assert {group["label"]: group["queries"] for group in found["by_class"]} == {
        "china": 6 + with_copy,
        "flower": 6,
    }
    assert found["bytes_per_image"] == 27 * 4
    assert found["images_per_s"] > 0
    folder = done.runs()[-1]
    with PIL.Image.open(folder / "worst.png") as picture:
        assert picture.width > 600
    with (folder / "queries.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(records)
    again = cli("evaluate", few, *LIGHT, "metric=cosine", "k=3", "format=json").json()
    costs = {"images_per_s", "query_ms", "memory_mb"}
    assert {key: each for key, each in again.items() if key not in costs} == {
        key: each for key, each in found.items() if key not in costs
    }


def test_queries_of_a_folder_never_become_neighbours(cli: Cli, few: Path) -> None:
    (few.parent / "queries").mkdir()
    (few / "flower").rename(few.parent / "queries" / "flower")
    shutil.copytree(few / "china", few / "flower")
    for file in (few / "flower").iterdir():  # of the right label, and a little altered
        with PIL.Image.open(file) as picture:
            turned = picture.rotate(180)
        turned.save(file)
    found = cli("evaluate", few, "queries=queries", *LIGHT, "format=json").json()
    assert (found["queries"], found["gallery"]) == (6, 12)
    assert "12 images" in cli("info").out
    inside = cli("evaluate", few, f"queries={few}/flower", *LIGHT, "format=json").json()
    assert (inside["queries"], inside["gallery"]) == (6, 6)  # no query is in the gallery
    assert inside["without_relevant"] == 6
    assert inside["map"] == 0


def test_without_labels_altered_copies_find_their_originals(cli: Cli, few: Path) -> None:
    found = cli("evaluate", few, "labels=none", "sample=35", "extractor=colour", "format=json").json()
    groups = {group["label"]: group for group in found["by_alteration"]}
    assert sorted(groups) == ["blur", "brightness", "crop", "flip", "jpeg", "resize", "rotation"]
    assert found["queries"] == 35
    assert groups["flip"]["hit_rate"] == groups["flip"]["map"] == 1  # a histogram does not see it
    assert "by_class" not in found


def test_labels_of_a_file(cli: Cli, few: Path, tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w") as file:
        file.write("path,label\n")
        file.writelines(f"{path},{i % 3}\n" for i, path in enumerate(sorted(few.rglob("*.jpg"))))
    found = cli("evaluate", few, "labels=labels.csv", *LIGHT, "format=json").json()
    assert [group["label"] for group in found["by_class"]] == ["0", "1", "2"]


def test_a_projection_is_fitted_on_the_gallery(cli: Cli, few: Path) -> None:
    done = cli("evaluate", few, *LIGHT, "projection=pca", "projection.n_components=4", "format=json")
    found = done.json()
    assert found["bytes_per_image"] == 16
    assert found["projection"]["reducer"] == "pca"
    assert found["folds"] is None
    done = cli("evaluate", few, *LIGHT, "projection=lda", "projection.n_components=1", "format=json")
    learned = done.json()
    assert learned["folds"] == len(learned["projection"]) == done.record()["counts"]["folds"] == 5
    assert all(0 <= each["accuracy"] <= 1 and each["images"] in (9, 10) for each in learned["projection"])
    assert "needs as many images" in cli("evaluate", few, *LIGHT, "projection=pca", code=2).err
    refused = cli("evaluate", few, *LIGHT, "projection=lda", "labels=none", code=2).err
    assert "learns from labels, and there are none" in refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["queries=nowhere"], "does not exist"),
        (["labels=nothing.csv"], "there is no file"),
        (["k=0"], "at least 1"),
        (["projection=pcb"], "did you mean pca"),
        (["labels=none", "queries=few/flower"], "queries= needs labels"),
    ],
)
def test_what_cannot_be_evaluated(cli: Cli, few: Path, words: list[str], message: str) -> None:
    done = cli("evaluate", few, *LIGHT, *words, code=2)
    assert message in done.err.splitlines()[-1]


def test_a_gallery_that_is_not_there(cli: Cli) -> None:
    assert "name its photographs with source=" in cli("evaluate", code=2).err


def test_a_replay_finds_the_same(cli: Cli, few: Path) -> None:
    run = cli("evaluate", few, *LIGHT).runs()[-1]
    assert cli("replay", run).out.startswith("identical")


@pytest.mark.parametrize(
    ("words", "floor"),
    [
        (["extractor=colour", "metric=cosine"], 0.12),
        (
            [
                "extractor=hog",
                "projection=pca",
                "projection.n_components=64",
                "projection.whiten=true",
                "metric=cosine",
            ],
            0.47,
        ),
        (["extractor=handcrafted"], 0.42),
    ],
)
def test_floors_on_real_photographs(cli: Cli, words: list[str], floor: float) -> None:
    clothing = shared("photos", "clothing")
    line = [f"source={clothing}/validation", f"queries={clothing}/test", "format=json"]
    assert cli("+stage=evaluate", *line, *words).json()["precision_at_k"] >= floor


def test_floors_of_mobilenet_projections_and_query_expansion(cli: Cli) -> None:
    """Each better than the one before, nothing fitted on the queries."""
    pytest.importorskip("timm")
    clothing, weights = shared("photos", "clothing"), shared("weights", "mobilenetv2_100.safetensors")
    line = [f"source={clothing}/validation", f"queries={clothing}/test", "metric=cosine", "format=json"]
    line += ["extractor=mobilenetv2", f"extractor.checkpoint={weights}", "extractor.model_kwargs.pad_type=same"]
    line += ["extractor.mean=[0.5,0.5,0.5]", "extractor.std=[0.5,0.5,0.5]"]
    steps = [
        ([], 0.67),
        (["projection=pca"], 0.70),
        (["projection=pca", "rerank=query_expansion"], 0.71),
        (["projection=lda"], 0.82),
    ]
    reached = [cli("+stage=evaluate", *line, *words).json()["precision_at_k"] for words, _ in steps]
    assert all(figure >= floor for figure, (_, floor) in zip(reached, steps, strict=True)), reached
    assert reached == sorted(reached)


def test_an_explicit_metric_overrides_what_parts_have_as_their_own(cli: Cli, few: Path) -> None:
    """A sweep over metrics gave equal rows, all best, and JSON told of one metric that was not computed."""
    cli("ingest", few)
    own = cli("evaluate", few, "format=json").json()
    assert own["metric"] is None  # hog by cosine, colours by Hellinger
    asked = {
        name: cli("evaluate", few, f"metric={name}", "format=json").json() for name in ("euclidean", "cosine")
    }
    assert {name: each["metric"] for name, each in asked.items()} == {name: name for name in asked}
    query = min(few.rglob("*.jpg"))
    answers = {
        name: cli("recommend", query, *([f"metric={name}"] if name else []), "format=json").json()
        for name in ("", "euclidean", "cosine", "hellinger")
    }
    assert {part["metric"] for part in answers[""]["parts"].values()} == {"cosine", "hellinger"}
    assert answers[""]["metric"] is None
    for name in ("euclidean", "cosine", "hellinger"):
        assert {part["metric"] for part in answers[name]["parts"].values()} == {name}
        assert answers[name]["metric"] == name
    distances = {name: [match["distance"] for match in each["matches"]] for name, each in answers.items()}
    assert len({tuple(each) for each in distances.values()}) == 4
    refused = cli("recommend", query, "metric=cosine", "extractor.metrics.hog=manhattan", code=2).err
    assert "metric=cosine is of all parts of fusion-" in refused
    board = cli("-m", "evaluate", few, "metric=euclidean,cosine,manhattan", "format=json").json()
    assert len({job["map"] for job in board["jobs"]}) > 1


def test_labels_come_before_a_projection_that_learns_from_them(photos: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    extractor = imgrec.build("extractor", "colour")
    imgrec.ingest(photos, extractor, store)
    lda = imgrec.build("reducer", "lda", n_components=1)
    with (
        imgrec.open(store, projection=lda) as gallery,
        pytest.raises(imgrec.UsageError, match="is already fitted: open the gallery with where="),
    ):
        evaluation.asked_of(gallery, [extractor])


def test_from_python_it_gives_the_figures_of_the_stage(cli: Cli, photos: Path, few: Path, tmp_path: Path) -> None:
    told = cli(
        "evaluate", photos, f"queries={few}", "extractor=colour", "metric=cosine", "k=3", "format=json"
    ).json()
    extractor = imgrec.build("extractor", "colour")
    stores = [
        imgrec.build("store", "sqlite", path=str(tmp_path / f"{name}.sqlite")) for name in ("own", "queries")
    ]
    for folder, store in zip((photos, few), stores, strict=True):
        imgrec.ingest(folder, extractor, store)
    found = imgrec.evaluate(stores[0], stores[1], metric="cosine", k=3)
    for name in ("map", "precision_at_k", "recall_at_k", "hit_rate", "queries", "gallery"):
        assert found[name] == told[name]
    own = imgrec.evaluate(stores[0], k=3, labels="none", sample=80)
    assert own["asked"] != found["asked"]
    assert 0.5 < own["hit_rate"] <= 1
    for wrong in ({"k": 0}, {"sample": 0}, {"space": "hog"}, {"labels": "nothing.csv"}):
        with pytest.raises(imgrec.UsageError):
            imgrec.evaluate(stores[0], **wrong)
