"""The page in a real browser: search, the map with a second space, runs, duplicates, and the address."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

import imgrec
from browser import NARROW, WIDE, Opening
from conftest import Cli
from imgrec.drawing.map_page import PAGE
from serving import TOKEN, Server, proxy, serving, two_spaces

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("starlette")

View = Callable[..., "Page"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    return two_spaces(tmp_path_factory.mktemp("page"), photos)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        server.made(f"{server.get('/api/gallery')['default']}~pca")
        yield server


def open_view(open_page: Opening, server: Server, query: str = "", **options: Any) -> Page:
    page = open_page(server.address, **options)
    if query:
        page.goto(f"http://127.0.0.1:{server.port}/?{query}")
    return page


@pytest.fixture
def view(open_page: Opening, server: Server) -> View:
    """Open the page at a query of its address, let in by the token."""
    return lambda query="", **options: open_view(open_page, server, query, **options)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def named(server: Server, extractor: str) -> str:
    return next(
        str(each["key"]) for each in server.get("/api/gallery")["spaces"] if each["extractor"] == extractor
    )


def until(page: Page, expression: str) -> None:
    """Wait until something is so; Playwright's own way needs `eval`, which the page forbids."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expression} is false at {page.url}")


def shown(page: Page) -> list[str]:
    """The digests of what was found, when it is there."""
    page.wait_for_selector("#found[aria-busy=false] header")
    addresses = page.locator("#found .shown img").evaluate_all("all => all.map((each) => each.src)")
    return [address.split("/")[-2] for address in addresses]


def finds(page: Page, server: Server, query: str) -> list[str]:
    """What the API finds, as soon as the page shows the same."""
    told: list[str] = server.get(f"/api/recommend?{query}")["digests"]
    for _ in range(100):
        if shown(page) == told:
            break
        page.wait_for_timeout(50)
    assert shown(page) == told
    return told


def test_all_of_it_is_small_and_has_no_inline_script_or_style() -> None:
    files = sorted(file for suffix in ("js", "css") for file in PAGE.rglob(f"*.{suffix}"))
    assert len(gzip.compress(b"".join(file.read_bytes() for file in files))) <= 60_000
    text = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|https?://", text) == []
    assert not any(re.search(r"\beval\(|new Function|innerHTML|https?://", file.read_text()) for file in files)


def test_what_is_shown_is_what_the_api_found(view: View, server: Server, photos: Path) -> None:
    page = view()
    page.locator("#found .shown").nth(3).click()
    found = shown(page)
    query = page.evaluate("new URLSearchParams(location.search).get('q')")
    told = server.get(f"/api/recommend?q={query}&k=20")
    assert found == told["digests"]
    card = page.locator("#found li").first.inner_text()
    assert told["matches"][0]["label"] in card
    assert all(f"{name} {100 * share:.0f} %" in card for name, share in told["matches"][0]["shares"].items())

    page.get_by_label("Weight of hog").evaluate(
        "each => { each.value = 0; each.dispatchEvent(new Event('change')) }"
    )
    page.get_by_label("How many").fill("4")
    page.get_by_label("Labels").fill("flower")
    page.get_by_label("Labels").press("Enter")
    asked = f"q={query}&k=4&weights=hog:0&label=flower"
    assert len(finds(page, server, asked)) == 4
    assert not page.get_by_text("typicality").count()
    page.get_by_label("Only what is unusually near").check()
    finds(page, server, f"{asked}&threshold=auto")


def test_that_a_search_is_approximate_is_said(open_page: Opening, folder: Path, photos: Path) -> None:
    pytest.importorskip("faiss")
    picture = digest_of(photos / "china" / "china-1-1.jpg")
    with serving(folder, "index=faiss", "index.exact_up_to=0", "index.recall=0.9") as server:
        page = open_view(open_page, server, f"q=d:{picture}&space={named(server, 'colour')}")
        shown(page)
        assert page.locator("#found header small").inner_text() == "approximate: finds 100.0 %"
        found = server.get(f"/api/recommend?q=d:{picture}&space=colour&k=20")["index"]
        assert [found["index"], found["exact"], found["measured"][0]["images"]] == ["faiss", None, 40]
        page.goto(
            f"http://127.0.0.1:{server.port}/?q=d:{picture}&metric=manhattan&space={named(server, 'colour')}"
        )
        shown(page)
        assert not page.locator("#found header small").count()


def test_several_pictures_and_not_that_one_and_back(view: View, server: Server, photos: Path) -> None:
    first = digest_of(photos / "china" / "china-0-0.jpg")
    page = view(f"q=d:{first}&k=6")
    found = shown(page)
    page.locator("#found .shown").nth(1).click(modifiers=["Shift"])
    page.wait_for_selector("#query .q >> nth=1")
    also = f"q=d:{first}&q=d:{found[1]}"
    found = finds(page, server, f"{also}&k=6")
    page.locator("#found .shown").nth(0).click(modifiers=["Alt"])
    page.wait_for_selector("#query .unlike")
    finds(page, server, f"{also}&unlike=d:{found[0]}&k=6")
    page.go_back()
    until(page, "!document.querySelector('#query .unlike')")
    assert finds(page, server, f"{also}&k=6") == found
    page.go_forward()
    page.wait_for_selector("#query .unlike")
    page.get_by_role("button", name="Remove, not like this").click()
    until(page, "!document.querySelector('#query .unlike')")


def test_pictures_are_chosen_and_dropped(view: View, server: Server, photos: Path) -> None:
    page = view()
    page.get_by_label("Choose pictures").set_input_files(photos / "china" / "china-1-1.jpg")
    page.wait_for_selector("#query .q")
    chosen = digest_of(photos / "china" / "china-1-1.jpg")
    assert f"q=u:{chosen}" in page.url
    assert shown(page) == server.get(f"/api/recommend?q=u:{chosen}&k=20")["digests"]
    for event in ("drop", "paste"):
        before = page.url
        page.evaluate(
            """async ([event, address]) => {
                const data = new DataTransfer();
                data.items.add(new File([await (await fetch(address)).blob()], "a.webp", { type: "image/webp" }));
                const of = { drop: new DragEvent("drop", { dataTransfer: data, bubbles: true }),
                    paste: new ClipboardEvent("paste", { clipboardData: data, bubbles: true }) };
                document.body.dispatchEvent(of[event]);
            }""",
            [event, f"api/thumbs/{chosen}/{96 if event == 'drop' else 48}.webp"],
        )
        until(page, f"location.href !== {before!r}")
        assert page.locator("#query .q").count() == 1
        assert len(shown(page)) == 20


def test_the_map_shows_the_query_and_what_is_selected(view: View, server: Server, photos: Path) -> None:
    page = view(f"view=map&q=d:{digest_of(photos / 'flower' / 'flower-1-1.jpg')}&k=20")
    assert len(shown(page)) == 20
    box = page.locator("#map").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= WIDE["height"]  # however long the list beside it is
    page.locator(".map-overlay").focus()
    page.keyboard.press("s")
    assert page.get_by_role("heading", name="40 images selected").is_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    with Path(download.value.path()).open(newline="") as lines:
        assert len({row["digest"] for row in csv.DictReader(lines)}) == 40
    assert "region=" in page.url
    page.get_by_role("checkbox", name="china").uncheck()
    page.get_by_role("heading", name="20 images selected").wait_for()
    page.go_back()
    page.get_by_role("heading", name="40 images selected").wait_for()
    page.get_by_role("button", name="Clear").click()
    until(page, "!location.search.includes('region=')")


def test_the_map_stays_as_high_as_the_window_beside_many_results(view: View, server: Server, photos: Path) -> None:
    page = view(f"view=map&k=200&q=d:{digest_of(next(photos.rglob('*.jpg')))}")
    until(
        page,
        "document.querySelectorAll('#found li').length > 30 && document.querySelector('#map canvas') !== null",
    )
    assert page.evaluate("document.querySelector('#map').getBoundingClientRect().bottom <= innerHeight")
    assert page.evaluate("document.querySelector('#panel').scrollHeight > innerHeight")


def test_a_gallery_without_a_map_has_pictures_to_begin_with(open_page: Opening, few: Path) -> None:
    imgrec.ingest(
        few,
        imgrec.build("extractor", "colour"),
        imgrec.build("store", "sqlite", path=f"{few}/outputs/gallery.sqlite"),
    )
    with serving(few) as server:
        page = open_page(server.address)
        until(page, "document.querySelectorAll('#found img').length > 8")
        page.close()


def test_two_spaces_on_one_map(view: View, server: Server, photos: Path) -> None:
    colour, hog = named(server, "colour"), named(server, "hog")
    query = digest_of(photos / "china" / "china-2-2.jpg")
    page = view(f"view=map&q=d:{query}&k=8&map={colour}~pca")
    page.get_by_label("B", exact=True).select_option(f"{hog}~pca")
    page.locator(".overlap:not(:empty)").wait_for()
    found = [set(server.get(f"/api/recommend?q=d:{query}&k=8&space={each}")["digests"]) for each in (colour, hog)]
    assert page.locator(".overlap").inner_text() == f"overlap@8 {len(found[0] & found[1]) / 8:.2f}"
    page.get_by_text("How to search").click()
    page.get_by_label("Metric").select_option("cosine")
    until(page, "document.querySelector('.overlap').innerText.includes(', metric in fusion-')")
    page.get_by_label("From A to B").fill("1")
    until(page, "location.search.includes('t=1')")


def test_the_address_opens_the_same_view(view: View, server: Server, photos: Path) -> None:
    page = view(f"view=map&q=d:{digest_of(photos / 'china' / 'china-0-0.jpg')}&k=3")
    shown(page)
    page.mouse.move(400, 400)
    page.mouse.wheel(0, -300)
    page.locator(".map-overlay").focus()
    page.keyboard.press("s")
    page.get_by_role("checkbox", name="flower").uncheck()
    until(page, "/camera=/.test(location.search) && /region=/.test(location.search)")
    page.wait_for_timeout(700)
    again = view(page.url.partition("?")[2])
    shown(again)
    again.get_by_role("heading", name="selected").wait_for()
    again.wait_for_timeout(700)
    assert differing(page, again) < 0.001


def settled(page: Page) -> npt.NDArray[np.uint8]:
    """What a page shows when nothing moves any more."""
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(2, 2)
    before = b""
    for _ in range(40):
        page.wait_for_timeout(250)
        if (picture := page.screenshot()) == before:
            break
        before = picture
    with PIL.Image.open(io.BytesIO(picture)) as shot:
        return np.asarray(shot.convert("RGB"))


def differing(page: Page, again: Page) -> float:
    """The share of pixels that are not the same on two pages, up to what Chromium's scaling of pictures varies."""
    pictures = [settled(each).astype(int) for each in (page, again)]
    assert pictures[0].std() > 5
    return float((np.abs(pictures[0] - pictures[1]).max(axis=-1) > 4).mean())


@pytest.mark.parametrize("name", ["search", "two spaces", "duplicates"])
def test_each_view_is_the_same_by_its_address(view: View, server: Server, photos: Path, name: str) -> None:
    colour, hog = named(server, "colour"), named(server, "hog")
    query, other = (digest_of(photos / name) for name in ("china/china-0-0.jpg", "flower/flower-1-1.jpg"))
    page = view(
        {
            "search": f"q=d:{query}&k=5&weights=hog:0.3&label=china&unlike=d:{other}",
            "two spaces": f"view=map&q=d:{query}&k=3&map={colour}~pca&other={hog}~pca&t=0.3&points=3.7",
            "duplicates": f"view=duplicates&space={colour}&distance=0.3",
        }[name]
    )
    if name == "two spaces":
        page.locator(".overlap:not(:empty)").wait_for()
        page.get_by_role("heading", name="2 images selected").wait_for()
        page.get_by_label("Highlight flower").click()
        page.mouse.move(400, 400)
        page.mouse.wheel(0, -200)
        until(page, "/camera=/.test(location.search) && /highlight=/.test(location.search)")
    assert differing(page, view(page.url.partition("?")[2])) < 0.001


def test_below_a_path_of_a_proxy(open_page: Opening, server: Server, photos: Path) -> None:
    query = digest_of(photos / "china" / "china-0-0.jpg")
    with proxy(server.port, "/my/photos") as address:
        page = open_page(f"{address}/?view=map&q=d:{query}&k=4&token={TOKEN}")
        assert page.url == f"{address}/?view=map&q=d%3A{query}&k=4"
        assert len(shown(page)) == 4
        (cookie,) = page.context.cookies(address)
        assert cookie["path"] == "/my/photos"
        page.get_by_label("Choose pictures").set_input_files(photos / "china" / "china-1-1.jpg")
        page.wait_for_selector("#query .q")
        assert finds(page, server, f"q=u:{digest_of(photos / 'china' / 'china-1-1.jpg')}&k=4")
        until(
            page,
            "[...document.images].every(({ src, complete, naturalWidth }) => !src || !complete || naturalWidth)",
        )
        page.close()


def test_an_address_has_2000_characters_at_most(view: View) -> None:
    page = view()
    found = page.evaluate("""async () => {
        const { formatted, parsed } = await import("./state.js");
        const state = parsed("");
        const many = (count) => Array.from({ length: count }, (_, i) => `d:${String(i).padStart(64, "0")}`);
        const region = Array.from({ length: 400 }, (_, i) => 1 + ((i * 163) % 65000));
        const usual = { ...state, q: many(3), region, hidden: [0, 1, 2, 9], camera: { x: 1.5, y: 2, zoom: 3 } };
        const { text } = formatted(usual);
        const long = formatted({ ...usual, q: many(12), label: "\u00e4".repeat(100) });
        const same = JSON.stringify(parsed(text)) === JSON.stringify(usual);
        return { text, same, long: long.text, left: long.left };
    }""")
    assert found["same"]
    assert len(found["text"]) <= 2_000
    assert len(found["long"]) <= 2_000
    assert found["left"] == ["region"]


def test_duplicates_and_the_choice(view: View, server: Server) -> None:
    page = view(f"view=duplicates&space={named(server, 'colour')}&distance=0.3&keep=first")
    told = server.get("/api/duplicates?space=colour&distance=0.3&keep=first")["groups"]
    page.locator("fieldset").first.wait_for()
    assert page.locator("fieldset").count() == len(told)
    page.locator("fieldset").first.get_by_role("radio").nth(1).check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the choice as CSV").click()
    with Path(download.value.path()).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    kept = [row["path"] for row in rows if row["choice"] == "keep"]
    assert kept == [told[0]["images"][1]["path"], *(group["keep"] for group in told[1:])]
    assert len(rows) == sum(len(group["images"]) for group in told)


def test_runs_side_by_side(open_page: Opening, here: Cli, few: Path, tmp_path: Path) -> None:
    here("ingest", few, "extractor=colour")
    here("-m", "evaluate", few, "metric=cosine,euclidean")
    with serving(tmp_path) as server:
        page = open_view(open_page, server, "view=experiments")
        page.get_by_role("heading", name="Runs").wait_for()
        started = page.get_by_role("columnheader", name="Started")
        for order in ("ascending", "descending"):
            started.get_by_role("button").press("Enter")
            assert started.get_attribute("aria-sort") == order
            times = page.locator("tr:has(details) td:nth-child(5)").all_inner_texts()
            assert times == sorted(times, reverse=order == "descending") != []
        assert differing(page, open_view(open_page, server, page.url.partition("?")[2])) < 0.001
        assert page.get_by_role("row", name="evaluate").count() >= 2
        page.get_by_role("checkbox").nth(0).check()
        until(page, "location.search.includes('runs=')")
        page.get_by_role("checkbox").nth(1).check()
        page.get_by_role("heading", name="Side by side").wait_for()
        assert page.get_by_role("row", name="configuration.metric").inner_text().split()[1:] == [
            "euclidean",
            "cosine",
        ]
        assert "imgrec replay outputs/sweeps" in page.locator(".beside").inner_text()
        board = page.locator("article", has=page.get_by_role("heading", name="sweeps/", level=2))
        assert {"mAP", "precision", "images/s", "behind the best"} <= set(board.locator("th").all_inner_texts())
        assert not [each for each in board.locator("th").all_inner_texts() if "_" in each]
        value, low, high = map(float, re.findall(r"[\d.]+", board.locator("tbody td").nth(2).inner_text()))
        assert 0 < low <= value <= high <= 1


def test_a_change_of_the_gallery_is_told(open_page: Opening, here: Cli, few: Path, tmp_path: Path) -> None:
    here("ingest", few, "extractor=colour")
    with serving(tmp_path) as server:
        query = f"q=d:{digest_of(few / 'china' / 'china-0-0.jpg')}"
        page = open_view(open_page, server, query, is_quiet=False)  # a browser tells of a thumbnail that is gone
        assert len(shown(page)) == 11
        (few / "china" / "china-0-1.jpg").unlink()
        here("ingest", few, "extractor=colour")
        for _ in range(40):
            page.evaluate("(async () => (await import('./api.js')).json('gallery'))()")
            page.wait_for_timeout(250)
            if "has changed" in page.locator("#told").inner_text():
                break
        until(page, "document.querySelectorAll('#found li').length === 10")


def test_by_keyboard_on_a_narrow_screen(view: View) -> None:
    page = view(viewport=NARROW, has_touch=True)
    page.locator("#found .shown").first.wait_for()
    page.get_by_role("link", name="Search").focus()
    page.locator("#found .shown").first.focus()
    page.keyboard.press("Enter")
    assert len(shown(page)) == 20
    for name in ("map", "experiments", "duplicates", "search"):
        page.get_by_role("link", name=name.capitalize(), exact=True).tap()
        page.wait_for_selector(f"body[data-view={name}] a[aria-current]")
        assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    page.get_by_role("button", name=re.compile("^Also like")).first.tap()
    page.wait_for_selector("#query .q >> nth=1")
    unnamed = page.locator("button, input, select, a, img").evaluate_all(
        "all => all.filter((each) => !(each.ariaLabel || each.innerText || each.labels?.length || 'alt' in each))"
        ".map((each) => each.outerHTML)"
    )
    assert unnamed == []


def test_a_problem_is_told_in_a_sentence(view: View) -> None:
    page = view("q=u:" + "0" * 64, is_quiet=False)
    assert "is not kept any more" in page.locator(".problem").inner_text()
    assert TOKEN not in page.url
