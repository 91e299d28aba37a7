"""Runs in a real MLflow store: one SQLite file."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli

pytest.importorskip("mlflow", reason="needs the extra mlflow")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: MLflow takes seconds to make one."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{file}")
    return file


@pytest.fixture
def env(tmp_path: Path, empty: Path) -> dict[str, str]:
    shutil.copy(empty, tmp_path / "mlflow.db")
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}


@pytest.fixture
def tracked(env: dict[str, str]) -> Any:
    """A function that reads the runs of an experiment back, the oldest first."""

    def runs(experiment: str = "imgrec") -> list[Any]:
        client = connect(env["MLFLOW_TRACKING_URI"])
        found = client.get_experiment_by_name(experiment)
        return list(reversed(client.search_runs([found.experiment_id], order_by=["attributes.start_time DESC"])))

    return runs


def connect(uri: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy has some for MLflow
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        client.search_experiments()
        return client


def artifacts(run: Any) -> set[str]:
    return {file.name for file in Path(run.info.artifact_uri.removeprefix("file://")).iterdir()}


def test_a_run_is_logged_with_configuration_metrics_pictures_and_results(
    cli: Cli, few: Path, env: dict[str, str], tracked: Any
) -> None:
    done = cli("ingest", few, "extractor=colour", "extractor.bins=3", env=env)
    assert [line for line in done.err.splitlines() if "alone" not in line] == []
    cli("recommend", few / "china" / "china-0-0.jpg", "k=4", env=env)
    ingested, recommended = tracked()
    assert ingested.data.params["extractor.bins"] == "3"
    assert ingested.data.params["store"] == "sqlite"
    assert ingested.data.params["extractor"] == "colour"
    assert (ingested.data.metrics["new"], ingested.data.metrics["extracted"]) == (12, 12)
    assert ingested.data.metrics["seconds.ingest"] > 0
    assert ingested.data.tags["stage"] == "ingest"
    assert ingested.info.status == "FINISHED"
    assert recommended.data.params["k"] == "4"
    assert {"recommendations.png", "results.json", "run.json"} <= artifacts(recommended)
    assert ".hydra" in artifacts(recommended)


def test_the_jobs_of_a_sweep_are_logged_under_its_folder(
    cli: Cli, few: Path, tmp_path: Path, env: dict[str, str], tracked: Any
) -> None:
    env["MLFLOW_EXPERIMENT_NAME"] = "my sweep"
    cli("ingest", few, env=env)
    cli("-m", "recommend", few / "china" / "china-0-0.jpg", "metric=euclidean,cosine", env=env)
    _, *jobs = tracked("my sweep")
    assert {job.data.params["metric"] for job in jobs} == {"euclidean", "cosine"}
    assert {Path(job.data.tags["folder"]).parent for job in jobs} == {Path(jobs[0].data.tags["sweep"])}
    assert Path(jobs[0].data.tags["sweep"]).is_dir()
    assert {job.info.run_name.rpartition("/")[2] for job in jobs} == {"0", "1"}


def test_a_run_that_fails_is_logged_as_failed(cli: Cli, tmp_path: Path, env: dict[str, str], tracked: Any) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"no image")
    cli("ingest", "bad", env=env, code=1)
    (run,) = tracked()
    assert run.info.status == "FAILED"
    assert "none of the 1 files could be read" in run.data.tags["error"]


def test_without_a_tracking_uri_nothing_is_logged(cli: Cli, few: Path, tmp_path: Path) -> None:
    cli("ingest", few, env={"MLFLOW_TRACKING_URI": ""})
    assert not list(tmp_path.glob("ml*"))


@pytest.mark.parametrize("uri", ["nowhere://mlflow", "http://127.0.0.1:9"])
def test_a_store_out_of_reach_costs_a_warning(cli: Cli, few: Path, uri: str) -> None:
    done = cli("ingest", few, env={"MLFLOW_TRACKING_URI": uri})
    assert "12 new" in done.out
    (warning,) = [line for line in done.err.splitlines() if line.startswith("imgrec:")]
    assert "listener imgrec_run_started of imgrec 0.1.0 left out" in warning
