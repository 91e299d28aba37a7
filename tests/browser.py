"""A real browser for tests: Chromium, by Playwright, with WebGL by software."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}

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
