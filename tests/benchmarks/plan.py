"""What `imgrec plan` measures on this machine, and what it reckons from that for 100,000 images to a billion."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import imgrec
from benchmarks import ingest
from benchmarks.report import Report
from imgrec import planning, presets
from imgrec.ingestion.estimate import duration, size
from imgrec.planning import Limits, Way
from imgrec.stages.plan import rounded
from tables import table

IMAGES = tuple(10**power for power in range(5, 10))


def run() -> Report:
    """Photographs of 1,600 x 1,200, by mobilenetv2; the stores and indexes that the stage compares."""
    chosen = presets.settings("stage", "plan")
    stores = [imgrec.build("store", name) for name in chosen["stores"]]
    indexes = [imgrec.build("index", name) for name in chosen["indexes"]]
    with tempfile.TemporaryDirectory() as folder:
        ingest.photographs(Path(folder, "photos"), 64, (1200, 1600))
        measured = planning.measure(
            ingest.model(), stores, indexes, imgrec.build("engine", "threads"), [f"{folder}/photos"]
        )
    report = Report("Photographs of 1,600 x 1,200, `extractor=mobilenetv2`")
    report.add("a photograph's file", measured.file_bytes / 1000, "kB")
    report.add("loading the model, once", measured.start_seconds, "s")
    report.add("reading, decoding and extracting", 1 / measured.extract_seconds, "images/s")
    for store in measured.stores:
        report.add(f"{store.name}: writing", 1 / store.seconds, "images/s")
        report.add(f"{store.name}: an image", store.bytes / 1000, "kB")
    for search in measured.searches:
        for each in (search.small, search.large):
            what = f"{search.name}, {each.images:,} x {measured.dim:,}"
            report.add(f"{what}: building", each.build_seconds, "s")
            report.add(f"{what}: its files", each.bytes / 1e6, "MB")
            report.add(f"{what}: a search", 1000 * each.query_seconds, "ms")
    by_count = [planning.ways(measured, images, Limits()) for images in IMAGES]
    rows = [_row(some) for some in zip(*by_count, strict=True)]
    header = ["extrapolated to images", *(f"{images:,}" for images in IMAGES), "sensible up to", "then"]
    report.notes.append(table(header, rows))
    report.notes.append(
        "In brackets: beyond what is sensible, which is 24 h for an ingest and 100 ms for a search."
    )
    return report


def _row(by_count: Sequence[Way]) -> list[str]:
    way = by_count[-1]
    name = "several machines" if way.way.endswith(" machines") else way.way
    cells = [_cell(each, images) for each, images in zip(by_count, IMAGES, strict=True)]
    return [f"{way.task}: {name}", *cells, rounded(way.until), way.then]


def _cell(way: Way, images: int) -> str:
    parts = [duration(way.seconds)]
    if way.task == "extract":
        parts += [f"{way.core_hours:,.1f} core hours"]
    if way.way.endswith(" machines"):
        parts.insert(0, way.way)
    if way.disk_bytes is not None:
        parts.append(size(way.disk_bytes))
    if way.query_seconds is not None:
        parts.append(f"a search {1000 * way.query_seconds:,.1f} ms")
    told = ", ".join(parts)
    return told if images <= way.until else f"({told})"
