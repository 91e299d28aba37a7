"""The map in a real browser: as one file, and what `MapView` promises to the page."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

import imgrec
from browser import HARNESS, NARROW, Opening, map_files, served
from conftest import Cli
from imgrec.drawing.map import Map
from imgrec.drawing.map_page import map_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

COUNT = 20_000

NO_WEBGL = """const usual = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind === "webgl2" ? null : usual.call(this, kind, ...more);
};"""


@pytest.fixture(scope="module")
def drawn(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Map:
    """The forty tiles on a map."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path_factory.mktemp("page") / "g.sqlite"))
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), store)
    return imgrec.visualise(store, imgrec.build("reducer", "pca"))


@pytest.fixture(scope="module")
def file(drawn: Map, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the map's file."""
    path = tmp_path_factory.mktemp("page") / "map.html"
    drawn.save(path)
    return path.as_uri()


def opened(open_page: Opening, address: str, **options: Any) -> Page:
    page = open_page(address, **options)
    page.wait_for_selector("html[data-drawn]")
    return page


def lasso(page: Page, *corners: tuple[float, float]) -> None:
    """Drag from corner to corner, shares of the map's width and height."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()


def coloured(page: Page) -> int:
    """Pixels of the layer of points that are not blank."""
    picture = page.evaluate('document.querySelector(".map-points").toDataURL()')
    data = base64.b64decode(picture.partition(",")[2])
    with PIL.Image.open(io.BytesIO(data)) as image:
        return int(np.count_nonzero(np.asarray(image.convert("RGBA"))[..., 3]))


# --- one file -----------------------------------------------------------------------------------------------


def test_the_command_writes_the_same_page_again(cli: Cli, few: Path) -> None:
    cli("ingest", few)
    first, second = (Path(cli("visualise", "reducer=tsne", "format=html").out.splitlines()[0]) for _ in range(2))
    assert first.name == "map.html"
    assert first != second
    assert first.read_bytes() == second.read_bytes()
    bare = Path(cli("visualise", "reducer=pca", "format=html", "thumbnails=0", "title=").out.splitlines()[0])
    assert len(bare.read_bytes()) < len(first.read_bytes()) - 5_000
    assert "<title></title>" in bare.read_text()


def test_a_name_is_no_script(open_page: Opening, tmp_path: Path) -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"$&\\u2028'
    positions = np.array([[0, 0], [1, 1]], np.float32)
    drawn = Map([f"/{evil}/1.jpg", "/\udcff/2.jpg"], positions, [evil, "\udcff"], title=evil)
    drawn.save(tmp_path / "map.html")
    page = opened(open_page, (tmp_path / "map.html").as_uri())
    assert evil in page.locator(".map-legend").inner_text()
    assert page.title() == f"2 images: {evil}"


def test_hover_shows_the_picture(open_page: Opening, file: str, drawn: Map) -> None:
    page = opened(open_page, file)
    page.locator(".map-overlay").focus()
    page.keyboard.press("0")
    for key in ["+", "+", "+", "ArrowLeft", "ArrowRight"]:
        page.keyboard.press(key)
    page.get_by_role("button", name="Pictures").click()
    tip = page.locator(".map-tip")
    x, y = page.evaluate("[innerWidth / 2, innerHeight / 2]")
    for step in range(40):  # the middle of the map is crowded
        page.mouse.move(x + 8 * (step % 8), y + 8 * step)
        if tip.is_visible():
            break
    assert tip.locator("span").inner_text() in drawn.paths
    assert tip.locator("b").inner_text() in {"china", "flower"}
    page.wait_for_function('document.querySelector(".map-tip img").naturalWidth > 0')


def test_a_lasso_is_counted_and_saved(open_page: Opening, file: str, drawn: Map) -> None:
    page = opened(open_page, file)
    panel = page.locator("#selection")
    assert not panel.is_visible()
    page.get_by_role("button", name="Lasso").click()
    lasso(page, (0.1, 0.1), (0.6, 0.1), (0.6, 0.95), (0.1, 0.95))
    heading = panel.get_by_role("heading").inner_text()
    count = int(heading.split()[0])
    assert 0 < count < 40
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save as CSV").click()
    with Path(download.value.path()).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len({row["path"] for row in rows}) == len(rows) == count
    label_of = dict(zip(drawn.paths, drawn.labels, strict=True))
    place_of = dict(zip(drawn.paths, drawn.positions.tolist(), strict=True))
    assert all(row["label"] == label_of[row["path"]] for row in rows)
    span = float(np.ptp(drawn.positions, axis=0).max())
    assert all(float(row["x"]) == pytest.approx(place_of[row["path"]][0], abs=1e-4 * span) for row in rows)
    shown = panel.locator(".selection-counts li").all_inner_texts()
    assert dict(line.split("\n") for line in shown) == {
        label: str(many) for label, many in Counter(row["label"] for row in rows).items()
    }
    assert panel.locator(".selection-pictures img").count() == count
    panel.get_by_role("button", name="Clear").click()
    assert not panel.is_visible()


def test_the_legend_filters(open_page: Opening, file: str) -> None:
    page = opened(open_page, file)
    page.get_by_role("button", name="Pictures").click()
    before = coloured(page)
    page.get_by_role("checkbox", name="china").click()
    page.wait_for_timeout(150)
    assert 0 < coloured(page) < before
    page.get_by_role("button", name="Rectangle").click()
    lasso(page, (0.001, 0.001), (0.999, 0.999))
    assert page.get_by_role("heading", name="20 images selected").is_visible()
    assert page.locator(".selection-counts").inner_text() == "flower\n20"
    page.get_by_role("button", name="Show only china").click()
    assert page.get_by_role("checkbox", name="china").is_checked()
    assert not page.get_by_role("checkbox", name="flower").is_checked()


def test_by_keyboard_alone(open_page: Opening, file: str) -> None:
    page = opened(open_page, file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "application"
    page.keyboard.press("s")
    assert page.get_by_role("heading", name="40 images selected").is_visible()
    for key in ["+", "+", "+", "ArrowLeft"]:
        page.keyboard.press(key)
    page.keyboard.press("s")
    assert not page.get_by_role("heading", name="40 images selected").is_visible()
    assert "selected" in page.locator(".map-said").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".map-said").inner_text() == "Nothing selected"
    page.keyboard.press("0")
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Lasso"


def test_by_touch_on_a_narrow_screen(open_page: Opening, file: str) -> None:
    page = opened(open_page, file, viewport=NARROW, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert not page.locator(".map-legend ul").is_visible()
    page.locator(".map-legend summary").tap()
    assert page.locator(".map-legend ul").is_visible()
    page.locator(".map-legend summary").tap()
    shown = page.locator(".map-tip")
    for step in range(200):
        page.touchscreen.tap(40 + 31 * (step % 10), 280 + 12 * (step // 10))
        if shown.is_visible():
            break
    assert page.get_by_role("heading", name="1 image selected").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page: Opening, file: str, scheme: str) -> None:
    page = opened(open_page, file, color_scheme=scheme)
    with PIL.Image.open(io.BytesIO(page.screenshot())) as picture:
        brightness = np.median(np.asarray(picture.convert("L")))
    assert (brightness > 200) == (scheme == "light")
    assert (brightness < 60) == (scheme == "dark")


def test_a_notebook_shows_it_in_a_frame_of_its_own(open_page: Opening, drawn: Map, tmp_path: Path) -> None:
    shown = drawn._repr_html_()
    assert shown is not None
    assert 'sandbox="allow-scripts allow-downloads"' in shown
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset='utf-8'><p>In [1]</p>{shown}")
    page = open_page((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("html[data-drawn]").wait_for()
    assert frame.get_by_role("checkbox").count() == 2
    many = np.zeros((50_001, 2), np.float32)
    assert Map([""] * len(many), many, [""] * len(many))._repr_html_() is None


def test_only_so_many_bytes_of_thumbnails(drawn: Map) -> None:
    text, count = map_page(drawn, most_bytes=20_000)
    assert 0 < count < 40
    block = re.search(r'<script type="text/plain" id="thumbnails">(.*?)</script>', text, re.DOTALL)
    assert block is not None
    assert len(html.unescape(block[1])) < 20_100
    assert map_page(drawn, thumbnails=3)[1] == 3


# --- what MapView promises ----------------------------------------------------------------------------------


def many_points() -> Map:
    """A grid of points, each with its column's label: column 0 at the left, row 0 at the bottom."""
    side = int(COUNT**0.5)
    y, x = np.divmod(np.arange(side * side), side)
    labels = [f"column {column // 20}" for column in x]
    return Map([""] * len(x), np.column_stack([x, y]).astype(np.float32), labels)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served({"/": HARNESS, **map_files("grid", many_points())}) as found:
        yield f"{found}/"


def harness(open_page: Opening, address: str, **options: Any) -> Page:
    page = open_page(address, **options)
    page.wait_for_function("window.ready")
    page.evaluate("""async () => {
        window.map = await load("grid");
        window.events = [];
        for (const name of ["camera", "hover", "pick", "select", "filter", "highlight", "mode", "pictures"])
            view.addEventListener(name, ({ detail }) => events.push([name, detail]));
        view.show(map);
        await view.whole();
    }""")
    return page


SQUARE = [10_000, 10_000, 30_000, 10_000, 30_000, 50_000, 10_000, 50_000]


@pytest.mark.parametrize("init", ["", NO_WEBGL], ids=["webgl", "canvas"])
def test_what_is_set_is_shown_and_selected(open_page: Opening, address: str, init: str) -> None:
    page = harness(open_page, address, init=init)
    whole = coloured(page)
    assert whole > 15_000
    rows, expected = page.evaluate(
        """async (square) => {
            view.region = square;
            const isIn = (x, y) => x >= 10000 && x < 30000 && y >= 10000 && y < 50000;
            const expected = [];
            for (let row = 0; row < map.numbers.length; row++)
                if (isIn(map.positions[2 * row], map.positions[2 * row + 1])) expected.push(row);
            return [[...view.selected], expected];
        }""",
        SQUARE,
    )
    assert rows == expected != []
    half = page.evaluate(
        """async () => {
            view.region = null;
            view.hidden = [0, 1, 2];
            await view.whole();
            return map.labels.slice(3).reduce((sum, [, count]) => sum + count, 0) / map.numbers.length;
        }"""
    )
    assert coloured(page) == pytest.approx(half * whole, rel=0.08)
    page.evaluate(
        "(async () => { view.hidden = []; view.camera = { x: 0, y: 0, zoom: 1 }; await view.whole() })()"
    )
    assert coloured(page) == pytest.approx(0.46 * whole, rel=0.1)  # of both axes the part above 0
    assert page.evaluate("[view.camera, view.hidden, events]") == [{"x": 0, "y": 0, "zoom": 1}, [], []]


def test_points_move_to_a_second_map(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    found = page.evaluate(
        """async (square) => {
            view.other = Uint16Array.from(map.positions, (value, i) => (i % 2 ? value : 65535 - value));
            const at = async (t) => {
                view.t = t;
                view.region = square;
                await view.whole();
                return [...view.selected];
            };
            const rows = [await at(0), await at(0.5), await at(1)];
            const xs = rows.map((some) => some.map((row) => map.positions[2 * row]));
            view.other = null;
            return [xs, view.t];
        }""",
        SQUARE,
    )
    xs, t = found
    assert t == 0
    assert min(xs[0]) >= 10_000
    assert max(xs[0]) <= 30_000
    assert xs[1] == []  # halfway all are in the middle
    assert min(xs[2]) >= 35_535
    assert max(xs[2]) <= 55_535


def test_events_say_what_people_do(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    page.mouse.move(640, 400)
    page.mouse.wheel(0, -300)
    page.wait_for_function("events.some(([name]) => name === 'camera')")
    assert page.evaluate("view.camera.zoom") > 1.5
    page.mouse.down()
    page.mouse.move(700, 400, steps=4)
    page.mouse.up()
    assert page.evaluate("events.some(([name]) => name === 'pick')") is False
    row = page.evaluate("""() => {
        events.length = 0;
        const { x, y, zoom } = view.camera;
        view.camera = { x: map.positions[0], y: map.positions[1], zoom };
        return 0;
    }""")
    page.mouse.move(639, 400)
    page.keyboard.down("Alt")
    page.mouse.click(640, 400)
    page.keyboard.up("Alt")
    events = page.evaluate("events")
    assert ["hover", {"row": row}] in events
    assert ["pick", {"row": row, "shift": False, "alt": True}] in events
    page.keyboard.down("Shift")
    lasso(page, (0.3, 0.3), (0.7, 0.3), (0.5, 0.8))
    page.keyboard.up("Shift")
    name, detail = page.evaluate(
        "[events.at(-1)[0], { count: events.at(-1)[1].rows.length, region: view.region }]"
    )
    assert name == "select"
    assert detail["count"] > 0
    assert 6 <= len(detail["region"]) <= 400


def test_labels_stand_out_while_the_others_fade(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    whole = coloured(page)
    page.get_by_role("button", name="Highlight").nth(1).click()
    page.evaluate("view.whole()")
    assert 0 < coloured(page) < 0.6 * whole
    page.get_by_role("button", name="Highlight").nth(1).click()
    page.evaluate("view.whole()")
    assert coloured(page) == whole
    some, none = page.evaluate(
        "events.filter(([name]) => name === 'highlight').map(([, detail]) => detail.highlight)"
    )
    assert (len(some), none) == (1, [])


def test_single_points_are_selected_and_taken_out(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    page.evaluate(
        """async (square) => {
        view.region = square;
        window.inside = view.selected[0];
        view.mode = "lasso";
        view.camera = { x: map.positions[2 * inside], y: map.positions[2 * inside + 1], zoom: 60 };
        await view.whole();
    }""",
        SQUARE,
    )
    page.mouse.click(640, 400)
    row, name, detail, left = page.evaluate("[inside, ...events.at(-1), view.selected.includes(inside)]")
    assert (name, detail["points"], left) == ("select", [row], False)
    page.keyboard.press("Escape")
    assert page.evaluate("view.selected") is None
    page.mouse.click(640, 400)
    assert page.evaluate("[...view.selected]") == [row]
    page.mouse.click(640, 400)
    assert page.evaluate("[view.selected, view.points]") == [None, []]
    assert page.evaluate("events.some(([name]) => name === 'pick')") is False


def test_a_query_and_its_neighbours_are_marked(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    page.evaluate("(view.pictures = false, view.whole())")
    before = page.screenshot()
    page.evaluate("""() => {
        view.query = { a: { x: 30000, y: 30000, spread: 4000, estimated: true } };
        view.rings = { a: [0, 1, 2], b: [2, 3] };
        return view.whole();
    }""")
    marked = page.screenshot()
    page.evaluate("(view.query = null, view.rings = {}, view.whole())")
    assert marked != before
    assert page.screenshot() == before


def test_pictures_come_as_one_comes_nearer_one_a_cell(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    page.wait_for_timeout(200)
    assert page.evaluate("view.overlay.landmarks") == []
    found = page.evaluate("""async () => {
        const { landmarks } = await import("/map/landmarks.js");
        const { Camera } = await import("/map/camera.js");
        const camera = new Camera();
        camera.resize(800, 600);
        camera.at = { x: 30000, y: 30000, zoom: 20 };
        const isShown = (row) => map.numbers[row] !== 0;
        const at = () => landmarks(camera, map.positions, null, 0, isShown);
        const before = at();
        const places = before.map((row) => camera.onScreen(map.positions[2 * row], map.positions[2 * row + 1]));
        camera.pan(15, 15);
        return { before, after: at(), places, numbers: before.map((row) => map.numbers[row]) };
    }""")
    places = np.array(found["places"])
    assert 10 < len(places) <= 800 * 600 / 64**2
    assert ((places >= 0) & (places <= [800, 600])).all()
    assert 0 not in found["numbers"]
    assert len(set(found["before"]) & set(found["after"])) > 0.6 * len(places)


def test_hovering_has_one_request_at_a_time_and_ends_with_the_last(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    page.evaluate("""() => {
        window.asked = [];
        window.most = window.now = 0;
        view.pictures = false;
        view.tip.items = async (rows) => {
            asked.push(rows[0]);
            most = Math.max(most, ++now);
            await new Promise((resolve) => setTimeout(resolve, 30));
            now--;
            return [{ path: `row ${rows[0]}`, thumbnail: null }];
        };
        view.camera = { ...view.camera, zoom: 3 };
    }""")
    for step in range(30):
        page.mouse.move(400 + 10 * step, 300 + 3 * step)
    page.wait_for_function("!now && document.querySelector('.map-tip span').textContent")
    last = page.evaluate("asked.at(-1)")
    assert page.locator(".map-tip span").inner_text() == f"row {last}"
    assert page.evaluate("most") == 1
    assert 1 < page.evaluate("asked.length") < 30


def test_the_same_view_is_the_same_picture(open_page: Opening, address: str) -> None:
    pictures = []
    for portion in (1, 7):
        page = harness(open_page, address)
        page.evaluate(
            """async (moves) => {
                for (let i = 0; i < moves; i++) {
                    view.camera = { x: 20000 + i, y: 30000, zoom: 2 };
                    await painted();
                }
                view.camera = { x: 22222, y: 33333, zoom: 5 };
                view.hidden = [3];
                view.region = [10000, 10000, 30000, 10000, 25000, 50000];
                await view.whole();
            }""",
            portion,
        )
        page.wait_for_timeout(300)
        pictures.append(page.screenshot())
    assert pictures[0] == pictures[1]


def test_a_lost_context_is_rebuilt(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    before = coloured(page)
    page.evaluate("""() => {
        window.lost = view.layer.gl.getExtension("WEBGL_lose_context");
        lost.loseContext();
        return new Promise((resolve) => setTimeout(resolve, 50));
    }""")
    assert coloured(page) == 0
    page.evaluate("""async () => {
        const canvas = document.querySelector(".map-points");
        const restored = new Promise((resolve) => canvas.addEventListener("webglcontextrestored", resolve));
        lost.restoreContext();
        await restored;
        await view.whole();
    }""")
    assert coloured(page) == before


def test_a_closed_view_leaves_nothing(open_page: Opening, address: str) -> None:
    page = harness(open_page, address)
    page.evaluate("view.close()")
    assert page.evaluate("[document.getElementById('map').childElementCount, view.element.className]") == [0, ""]
