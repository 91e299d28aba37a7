"""A sweep's jobs: none without a job, options that some choices lack, and figures for a sweeper that optimises."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import MissingConfigException

from conftest import Cli
from imgrec.cli import messages
from imgrec.kinds import Ranking


def rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def test_options_that_some_choices_lack_are_left_out_and_equal_jobs_run_once(
    cli: Cli, few: Path, tmp_path: Path
) -> None:
    words = ["projection=none,pca,lda", "projection.n_components=1,2", "projection.whiten=true"]
    done = cli("-m", "evaluate", few, "extractor=colour", *words, "hydra.sweep.dir=sweep")
    found = {row["job"]: row for row in rows(tmp_path / "sweep")}
    shown = {
        name: (row["projection"], row["projection.n_components"], row["projection.whiten"], row["folds"])
        for name, row in found.items()
    }
    assert shown == {
        "0": ("none", "", "", ""),  # job 1 is the same
        "2": ("pca", "1", "True", ""),
        "3": ("pca", "2", "True", ""),
        "4": ("lda", "1", "", "5"),
        "5": ("lda", "2", "", "5"),
    }
    assert "job 0: without projection.whiten, which projection=none does not have" in done.err
    assert "job 4: without projection.whiten, which projection=lda does not have" in done.err
    assert "job 1: the same as job 0, mAP" in done.err
    assert len({row["images_per_s"] for row in found.values()}) == 1  # measured once
    record = json.loads((tmp_path / "sweep" / "4" / "run.json").read_text())
    assert "whiten" not in record["configuration"]["projection"]


def test_an_option_that_no_choice_has_is_refused(cli: Cli, few: Path, tmp_path: Path) -> None:
    refused = cli("-m", "evaluate", few, "projection=none,pca", "projection.whitn=true", code=2).err
    assert "has no option 'whitn' (did you mean whiten?)" in refused
    alone = cli("evaluate", few, "extractor=colour", "projection.n_components=3", code=2).err
    assert "projection.n_components has no effect: no projection is chosen, projection=NAME does" in alone
    assert not (tmp_path / "outputs" / "sweeps").exists()


def test_a_glob_takes_the_choices_of_an_option(cli: Cli, few: Path, tmp_path: Path) -> None:
    others = "metric=glob(*,exclude=[c*,hamming,manhattan])"
    cli("-m", "evaluate", few, "extractor=colour", others, "hydra.sweep.dir=sweep")
    assert {row["metric"] for row in rows(tmp_path / "sweep")} == {"euclidean", "hellinger"}


@pytest.mark.parametrize("word", ["extractor=glob(nosuch*)", "k=range(5,1)"])
def test_a_sweep_without_a_job_is_refused(cli: Cli, few: Path, tmp_path: Path, word: str) -> None:
    done = cli("-m", "evaluate", few, word, code=2)
    assert done.err == f"imgrec: {word} stands for nothing: the sweep would have no job\n"
    assert not (tmp_path / "outputs").exists()


# --- optimisation -------------------------------------------------------------------------------------------

OPTUNA = ["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=sweep"]


@pytest.fixture
def optuna() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")


def optimum(sweep: Path) -> Any:
    return yaml.safe_load((sweep / "optimization_results.yaml").read_text())


@pytest.mark.usefixtures("optuna")
def test_optuna_finds_what_the_leaderboard_has_on_top_although_jobs_fail(
    cli: Cli, few: Path, tmp_path: Path
) -> None:
    words = ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0", "hydra.sweeper.n_trials=6"]
    words += ["hydra.sweeper.direction=maximize", "hydra.sweeper.max_failure_rate=1"]
    swept = ["extractor=colour", "extractor.bins=2,4", "labels=gone.csv,folder"]
    done = cli("-m", "evaluate", few, *swept, *OPTUNA, *words, code=1)
    best, *_ = rows(tmp_path / "sweep")
    found = optimum(tmp_path / "sweep")
    assert found["best_value"] == float(best["map"])
    assert found["best_params"]["extractor.bins"] == int(best["extractor.bins"])
    assert "2 of 6 jobs failed" in done.err
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("optuna")
def test_several_directions_are_quality_and_costs(cli: Cli, few: Path, tmp_path: Path) -> None:
    words = ["hydra/sweeper/sampler=grid", "hydra.sweeper.direction=[maximize,maximize,minimize,minimize]"]
    cli("-m", "evaluate", few, "extractor=colour", "extractor.bins=2,4", *OPTUNA, *words)
    jobs = [json.loads(file.read_text()) for file in (tmp_path / "sweep").glob("*/results.json")]
    figures = [[job[name] for name in ("map", "images_per_s", "query_ms", "bytes_per_image")] for job in jobs]
    assert all(each["values"] in figures for each in optimum(tmp_path / "sweep")["solutions"])


@pytest.mark.usefixtures("optuna")
def test_the_worst_is_not_looked_for(cli: Cli, few: Path, tmp_path: Path) -> None:
    done = cli("-m", "evaluate", few, "k=3,5", *OPTUNA, code=2)  # Optuna's default
    assert done.err.endswith(
        "does not look for the best, which is to maximize map: hydra.sweeper.direction=maximize\n"
    )
    assert not (tmp_path / "sweep").exists()


@pytest.mark.usefixtures("optuna")
def test_an_optimisation_of_which_every_job_failed_ends_as_any_sweep(cli: Cli, few: Path) -> None:
    words = ["hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=1", "labels=gone.csv,none.csv"]
    done = cli("-m", "evaluate", few, *OPTUNA, *words, code=1)
    assert done.err.endswith("imgrec: 1 of 1 jobs failed: job 0 of sweep\n")
    assert "Traceback" not in done.err


def test_directions_of_figures() -> None:
    ranking = Ranking(quality={"map": "mAP", "precision": "P"}, cost={"images_per_s": "", "bytes": ""})
    assert ranking.directions() == {"map": "maximize", "images_per_s": "maximize", "bytes": "minimize"}


def test_the_sweeper_that_is_not_installed_is_named() -> None:
    error = MissingConfigException("", "hydra/sweeper/optuna", ["basic"])
    assert "pip install hydra-optuna-sweeper" in str(messages.explain(error, "evaluate", []))
