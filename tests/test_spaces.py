"""Vectors of two spaces never meet: by the command line, and the error names both and says what to do."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli

# By torch: whether spaces can be compared does not depend on what runs a model, and an export takes seconds.
TIMM = (
    "extractor=timm",
    "extractor.model=mobilenetv3_small_050",
    "extractor.runtime=torch",
    "extractor.checkpoint=mine.pt",
)


@pytest.fixture
def outside(few: Path, tmp_path: Path) -> Path:
    """A picture that the gallery does not have: its vector has to be made."""
    file = tmp_path / "outside.jpg"
    file.write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"\0")
    return file


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a small model."""
    return _weights(tmp_path / "mine.pt", seed=1)


def _weights(file: Path, seed: int) -> Path:
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    torch.manual_seed(seed)
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), file)
    return file


def refused(cli: Cli, *words: str | Path) -> str:
    """The line that a usage error is told in."""
    return cli(*words, code=2).err.splitlines()[-1]


def keys(cli: Cli) -> list[str]:
    return [space["key"] for space in cli("info", "format=json").json()["spaces"]]


def test_another_extractor(cli: Cli, few: Path, outside: Path) -> None:
    cli("ingest", few, "extractor=colour")
    told = refused(cli, "recommend", outside, "extractor=hog")
    assert "has no vectors of hog-" in told
    assert f"it has {keys(cli)[0]}" in told
    assert "Leave extractor= out, choose space=, or ingest with this extractor first" in told
    assert "has no vectors of hog-" in refused(cli, "visualise", "reducer=pca", "extractor=hog")


@pytest.mark.parametrize(
    ("option", "change"),
    [("bins=6", "bins was 5 and is 6"), ("normalise=false", "normalise was True and is False")],
)
def test_another_option(cli: Cli, few: Path, outside: Path, option: str, change: str) -> None:
    cli("ingest", few, "extractor=colour")
    told = refused(cli, "recommend", outside, f"extractor.{option}")
    assert f"the gallery's space {keys(cli)[0]} and the extractor's colour-" in told
    assert told.endswith(f"cannot be compared: {change}. Put that back, or ingest anew")


def _changed(change: Callable[[Any], None], tmp_path: Path) -> None:
    """A gallery as an imgrec left it whose rules were others."""
    with closing(sqlite3.connect(tmp_path / "outputs" / "gallery.sqlite")) as db:
        record = json.loads(db.execute("SELECT record FROM spaces").fetchone()[0])
        change(record)
        record["key"] = "colour-000000000000"
        db.execute("UPDATE spaces SET key = ?, record = ?", (record["key"], json.dumps(record)))
        db.commit()


@pytest.mark.parametrize("rule", ["decoding", "version"])
def test_another_policy_of_decoding_or_version_of_the_extractor(
    cli: Cli, few: Path, outside: Path, tmp_path: Path, rule: str
) -> None:
    cli("ingest", few, "extractor=colour")
    _changed(lambda record: record["identity"].update({rule: 0}), tmp_path)
    for words in (("recommend", outside), ("ingest", few)):
        told = refused(cli, *words)
        assert "space colour-000000000000 and the extractor's colour-" in told
        assert told.endswith(f"cannot be compared: {rule} was 0 and is 1. Put that back, or ingest anew")
    inside = cli("recommend", few / "china" / "china-0-0.jpg", "format=json").json()
    assert len(inside["matches"]) == 5  # nothing is extracted, so nothing of another space is compared
    cli("ingest", few, "extractor=colour")  # anew: beside the other, and apart
    assert len(keys(cli)) == 2
    assert "cannot be compared" in refused(cli, "recommend", outside)  # the first one stays the default
    assert cli("recommend", outside, f"space={keys(cli)[1]}").code == 0
    cli("default", keys(cli)[1])
    assert cli("recommend", outside).code == 0


def test_other_weights_under_the_same_name(cli: Cli, few: Path, outside: Path, weights: Path) -> None:
    """Weights are known by their digest: not by the name, the size or the time of their file."""
    cli("ingest", few, *TIMM)
    (before,) = keys(cli)
    shutil.copy(weights, weights.with_name("renamed.pt"))
    renamed = [*TIMM[:3], "extractor.checkpoint=renamed.pt"]
    assert cli("recommend", outside, *renamed, "format=json").json()["space"] == before
    _weights(weights, seed=2)
    for words in (("recommend", outside), ("ingest", few)):
        told = refused(cli, *words)
        assert f"the gallery's space {before} and the extractor's timm-" in told
        assert "cannot be compared: weights was '" in told
    assert "has no vectors of timm-" in refused(cli, "recommend", outside, *TIMM)
    cli("ingest", few, *TIMM)
    assert keys(cli)[0] == before
    assert len(keys(cli)) == 2


def test_another_preprocessing_or_model(cli: Cli, few: Path, outside: Path) -> None:
    pytest.importorskip("timm")
    cli("ingest", few, *TIMM[:2], "extractor.pretrained=false")
    (key,) = keys(cli)
    for option in (
        "resize=exact",
        "mean=[0.1,0.2,0.3]",
        "input_size=96",
        "crop_pct=0.5",
        "model=mobilenetv3_small_075",
    ):
        told = refused(cli, "recommend", outside, f"extractor.{option}")
        assert f"the gallery's space {key} and the extractor's timm-" in told
        assert option.partition("=")[0].split("_")[0] in told
        assert told.endswith("Put that back, or ingest anew")
