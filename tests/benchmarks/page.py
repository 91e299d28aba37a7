"""The page: a map of a million points in Chromium, with WebGL by software; and its server."""

from __future__ import annotations

import gzip
import io
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

import imgrec
from benchmarks import serving
from benchmarks.report import Report
from browser import HARNESS, WIDE, chromium, map_files, served
from conftest import shared
from imgrec.drawing import map_file
from imgrec.drawing.map import Map
from imgrec.drawing.map_file import packed, points_of
from imgrec.drawing.map_page import PAGE

if TYPE_CHECKING:
    from playwright.sync_api import Page

FEW, MANY = 200_000, 1_000_000
ROUNDS = 3
VERTICES = 200
CSV_ROWS = 100_000
HOVERED = 100
PLACED = 100

FIRST_PAINT = """async (name) => {
  const start = performance.now();
  window.map = await load(name);
  view.show(map);
  await painted();
  const first = performance.now() - start;
  await view.whole();
  await painted();
  return [first, performance.now() - start];
}"""

PANNING = """async () => {
  view.camera = { x: 32768, y: 32768, zoom: 3 };
  await view.whole();
  const frames = [];
  let last = performance.now();
  for (const start = last; last - start < 3000; ) {
    const { x, y, zoom } = view.camera;
    view.camera = { x: x + 40 * Math.cos(last / 300), y: y + 40 * Math.sin(last / 300), zoom };
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  await view.whole();
  await painted();
  return { frames, rest: performance.now() - last };
}"""

LASSO = """async (count) => {
  const polygon = Array.from({ length: count }, (_, i) => {
    const radius = 26000 + 5000 * Math.sin(9 * ((2 * Math.PI * i) / count));
    const angle = (2 * Math.PI * i) / count;
    return [Math.round(32768 + radius * Math.cos(angle)), Math.round(32768 + radius * Math.sin(angle))];
  }).flat();
  const start = performance.now();
  view.region = polygon;
  const lasso = performance.now() - start;
  const rows = view.selected;
  const sum = counted(rows, map.numbers).reduce((total, [, many]) => total + many, 0);
  const some = rows.slice(0, 100000);
  const before = performance.now();
  const text = csv(["path", "label"], some, (row) => [`${row}.jpg`, map.labels[map.numbers[row]][0]]);
  const wrote = performance.now() - before;
  view.region = null;
  return { lasso, wrote, count: rows.length, sum, lines: text.split("\\n").length - 2 };
}"""

SWITCHING = """async () => {
  const start = performance.now();
  const bytes = await get("/other/positions.gz");
  const loaded = performance.now();
  view.other = unpack(bytes, 2, map.block);
  view.t = 1;
  await painted();
  const first = performance.now() - loaded;
  await view.whole();
  await painted();
  const times = [first, performance.now() - loaded];
  view.other = null;
  await view.whole();
  await painted();
  return [...times, bytes.length];
}"""

HOVERING = """async (count) => {
  window.thumbnail = (row) => `/thumbs/${row % 1000}.webp`;
  view.pictures = false;
  view.camera = { x: map.positions[0], y: map.positions[1], zoom: 60 };
  await view.whole();
  const [canvas, image] = [".map-overlay", ".map-tip img"].map((name) => document.querySelector(name));
  const move = (clientX, clientY) =>
    canvas.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, pointerType: "mouse" }));
  const { x, y, zoom } = view.camera;
  const scale = (zoom * (innerHeight - 56)) / 65535;
  const places = [];
  for (let i = 0; i < map.positions.length && places.length < count; i += 2) {
    const left = innerWidth / 2 + (map.positions[i] - x) * scale;
    const top = innerHeight / 2 - (map.positions[i + 1] - y) * scale;
    if (left > 0 && left < innerWidth && top > 0 && top < innerHeight) places.push([left, top]);
  }
  const times = [];
  for (const place of [...places, ...places]) {
    move(-100, -100);
    const start = performance.now();
    const loaded = new Promise((resolve) => image.addEventListener("load", resolve, { once: true }));
    move(...place);
    await loaded;
    times.push(performance.now() - start);
  }
  window.thumbnail = null;
  view.pictures = true;
  return [times.slice(0, places.length), times.slice(places.length)];
}"""


def run() -> Report:
    """All in one browser."""
    report = Report(f"Chromium with WebGL by software, {WIDE['width']} x {WIDE['height']}; best of {ROUNDS}")
    files = [*PAGE.rglob("*.js"), *PAGE.rglob("*.css")]
    size = sum(len(gzip.compress(file.read_bytes())) for file in files)
    report.hold("all scripts and styles, gzipped", size / 1000, at_most=60, unit="KB")
    made = {"/": HARNESS, **map_files("few", like_a_map(FEW)), **map_files("many", like_a_map(MANY))}
    made |= {"/other/positions.gz": packed(points_of(like_a_map(MANY, seed=1)).positions)}
    packed_size = len(made["/many/positions.gz"]) + len(made["/many/labels.gz"])
    report.hold(f"bytes a point of {MANY:,} with labels", 6, at_most=6, unit="bytes")
    report.hold(f"bytes a point of {MANY:,} with labels, gzipped", packed_size / MANY, at_most=4.5, unit="bytes")
    made |= {f"/thumbs/{number}.webp": _thumbnail() for number in range(1_000)}
    with chromium() as browser, served(made) as address:
        page = browser.new_page(viewport=WIDE)  # type: ignore[arg-type]
        page.goto(f"{address}/")
        page.wait_for_function("window.ready")
        for name, count, most in (("few", FEW, 1.5), ("many", MANY, 3)):
            times = [page.evaluate(FIRST_PAINT, name) for _ in range(ROUNDS)]
            report.add(f"all of {count:,} points painted", min(whole for _, whole in times) / 1000, "s")
            first = times[0][0] / 1000  # the first round's: nothing is in memory
            report.hold(f"first paint of {count:,} points", first, at_most=most, unit="s")
        _moves(report, page)
        _selects(report, page)
    _places(report)
    serving.add(report)
    return report


def _moves(report: Report, page: Page) -> None:
    moved = [page.evaluate(PANNING) for _ in range(ROUNDS)]
    report.add("a frame of panning, median", float(np.median(moved[0]["frames"])), "ms")
    report.hold("the longest frame of panning", min(max(m["frames"]) for m in moved), at_most=100, unit="ms")
    rest = min(each["rest"] for each in moved)
    report.hold("whole picture after rest", rest / 1000, at_most=1, unit="s")
    for when, times, most in zip(("first", "again"), page.evaluate(HOVERING, HOVERED), (150, 20), strict=True):
        p95 = float(np.percentile(times, 95))
        report.hold(f"hover: a made thumbnail shown, {when}, p95 of {len(times)}", p95, at_most=most, unit="ms")
    switched = [page.evaluate(SWITCHING) for _ in range(ROUNDS)]
    report.hold("bytes a point of another space", switched[0][2] / MANY, at_most=4, unit="bytes")
    report.hold("first paint of another space, once loaded", min(s[0] for s in switched), at_most=300, unit="ms")
    report.add("all points of another space painted", min(s[1] for s in switched), "ms")


def _selects(report: Report, page: Page) -> None:
    selected: list[dict[str, Any]] = [page.evaluate(LASSO, VERTICES) for _ in range(ROUNDS)]
    first = selected[0]
    took = min(each["lasso"] for each in selected)
    report.hold(f"lasso of {VERTICES} vertices, {first['count']:,} points within", took, at_most=150, unit="ms")
    report.hold("rows counted over rows selected", first["sum"] / first["count"], at_least=1)
    report.hold(f"CSV rows of {CSV_ROWS:,}", first["lines"], at_least=CSV_ROWS, unit="")
    report.hold(f"CSV of {CSV_ROWS:,} rows", min(s["wrote"] for s in selected) / 1000, at_most=2, unit="s")


def _places(report: Report) -> None:
    """Mapped photographs that are placed again by their neighbours, themselves left out, and as they are."""
    reducers = {name: imgrec.build("reducer", name) for name in ("tsne", "pca")}
    with tempfile.TemporaryDirectory() as folder:
        store = imgrec.build("store", "sqlite", path=f"{folder}/g.sqlite")
        imgrec.ingest(shared("photos", "clothing"), imgrec.build("extractor", "hog"), store)
        with imgrec.open(store) as gallery:
            for name, reducer in reducers.items():
                drawn = map_file.opened(gallery, reducer)
                records = np.random.default_rng(0).permutation(np.array(gallery.records, dtype=object))[:PLACED]
                farther, own = [], 0
                for record in records:
                    (row,) = drawn.rows_of([record.path]).values()
                    query = gallery.resolve(record.path)
                    place = drawn.place(gallery, query)
                    own += [place.x, place.y] == drawn.positions[row].tolist()
                    near = drawn.by_neighbours(gallery, query)
                    apart = np.hypot(*(drawn.positions - drawn.positions[row].astype(float)).T)
                    off = np.hypot(*(drawn.positions[row] - np.array([near.x, near.y])))
                    farther.append(np.mean(apart < off))
                what = f"{PLACED} of {len(gallery)} photographs placed again on {name}"
                report.hold(f"{what}, median", 100 * float(np.median(farther)), at_most=5, unit="% nearest")
                report.hold(f"{what}, at their own points", own, at_least=PLACED, unit="")


def _thumbnail() -> bytes:
    noise = np.random.default_rng(0).integers(256, size=(12, 12, 3), dtype=np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(noise).resize((96, 96)).save(data, "WEBP", quality=70)
    return data.getvalue()


def like_a_map(count: int, seed: int = 0) -> Map:
    """Clusters of many sizes, with forty labels."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(400, size=count)
    centres = rng.normal(scale=0.3, size=(400, 2))
    sizes = np.abs(rng.normal(scale=0.03, size=400)) + 0.01
    positions = centres[groups] + rng.normal(size=(count, 2)) * sizes[groups, None]
    return Map(["" for _ in range(count)], positions.astype(np.float32), [f"label {i % 40}" for i in groups])
