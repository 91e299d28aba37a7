"""Queries from the web and from standard input, by the command line and from Python."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec.errors import UsageError

FIRST = "china-0-0.jpg"


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and counts how often."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gallery(here: Cli, few: Path) -> Path:
    """The folder of twelve tiles, ingested."""
    here("ingest", "few", "extractor=colour")
    return few


@pytest.fixture
def server(gallery: Path) -> Iterator[str]:
    """The address of a web server that has the gallery's pictures."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(gallery))) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def given(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Make these bytes standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def paths(result: Any) -> list[tuple[str, float]]:
    return [(match["path"], match["distance"]) for match in result["matches"]]


def test_a_query_from_the_web(here: Cli, gallery: Path, server: str) -> None:
    address = f"{server}/china/{FIRST}?width=100&name=a=b"
    expected = here("recommend", gallery / "china" / FIRST, "format=json").json()
    done = here("recommend", address, "private_addresses=true", "format=json")
    assert paths(done.json()) == paths(expected)
    assert done.json()["query"] == address
    run, record = done.runs()[-1], done.record()
    assert json.loads((run / "results.json").read_text())["query"] == address
    assert record["configuration"]["query"] == address
    assert record["inputs"]["query"] == here("recommend", gallery / "china" / FIRST).record()["inputs"]["query"]
    assert (run / "query-1.jpeg").read_bytes() == (gallery / "china" / FIRST).read_bytes()
    Quiet.asked.clear()
    assert here("replay", run).out == "identical\n"
    assert Quiet.asked == []
    (run / "query-1.jpeg").write_bytes((gallery / "flower" / "flower-0-0.jpg").read_bytes())
    assert "data: query has another content" in here("replay", run, code=None).out


def test_a_query_from_standard_input(here: Cli, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (gallery / "china" / FIRST).read_bytes()
    given(monkeypatch, data)
    done = here("recommend", "-", "format=json")
    assert done.json()["query"] == "-"
    run = done.runs()[-1]
    expected = here("recommend", gallery / "china" / FIRST, "format=json")
    other = expected.runs()[-1]
    assert paths(done.json()) == paths(expected.json())
    given(monkeypatch, b"")
    assert here("replay", run).out == "identical\n"
    assert (run / "query-1.jpeg").read_bytes() == data
    # drawn as the file is
    cells = []
    for each in (run, other):
        with PIL.Image.open(each / "recommendations.png") as sheet:
            cells.append(sheet.crop((28, 90, 268, 330)).tobytes())
    assert cells[0] == cells[1]
    (run / "query-1.jpeg").unlink()
    assert "does not hold the picture any more" in here("replay", run, code=2).err


def test_several_and_what_to_keep_away_from(
    here: Cli, gallery: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [FIRST, "china-0-1.jpg", "china-1-0.jpg"]
    files = [gallery / "china" / name for name in names]
    expected = here("recommend", *files[:2], f"unlike={files[2]}", "format=json")
    given(monkeypatch, files[1].read_bytes())
    web = [f"{server}/china/{name}" for name in names]
    words = ["recommend", web[0], "-", f"unlike=[{web[2]}]", "private_addresses=true", "format=json"]
    done = here(*words)
    assert paths(done.json()) == paths(expected.json())
    assert (done.json()["query"], done.json()["unlike"]) == ([web[0], "-"], [web[2]])
    run = done.runs()[-1]
    kept = [run / name for name in ("query-1.jpeg", "query-2.jpeg", "unlike-1.jpeg")]
    assert [file.read_bytes() for file in kept] == [file.read_bytes() for file in files]
    Quiet.asked.clear()
    given(monkeypatch, b"")
    assert here("replay", run).out == "identical\n"
    assert Quiet.asked == []
    given(monkeypatch, files[1].read_bytes())
    for more, reason in (
        (["-", "-"], "standard input holds one picture: name - once"),
        (["-", "unlike=-"], "standard input holds one picture: name - once"),
        (["-", "each=true"], "each=true asks with files and folders, and '-' is neither"),
        (
            [files[0], "unlike=http://127.0.0.1:1"],
            "unlike 'http://127.0.0.1:1' cannot be read: 127.0.0.1 is not on",
        ),
    ):
        refused = here("recommend", *more, code=2).err
        assert reason in refused
        assert refused.count("\n") == 1


def test_a_sweep_reads_standard_input_once(here: Cli, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, (gallery / "china" / FIRST).read_bytes())
    here("-m", "recommend", "-", "k=1,2")


@pytest.mark.parametrize(
    ("data", "words", "reason"),
    [
        (b"", [], "query '-' cannot be read: empty file"),
        (b"no picture", [], "query '-' cannot be read: "),
        (bytes(1001), ["query_bytes=1000"], "query '-' cannot be read: too large: more than 1,000 bytes"),
    ],
)
def test_bad_standard_input(
    here: Cli, gallery: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: list[str], reason: str
) -> None:
    given(monkeypatch, data)
    before = len(here("info").runs())
    done = here("recommend", "-", *words, code=2)
    assert done.err.startswith(f"imgrec: {reason}")
    assert done.err.count("\n") == 1
    assert len(done.runs()) == before


def test_a_terminal_is_no_picture(here: Cli, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    for stream in (io.TextIOWrapper(Terminal()), None):
        monkeypatch.setattr("sys.stdin", stream)
        assert "this is a terminal" in here("recommend", "-", code=2).err


def test_bad_addresses(here: Cli, gallery: Path, server: str) -> None:
    lines = {
        f"{server}/china/{FIRST}": "127.0.0.1 is not on the public internet: private",
        "ftp://example.org/a.jpg": "query 'ftp://example.org/a.jpg' cannot be opened: no installed plugin is a",
        "file:///etc/passwd": "query 'file:///etc/passwd' cannot be opened: no installed plugin is a source of it",
        "http://127.0.0.1:1/a.jpg private_addresses=true": "127.0.0.1 does not answer",
        f"{server}/china/ private_addresses=true": "a web page, which is not read",
        f"{server}/china/{FIRST} private_addresses=true query_bytes=99": "too large: more than 99 bytes",
        "https://me:secret@example.org/a.jpg": "query 'https://...@example.org/a.jpg' cannot be read: it has",
    }
    for words, line in lines.items():
        done = here("recommend", *words.split(), code=2)
        assert line in done.err
        assert "secret" not in done.err
        assert done.err.count("\n") == 1
    assert not [run for run in done.runs() if run.name.endswith("recommend")]
    assert not [
        file for file in (done.cwd / "outputs").rglob("*") if file.is_file() and b"secret" in file.read_bytes()
    ]


def test_from_python(gallery: Path, tmp_path: Path, server: str) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "outputs" / "gallery.sqlite"))
    data = (gallery / "china" / FIRST).read_bytes()
    with imgrec.open(store) as opened:
        by_path, by_bytes = opened.search([str(gallery / "china" / FIRST), data], 3)
        assert by_path == by_bytes
        assert by_bytes._repr_png_().startswith(b"\x89PNG")
        with pytest.raises(UsageError, match="not on the public internet"):
            opened.search([f"{server}/china/{FIRST}"])
        with pytest.raises(UsageError, match="query 'a picture' cannot be read: empty file"):
            opened.search([b""])
        with pytest.raises(UsageError, match="queries are several"):
            opened.search(data)
