"""Fusions, from Python and from the shell: weights at query time, parts, projections, and what a store notes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import imgrec
from conftest import Cli
from imgrec.errors import UsageError
from imgrec.fusion import Fusion
from imgrec.gallery import similarity
from imgrec.gallery.gallery import Gallery
from imgrec.kinds import Batch, Record, Space

COLOUR_AND_HOG = ("extractor=fusion", "extractor.weights={colour: 0.25, hog: 0.75}")


def fusion(weights: dict[str, float], **options: Any) -> Fusion:
    return Fusion(weights=weights, parts={name: imgrec.build("extractor", name) for name in weights}, **options)


def picture(folder: Path) -> Path:
    return min(folder.rglob("*.jpg"))


def test_distances_are_weighed_in_units_of_the_usual_one(few: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    both = fusion({"colour": 1, "hog": 3}, metrics={"hog": "cosine"})
    imgrec.ingest(few, both, store)
    matches = imgrec.recommend(picture(few), store, k=11, extractor=both)
    alone = {
        name: {
            match.path: match.distance
            for match in imgrec.recommend(picture(few), store, k=11, metric=metric, extractor=both.parts[name])
        }
        for name, metric in (("colour", "euclidean"), ("hog", "cosine"))
    }
    with store:
        by_extractor = {space.extractor: store.vectors(space)[1] for space in store.spaces()}
    usual = {
        name: np.median(cdist(by_extractor[name], by_extractor[name], metric)[np.triu_indices(12, 1)])
        for name, metric in (("colour", "euclidean"), ("hog", "cosine"))
    }
    for match in matches:
        parts = {name: weight * alone[name][match.path] / usual[name] for name, weight in both.shares().items()}
        assert match.distance == pytest.approx(sum(parts.values()), rel=1e-6)
        for name, distance in parts.items():
            assert match.shares[name] == pytest.approx(distance / match.distance, rel=1e-6)
    assert [match.distance for match in matches] == sorted(match.distance for match in matches)


def test_a_fusion_is_what_a_gallery_is_compared_by(cli: Cli, few: Path) -> None:
    cli("ingest", few, *COLOUR_AND_HOG)
    told = cli("recommend", picture(few), "format=json").json()
    named = cli("recommend", picture(few), *COLOUR_AND_HOG, "format=json").json()
    assert told == named
    assert told["parts"]["hog"]["weight"] == 0.75
    assert "0.25 colour, 0.75 hog" in cli("info").out
    table = cli("recommend", picture(few)).out.splitlines()
    assert table[0].split() == ["rank", "distance", "colour", "hog", "path"]
    assert sum(int(share.rstrip("%")) for share in table[1].split()[2:4]) in (99, 100, 101)


def test_other_weights_need_no_new_ingest(cli: Cli, few: Path) -> None:
    cli("ingest", few, *COLOUR_AND_HOG)
    gallery = (few.parent / "outputs" / "gallery.sqlite").read_bytes()
    only = cli("recommend", picture(few), "extractor.weights={colour: 1, hog: 0}", "format=json").json()
    (colour,) = (each["space"] for name, each in only["parts"].items() if name == "colour")
    alone = cli("recommend", picture(few), f"space={colour}", "format=json").json()
    assert [match["path"] for match in only["matches"]] == [match["path"] for match in alone["matches"]]
    assert list(only["parts"]) == ["colour"]
    assert (few.parent / "outputs" / "gallery.sqlite").read_bytes() == gallery
    assert "0 new" in cli("ingest", few, "extractor=fusion", "extractor.weights={colour: 9, hog: 1}").out
    assert cli("recommend", picture(few), "format=json").json()["parts"]["colour"]["weight"] == 0.9


def test_parts_have_options_and_projections(cli: Cli, few: Path) -> None:
    words = [
        *("extractor=fusion", "extractor.weights={fine: 1, hog: 2}"),
        *("extractor.parts.fine=colour", "extractor.parts.fine.bins=3"),
        *("extractor.projections.hog=pca", "extractor.projections.hog.n_components=4"),
    ]
    done = cli("ingest", few, *words)
    assert "24 extracted" in done.out
    first = cli("recommend", picture(few), "format=json")
    assert "pca is fitted on 12 images" in first.err
    again = cli("recommend", picture(few), *words, "format=json")
    assert again.json() == first.json()
    assert "fitted" not in again.err
    assert "+pca-" in first.json()["parts"]["hog"]["space"]
    assert first.json()["projection"]["hog"]["n_components"] == 4
    spaces = {each["extractor"]: each for each in json.loads(cli("info", "format=json").out)["spaces"]}
    assert spaces["colour"]["options"]["bins"] == 3
    mapped = cli("visualise", "reducer=pca")
    assert Path(mapped.out.splitlines()[0]).exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["extractor=fusion"], "extractor.weights={colour: 0.25, hog: 0.75}"),
        (["extractor=fusion", "extractor.weights={colour: -1}"], "the weight of colour is a number from 0 on"),
        (["extractor=fusion", "extractor.weights={colour: 1, nothing: 1}"], "there is no extractor 'nothing'"),
        ([*COLOUR_AND_HOG, "extractor.metrics={colour: far}"], "metric is one of chi2, cosine, euclidean"),
        ([*COLOUR_AND_HOG, "extractor.metrics={hot: cosine}"], "did you mean hog?"),
        ([*COLOUR_AND_HOG, "extractor.parts.hog.windows=3"], "windows"),
        (["projection=pca"], "pca to 128 dimensions needs as many images"),
        (["extractor.weights={colors: 1}"], "did you mean colour?"),
        (["extractor.bins=3"], "bins was 5 and is 3"),
        (["extractor.device=cpu"], "has no option 'device'"),
        (["space=nowhere"], "has no space 'nowhere'; it has fusion-"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(cli: Cli, few: Path, words: list[str], told: str) -> None:
    cli("ingest", few, *COLOUR_AND_HOG)
    refused = cli("recommend", picture(few), *words, code=2)
    assert told in refused.err.splitlines()[-1]


def test_a_fusion_stays_the_default_beside_another_space(cli: Cli, few: Path) -> None:
    cli("ingest", few, *COLOUR_AND_HOG)
    cli("ingest", few, "extractor=colour", "extractor.bins=2")
    for words in ([], ["space=fusion"]):
        assert cli("recommend", picture(few), *words, "format=json").json()["space"].startswith("fusion-")


def test_a_part_is_chosen_by_the_name_that_tables_show(cli: Cli, few: Path) -> None:
    cli(
        *("ingest", few, "extractor=fusion", "extractor.weights={shape: 2, fine: 1}", "extractor.parts.shape=hog"),
        *("extractor.parts.fine=colour", "extractor.parts.fine.bins=8"),
    )
    by_name = cli("recommend", picture(few), "space=shape", "format=json").json()
    assert by_name == cli("recommend", picture(few), "space=hog", "format=json").json()
    assert by_name["space"].startswith("hog-")
    assert "no space 'shap'" in cli("recommend", picture(few), "space=shap", code=2).err


def test_images_that_lack_a_part_are_told_of_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows of the parts are in other orders."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite")).open(create=True)
    both = fusion({"colour": 1, "hog": 1})
    spaces = {name: Space.of(each) for name, each in both.parts.items()}
    names = [f"{i:064x}" for i in range(6)]
    rng = np.random.default_rng(0)
    vectors = {name: dict(zip(names, rng.random((6, 3), dtype=np.float32), strict=True)) for name in spaces}
    kept = {"colour": names, "hog": names[4:0:-1]}
    store.write(Batch(records=[Record(f"/{digest}.jpg", digest, 1, 1) for digest in names]))
    for name, space in spaces.items():
        rows = np.stack([vectors[name][digest] for digest in kept[name]])
        store.write(Batch(vectors={space: (kept[name], rows)}))
    gallery = Gallery(store, similarity.choose(store, extractor=both))
    assert "2 of 6 images lack a vector in a part of the fusion" in caplog.text
    (found,) = gallery.search([{name: vectors[name][names[2]] for name in spaces}], 6)
    assert sorted(match.path for match in found) == [f"/{digest}.jpg" for digest in names[1:5]]
    assert found[0].path == f"/{names[2]}.jpg"
    assert len(gallery) == 4
    for match in found:
        digest = Path(match.path).stem
        apart = [np.linalg.norm((each[digest] - each[names[2]]).astype(np.float64)) for each in vectors.values()]
        total = sum(field.weight * each for field, each in zip(gallery.fields, apart, strict=True))
        assert match.distance == pytest.approx(total, rel=1e-6)
    store.close()


def test_a_part_of_no_weight_counts_for_nothing(few: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "csv", path=str(tmp_path / "g"))
    imgrec.ingest(few, fusion({"colour": 0.5, "hog": 0}), store)
    (only,) = imgrec.recommend(picture(few), store, k=1)
    assert only.shares == {"colour": 1.0}
    with pytest.raises(UsageError, match="no parts"):
        fusion({"colour": 0})


def test_a_backup_keeps_the_fusion(cli: Cli, few: Path) -> None:
    cli("ingest", few, *COLOUR_AND_HOG, "backup=csv")
    before = cli("recommend", picture(few), "format=json").json()
    for file in (few.parent / "outputs").glob("gallery.sqlite*"):
        file.unlink() if file.is_file() else None
    cli("restore", "backup=csv")
    assert cli("recommend", picture(few), "format=json").json() == before


def test_the_default_needs_no_model_and_few_images(cli: Cli, few: Path) -> None:
    """Five images a component are too few to whiten: HOG is compared as it is."""
    cli("ingest", few)
    found = cli("recommend", picture(few), "format=json")
    assert set(found.json()["parts"]) == {"colour", "hog"}
    assert "projection" not in found.json()
    assert found.json()["matches"][0]["path"].startswith(str(few / "china"))
    refused = cli("ingest", few, "store.path=b.sqlite", "extractor.bins=3", code=2).err
    assert "fusion has no option 'bins'" in refused
    cli("ingest", few, "store.path=b.sqlite", "extractor.parts={colour: {bins: 3}}")


def test_image_recommender_is_an_experiment_for_each_stage(cli: Cli, few: Path) -> None:
    """The system that imgrec generalises, with weights that need no hub."""
    words = ["+experiment=image_recommender", "extractor.parts.mobilenetv1.pretrained=false"]
    pytest.importorskip("timm")
    cli("+stage=ingest", f"source={few}", *words)
    assert list((few.parent / "outputs" / "gallery-csv").glob("[0-9]*/records.csv"))
    found = cli("+stage=recommend", f"query={picture(few)}", *words, "format=json").json()
    assert (found["metric"], found["k"]) == ("euclidean", 5)
    assert {name: each["weight"] for name, each in found["parts"].items()} == {"colour": 0.25, "mobilenetv1": 0.75}
    assert "it is for evaluate, ingest, recommend, visualise" in cli("info", *words[:1], code=2).err


def test_a_map_of_a_fusion_with_a_metric_that_has_no_euclidean_form_says_why_not(cli: Cli, few: Path) -> None:
    """It was drawn as if it were Euclidean, without a word."""
    cli("ingest", few, *COLOUR_AND_HOG, "extractor.metrics={colour: hellinger, hog: manhattan}")
    refused = cli("visualise", "reducer=pca", code=2).err
    assert "metric=manhattan of hog has no Euclidean form: extractor.metrics.hog=euclidean, or space=" in refused
    assert len(refused.splitlines()) == 1
    drawn = cli("visualise", "reducer=pca", "extractor.metrics.hog=cosine")
    assert Path(drawn.out.splitlines()[0]).exists()


def test_a_fusion_inside_a_fusion(cli: Cli, few: Path) -> None:
    """Composed, checked, completed, swept, recorded and replayed, as any component inside another one."""
    words = [
        *("extractor=fusion", "extractor.weights={shape: 3, tone: 1}"),
        *("extractor.parts.tone=colour", "extractor.parts.shape=fusion"),
        *("extractor.parts.shape.weights={coarse: 1, fine: 2}", "extractor.parts.shape.parts.coarse=hog"),
        *("extractor.parts.shape.parts.coarse.cell=16", "extractor.parts.shape.parts.fine=hog"),
        "extractor.parts.shape.metrics={fine: cosine}",
    ]
    assert "36 extracted" in cli("ingest", few, *words).out
    done = cli("recommend", picture(few), "format=json")
    told = done.json()
    assert {name: part["weight"] for name, part in told["parts"].items()} == {
        "shape.coarse": pytest.approx(0.25),
        "shape.fine": pytest.approx(0.5),
        "tone": pytest.approx(0.25),
    }
    assert told["parts"]["shape.fine"]["metric"] == "cosine"
    assert cli("recommend", picture(few), *words, "format=json").json() == told
    run = done.runs()[-2]
    assert cli("replay", run).out.startswith("identical")
    record = cli("ingest", few, *words).record()
    assert record["components"]["extractor.parts.shape.parts.coarse"] == "hog"
    assert record["configuration"]["extractor"]["parts"]["shape"]["parts"]["coarse"]["cell"] == 16
    wrong = cli("ingest", few, *words, "extractor.parts.shape.parts.coarse.sell=3", code=2).err
    assert "extractor.parts.shape.parts.coarse=hog has no option 'sell' (did you mean cell?)" in wrong
    typed = " ".join(word.replace(" ", "") for word in words)
    line = f"imgrec ingest x {typed} extractor.parts.shape.parts.coarse.ce"
    env = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_WORDBREAKS": ""}
    assert cli("-sc", "query=bash", env=env).out == "extractor.parts.shape.parts.coarse.cell=\n"
    swept = cli(
        "-m", "ingest", few, *words, "extractor.parts.shape.parts.coarse.cell=16,32", "store.path=s.sqlite"
    )
    assert (swept.out.count("36 extracted"), swept.out.count("12 extracted")) == (1, 1)


def test_nothing_in_the_core_asks_whether_an_extractor_is_a_fusion() -> None:
    core = Path(imgrec.__file__).parent
    for file in core.rglob("*.py"):
        if file.name != "fusion.py":
            assert not re.search(r"isinstance\([^)]*Fusion|is_fused|Fusion\.name|== .fusion.", file.read_text()), (
                file
            )
