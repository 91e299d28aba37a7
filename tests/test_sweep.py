"""Sweeps: what they end with, what becomes of jobs that fail, how they go on, and jobs side by side."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import scipy.stats
from hydra.errors import MissingConfigException

import imgrec
from conftest import Cli, shared
from imgrec.cli import messages
from imgrec.drawing import leaderboard
from test_readme import blocks
from test_registry import install

COSTS = {"images_per_s", "query_ms", "memory_mb"}

SWEEP = ["-m", "+stage=evaluate", "source=photos", "extractor=colour,hog", "hydra.sweep.dir=sweep"]


@pytest.fixture(autouse=True)
def clothes(tmp_path: Path) -> None:
    """Thirty-two real photographs of four kinds, in `photos`."""
    for kind in ("dress", "hat", "pants", "shoes"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for file in sorted(shared("photos", "clothing", "validation", kind).iterdir())[:8]:
            shutil.copy(file, tmp_path / "photos" / kind)


def jobs(sweep: Path) -> dict[str, Any]:
    """What the jobs of a sweep found, by name."""
    return {file.parent.name: json.loads(file.read_text()) for file in sweep.glob("*/results.json")}


def rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_leaderboard_is_what_the_jobs_found(cli: Cli, tmp_path: Path) -> None:
    done = cli(*SWEEP, "metric=cosine,hellinger")
    sweep = tmp_path / "sweep"
    found = jobs(sweep)
    assert len(found) == 4
    ranked = rows(sweep)
    assert [float(row["map"]) for row in ranked] == sorted((job["map"] for job in found.values()), reverse=True)
    best = max((job["map"], job["precision_at_k"]) for job in found.values())
    for row in ranked:
        job = found[row["job"]]
        assert row["metric"] == job["metric"]
        assert job["space"].startswith(row["extractor"])
        assert (row["best"] == "*") == ((job["map"], job["precision_at_k"]) == best)
        assert [float(row["map_low"]), float(row["map_high"])] == job["confidence"]["map"]
        assert all(float(row[name]) == job[name] for name in ("precision_at_k", "bytes_per_image", *COSTS))
        assert row["error"] == ""
    header, *lines = done.out.splitlines()
    assert "extractor" in header
    assert "95% confidence" in header
    assert [line.split()[-1] for line in lines] == [row["job"] for row in ranked]
    assert [line[0] for line in lines] == [row["best"] or " " for row in ranked]
    assert "* is best by mAP" in done.err
    _check_against_the_best(sweep, ranked)
    assert f"job 0: mAP {found['0']['map']:.4f}" in done.err
    document = (sweep / "leaderboard.md").read_text().splitlines()
    assert [line.split("|")[-2].strip() for line in document] == ["job", "---", *(row["job"] for row in ranked)]
    with PIL.Image.open(sweep / "leaderboard.png") as picture:
        assert picture.width > 1000


def _check_against_the_best(sweep: Path, ranked: list[dict[str, str]]) -> None:
    """By scipy's paired bootstrap over the queries that the jobs have written; and the front by its definition."""
    queries = {
        row["job"]: pd.read_csv(sweep / row["job"] / "queries.csv").set_index("path")["average_precision"]
        for row in ranked
    }
    best = queries[ranked[0]["job"]]
    for row in ranked[1:]:
        apart = best - queries[row["job"]]
        assert float(row["behind"]) == pytest.approx(apart.mean())
        known = scipy.stats.bootstrap((apart,), np.mean, method="percentile", n_resamples=4000, rng=0)
        interval = known.confidence_interval
        near = pytest.approx((interval.low, interval.high), abs=0.2 * (interval.high - interval.low))
        low, high = float(row["behind_low"]), float(row["behind_high"])
        assert (low, high) == near
        assert row["best"] == ("*" if row["map"] == ranked[0]["map"] else "=" if low <= 0 <= high else "")
    for row in ranked:
        map_, speed = float(row["map"]), float(row["images_per_s"])
        is_beaten = any(
            float(other["map"]) >= map_
            and float(other["images_per_s"]) >= speed
            and (float(other["map"]), float(other["images_per_s"])) != (map_, speed)
            for other in ranked
        )
        assert row["pareto"] == ("" if is_beaten else "yes")


COUNTING = """
import os
from dataclasses import dataclass
import numpy as np
import imgrec

@dataclass
class Counting(imgrec.Extractor):
    def extract(self, images):
        with open("extracted", "a") as file:
            file.write(f"{len(images)}\\n")
        return np.stack([image.mean(axis=(0, 1)) for image in images]).astype(np.float32)

@dataclass
class Deadly(imgrec.Extractor):
    def extract(self, images):
        os.kill(os.getpid(), 9)

@imgrec.hookimpl
def imgrec_components():
    return [Counting, Deadly]
"""


def test_a_second_metric_does_not_extract_again(cli: Cli, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_counting", COUNTING)
    cli("evaluate", "photos", "extractor=counting", env=env)
    counted = tmp_path / "extracted"
    with_ingest = sum(map(int, counted.read_text().split()))
    counted.unlink()
    cli("-m", "evaluate", "photos", "extractor=counting", "metric=cosine,manhattan", env=env)
    timed_only = sum(map(int, counted.read_text().split()))
    assert timed_only == 1 + 2 * 32  # its speed, once for both
    assert with_ingest >= timed_only + 32


def test_json(cli: Cli, tmp_path: Path) -> None:
    found = cli(*SWEEP, "metric=cosine", "format=json").json()
    assert found["ranked_by"] == "map"
    assert sorted(job["options"]["extractor"] for job in found["jobs"]) == ["colour", "hog"]
    assert [job["best"] for job in found["jobs"]] == [True, False]
    for job in found["jobs"]:
        results = json.loads(Path(job["folder"], "results.json").read_text())
        assert job["map"] == results["map"]
        assert job["confidence"]["map"] == results["confidence"]["map"]


def joblib() -> list[str]:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    return ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.mark.parametrize("in_workers", [False, True])
def test_a_failing_job_is_a_row_with_its_error(cli: Cli, tmp_path: Path, in_workers: bool) -> None:
    launcher = joblib() if in_workers else []
    if in_workers:
        cli("ingest", "photos")
    labels = "labels=auto,gone.csv,folder"
    done = cli("-m", "evaluate", "photos", labels, "hydra.sweep.dir=sweep", *launcher, code=1)
    first, second, failed = rows(tmp_path / "sweep")
    assert {first["labels"], second["labels"]} == {"auto", "folder"}
    assert (failed["labels"], failed["map"], failed["best"], failed["job"]) == ("gone.csv", "", "", "1")
    assert "there is no file 'gone.csv'" in failed["error"]
    assert failed["error"] in done.out
    assert f"job 1: {failed['error']}" in done.err
    assert "1 of 3 jobs failed: job 1 of sweep" in done.err
    assert "Traceback" not in done.err


def test_an_unexpected_error_is_a_row_too(cli: Cli, tmp_path: Path) -> None:
    cli("ingest", "photos")
    (tmp_path / "broken.csv").write_bytes(b"path,label\n\xff\xfe\x00,a\n")
    cli("-m", "evaluate", "labels=folder,broken.csv", "hydra.sweep.dir=sweep", code=1)
    done, failed = rows(tmp_path / "sweep")
    assert (done["labels"], failed["labels"]) == ("folder", "broken.csv")
    assert failed["error"]


@pytest.mark.parametrize(
    ("launcher", "library"),
    [
        ("cores", "hydra_plugins.hydra_joblib_launcher"),
        ("slurm", "hydra_plugins.hydra_submitit_launcher"),
        ("cluster", "hydra_plugins.hydra_ray_launcher"),
    ],
)
def test_jobs_elsewhere_find_what_they_find_here(cli: Cli, tmp_path: Path, launcher: str, library: str) -> None:
    """By each launcher as conf/README.md has it."""
    pytest.importorskip(library)
    name = f"mine/hydra/launcher/{launcher}.yaml"
    (tmp_path / name).parent.mkdir(parents=True)
    (text,) = (text for text in blocks("conf", "yaml") if text.startswith(f"# {name}\n"))
    (tmp_path / name).write_text(text)
    words = [*SWEEP[:-1], "metric=cosine"]
    cli(*words, "hydra.sweep.dir=serial")
    words += ["hydra.sweep.dir=parallel", "--config-dir", "mine", f"hydra/launcher={launcher}"]
    done = cli(*words)
    serial, parallel = (
        [
            {name: value for name, value in row.items() if name not in {*COSTS, "pareto"}}
            for row in rows(tmp_path / name)
        ]
        for name in ("serial", "parallel")
    )
    assert parallel == serial
    assert len(done.out.splitlines()) == 3
    record = json.loads((tmp_path / "parallel" / "0" / "run.json").read_text())
    assert record["command"][1:] == words


def test_a_killed_process_of_a_job_is_told_and_the_sweep_goes_on(cli: Cli, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_counting", COUNTING)
    words = ["-m", "evaluate", "photos", "extractor=colour,deadly", *joblib()]
    done = cli(*words, env=env, code=1)
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert "process of a job was killed" in last
    assert f"hydra.sweep.dir={next(tmp_path.glob('outputs/sweeps/*/*')).relative_to(tmp_path)} " in last


@pytest.mark.parametrize("words", [["extractor=colour,nosuch"], ["extractor=colour", "kk=1,2"]])
def test_a_sweep_that_is_refused_leaves_nothing(cli: Cli, few: Path, tmp_path: Path, words: list[str]) -> None:
    cli("-m", "ingest", few, *words, code=2)
    assert not (tmp_path / "outputs").exists()


def test_a_killed_sweep_goes_on(cli: Cli, tmp_path: Path) -> None:
    words = [*SWEEP, "metric=euclidean,cosine"]
    process = subprocess.Popen([sys.executable, "-m", "imgrec", *words], cwd=tmp_path, stderr=subprocess.DEVNULL)
    second = tmp_path / "sweep" / "1" / "run.json"
    until = time.monotonic() + 60
    while not second.exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {file: file.read_text() for file in tmp_path.glob("sweep/*/run.json")}
    kept = {file: text for file, text in before.items() if '"status": "done"' in text}
    assert kept
    assert not (tmp_path / "sweep" / "3").exists()
    done = cli(*words)
    assert len(rows(tmp_path / "sweep")) == 4
    assert done.err.count("done before") == len(kept)
    assert all(file.read_text() == text for file, text in kept.items())
    changed = cli(*SWEEP, "metric=manhattan")  # other configurations: nothing is taken over, and no job left over
    assert "done before" not in changed.err
    assert [row["job"] for row in rows(tmp_path / "sweep")] in (["0", "1"], ["1", "0"])


def test_a_sweep_that_goes_on_with_other_images_says_so(cli: Cli, tmp_path: Path) -> None:
    assert "other images" not in cli(*SWEEP).err
    shutil.copy(min((tmp_path / "photos" / "hat").iterdir()), tmp_path / "photos" / "copy.jpg")
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "hat" / "new.png")
    shutil.rmtree(tmp_path / "sweep" / "1")
    again = cli(*SWEEP).err
    assert "jobs have seen other images of one source (32 and 34): start again in a new folder" in again


def test_ctrl_c_says_how_the_sweep_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imgrec", *SWEEP, "metric=euclidean,cosine"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("job 0:"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == (
        "imgrec: interrupted; the same command with hydra.sweep.dir=sweep goes on from here"
    )


def test_labels_of_points_that_touch_are_drawn_apart(tmp_path: Path) -> None:
    heights = [0.1, 0.5, 0.5, 0.5, 0.52, 0.9]
    apart = leaderboard._apart(heights, 0.05)
    assert all(above - below >= 0.05 - 1e-6 for below, above in pairwise(apart))
    assert (apart[0], apart[-1]) == (0.1, 0.9)
    assert sum(apart) == pytest.approx(sum(heights))
    points = [
        leaderboard.Point(f"hog {i}", 0.5, 10.0 ** (i % 3 + 1), (0.4, 0.6), is_best=i == 0) for i in range(8)
    ]
    leaderboard.quality_against_cost(points, tmp_path / "points.png", "mAP", "images/s")
    with PIL.Image.open(tmp_path / "points.png") as picture:
        assert picture.size == (1320, 600)


@pytest.mark.parametrize(
    ("launcher", "requirement"), [("joblib", "imgrec[parallel]"), ("ray", "hydra-ray-launcher")]
)
def test_the_launcher_that_is_not_installed_is_named(launcher: str, requirement: str) -> None:
    error = MissingConfigException("", f"hydra/launcher/{launcher}", ["basic"])
    assert imgrec.install_command(requirement) in str(messages.explain(error, "evaluate", []))
