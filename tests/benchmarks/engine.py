"""`engine=ray` beside `engine=threads`: what each takes of the cores, and what the loss of a node costs."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import imgrec
from benchmarks.ingest import model, photographs
from benchmarks.report import Report
from imgrec.kinds import Space
from ray_cluster import cpu_seconds, processes_with, two_nodes

COUNT = 1024
ROUNDS = 3
FEW, LOST_AFTER = 1024, 1.0
"""Files of an ingest, and the seconds after which a node is lost."""


def run() -> Report:
    """The least of some rounds counts, since others may use the machine."""
    report = Report(
        f"{COUNT:,} JPEG files of 400 x 533, `colour`, SQLite, processes that have worked before, on one machine; "
        f"{FEW} of them by mobilenetv2_100, where a node is lost after {LOST_AFTER:g} s"
    )
    os.environ["IMGREC_BENCHMARK"] = mark = f"engine-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder, two_nodes() as cluster:
        photos = photographs(Path(folder, "photos"), COUNT)[0].parent
        extractor = imgrec.build("extractor", "colour")
        driver, all_of_ray = [], []
        threads = min(_taken(photos, extractor, imgrec.build("engine", "threads"))[0] for _ in range(1 + ROUNDS))
        with_workers = _kept_open(extractor)
        for _ in range(1 + ROUNDS):
            before = cpu_seconds(processes_with(mark))
            seconds, _ = _taken(photos, extractor, with_workers)
            driver.append(seconds)
            all_of_ray.append(seconds + cpu_seconds(processes_with(mark)) - before)
        with_workers.shut()
        lost = _lost(photographs(Path(folder, "few"), FEW)[0].parent, cluster)
    report.add("`engine=threads`, CPU an image", 1000 * threads / COUNT, "ms")
    report.add("`engine=ray`, CPU an image, of all its processes", 1000 * min(all_of_ray[1:]) / COUNT, "ms")
    more = 1000 * (min(all_of_ray[1:]) - threads) / COUNT
    report.hold("`engine=ray`, CPU an image more", more, at_most=0.7, unit="ms")
    report.hold(
        "of it in the process that plans and writes", 1000 * min(driver[1:]) / COUNT, at_most=0.25, unit="ms"
    )
    report.hold("one of two nodes is lost: until all is there", lost, at_most=30, unit="s")
    return report


def _taken(photos: Path, extractor: imgrec.Extractor, engine: imgrec.Engine) -> tuple[float, float]:
    """CPU seconds of this process, and seconds, of an ingest into a new store."""
    with tempfile.TemporaryDirectory() as folder:
        store = imgrec.build("store", "sqlite", path=f"{folder}/gallery.sqlite")
        cpu, start = time.process_time(), time.perf_counter()
        imgrec.ingest(photos, extractor, store, engine=engine)
        return time.process_time() - cpu, time.perf_counter() - start


def _kept_open(extractor: imgrec.Extractor) -> Any:
    """`engine=ray` with processes that several ingests share."""
    engine: Any = imgrec.build("engine", "ray").open({Space.of(extractor): extractor})
    engine.shut = engine.close
    engine.open, engine.close = lambda extractors: engine, lambda *, at_once=False: None
    return engine


def _lost(photos: Path, cluster: Any) -> float:
    """Seconds from the loss of a node to the end of an ingest."""
    at: list[float] = []

    def loses() -> None:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        at.append(time.perf_counter())

    extractor = model()
    engine = _kept_open(extractor)
    _taken(photos, extractor, engine)  # its models are loaded
    timer = threading.Timer(LOST_AFTER, loses)
    timer.start()
    _taken(photos, extractor, engine)
    ended = time.perf_counter()
    timer.join()
    engine.shut()
    return ended - at[0]
