"""The runs and sweeps below a folder: what they did and found, and their pictures."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.kinds import Stage
from imgrec.run import RECORD, RESULTS, read_record, read_results
from imgrec.run.comparison import compare, is_number, names_of
from imgrec.serving.asking import UnknownError

PLACES = ("*/*", "sweeps/*/*/*")
"""Where the folders of runs are, and of a sweep's jobs."""

LEADERBOARD = "leaderboard.csv"

MOST = 1_000
"""Runs that are listed; the latest ones."""


class Runs:
    """The runs below a folder, each named by its path there.

    Args:
        folder: where runs are written, `outputs`; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}
        """By name what is listed of a run, and the times at which its files had been written."""

    def listed(self) -> dict[str, Any]:
        """All runs, the latest first, and the sweeps; JSON data."""
        found = [each for name, folder in self._folders().items() if (each := self._about(name, folder))]
        found.sort(key=lambda each: each["started"] or "", reverse=True)
        sweeps = {each["sweep"]: each["stage"] for each in found if each["sweep"]}
        return {
            "runs": found[:MOST],
            "sweeps": [self._sweep(*each) for each in sorted(sweeps.items(), reverse=True)],
        }

    def compared(self, names: Sequence[str]) -> dict[str, Any]:
        """How some runs differ, see `run.comparison.compare`; JSON data.

        Raises:
            UsageError: these are fewer than two.
            UnknownError: there is no such run.
        """
        if len(names) < 2:
            raise UsageError("two runs or more are compared, run=...&run=...")
        folders = [self._folder_of(name) for name in names]
        return {"runs": names_of(folders), **compare(folders)}

    def picture(self, name: str, file: str) -> Path:
        """A picture of a run or sweep.

        Raises:
            UnknownError: there is none.
        """
        if file not in (pictures := _pictures(self._folder_of(name))):
            raise UnknownError(f"{name} has no picture {file!r:.80}")
        return pictures[file]

    def _folders(self) -> dict[str, Path]:
        records = (file for place in PLACES for file in self._folder.glob(f"{place}/{RECORD}"))
        return {file.parent.relative_to(self._folder).as_posix(): file.parent for file in records}

    def _folder_of(self, name: str) -> Path:
        """The folder of a run or sweep; only what is listed has one, whatever else a name may lead to."""
        folders = self._folders()
        folders |= {Path(each).parent.as_posix(): path.parent for each, path in folders.items() if _is_job(each)}
        if name not in folders:
            raise UnknownError(f"there is no run {name!r:.100}")
        return folders[name]

    def _about(self, name: str, folder: Path) -> dict[str, Any] | None:
        """What is listed of a run; None if its record is damaged or gone."""
        try:
            written = tuple(file.stat().st_mtime_ns for file in _files(folder))
            if name not in self._read or self._read[name][0] != written:
                self._read[name] = written, _listed(name, folder)
        except (OSError, UsageError):
            return None
        return self._read[name][1]

    def _sweep(self, name: str, stage: str) -> dict[str, Any]:
        folder = self._folder / name
        try:
            with (folder / LEADERBOARD).open(encoding="utf-8", newline="") as file:
                columns, *rows = csv.reader(file)
        except (OSError, ValueError):
            columns, rows = [], []
        return {
            "sweep": name,
            "columns": columns,
            "headings": {**_headings(stage), "behind": "behind the best", "pareto": "Pareto"},
            "rows": rows,
            "pictures": sorted(_pictures(folder)),
        }


def _is_job(name: str) -> bool:
    return name.startswith("sweeps/")


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in (folder / RECORD, folder / RESULTS) if file.exists())


def _pictures(folder: Path) -> dict[str, Path]:
    return {file.name: file for file in folder.glob("*.png") if file.is_file() and not file.is_symlink()}


def _headings(stage: str) -> dict[str, str]:
    """What the figures are called by which a stage's runs are ranked."""
    found = registry.classes(Stage).get(stage)
    ranking = found.ranking if found else None
    return {**ranking.quality, **ranking.cost} if ranking else {}


def _listed(name: str, folder: Path) -> dict[str, Any]:
    record, results = read_record(folder), read_results(folder)
    headings = _headings(record["stage"])
    figures = results if isinstance(results, Mapping) else {}
    command = [str(word) for word in record.get("command") or [""]]
    return {
        "run": name,
        "sweep": Path(name).parent.as_posix() if _is_job(name) else None,
        **{key: record.get(key) for key in ("stage", "status", "error", "started", "seconds", "counts")},
        "command": shlex.join(["imgrec", *command[1:]]),
        "again": shlex.join(["imgrec", "replay", str(folder)]),
        "figures": {heading: figures[key] for key, heading in headings.items() if is_number(figures.get(key))},
        "pictures": sorted(_pictures(folder)),
    }
