"""What `make bench` writes; the figures themselves are not tested."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.report import Report


def test_results_are_those_that_people_read() -> None:
    assert benchmarks.RESULTS.with_suffix(".md").read_text() == benchmarks.markdown()


def test_a_report_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("a thing")
    report.add("its size", 2, "m")
    report.hold("its speed", 3, at_least=2)
    report.notes.append("A note.")
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path / "results.json")
    kept = {"machine": "here", "day": "today", **dataclasses.asdict(report)}
    benchmarks.RESULTS.write_text(json.dumps({"thing": kept}))
    assert benchmarks.markdown() == f"## thing\n\ntoday, here. {report.markdown()}\n"
