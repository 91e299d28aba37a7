"""What any number of images will take, reckoned from what was measured; and that it is measured."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Cli
from imgrec import planning, registry
from imgrec.kinds import Index
from imgrec.planning import Limits, Measured, Way
from imgrec.planning.measuring import EXACT, Searching, Storing, Trial

seconds = st.floats(1e-5, 10)
sizes = st.floats(10, 1e5)


@st.composite
def machines(draw: st.DrawFn) -> Measured:
    def searching(name: str) -> Searching:
        small = Trial(1_000, draw(seconds), draw(sizes), draw(seconds))
        large = Trial(4_000, draw(seconds), draw(sizes), small.query_seconds * draw(st.floats(1.001, 8)))
        return Searching(name, small, large)

    return Measured(
        cores=draw(st.integers(1, 64)),
        free_disk_bytes=draw(st.integers(10**6, 10**15)),
        tried=64,
        are_made_up=False,
        file_bytes=draw(sizes),
        start_seconds=draw(st.floats(0, 30)),
        extract_seconds=draw(seconds),
        memory_bytes=draw(st.integers(1, 10**10)),
        dim=draw(st.integers(1, 4096)),
        stores=[Storing(name, draw(seconds), draw(sizes)) for name in ("one", "other")],
        searches=[searching(EXACT), searching("near")],
        seconds=60,
    )


def too_much(measured: Measured, way: Way, limits: Limits) -> bool:
    """Whether a way goes beyond what somebody waits for, or this disk has."""
    return (
        way.seconds > 3600 * limits.ingest_hours * (1 + 1e-9)
        if way.task == "extract"
        else (way.disk_bytes or 0) > measured.free_disk_bytes + 1
        or (way.task == "store" and way.seconds > 3600 * limits.ingest_hours * (1 + 1e-9))
        or (way.query_seconds or 0) > limits.query_ms / 1000 * (1 + 1e-9)
    )


@given(machines(), st.integers(1, 10**9), st.integers(2, 50), st.floats(1, 1000), st.floats(1, 10_000))
def test_each_way_is_sensible_up_to_where_it_says(
    measured: Measured, images: int, workers: int, hours: float, ms: float
) -> None:
    limits = Limits(ingest_hours=hours, query_ms=ms, workers=workers)
    for number, way in enumerate(planning.ways(measured, images, limits)):
        if way.until >= 1:
            assert not too_much(measured, planning.ways(measured, way.until, limits)[number], limits)
        if way.until < 10**12:
            assert way.then
            more = planning.ways(measured, round((way.until + 2) * 1.001), limits)[number]
            assert too_much(measured, more, limits)


@given(machines(), st.integers(1, 10**9), st.floats(0, 10))
def test_more_images_cost_more_and_money_is_core_hours_at_their_price(
    measured: Measured, images: int, hour: float
) -> None:
    limits = Limits(workers=3, hour=hour)
    few, many = (planning.ways(measured, count, limits) for count in (images, 2 * images))
    for one, two in zip(few, many, strict=True):
        assert one.money == pytest.approx(one.core_hours * hour)
        assert two.seconds >= one.seconds
        assert (two.disk_bytes or 0) >= (one.disk_bytes or 0)
        assert (two.query_seconds or 0) >= (one.query_seconds or 0)
    assert all(way.money is None for way in planning.ways(measured, images, replace(limits, hour=None)))


@given(machines(), st.integers(10, 10**8))
def test_machines_are_as_many_as_keep_within_the_hours_and_no_more_than_one_can_write_for(
    measured: Measured, images: int
) -> None:
    limits = Limits(ingest_hours=10)
    together = planning.ways(measured, images, limits)[1]
    count = int(together.way.split()[0].replace(",", ""))
    writing = min(store.seconds for store in measured.stores)
    is_quick = together.seconds <= 36_000 * (1 + 1e-9)
    assert is_quick or count >= measured.extract_seconds / writing - 1
    if count > 2:
        fewer = planning.ways(measured, images, replace(limits, workers=count - 1))[1]
        assert fewer.seconds > 36_000 * (1 - 1e-9)


def test_a_plan_is_measured_and_leaves_nothing(
    here: Cli, few: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = sorted(Path().rglob("*"))
    done = here("plan", "5000", "source=few", "extractor=colour", "stores=[sqlite,csv]", "vectors=2000",
                "indexes=[]", "hour=0.05", "format=json")  # fmt: skip
    found = json.loads(done.out)
    measured = found["measured"]
    assert (measured["tried"], measured["are_made_up"]) == (12, False)
    assert measured["file_bytes"] == sum(file.stat().st_size for file in few.rglob("*.jpg")) / 12
    assert measured["extract_seconds"] > 0
    assert [store["name"] for store in measured["stores"]] == ["sqlite", "csv"]
    (search,) = measured["searches"]
    assert (search["name"], search["small"]["images"], search["large"]["images"]) == ("exact", 500, 2000)
    assert [way["way"] for way in found["ways"]] == ["this machine", "2 machines", "sqlite", "csv", "exact"]
    assert sorted(Path().rglob("*")) == before
    assert not list((tmp_path / "temporary").iterdir())


def test_photographs_that_cannot_be_read_are_told(here: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no picture")
    done = here("plan", "5000", "source=bad", "extractor=colour", "indexes=[]", "vectors=1000", code=1)
    (line,) = done.err.splitlines()[-1:]
    assert line.startswith("imgrec: none of the 1 files that were tried could be read: ")
    assert line.endswith("/bad/a.jpg: not an image in a known format")


def test_photographs_are_made_up_where_none_are_given_and_that_is_told(here: Cli) -> None:
    done = here("plan", "5000", "extractor=colour", "vectors=1000")
    assert "32 made-up photographs" in done.err
    assert "money" not in done.out


def test_an_index_is_measured_and_left_out_where_it_is_not_used(here: Cli) -> None:
    done = here("plan", "5000", "extractor=colour", "extractor.bins=2", "stores=[sqlite]", "vectors=24000")
    assert [line.split()[1] for line in done.out.splitlines()[-2:]] == ["exact", "faiss"]
    done = here("plan", "5000", "extractor=colour", "stores=[sqlite]", "vectors=1000")
    assert "faiss" not in done.out
    assert "index=faiss is not used: among 250 images all are looked at" in done.err


def test_what_is_not_installed_is_left_out_and_told(here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = registry.available("store")["csv"].cls
    monkeypatch.setattr(csv, "requires", {"no_such_library": "imgrec[nothing]"})
    done = here("plan", "5000", "extractor=colour", "stores=[sqlite,csv]", "vectors=1000")
    assert "store=csv is left out, since it lacks a library: " in done.err
    assert "csv" not in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stores=[sqllite]"], "there is no store 'sqllite' (did you mean sqlite?): available are"),
        (["indexes=[nothing]"], f"there is no {Index.kind} 'nothing'"),
        (["stores=[]"], "stores= is empty"),
        (["stores=lance"], "stores=lance: it takes a list, stores=[lance]"),
        (["source=empty"], "there are no images in"),
        (["source=nowhere"], "source 'nowhere' does not exist"),
        (["workers=1"], "workers"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_line(
    here: Cli, tmp_path: Path, words: list[str], message: str
) -> None:
    Path("empty").mkdir(exist_ok=True)
    done = here("plan", "5000", "extractor=colour", "vectors=1000", *words, code=2)
    assert message in done.err
