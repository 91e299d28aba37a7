"""Console output: tables, JSON, progress."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from imgrec.errors import ImgrecError


def write_results(text: str, stdout: TextIO | None = None) -> None:
    """Write results at once, to stdout by default.

    Raises:
        ImgrecError: it cannot be written, for lack of space say.
        BrokenPipeError: its reader, such as `head`, has seen enough.
    """
    try:
        stdout = stdout or sys.stdout
        stdout.write(text)
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ImgrecError(f"the results cannot be written to stdout: {error.strerror}") from error


LAST_PATH = re.compile(rf"(?m)(^|  )({re.escape(os.sep)}\S.*)$")
"""A path in the last column of a table."""

WITHOUT_LINKS = ("", "dumb", "unknown", "linux", "screen")
"""Terminals by `TERM` that may print a link's codes."""


def linked(text: str, stream: TextIO) -> str:
    """A table whose paths, in its last column, are links (OSC 8) if a terminal that has them shows it.

    With `NO_COLOR`, or where the stream is no terminal, it stays as it is.
    """
    name = os.environ.get("TERM", "windows" if os.name == "nt" else "").partition("-")[0]
    is_able = name not in WITHOUT_LINKS or (name == "screen" and "TMUX" in os.environ)
    if not (is_able and stream.isatty()) or os.environ.get("NO_COLOR"):
        return text

    def link(found: re.Match[str]) -> str:
        before, path = found.groups()
        if not os.path.lexists(path):
            return found[0]
        return f"{before}\x1b]8;;{Path(path).as_uri()}\x1b\\{path}\x1b]8;;\x1b\\"

    return LAST_PATH.sub(link, text)


def to_json(data: Any) -> str:
    """Indented JSON; names that are not UTF-8 are escaped."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(data, indent=2, default=str)
    return text


def flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested data into one mapping.

    >>> flat({"k": 5, "matches": [{"rank": 1}], "spaces": []})
    {'k': 5, 'matches[0].rank': 1, 'spaces': []}
    """
    if not data or not isinstance(data, Mapping | list):
        return {prefix: data} if prefix else {}
    items = (
        {f"{prefix}.{name}" if prefix else str(name): value for name, value in data.items()}
        if isinstance(data, Mapping)
        else {f"{prefix}[{i}]": value for i, value in enumerate(data)}
    )
    return {key: value for name, inner in items.items() for key, value in flat(inner, name).items()}


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What breaks lines or steers a terminal, which names of files may have."""


def table(rows: Sequence[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Align rows in columns: numbers to the right, the last column unpadded, control characters in cells escaped.

    >>> print(table([[1, "a.jpg"], [10, "b.jpg"]], header=["rank", "path"]))
    rank  path
       1  a.jpg
      10  b.jpg
    """
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(rows[0]))] if rows else []
    cells = [[_on_one_line(str(cell)) for cell in row] for row in ([header, *rows] if header else rows)]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    lines = []
    for row in cells:
        parts = [
            f"{' ' * (width - _width(cell))}{cell}" if to_right else f"{cell}{' ' * (width - _width(cell))}"
            for cell, width, to_right in zip(row, widths, right or [False] * len(row), strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    r"""The columns that a text takes in a terminal: two a Chinese or Japanese letter, none an accent of its own.

    >>> _width("a.jpg"), _width("帽子"), _width("e\N{COMBINING ACUTE ACCENT}")
    (5, 4, 1)
    """
    if text.isascii():
        return len(text)
    unseen = ("Mn", "Me", "Cf")
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.category(letter) in unseen for letter in text)


def _on_one_line(text: str) -> str:
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@contextlib.contextmanager
def progress(description: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and time left on stderr; yields the function that advances it.

    If stderr is not a terminal, a line is printed now and then.
    """
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_progress(description, total)
        return
    rate = TextColumn("{task.fields[rate]}")
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, rate="")
        start = time.perf_counter()

        def advance(count: int) -> None:
            bar.advance(task, count)
            done = bar.tasks[0].completed
            bar.update(task, rate=f"{done / max(1e-6, time.perf_counter() - start):,.0f}/s")

        yield advance


def _line_progress(description: str, total: int | None, every: float = 10.0) -> Callable[[int], None]:
    start = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= every:
            last = now
            rate = done / (now - start)
            left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
            sys.stderr.write(f"{description}: {done:,}{f' of {total:,}' if total else ''}, {rate:,.0f}/s{left}\n")
            sys.stderr.flush()

    return advance
