"""`engine=ray` on a real cluster of two nodes on this machine, and on one that it starts itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import imgrec
import tiles
from conftest import Cli, shared_timm
from faulty_storage import files_in
from imgrec.testing import check_engine
from object_storage import ObjectStorage, new_bucket
from ray_cluster import NODE, processes_with, two_nodes

pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore:lance is not fork-safe")  # Ray's processes begin anew at once

PLUGIN = '''
import os
import time
from dataclasses import dataclass

import numpy as np

import imgrec


@dataclass
class Fragile(imgrec.Extractor):
    """Means of channels; red ends the process, as the system does where memory is short."""

    wait: float = imgrec.option(0.0, changes_vectors=False)
    log: str = imgrec.option("", changes_vectors=False)

    def extract(self, images):
        if any((image == [255, 0, 0]).all() for image in images):
            os.kill(os.getpid(), 9)
        time.sleep(self.wait * len(images))
        if self.log and images[0].any():  # not where it is tried out, on a black image
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()}\\n")
        return np.stack([image.mean(axis=(0, 1)) for image in images]).astype(np.float32)


@imgrec.hookimpl
def imgrec_components():
    return [Fragile]
'''


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two nodes, which this process is connected to."""
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Path]:
    """A plugin file that processes of the cluster load too."""
    before = os.environ.get("IMGREC_PLUGINS")
    (tmp_path / "fragile.py").write_text(PLUGIN)
    imgrec.load_plugin(tmp_path / "fragile.py")
    yield tmp_path / "fragile.py"
    os.environ.pop("IMGREC_PLUGINS")
    if before is not None:
        os.environ["IMGREC_PLUGINS"] = before
    imgrec.registry.manager().unregister(name="fragile:imgrec.plugin_files.fragile")
    for known in (imgrec.registry.available, imgrec.registry._components):
        known.cache_clear()


def ingested(folder: Path, extractors: Any, store: Path, engine: str, **options: Any) -> imgrec.IngestReport:
    made = imgrec.build("store", "sqlite", path=str(store))
    return imgrec.ingest(folder, extractors, made, engine=imgrec.build("engine", engine, **options), batch_size=8)


def held(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str], list[Any]]:
    """Vectors by space and content, reasons of failures by path, and records."""
    with imgrec.build("store", "sqlite", path=str(path)) as store:
        vectors = {space.key: dict(zip(*store.vectors(space), strict=True)) for space in store.spaces()}
        failures = {failure.path: failure.reason for failure in store.failures()}
        return vectors, failures, sorted(store.records(), key=lambda record: record.path)


def assert_equal(path: Path, other: Path, tolerance: float = 0) -> None:
    """Two stores have the same records, failures and vectors."""
    (vectors, *rest), (others, *other_rest) = held(path), held(other)
    assert rest == other_rest
    assert vectors.keys() == others.keys()
    for key, rows in vectors.items():
        assert rows.keys() == others[key].keys()
        assert all(np.abs(rows[digest] - others[key][digest]).max() <= tolerance for digest in rows)


def test_it_keeps_the_contract_of_an_engine(cluster: Any) -> None:
    check_engine(imgrec.build("engine", "ray", actors=1))


def test_two_nodes_store_what_threads_store(cluster: Any, few: Path, tmp_path: Path) -> None:
    """Of good, broken, cut and hostile files, to the last bit."""
    (few / "bad.jpg").write_bytes(b"no picture")
    whole = (few / "china" / "china-0-0.jpg").read_bytes()
    (few / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (few / "twice.jpg").write_bytes(whole)
    PIL.Image.new("1", (20_000, 20_000)).save(few / "bomb.png")
    extractors = [imgrec.build("extractor", name) for name in ("colour", "hog")]
    reports = [ingested(few, extractors, tmp_path / name, name) for name in ("threads", "ray")]
    assert reports[0] == reports[1]
    assert (reports[0].new, reports[0].failed) == (13, 3)
    assert_equal(tmp_path / "threads", tmp_path / "ray")


def test_models_give_what_they_give_here(cluster: Any, few: Path, tmp_path: Path) -> None:
    model = shared_timm("mobilenetv2_100", runtime="torch")
    for name, options in (("threads", {}), ("ray", {"actors": 1})):
        assert ingested(few, model, tmp_path / name, name, **options).new == 12
    assert_equal(tmp_path / "threads", tmp_path / "ray", tolerance=1e-4)


def test_a_file_that_ends_processes_is_recorded_and_no_other(
    cluster: Any, fragile: Path, few: Path, tmp_path: Path
) -> None:
    PIL.Image.new("RGB", (64, 64), "red").save(few / "red.png")
    report = ingested(few, imgrec.build("extractor", "fragile"), tmp_path / "ray", "ray", actors=1)
    assert (report.new, report.failed) == (12, 1)
    assert held(tmp_path / "ray")[1] == {
        str(few / "red.png"): "the process that took it was killed, each time: is it too large for its memory?"
    }


def test_a_killed_process_and_a_lost_node_cost_nothing(
    cluster: Any, fragile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgrec_ray.FILES", 8)
    tiles.cut(tmp_path / "photos", columns=8, rows=5)
    log = tmp_path / "log"
    log.touch()

    def breaks() -> None:
        while len(done := log.read_text().split()) < 2:
            time.sleep(0.02)
        os.kill(int(done[0]), signal.SIGKILL)
        while len(log.read_text().split()) < 4:
            time.sleep(0.02)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    breaker = threading.Thread(target=breaks)
    breaker.start()
    extractor = imgrec.build("extractor", "fragile", wait=0.05, log=str(log))
    report = ingested(tmp_path / "photos", extractor, tmp_path / "ray", "ray")
    breaker.join()
    cluster.add_node(**NODE)
    assert (report.new, report.extracted) == (80, 80)
    ingested(tmp_path / "photos", imgrec.build("extractor", "fragile"), tmp_path / "threads", "threads")
    assert_equal(tmp_path / "ray", tmp_path / "threads")


def started(words: list[Any], folder: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """A process of the command line, once it extracts with `extractor.log=log`."""
    (folder / "log").unlink(missing_ok=True)
    command = [sys.executable, "-m", "imgrec", *map(str, words), "extractor.wait=0.5", "extractor.log=log"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (folder / "log").exists() and time.monotonic() < until:
        time.sleep(0.02)
    return process


def test_a_killed_driver_goes_on(cluster: Any, cli: Cli, few: Path, fragile: Path, tmp_path: Path) -> None:
    """Through `engine.address=auto`, with nothing of Ray's on the standard streams."""
    env = {"RAY_ADDRESS": cluster.address}
    words = [
        "ingest",
        few,
        "extractor=fragile",
        "batch_size=4",
        "engine=ray",
        "engine.address=auto",
        "engine.actors=1",
    ]
    process = started(words, tmp_path, env)
    process.kill()
    process.communicate(timeout=60)
    done = cli(*words, env=env)
    assert "12 new" in done.out
    assert len(done.out.splitlines()) == 1
    assert done.err == ""


def test_ctrl_c_ends_the_run_and_its_own_cluster(few: Path, fragile: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        words = ["ingest", few, "extractor=fragile", "batch_size=4", "engine=ray", "engine.actors=1"]
        process = started(words, tmp_path, {"RAY_TMPDIR": short})
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - start < 5
        assert process.returncode == 130
        assert out.startswith("outputs/gallery.sqlite: 0 new")
        assert len(out.splitlines()) == 1
        assert err.splitlines()[-1] == "imgrec: interrupted; the same command goes on from here"
        assert list(Path(short).iterdir()) == processes_with(short) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_told(
    here: Cli, few: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    done = here("ingest", few, "extractor=hog", "engine=ray", f"engine.address={address}", code=2)
    assert f"imgrec: engine.address={address}: no Ray cluster can be reached there" in done.err


def test_what_the_cluster_does_not_have_is_told(cluster: Any, here: Cli, few: Path) -> None:
    words = ["ingest", few, "extractor=hog", "engine=ray"]
    told = {
        "engine.num_gpus=1": "engine=ray finds no machine with 1 cores and 1 GPUs for a process in the cluster",
        "engine.address=127.0.0.1:1": f"this process is in the cluster {cluster.address} already",
    }
    for option, message in told.items():
        assert message in here(*words, option, code=2).err


def test_from_object_storage_into_object_storage(
    moto_server: ObjectStorage, cli: Cli, here: Cli, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As conf/README.md has it, by a cluster of its own, of which nothing is left."""
    with new_bucket(moto_server) as storage, tempfile.TemporaryDirectory(dir="/tmp") as short:
        for name, value in {**storage.environment, "RAY_TMPDIR": short}.items():
            monkeypatch.setenv(name, value)
        for key, data in files_in(few).items():
            storage.client.put_object(Bucket=storage.bucket, Key=f"photos/{key}", Body=data)
        words = [storage.url("photos"), "extractor=colour"]
        made = ["store=lance", f"store.path={storage.url('gallery')}"]
        done = cli("ingest", *words, *made, "engine=ray", "engine.actors=1")
        assert done.out.startswith(f"{storage.url('gallery')}: 12 new, 0 unchanged, 0 moved, 0 missing, 0 failed")
        assert len(done.out.splitlines()) == 1
        assert "fork" not in done.err, done.err
        assert list(Path(short).iterdir()) == processes_with(short) == []
        here("ingest", *words, "store=sqlite", "store.path=threads.sqlite")
        with imgrec.build("store", "lance", path=storage.url("gallery")) as store:
            (space,) = store.spaces()
            found = dict(zip(*store.vectors(space), strict=True))
        (wanted,) = held(tmp_path / "threads.sqlite")[0].values()
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[digest], wanted[digest]) for digest in wanted)
        assert storage.url("photos/") in here("recommend", min(few.rglob("*.jpg")), *made, "k=1").out
