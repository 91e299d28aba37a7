"""A real browser for tests: Chromium, by Playwright, with WebGL by software."""

from __future__ import annotations

import functools
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from imgrec.drawing.map import Map
from imgrec.drawing.map_file import packed, points_of
from imgrec.drawing.map_page import PAGE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}

HARNESS = b"""<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/map/map.css">
<link rel="icon" href="data:,"><style>body { margin: 0 } #map { height: 100vh }</style><div id="map"></div>
<script type="module">
import { unpack } from "/map/data.js";
import { counted, csv } from "/map/selection.js";
import { MapView } from "/map/view.js";
const get = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
const soon = (when) => new Promise((resolve) => when(() => setTimeout(resolve)));
const painted = async () => {
  await soon(requestAnimationFrame);
  while (view.layer.isBusy) await soon(setTimeout);
};
const item = (row) => ({ path: `${row}.jpg`, thumbnail: window.thumbnail?.(row) ?? null });
const items = async (rows) => rows.map(item);
const view = new MapView(document.getElementById("map"), { items });
const load = async (name) => {
  const about = await (await fetch(`/${name}/about.json`)).json();
  const [positions, numbers] = await Promise.all([get(`/${name}/positions.gz`), get(`/${name}/labels.gz`)]);
  const { block } = about;
  return { ...about, positions: unpack(positions, 2, block), numbers: unpack(numbers, 1, block) };
};
Object.assign(window, { view, load, get, painted, unpack, counted, csv, ready: true });
</script>"""
"""A page with one map: `load(name)` gets what `map_files` made, for `view.show`."""

Opening = Callable[..., "Page"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, else Playwright's own; the test is skipped where there is neither."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    flags = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")
    with api.sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        except api.Error as error:
            pytest.skip(f"needs Chromium: {str(error).splitlines()[0]}")
        yield found
        found.close()


class _Handler(SimpleHTTPRequestHandler):
    """Gives the scripts and styles of the page, and made files beside them; browsers unpack what ends in .gz."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def __init__(self, *args: Any, made: Mapping[str, bytes], **options: Any) -> None:
        self.made = made
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if (data := self.made.get(self.path)) is None:
            return super().do_GET()
        self.send_response(200)
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def map_files(name: str, drawn: Map) -> dict[str, bytes]:
    """A map's files by their paths."""
    points = points_of(drawn)
    return {
        f"/{name}/about.json": json.dumps(points.about).encode(),
        f"/{name}/positions.gz": packed(points.positions),
        f"/{name}/labels.gz": packed(points.labels),
    }


@contextmanager
def served(made: Mapping[str, bytes]) -> Iterator[str]:
    """The address of a server of the page's scripts and styles, and of made files by their paths."""
    handler = functools.partial(_Handler, made=made, directory=str(PAGE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a session."""
    with chromium() as found:
        yield found


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opening]:
    """Open an address in a window of its own; nothing may be written to its console, or asked for elsewhere."""
    problems: list[str] = []
    contexts = []

    def opened(address: str, *, init: str = "", is_quiet: bool = True, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, "accept_downloads": True, **options})
        contexts.append(context)
        page = context.new_page()
        if init:
            page.add_init_script(init)
        if is_quiet:
            page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        origin = address[: address.find("/", 8)] if address.startswith("http") else address

        def asked(request: Any) -> None:
            if not request.url.startswith((origin, "data:", "blob:")):
                problems.append(f"asked for {request.url}")

        page.on("request", asked)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
