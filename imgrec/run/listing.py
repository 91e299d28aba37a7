"""Listings: results as rows of columns, written in the format asked for."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from imgrec.run.console import table, to_json

log = logging.getLogger(__name__)

FORMATS = ("table", "json", "jsonl", "csv", "markdown", "html", "paths", "paths0")
"""`jsonl` is a row a line; `paths` a path a line; `paths0` ends each with a null byte, for `xargs -0`."""


@dataclass(frozen=True)
class Column:
    """A column of a listing, the same in all formats."""

    name: str
    """Its heading, and its key in JSON lines."""

    shown: Callable[[Any], str] = lambda value: "" if value is None else str(value)
    """How a person reads a value: in tables, Markdown and HTML."""

    is_number: bool = False
    """Whether values stand at the right."""


@dataclass(frozen=True)
class Listing:
    """Rows of columns, and what else a stage prints of them.

    >>> rows = [{"rank": 1, "path": "a.jpg"}, {"rank": 10, "path": "b c.jpg"}]
    >>> listing = Listing([Column("rank", is_number=True), Column("path")], rows)
    >>> print(listing.text("markdown"), end="")
    | rank | path |
    | ---: | --- |
    | 1 | a.jpg |
    | 10 | b c.jpg |
    """

    columns: Sequence[Column]

    rows: Sequence[Mapping[str, Any]]
    """A value a column."""

    data: Any = None
    """What `format=json` prints; None: the rows."""

    paths: Sequence[str] | None = None
    """What `format=paths` prints; None: the column `path`."""

    table: str | None = None
    """What `format=table` prints, where that is more than the rows."""

    def text(self, form: str, *, is_continued: bool = False) -> str:
        """The listing in one of `FORMATS`, with the line break at its end; continued, CSV has no header."""
        if form in ("paths", "paths0"):
            return self._paths("\n" if form == "paths" else "\0")
        if form == "json":
            return to_json([dict(row) for row in self.rows] if self.data is None else self.data) + "\n"
        if form == "jsonl":
            return "".join(json.dumps(dict(row), default=str) + "\n" for row in self.rows)
        if form == "csv":
            return self._csv(has_header=not is_continued)
        if form == "markdown":
            return self._markdown()
        if form == "html":
            return self._html()
        return (table(self._cells(), header=self._names()) if self.table is None else self.table) + "\n"

    def _names(self) -> list[str]:
        return [column.name for column in self.columns]

    def _cells(self) -> list[list[str]]:
        return [[column.shown(row[column.name]) for column in self.columns] for row in self.rows]

    def _paths(self, end: str) -> str:
        paths = [row["path"] for row in self.rows] if self.paths is None else self.paths
        if end == "\n" and (broken := sum("\n" in path for path in paths)):
            have = "has a line break" if broken == 1 else "have line breaks"
            log.warning("%d of these names %s: format=paths0 ends each with a null byte", broken, have)
        return "".join(path + end for path in paths)

    def _csv(self, *, has_header: bool) -> str:
        lines: list[str] = []
        # Its own line ending is \r\n, so that it quotes cells with either.
        writer = csv.writer(SimpleNamespace(write=lines.append))
        if has_header:
            writer.writerow(self._names())
        for row in self.rows:
            writer.writerow([_plain(row[name]) for name in self._names()])
        return "".join(line.removesuffix("\r\n") + "\n" for line in lines)

    def _markdown(self) -> str:
        marks = ["---:" if column.is_number else "---" for column in self.columns]
        lines = [self._names(), marks, *([_escaped(cell) for cell in cells] for cells in self._cells())]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def _html(self) -> str:
        import html  # its list of all entities is only needed here

        def line(tag: str, cells: Sequence[str]) -> str:
            return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>\n"

        body = "".join(line("td", cells) for cells in self._cells())
        head = f"<thead>\n{line('th', self._names())}</thead>\n"
        return f"<table>\n{head}<tbody>\n{body}</tbody>\n</table>\n"


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple | Mapping) else value


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", r"\|").replace("\n", " ").replace("\r", " ")
