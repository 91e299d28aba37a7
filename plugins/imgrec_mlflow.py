"""Logs every run to MLflow: configuration, metrics, pictures and results.

Enabled by the environment variable `MLFLOW_TRACKING_URI`, a server or a store such as `sqlite:///mlflow.db`.
`MLFLOW_EXPERIMENT_NAME` names the experiment, `imgrec` by default.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import imgrec

log = logging.getLogger(__name__)

ENDED = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

# An unreachable server costs seconds instead of minutes, and the creation of tables is not logged.
QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}

LONGEST = 6000
"""Maximum length of a parameter's value in MLflow."""

_ids: dict[Path, str] = {}
"""Ids of MLflow's open runs, by folder."""


@imgrec.hookimpl
def imgrec_run_started(run: imgrec.RunInfo) -> None:
    """Open a run in MLflow, with every option as a parameter."""
    if not os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        return
    if importlib.util.find_spec("mlflow") is None:
        command = imgrec.install_command("imgrec[mlflow]")
        log.warning("MLFLOW_TRACKING_URI is set, and mlflow is not installed: %s", command)
        return
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    try:
        client, experiment = _connected(MlflowClient)
    except Exception:  # of runs that create a new store's tables at the same time, all but one fail
        time.sleep(1)
        client, experiment = _connected(MlflowClient)
    tags = {"stage": run.stage, "folder": str(run.folder.absolute()), "imgrec": imgrec.__version__}
    if run.sweep:
        tags["sweep"] = str(run.sweep)
    opened = client.create_run(experiment, run_name=_name(run), tags=tags)
    _ids[run.folder] = opened.info.run_id
    options = {**_flat(run.configuration), **{group: name for group, name in run.choices.items() if name}}
    parameters = [Param(_key(name), str(value)[:LONGEST]) for name, value in options.items()]
    for start in range(0, len(parameters), 100):  # MLflow's limit per request
        client.log_batch(opened.info.run_id, params=parameters[start : start + 100])


@imgrec.hookimpl
def imgrec_run_finished(run: imgrec.RunInfo) -> None:
    """Log metrics and all files of the run's folder, and close the run."""
    if (run_id := _ids.pop(run.folder, None)) is None:
        return
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    try:
        timings = {f"seconds.{part}": seconds for part, seconds in run.timings.items()}
        for name, value in _flat({**run.counts, **timings}).items():
            if isinstance(value, int | float):
                client.log_metric(run_id, _key(name), float(value))
        if run.error:
            client.set_tag(run_id, "error", run.error)
        client.log_artifacts(run_id, str(run.folder))
    finally:
        client.set_terminated(run_id, ENDED[run.status])


def _connected(connect: Callable[[], Any]) -> tuple[Any, str]:
    """A client, and the id of the experiment."""
    client = connect()
    return client, _experiment(client)


def _experiment(client: Any) -> str:
    """The id of the experiment, which is created if needed."""
    from mlflow.exceptions import MlflowException

    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return experiment_id
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "imgrec"
    if (found := client.get_experiment_by_name(name)) is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # created by another job
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _name(run: imgrec.RunInfo) -> str:
    """The run's folder, named by time and stage; for a job, named by its number, after the sweep's."""
    return f"{run.sweep.name}/{run.folder.name}" if run.sweep else run.folder.name


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys, with lists as JSON."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, default=str) if isinstance(value, list) else value
    return flat


def _key(name: str) -> str:
    return re.sub(r"[^\w.:/ -]", "_", name)
