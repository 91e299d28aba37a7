"""The page: a map of a million points in Chromium, with WebGL by software."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import Report
from browser import HARNESS, WIDE, chromium, map_files, served
from imgrec.drawing.map import Map
from imgrec.drawing.map_file import packed, points_of
from imgrec.drawing.map_page import PAGE

if TYPE_CHECKING:
    from playwright.sync_api import Page

FEW, MANY = 200_000, 1_000_000
ROUNDS = 3
VERTICES = 200
CSV_ROWS = 100_000

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
  return [...times, bytes.length];
}"""

HOVERING = """async () => {
  const canvas = document.querySelector(".map-overlay");
  const times = [];
  view.camera = { x: 32768, y: 32768, zoom: 40 };
  await view.whole();
  for (let i = 0; i < 100; i++) {
    const start = performance.now();
    const at = { clientX: 200 + 8 * i, clientY: 300 + (i % 7) * 20, bubbles: true, pointerType: "mouse" };
    canvas.dispatchEvent(new PointerEvent("pointermove", at));
    times.push(performance.now() - start);
  }
  return times;
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
    return report


def _moves(report: Report, page: Page) -> None:
    moved = [page.evaluate(PANNING) for _ in range(ROUNDS)]
    report.add("a frame of panning, median", float(np.median(moved[0]["frames"])), "ms")
    report.hold("the longest frame of panning", min(max(m["frames"]) for m in moved), at_most=100, unit="ms")
    rest = min(each["rest"] for each in moved)
    report.hold("whole picture after rest", rest / 1000, at_most=1, unit="s")
    report.hold(
        "hover: the point found, p95", float(np.percentile(page.evaluate(HOVERING), 95)), at_most=20, unit="ms"
    )
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


def like_a_map(count: int, seed: int = 0) -> Map:
    """Clusters of many sizes, with forty labels."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(400, size=count)
    centres = rng.normal(scale=0.3, size=(400, 2))
    sizes = np.abs(rng.normal(scale=0.03, size=400)) + 0.01
    positions = centres[groups] + rng.normal(size=(count, 2)) * sizes[groups, None]
    return Map(["" for _ in range(count)], positions.astype(np.float32), [f"label {i % 40}" for i in groups])
