"""info: what a gallery holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.gallery.holdings import describe
from imgrec.kinds import Stage, Store, places
from imgrec.options import component, option
from imgrec.run import Run, table
from imgrec.run.listing import FORMATS, Column, Listing

NUMBERS = ("vectors", "dim", "bytes")
COLUMNS = [Column(name, is_number=name in NUMBERS) for name in ("key", *NUMBERS, "default", "space")]
"""Of the spaces, a row each."""


@dataclass(kw_only=True)
class Info(Stage):
    """Show what the gallery holds: its spaces with their options, fusions, counts, sizes, files that failed."""

    positional: ClassVar[str | None] = None
    keeps_record: ClassVar[bool] = False

    format: str = option("table", choices=FORMATS[:-2], help="of the result on stdout")
    failures: int = option(10, minimum=0, help="how many failed files to list as a table")
    store: Store = component("store")

    def execute(self, run: Run) -> None:
        """Print the summary, and write `results.json`."""
        if self.format != "table" and run.gives("failures"):
            raise UsageError(f"failures= has no effect with format={self.format}: `imgrec failures` lists all")
        with self.store as store:
            result = {**describe(store), "named_by": next(iter(run.environment), None)}
        run.write_json("results.json", result)
        rows = [
            {"key": each["key"], "vectors": each["vectors"], "dim": each["dim"], "bytes": each["bytes"]}
            | {"default": each["key"] == result["default"], "space": each["summary"]}
            for each in result["spaces"]
        ]
        text = as_text(result, self.failures)
        run.show(Listing(COLUMNS, rows, data=result, table=text), self.format)


def as_text(result: dict[str, Any], failures: int) -> str:
    """The summary as tables."""
    size = "" if result["bytes"] is None else f", {_megabytes(result['bytes'])}"
    counts = {name: result[name] for name in ("images", "contents", "missing")} | {"failed": len(result["failed"])}
    summary = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    named = f" ({result['named_by']})" if result["named_by"] else ""
    paths = ", relative paths" if result["paths"] == places.RELATIVE else ""
    lines = [f"{result['store']}{named}: {summary}{size}{paths}"]
    default = result["default"]
    rows = [[f"{s['vectors']:,}", s["dim"], _megabytes(s["bytes"]), _marked(s, default)] for s in result["spaces"]]
    if rows:
        lines += ["", table(rows, header=["vectors", "dim", "size", "space"])]
    if result["fusions"]:
        lines += ["", table([[_marked(each, default)] for each in result["fusions"]], header=["fusion"])]
    if result["indexes"]:
        lines += ["", table(_indexes(result["indexes"]), header=["size", "index", "finds", "at least", "space"])]
    failed = [[failure["reason"], failure["path"]] for failure in result["failed"][:failures]]
    if failed:
        lines += ["", table(failed, header=["failed because", "path"])]
    if len(result["failed"]) > failures:
        lines.append(f"and {len(result['failed']) - failures:,} more: format=json lists all")
    return "\n".join(lines)


def _indexes(kept: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each measured search of each index, or for one that was not measured."""
    rows = []
    for each in kept:
        name = f"{each['index']}, {each['metric']}{'' if each['is_current'] else ', of an older state'}"
        for found in each["measured"] or [None]:
            shares = ["", ""] if found is None else [f"{found[share]:.4f}" for share in ("recall", "at_least")]
            rows.append([_megabytes(each["bytes"]), name, *shares, each["space"]])
    return rows


def _marked(what: dict[str, Any], default: str | None) -> str:
    """A space or fusion in one line; it says if it is what images are compared by."""
    return str(what["summary"]) + ("  <- the default" if what["key"] == default else "")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
