/**
 * A map of images: points that are panned, zoomed, hovered, picked, selected and filtered, by mouse, touch and keyboard.
 *
 *     const view = new MapView(element, { items });
 *     view.show({ labels: [["hat", 120], ...], rest: null, block: 16384, positions, numbers });
 *     view.addEventListener("select", (event) => console.log(event.detail.rows));
 *
 * `element` is filled, and should have a size. `map.css` has the style. Options:
 *
 * - `items(rows)`: a promise of `[{ path, thumbnail }]`, one for each of the rows; `thumbnail` is an address or null.
 *   Asked for a point that is hovered, one request at a time, and for the pictures on the map.
 *
 * What `show` takes is a map file's: `labels`, `rest` and `block` of its `about.json`, `positions` a `Uint16Array` of
 * x and y in turns, `numbers` a `Uint16Array` of each point's label; `unpack` of data.js makes both. Coordinates are
 * those of the map file, 0 to 65535 with y upward, and a point's name is its row.
 *
 * Properties. Setting one redraws and fires no event:
 * - `camera`: `{ x, y, zoom }`, what is in the middle; zoom 1 shows the whole map.
 * - `other`: positions of the same rows on a second map, or null; `t`, from 0 to 1, moves the points there.
 * - `hidden`: the numbers of labels that are filtered out, `[3, 7]`; `highlight`: of those that stand out, if any do.
 * - `region`: the polygon that selects, `[x, y, x, y, ...]` of integers, at most 200 vertices, or null.
 * - `points`: rows that the selection has beside the region, or lacks although they are in it. Set after the region.
 * - `selected`: the rows of the selection, a `Uint32Array`, or null; setting it takes region and points away.
 * - `query`: where a query is, `{ a: { x, y, spread, estimated }, b }` on the first and second map, `b` may be absent.
 * - `rings`: rows that are marked, `{ a: rows, b: rows }`: neighbours on the first and on the second map.
 * - `mode`: what dragging does: "move", "lasso" or "rectangle". With shift it is "lasso" in any mode but "rectangle".
 *   A click picks a point in the first, and in the others takes it into the selection or out of it.
 * - `pictures`: whether pictures are shown on the map as one comes nearer.
 *
 * Methods: `show(map)`; `fit(rows)` brings rows, or all, into view; `selectView()` selects what is in view;
 * `restyle()` reads the colours anew after a change of theme; `whole()`, a promise that all points are drawn; `close()`.
 *
 * Events, with what is in `detail`: `camera` (`camera`), `hover` (`row` or null), `pick` (`row`, `shift`, `alt`),
 * `select` (`rows` and `region`, or null, and `points`), `filter` (`hidden`), `highlight`, `pictures`, `mode` (as named).
 */

import { Camera } from "./camera.js";
import { shades } from "./colours.js";
import { DensityLayer } from "./density.js";
import { listen } from "./gestures.js";
import { landmarks } from "./landmarks.js";
import { Legend, stands } from "./legend.js";
import { Overlay } from "./overlay.js";
import { Pace } from "./pace.js";
import { PointLayer } from "./points.js";
import { inside, nearest, simplified, toggled } from "./region.js";
import { Tip } from "./tip.js";
import { Toolbar } from "./toolbar.js";

const REACH = 14; // pixels from a point within which it is hovered
const POLL_MS = 4; // between two looks whether the last portion is drawn
const SETTLED_MS = 90; // without a change of the camera, until pictures are looked for

export class MapView extends EventTarget {
  #camera = new Camera();
  #map = { labels: [], rest: null, block: 1, positions: new Uint16Array(0), numbers: new Uint16Array(0) };
  #other = null;
  #t = 0;
  #hidden = new Set();
  #highlight = new Set();
  #region = null;
  #points = new Set();
  #selected = null;
  #query = null;
  #rings = { a: [], b: [] };
  #mode = "move";
  #pictures = true;
  #hovered = null;
  #drag = null; // the polygon that is being drawn, in pixels
  #drawn = 0; // points since the last change
  #pace = new Pace();
  #changedAt = 0;
  #isStale = true; // whether what lies above the points has changed
  #frame = 0;
  #waking = 0;
  #settling = 0;
  #waiting = []; // who waits for the whole picture

  constructor(element, { items }) {
    super();
    this.element = element;
    element.classList.add("map");
    const named = (className) => Object.assign(document.createElement("canvas"), { className });
    const [points, overlay] = [named("map-points"), named("map-overlay")];
    overlay.tabIndex = 0;
    overlay.setAttribute("role", "application");
    overlay.setAttribute("aria-roledescription", "map");
    element.append(points, overlay);
    this.canvas = overlay;
    this.layer = PointLayer.on(points, () => this.#changed()) ?? new DensityLayer(points);
    this.overlay = new Overlay(overlay, items, () => this.#changed(false));
    this.tip = new Tip(element, items);
    this.toolbar = new Toolbar(element, {
      mode: (mode) => this.#tell("mode", (this.mode = mode)),
      fit: () => this.#moved(() => this.fit()),
      pictures: () => this.#tell("pictures", (this.pictures = !this.pictures)),
    });
    this.legend = new Legend(element, {
      filtered: (hidden) => this.#tell("filter", { hidden: (this.hidden = hidden) }),
      highlighted: (highlight) => this.#tell("highlight", { highlight: (this.highlight = highlight) }),
    });
    this.said = Object.assign(document.createElement("p"), { className: "map-said" });
    this.said.setAttribute("aria-live", "polite");
    element.append(this.said);
    this.stop = new AbortController();
    listen(overlay, this.#actions(), this.stop.signal);
    this.sizes = new ResizeObserver(() => this.#resized());
    this.sizes.observe(element);
    for (const query of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)"]) {
      matchMedia(query).addEventListener("change", () => this.restyle(), { signal: this.stop.signal });
    }
    this.restyle();
    this.#resized();
  }

  // --- what it shows ------------------------------------------------------------------------------------------

  show(map) {
    this.#map = map;
    this.#other = null;
    this.#t = 0;
    for (const each of [this.#hidden, this.#highlight, this.#points]) each.clear();
    this.#region = this.#selected = this.#query = this.#hovered = null;
    this.#rings = { a: [], b: [] };
    this.tip.show(null);
    this.overlay.forget();
    this.layer.load(map.positions, map.numbers);
    this.legend.show(map.labels, map.rest);
    const count = map.numbers.length.toLocaleString("en");
    this.canvas.setAttribute(
      "aria-label",
      `Map of ${count} images. Arrow keys move it, plus and minus zoom, zero shows all of it, ` +
        "Enter picks the image in the middle, S selects what is in view, Escape takes the selection away.",
    );
    this.restyle();
    this.fit();
  }

  get camera() {
    return { ...this.#camera.at };
  }

  set camera(at) {
    this.#camera.at = { ...at };
    this.#changed();
  }

  get other() {
    return this.#other;
  }

  set other(positions) {
    this.#other = positions;
    this.layer.loadOther(positions);
    this.t = positions ? this.#t : 0;
  }

  get t() {
    return this.#t;
  }

  set t(t) {
    this.#t = this.#other ? Math.min(Math.max(t, 0), 1) : 0;
    this.#changed();
  }

  get hidden() {
    return [...this.#hidden].sort((a, b) => a - b);
  }

  set hidden(numbers) {
    this.#hidden = new Set(numbers);
    this.legend.hidden = this.#hidden;
    this.#colour();
    if (this.#selected) this.#select(this.#region, this.#points);
  }

  get highlight() {
    return [...this.#highlight].sort((a, b) => a - b);
  }

  set highlight(numbers) {
    this.#highlight = this.legend.highlight = new Set(numbers);
    this.#colour();
  }

  get region() {
    return this.#region;
  }

  set region(polygon) {
    this.#select(polygon);
  }

  get points() {
    return [...this.#points].sort((a, b) => a - b);
  }

  set points(rows) {
    this.#select(this.#region, rows);
  }

  get selected() {
    return this.#selected;
  }

  set selected(rows) {
    this.#region = null;
    this.#points.clear();
    this.#marked(rows && Uint32Array.from(rows));
  }

  get query() {
    return this.#query;
  }

  set query(places) {
    this.#query = places;
    this.#changed(false);
  }

  get rings() {
    return this.#rings;
  }

  set rings(rows) {
    this.#rings = { a: [], b: [], ...rows };
    this.#changed(false);
  }

  get mode() {
    return this.#mode;
  }

  set mode(mode) {
    this.#mode = mode;
    this.toolbar.mode = this.canvas.dataset.mode = mode;
  }

  get pictures() {
    return this.#pictures;
  }

  set pictures(shown) {
    this.#pictures = this.toolbar.pictures = shown;
    this.#settle(0);
  }

  fit(rows = null) {
    this.#camera.fit(rows && Array.from(rows, (row) => this.#at(row)));
    this.#changed();
  }

  selectView() {
    this.#choose(this.#camera.corners());
  }

  restyle() {
    this.style = shades(this.element);
    this.legend.restyle(this.style);
    this.#colour();
  }

  whole() {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#schedule();
    });
  }

  close() {
    this.stop.abort();
    this.sizes.disconnect();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#waking);
    clearTimeout(this.#settling);
    this.layer.close();
    this.element.replaceChildren();
    this.element.classList.remove("map");
  }

  // --- what is done with it -----------------------------------------------------------------------------------

  #actions() {
    return {
      mode: (shift) => (this.#mode === "move" && shift ? "lasso" : this.#mode),
      pan: (dx, dy) => this.#moved(() => this.#camera.pan(dx, dy)),
      zoom: (factor, x, y) => this.#moved(() => this.#camera.zoom(factor, x, y)),
      fit: () => this.#moved(() => this.fit()),
      hover: (x, y) => this.#hover(x === null ? null : this.#nearest(x, y)),
      middle: () => {
        this.overlay.crosshair = true;
        this.#hover(this.#nearest(this.#camera.width / 2, this.#camera.height / 2, 80));
      },
      pick: (x, y, keys) => {
        const row = x === null ? this.#hovered : this.#nearest(x, y);
        if (row === null) return;
        if (this.#mode === "move") this.#tell("pick", { row, shift: keys.shiftKey, alt: keys.altKey });
        else this.#choose(this.#region, toggled(this.#points, [row]));
      },
      drawing: (pixels) => {
        this.#drag = pixels;
        this.#changed(false);
      },
      drawn: (pixels) => {
        this.#drag = null;
        this.#choose(pixels.length > 4 ? simplified(this.#camera.onMap(pixels)) : null);
      },
      selectView: () => this.selectView(),
      clear: () => this.#choose(null),
    };
  }

  #moved(change) {
    this.overlay.crosshair = false;
    change();
    this.#changed();
    this.#tell("camera", { camera: this.camera });
  }

  #hover(row) {
    if (row === this.#hovered) return;
    this.#hovered = row;
    const label = row === null ? "" : this.#map.labels[this.#map.numbers[row]][0];
    this.tip.show(row, label);
    this.#changed(false);
    this.#tell("hover", { row });
  }

  #choose(polygon, points = []) {
    this.#select(polygon, points);
    const count = this.#selected?.length ?? 0;
    this.said.textContent = this.#selected ? `${count.toLocaleString("en")} images selected` : "Nothing selected";
    this.#tell("select", { rows: this.#selected, region: this.#region, points: this.points });
  }

  #select(polygon, points = []) {
    const { positions, numbers } = this.#map;
    this.#region = polygon;
    this.#points = new Set(Array.from(points).filter((row) => row < numbers.length));
    if (!polygon && !this.#points.size) return this.#marked(null);
    let rows = polygon ? inside(polygon, positions, this.#other, this.#t) : [];
    if (this.#points.size) rows = Uint32Array.from(toggled(rows, this.#points)).sort();
    this.#marked(this.#hidden.size ? rows.filter((row) => !this.#hidden.has(numbers[row])) : rows);
  }

  #marked(rows) {
    this.#selected = rows;
    this.layer.select(rows);
    this.#changed();
  }

  #nearest(x, y, reach = REACH) {
    const [mapX, mapY] = this.#camera.onMap([x, y], false);
    const isShown = (row) => !this.#hidden.has(this.#map.numbers[row]);
    return nearest(mapX, mapY, reach / this.#camera.scale, this.#map.positions, this.#other, this.#t, isShown);
  }

  #at(row) {
    const { positions } = this.#map;
    const mixed = (i) => positions[i] + (this.#other ? this.#t * (this.#other[i] - positions[i]) : 0);
    return [mixed(2 * row), mixed(2 * row + 1)];
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // --- drawing ------------------------------------------------------------------------------------------------

  #resized() {
    const { clientWidth, clientHeight } = this.element;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.#camera.resize(clientWidth, clientHeight);
    this.layer.resize(clientWidth, clientHeight, ratio);
    this.overlay.resize(clientWidth, clientHeight, ratio);
    this.#changed();
  }

  #colour() {
    this.layer.colour(this.legend.palette(this.style, this.#hidden, this.#highlight), this.style.paper);
    this.#changed();
  }

  /** Draw again: the points, or what lies above them alone. */
  #changed(points = true) {
    this.#isStale = true;
    if (points) {
      this.#drawn = 0;
      this.#changedAt = performance.now();
      this.#settle(SETTLED_MS);
    }
    this.#schedule();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  /**
   * Draw points: while something changes the first ones, as many as a frame has time for; then the others, in larger
   * portions, since each portion costs a frame.
   */
  #paint() {
    if (this.layer.isBusy) {
      this.#waking = setTimeout(() => this.#paint(), POLL_MS);
      return;
    }
    this.#frame = 0;
    const count = this.#map.numbers.length;
    const now = performance.now();
    this.#pace.frame(now, this.#map.block, count);
    if (!this.#drawn || (this.#drawn < count && now - this.#changedAt > SETTLED_MS)) {
      const until = Math.min(count, this.#drawn + this.#pace.portion(now, this.#drawn === 0));
      this.layer.draw(this.#camera, this.#t, this.#drawn, until);
      this.#drawn = until;
    }
    if (this.#isStale) this.#paintOverlay();
    this.#isStale = false;
    if (this.#drawn < count) return this.#schedule();
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #paintOverlay() {
    this.overlay.draw(this.#camera, this.style, {
      at: (row) => this.#at(row),
      fades: (row) => this.layer.fades(row) || !stands(this.#highlight, this.#map.numbers[row]),
      colour: (row) => this.legend.colour(this.#map.numbers[row], this.style),
      drag: this.#drag,
      region: this.#region,
      hovered: this.#hovered,
      rings: this.#rings,
      query: this.#query,
      t: this.#t,
    });
    if (this.#hovered !== null) this.tip.place(...this.#camera.onScreen(...this.#at(this.#hovered)));
  }

  #settle(wait) {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      const { positions, numbers } = this.#map;
      const hidden = this.#hidden;
      this.overlay.landmarks = this.#pictures
        ? landmarks(this.#camera, positions, this.#other, this.#t, (row) => !hidden.has(numbers[row]))
        : [];
      this.#changed(false);
    }, wait);
  }
}
