"""What an ingest says before the work: from a probe, and about what is new."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec.ingestion import estimate as estimates
from imgrec.ingestion.estimate import Estimate, Written
from imgrec.ingestion.estimate import _chosen as chosen
from imgrec.kinds import ImageFile

COLOUR = imgrec.build("extractor", "colour", bins=2)


def told(source: Path, store: imgrec.Store, backup: imgrec.Store | None = None) -> Estimate:
    found: list[Estimate] = []

    def before(each: Estimate) -> bool:
        found.append(each)
        return False

    report = imgrec.ingest(source, COLOUR, store, backup, before=before, before_from=0)
    assert not any(vars(report)[name] for name in ("new", "unchanged", "extracted", "failed"))
    return found[0]


def test_of_a_new_gallery_all_is_told_and_nothing_made(few: Path, tmp_path: Path) -> None:
    (few / "broken.jpg").write_text("no picture")
    files = list(few.rglob("*.jpg"))
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "new" / "g.sqlite"))
    found = told(few, store, backup=imgrec.build("store", "csv", path=str(tmp_path / "new" / "csv")))
    assert (found.files, found.bytes) == (13, sum(file.stat().st_size for file in files))
    assert found.probed == 13
    assert found.seconds > 0
    assert found.memory_bytes > 20_000_000
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_disk_is_what_the_store_grows_by(tmp_path: Path, kind: str) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(1500):
        PIL.Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    store = imgrec.build("store", kind, path=str(tmp_path / "g"))
    found = told(tmp_path / "photos", store)
    imgrec.ingest(tmp_path / "photos", COLOUR, store)
    with store:
        size = store.size()
    assert found.disk_bytes is not None
    assert size is not None
    assert size / 1.5 < found.disk_bytes < size * 1.5


def test_what_the_gallery_has_counts_nothing(few: Path, tmp_path: Path, store: imgrec.Store) -> None:
    imgrec.ingest(few, COLOUR, store)
    with store:
        revision = store.revision(store.spaces()[0])
    nothing = told(few, store)
    assert (nothing.files, nothing.bytes, nothing.probed, nothing.disk_bytes) == (0, 0, 0, 0)
    tile = next(few.rglob("*.jpg"))
    shutil.copy(tile, few / "copy.jpg")
    one = told(few, store)
    assert (one.files, one.bytes) == (1, tile.stat().st_size)
    with store:
        assert store.revision(store.spaces()[0]) == revision


def test_a_probe_is_spread_over_the_sizes_and_chosen_by_seed() -> None:
    files = [ImageFile(f"/{number}.jpg", number, 0) for number in range(20_000)]
    random.Random(1).shuffle(files)
    probe, count, total = chosen(files, random.Random(0))
    assert (len(probe), count, total) == (64, 20_000, sum(range(20_000)))
    sizes = [file.size for file in probe]
    assert sizes == sorted(sizes)
    for place, size in enumerate(sizes):  # each is near its share of all
        assert abs(size - (place + 0.5) / 64 * 20_000) < 600
    assert chosen(files, random.Random(0))[0] == probe
    assert chosen(files, random.Random(1))[0] != probe


@dataclass
class Clock:
    """Time that passes as files are extracted: 1 s each, and 1 s for 1,000 bytes."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_time_follows_the_bytes_of_all_files(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(estimates, "time", clock)
    monkeypatch.setattr(estimates, "written", lambda *_: Written(0.5, 100, 10.0))
    engine = imgrec.build("engine", "threads")
    extract = type(engine).extract

    def ahead(self: imgrec.Engine, items: object, batch_size: int) -> object:
        groups = list(extract(self, items, batch_size))  # as an engine that works ahead: all the time in the first
        clock.now += sum(1 + item.file.size / 1000 for group in groups for item in group.items)
        yield from groups

    monkeypatch.setattr(type(engine), "extract", ahead)
    monkeypatch.setattr(estimates, "PROBE", 6)
    monkeypatch.setattr(estimates, "TOGETHER", 2)
    files = list(imgrec.source_of(str(few)).find([str(few)]))
    space = imgrec.Space.of(COLOUR)
    found = estimates.estimate(
        files,
        {space: COLOUR},
        engine,
        [imgrec.build("store", "sqlite")],
        is_held=lambda *_: False,
        batch_size=4,
        seed=0,
    )
    wanted = sum(1.5 + file.size / 1000 for file in files)
    assert found.seconds == pytest.approx(wanted, rel=1e-6)
    assert found.disk_bytes == 100 + 10 * len(files)


def test_from_the_command_line(here: Cli, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = here("ingest", few, "extractor=colour", "estimate=true", "store.path=g.sqlite")
    assert "12 files (" in done.out
    assert "from a probe of 12" in done.out
    assert "about 0 s" not in done.out
    assert not Path("g.sqlite").exists()
    results = imgrec.run.read_results(done.runs()[-1])
    assert (results["files"], results["probed"]) == (12, 12)
    monkeypatch.setattr("imgrec.stages.ingest.MANY", 11)
    done = here("ingest", few, "extractor=colour", "store.path=g.sqlite")
    assert "12 files (" in done.err
    assert "12 new" in done.out
    assert "from a probe" not in here("ingest", few, "extractor=colour", "store.path=g.sqlite").err
    assert "estimate" in here("ingest", few, "estimate=maybe", code=2).err
