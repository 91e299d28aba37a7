"""Results in every format, with the same columns and values; links in terminals; the system's viewer."""

from __future__ import annotations

import contextlib
import csv
import html.parser
import io
import json
import os
import re
import shlex
import stat
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Cli
from imgrec.run.console import linked, table
from imgrec.run.listing import FORMATS, Column, Listing

NASTY = st.text(st.sampled_from("ab |\\<>&\"',\n\r\té"), max_size=8)
ROWS = st.lists(
    st.fixed_dictionaries({"n": st.none() | st.integers(), "text": NASTY, "path": NASTY.map("/{}".format)}),
    min_size=1,
    max_size=4,
)
COLUMNS = [Column("n", is_number=True), Column("text"), Column("path")]


class Cells(html.parser.HTMLParser):
    """The cells of an HTML table, row by row, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._is_in = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._is_in = True

    def handle_endtag(self, tag: str) -> None:
        self._is_in = self._is_in and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._is_in:
            self.rows[-1][-1] += data


def from_markdown(text: str) -> list[list[str]]:
    """Cells by the rules of GitHub's tables: a bar that is not escaped ends one."""
    found = []
    for line in text.splitlines():
        cells = re.findall(r" ((?:\\.|[^|\\])*) \|", line[1:])
        found.append([re.sub(r"\\(.)", r"\1", cell) for cell in cells])
    return found


@settings(max_examples=80)
@given(rows=ROWS)
def test_all_formats_say_the_same(rows: list[dict[str, Any]]) -> None:
    """Read back by parsers of others; what a person sees has no line breaks in Markdown."""
    listing = Listing(COLUMNS, rows)
    shown = [["" if row["n"] is None else str(row["n"]), row["text"], row["path"]] for row in rows]
    header = ["n", "text", "path"]
    assert json.loads(listing.text("json")) == rows
    assert [json.loads(line) for line in listing.text("jsonl").split("\n")[:-1]] == rows
    assert list(csv.reader(io.StringIO(listing.text("csv"), newline=""))) == [header, *shown]
    assert Cells(listing.text("html")).rows == [header, *shown]
    flat = [[re.sub(r"[\r\n]", " ", cell) for cell in cells] for cells in shown]
    assert from_markdown(listing.text("markdown")) == [header, ["---:", "---", "---"], *flat]
    assert listing.text("paths0").split("\0")[:-1] == [row["path"] for row in rows]
    assert listing.text("table").split("\n")[0].split() == header


def test_a_path_with_a_line_break_is_told_where_it_would_be_two(caplog: pytest.LogCaptureFixture) -> None:
    listing = Listing([Column("path")], [{"path": "/a\nb"}])
    assert listing.text("paths") == "/a\nb\n"
    assert "format=paths0" in caplog.text


def columns_of(text: str, form: str) -> list[str]:
    if form == "csv":
        return next(csv.reader(io.StringIO(text)))
    if form == "jsonl":
        return list(json.loads(text.splitlines()[0]))
    return from_markdown(text)[0] if form == "markdown" else Cells(text).rows[0]


def test_every_stage_that_lists_has_every_format(here: Cli, few: Path) -> None:
    (few / "empty | <b>.png").touch()
    here("ingest", few, "extractor=colour", "extractor.bins=2")
    stages: dict[str, tuple[list[Any], tuple[str, ...], int]] = {
        "recommend": (["recommend", few / "china" / "china-0-0.jpg", "k=3"], FORMATS, 3),
        "failures": (["failures"], FORMATS, 1),
        "info": (["info"], FORMATS[:-2], 1),
        "evaluate": (["evaluate", "k=2", "labels=folder"], FORMATS[:-2], 3),
    }
    for name, (words, formats, count) in stages.items():
        texts = {form: here(*words, f"format={form}").out for form in formats}
        columns = columns_of(texts["csv"], "csv")
        for form in ("markdown", "html"):
            assert columns_of(texts[form], form) == columns, (name, form)
        assert set(columns) <= set(columns_of(texts["jsonl"], "jsonl"))
        for form in ("csv", "jsonl"):
            assert len(texts[form].splitlines()) == count + (form == "csv"), (name, form)
        assert len(Cells(texts["html"]).rows) == len(from_markdown(texts["markdown"])) - 1 == count + 1
        json.loads(texts["json"])
        if "paths" in texts:
            assert texts["paths"].splitlines() == texts["paths0"].split("\0")[:-1]
            assert [row["path"] for row in csv.DictReader(io.StringIO(texts["csv"]))] == texts[
                "paths"
            ].splitlines()
        else:
            assert "paths" in here(*words, "format=paths", code=2).err
    rows = list(csv.DictReader(io.StringIO(here("evaluate", "k=2", "labels=folder", "format=csv").out)))
    assert [(row["label"], row["queries"]) for row in rows] == [("", "12"), ("china", "6"), ("flower", "6")]
    parts = [float(row["precision_at_k"]) for row in rows]
    assert parts[0] == pytest.approx((parts[1] + parts[2]) / 2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_paths_are_links_in_terminals_that_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a  b #%é.jpg"
    file.touch()
    text = f"rank  path\n   1  {file}\n   2  {tmp_path}/gone.jpg\n      {file}\n"
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "TMUX"):
        monkeypatch.delenv(name, raising=False)
    shown = linked(text, Terminal())
    targets = re.findall("\x1b]8;;(file://[^\x1b]+)\x1b\\\\([^\x1b]*)\x1b]8;;\x1b\\\\", shown)
    assert [(unquote(urlparse(uri).path), label) for uri, label in targets] == [(str(file), str(file))] * 2
    assert re.sub("\x1b]8;;[^\x1b]*\x1b\\\\", "", shown) == text  # nothing else is changed
    assert linked(text, io.StringIO()) == text
    for name, value in {"NO_COLOR": "1", "TERM": "dumb"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert linked(text, Terminal()) == text
    monkeypatch.setenv("TERM", "screen-256color")
    assert linked(text, Terminal()) == text
    monkeypatch.setenv("TMUX", "/tmp/tmux")
    assert linked(text, Terminal()) == shown


def test_names_of_files_steer_no_terminal() -> None:
    rows = [["a\x1b[31m\tb\nc\x9b1m\x7f é"]]
    assert table(rows) == r"a\x1b[31m\tb\nc\x9b1m\x7f é"


def in_a_terminal(command: str, cwd: Path) -> str:
    """What a terminal that answers no questions shows of a shell's command, which succeeds."""
    pty = pytest.importorskip("pty")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(
            "bash", ["bash", "-c", command], {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        )
    shown = bytearray()
    with contextlib.suppress(OSError):  # which is how its end is told
        while data := os.read(terminal, 1 << 16):
            shown += data
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_the_picture_is_drawn_in_a_terminal(here: Cli, few: Path, tmp_path: Path) -> None:
    """In one that has no graphics of its own by coloured blocks; elsewhere a line says that nothing is drawn."""
    here("ingest", few, "extractor=colour", "extractor.bins=2")
    words = ["recommend", str(few / "china" / "china-0-0.jpg"), "preview=true"]
    done = here(*words)
    assert "preview=true shows nothing: stdout is no terminal" in done.err
    assert "▀" not in done.out
    pytest.importorskip("textual_image")
    imgrec_ = f"{shlex.quote(sys.executable)} -m imgrec {shlex.join(words)} 2>err"
    for size, is_drawn in (("rows 50 cols 100", True), ("rows 0 cols 0", False)):
        shown = in_a_terminal(f"stty {size}; {imgrec_}", tmp_path)
        assert (shown.count("▀") > 500) is is_drawn
        assert ("shows nothing: textual-image fails" in (tmp_path / "err").read_text()) is not is_drawn
        if is_drawn:
            assert len(set(re.findall(r"38;2;(\d+;\d+;\d+)", shown))) > 100


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the viewer has another name there")
def test_the_picture_is_shown_without_waiting(
    here: Cli, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever is called `xdg-open`, which takes its time here. A replay shows nothing."""
    here("ingest", few, "extractor=colour", "extractor.bins=2")
    (tmp_path / "bin").mkdir()
    viewer, seen = tmp_path / "bin" / "xdg-open", tmp_path / "seen"
    viewer.write_text(f"#!/bin/sh\necho \"$1\" >> '{seen}'\nsleep 5\n")
    viewer.chmod(stat.S_IRWXU)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]))
        query = few / "china" / "china-0-0.jpg"
        begun = time.monotonic()
        done = here("recommend", query, "open=true")
        here("recommend", query)
        here("visualise", "reducer=pca", "open=true", "format=svg")
        here("evaluate", "labels=folder", "open=true")
        runs = sorted(file.parent for file in tmp_path.glob("outputs/2*/*recommend/run.json"))
        here("compare", *runs, "open=true")
        here("replay", runs[0])
        names = ["recommendations.png", "map.svg", "worst.png", "compare.png"]
        while not seen.exists() or len(seen.read_text().splitlines()) < len(names):
            assert time.monotonic() - begun < 60
            time.sleep(0.05)
    shown = [Path(line) for line in seen.read_text().splitlines()]
    assert sorted(file.name for file in shown) == sorted(names)
    assert all(file.is_absolute() and file.stat().st_size for file in shown)
    assert "shows nothing" not in done.err
    monkeypatch.setenv("PATH", "")
    done = here("recommend", query, "open=true", "format=paths")
    assert "open=true shows nothing: there is no xdg-open here" in done.err
    assert len(done.out.splitlines()) == 5
