"""A sweep's leaderboard: its jobs, best first.

It is built from the jobs' records alone, since they may have run in other processes or before an interruption.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.evaluation.figures import Behind, behind
from imgrec.kinds import Ranking, Stage
from imgrec.run import RECORD, RESULTS, Run, read_record, read_results, table, to_json

if TYPE_CHECKING:
    from imgrec.drawing.leaderboard import Point

NAME = "leaderboard"
"""The files' name without suffix."""

BEST, TIE = "*", "="
"""Mark the best job and those that are as good in every figure, and those that the queries do not tell from it."""

PARETO = "yes"
"""Marks the jobs that no other beats in both what is drawn."""

QUERIES = "queries.csv"
"""A job's file with a row for each query, if its ranking says so."""

SAME = ("stage", "directory", "choices", "configuration", "plugin_files")
"""Keys of a record that must be equal for a job to count as done already."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep, read from its record."""

    name: str
    """Its folder relative to the sweep's, a number given by Hydra."""

    record: Mapping[str, Any]
    results: Mapping[str, Any]
    """The results shown in the leaderboard; empty if the job is not done."""

    error: str | None
    """Why it is not done, in one line."""

    @classmethod
    def read(cls, folder: Path, sweep: Path) -> Job:
        """Read a job from its folder and its sweep's, whether it is done or not."""
        name, record = os.path.relpath(folder, sweep), {}
        try:
            record = read_record(folder)
            if record.get("status") != "done":
                raise UsageError(str(record.get("error") or record.get("status")))
            results = _figures(folder, _ranking_of(record))
        except UsageError as error:
            return cls(name, record, {}, " ".join(str(error).split()))
        return cls(name, record, results, None)

    @classmethod
    def of(cls, run: Run) -> Job:
        """Read the job of a run from its folder."""
        return cls.read(run.folder, run.sweep or run.folder.parent)

    @property
    def ranking(self) -> Ranking | None:
        """The ranking of its stage; None if that is not ranked or not known."""
        return _ranking_of(self.record)

    @property
    def overrides(self) -> Mapping[str, str]:
        """The options set on its command line."""
        found: Mapping[str, str] = self.record.get("overrides", {})
        return found

    def interval(self, figure: str) -> tuple[float, float] | None:
        """The bounds of a figure's confidence interval."""
        ends = self.results.get("confidence", {}).get(figure)
        return (ends[0], ends[1]) if ends else None

    def per_query(self, sweep: Path, column: str | None) -> dict[tuple[str, str], float]:
        """A figure of each query, which a row's first two columns name; empty if it has not written them."""
        if column is None or self.error is not None:
            return {}
        try:
            with (sweep / self.name / QUERIES).open(
                encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                header, *rows = csv.reader(file)
                place = header.index(column)
                return {(row[0], row[1]): float(row[place]) for row in rows}
        except (OSError, ValueError, IndexError, csv.Error):
            return {}

    def figures(self, count: int) -> Any:
        """What it tells a sweeper that optimises so many figures: a number or a list; None if it is not done."""
        if self.error is not None or self.ranking is None:
            return None
        values = [self.results[figure] for figure in list(self.ranking.directions())[:count]]
        return values if count > 1 else values[0]

    def is_same(self, other: Job) -> bool:
        """Whether another job is the same, so that one of them need not be run."""
        return bool(self.record) and all(self.record.get(name, {}) == other.record.get(name, {}) for name in SAME)

    def summary(self) -> str:
        """Its error or its figures in one line."""
        if self.error is not None or self.ranking is None:
            return self.error or "done"
        parts = []
        for figure, heading in self.ranking.quality.items():
            ends = self.interval(figure)
            parts.append(
                f"{heading} {self.results[figure]:.4f}" + (f" ({ends[0]:.4f} to {ends[1]:.4f})" if ends else "")
            )
        return ", ".join(parts)


def _ranking_of(record: Mapping[str, Any]) -> Ranking | None:
    stage = registry.classes(Stage).get(record.get("stage", ""))
    return stage.ranking if stage else None


def _figures(folder: Path, ranking: Ranking | None) -> dict[str, Any]:
    """The results of a job of a ranked stage."""
    if ranking is None:
        return {}
    results: dict[str, Any] = read_results(folder)
    for figure in [*ranking.quality, *ranking.cost]:
        value = results.get(figure)
        if not (_is_figure(value) or (value is None and figure in ranking.cost)):
            raise UsageError(f"{folder / RESULTS} has no figure {figure!r}: it is {value!r}")
    return results


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def done_before(run: Run) -> Job | None:
    """A job of this sweep that was done with the same configuration, here or beside, earlier or now; None if none.

    Only jobs of ranked stages are reused; others run again.
    """
    assert run.sweep is not None
    wanted = Job("", json.loads(to_json({name: getattr(run, name) for name in SAME})), {}, None)
    folders = [run.folder, *sorted(file.parent for file in run.sweep.rglob(RECORD))]
    jobs = (Job.read(folder, run.sweep) for folder in folders)
    return next((job for job in jobs if job.error is None and job.ranking and wanted.is_same(job)), None)


def take_over(run: Run, job: Job) -> None:
    """Copy the results of a job that is the same into the folder of a run."""
    assert run.sweep is not None
    for file in (run.sweep / job.name).iterdir():
        if file.is_file() and file.suffix != ".log":
            shutil.copy2(file, run.folder)


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep, by number."""

    folder: Path
    jobs: Sequence[Job]

    @classmethod
    def read(cls, folder: Path, jobs: Sequence[Path] = ()) -> Sweep:
        """Read a sweep from its folder and those of its jobs, by default all that the folder has."""
        found = sorted((file.parent for file in folder.rglob(RECORD)), key=lambda job: (len(job.name), job.name))
        return cls(folder, [Job.read(job, folder) for job in jobs or found])

    def changed(self) -> str | None:
        """A warning if jobs of one source saw different images, since it was changed in between."""
        seen: dict[str, set[tuple[str, int]]] = {}
        for job in self.jobs:
            if job.error is None and (gallery := job.record.get("gallery")):
                source = json.dumps(job.record["configuration"].get("source"))
                seen.setdefault(source, set()).add((gallery["fingerprint"], gallery["images"]))
        for galleries in seen.values():
            if len(galleries) > 1:
                counts = " and ".join(f"{count:,}" for count in sorted(count for _, count in galleries))
                return f"jobs have seen other images of one source ({counts}): start again in a new folder"
        return None

    def leaderboard(self) -> Leaderboard | None:
        """The jobs ranked as their stage defines; None if the stage is not ranked."""
        rankings = [job.ranking for job in self.jobs if job.ranking is not None]
        return Leaderboard(self.folder, rankings[0], self._ranked(rankings[0])) if rankings else None

    def _ranked(self, ranking: Ranking) -> list[Job]:
        """The best first, failed ones last; jobs with damaged records, whose stage is unknown, are included."""

        def order(job: Job) -> tuple[bool, list[float]]:
            return job.error is not None, [-job.results[figure] for figure in ranking.quality if job.results]

        unlike = (job for i, job in enumerate(self.jobs) if not any(job.is_same(each) for each in self.jobs[:i]))
        return sorted((job for job in unlike if job.ranking == ranking or not job.record), key=order)


@dataclass(frozen=True)
class Leaderboard:
    """The jobs of a sweep, the best first and failed ones last."""

    folder: Path
    """The folder of the sweep."""

    ranking: Ranking
    jobs: Sequence[Job]

    @property
    def options(self) -> list[str]:
        """The options that differ between jobs."""
        all_overrides = [job.overrides for job in self.jobs if job.record]
        names = {name: None for overrides in all_overrides for name in overrides}
        return [name for name in names if len({overrides.get(name) for overrides in all_overrides}) > 1]

    @property
    def remarks(self) -> dict[str, str]:
        """The headings of remarks that some job has."""
        remarks = self.ranking.remarks.items()
        return {name: heading for name, heading in remarks if any(job.results.get(name) for job in self.jobs)}

    def is_best(self, job: Job) -> bool:
        """Whether it is the first job or ties with it in all figures."""
        first = self.jobs[0]
        return job.error is None and all(
            job.results[figure] == first.results[figure] for figure in self.ranking.quality
        )

    @functools.cached_property
    def behind(self) -> dict[str, Behind]:
        """By name of a job how far it is behind the best, where both have asked the same queries."""
        best, *others = [(job.name, job.per_query(self.folder, self.ranking.per_query)) for job in self.jobs]
        return {
            name: behind(list(best[1].values()), [asked[query] for query in best[1]], seed=0)
            for name, asked in others
            if asked and asked.keys() == best[1].keys()
        }

    def is_tie(self, job: Job) -> bool:
        """Whether it is not the best, and the queries do not tell it from that."""
        return not self.is_best(job) and job.name in self.behind and self.behind[job.name].is_tie

    @functools.cached_property
    def pareto(self) -> set[str]:
        """The jobs than which none is better in the quality or the cost drawn without being worse in the other.

        V. Pareto, Manuale di economia politica, 1906.
        """
        quality, cost = self.drawn
        sign = 1 if cost.endswith("_per_s") else -1
        worth = {
            job.name: (job.results[quality], sign * job.results[cost])
            for job in self.jobs
            if job.results.get(cost) is not None
        }
        return {
            name
            for name, mine in worth.items()
            if not any(
                other != mine and all(o >= m for o, m in zip(other, mine, strict=True)) for other in worth.values()
            )
        }

    @property
    def drawn(self) -> tuple[str, str]:
        """The quality and the cost that are drawn: the first of each."""
        return next(iter(self.ranking.quality)), next(iter(self.ranking.cost))

    @property
    def is_json(self) -> bool:
        """Whether the jobs were asked to print JSON."""
        return all(job.record["configuration"].get("format") == "json" for job in self.jobs if job.record)

    def save(self) -> list[Path]:
        """Write `leaderboard.csv` and `.md`, and `.png` if there is a job to draw, to the sweep's folder.

        Returns:
            The files written.
        """
        files = [self.folder / f"{NAME}.{ending}" for ending in ("csv", "md", "png")]
        rows = self.rows()
        with files[0].open("w", encoding="utf-8", errors="surrogateescape", newline="") as opened:
            writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        files[1].write_text(self.to_markdown(), encoding="utf-8", errors="surrogateescape")
        if not (points := self.points()):
            files.pop().unlink(missing_ok=True)
            return files
        quality, cost = next(iter(self.ranking.quality.values())), next(iter(self.ranking.cost.values()))
        from imgrec.drawing.leaderboard import quality_against_cost

        quality_against_cost(points, files[2], quality, cost)
        return files

    def rows(self) -> list[dict[str, Any]]:
        """One row per job for the CSV file: options, figures with their intervals, costs, folder and error."""
        return [
            {
                "best": self._mark(job),
                **{name: job.overrides.get(name, "") for name in self.options},
                **{
                    column: value
                    for figure in self.ranking.quality
                    for column, value in zip(
                        (figure, f"{figure}_low", f"{figure}_high"),
                        (job.results.get(figure), *(job.interval(figure) or (None, None))),
                        strict=True,
                    )
                },
                **dict(
                    zip(
                        ("behind", "behind_low", "behind_high"),
                        self.behind.get(job.name, (None,) * 3),
                        strict=True,
                    )
                ),
                **{name: job.results.get(name) for name in (*self.ranking.cost, *self.remarks)},
                "pareto": PARETO if job.name in self.pareto else "",
                "job": job.name,
                "error": job.error,
            }
            for job in self.jobs
        ]

    def to_json(self) -> str:
        """One JSON document: `jobs`, the best first, each with its figures as in its `results.json`."""
        folder = self.folder.absolute()
        jobs = [
            {
                "best": self.is_best(job),
                "options": {name: job.overrides.get(name) for name in self.options},
                **{figure: job.results.get(figure) for figure in self.ranking.quality},
                "confidence": {figure: job.interval(figure) for figure in self.ranking.quality},
                "behind": self.behind[job.name]._asdict() if job.name in self.behind else None,
                "tie": self.is_tie(job),
                "pareto": job.name in self.pareto,
                **{name: job.results.get(name) for name in (*self.ranking.cost, *self.ranking.remarks)},
                "folder": folder / job.name,
                "error": job.error,
            }
            for job in self.jobs
        ]
        return to_json({"sweep": folder, "ranked_by": next(iter(self.ranking.quality)), "jobs": jobs})

    def to_text(self) -> str:
        """A plain-text table."""
        header, cells = self._cells()
        return table(cells, header)

    def to_markdown(self) -> str:
        """A Markdown table."""
        header, cells = self._cells()
        rows = [header, ["---"] * len(header), *cells]
        return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in rows)

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Formatted headings and rows; the error column only if there are errors."""
        has_errors = any(job.error for job in self.jobs)
        header = ["", *self.options]
        first, *others = self.ranking.quality.values()
        header += [
            first,
            "95% confidence",
            *(["behind the best"] if self.behind else []),
            *others,
            *self.ranking.cost.values(),
            *self.remarks.values(),
            "Pareto",
            "job",
            *(["error"] if has_errors else []),
        ]
        return header, [self._row(job) + ([job.error or ""] if has_errors else []) for job in self.jobs]

    def _row(self, job: Job) -> list[str]:
        cells = [self._mark(job), *(job.overrides.get(name, "") for name in self.options)]
        figures = [f"{job.results[figure]:.4f}" if job.results else "" for figure in self.ranking.quality]
        ends = job.interval(next(iter(self.ranking.quality)))
        cells += [figures[0], "{:.4f} to {:.4f}".format(*ends) if ends else ""]
        if self.behind:
            behind = self.behind.get(job.name)
            cells.append("{:.4f} ({:.4f} to {:.4f})".format(*behind) if behind else "")
        cells += figures[1:]
        more = (job.results.get(name) for name in (*self.ranking.cost, *self.remarks))
        cells += ["" if value is None else f"{value:,}" for value in more]
        return [*cells, PARETO if job.name in self.pareto else "", job.name]

    def _mark(self, job: Job) -> str:
        return BEST if self.is_best(job) else TIE if self.is_tie(job) else ""

    def legend(self) -> str:
        """What the marks mean, for whoever reads the table."""
        first, cost = self.ranking.quality[self.drawn[0]], self.ranking.cost[self.drawn[1]]
        told = f"{BEST} is best by {first}"
        if any(self.is_tie(job) for job in self.jobs):
            told += f", {TIE} the queries do not tell from it (paired bootstrap, 95%)"
        return f"{told}; Pareto: no other is better in {first} or {cost} without being worse in the other"

    def points(self) -> list[Point]:
        """The jobs to draw: those with both a quality and a cost."""
        from imgrec.drawing.leaderboard import Point

        quality, cost = self.drawn
        return [
            Point(
                " ".join(_short(name, job.overrides.get(name, "")) for name in self.options) or job.name,
                job.results[quality],
                job.results[cost],
                job.interval(quality),
                is_best=self.is_best(job),
                is_tie=self.is_tie(job),
                is_pareto=job.name in self.pareto,
            )
            for job in self.jobs
            if job.results.get(cost)
        ]


def _short(option: str, value: str) -> str:
    """An option as `name=value`, without the name if the value is clear alone.

    >>> _short("metric", "cosine"), _short("projection.n_components", "64"), _short("projection", "none")
    ('cosine', 'n_components=64', 'projection=none')
    """
    tells_enough = value[:1].isalpha() and value not in {"none", "null", "true", "false"}
    return value if tells_enough else f"{option.rpartition('.')[2]}={value}"
