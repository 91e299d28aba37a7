/** The map: opened or made, the query and its neighbours on it, a second space, and what is selected. */

import { bytes, json, post, thumbnail } from "./api.js";
import { button, choice, latest, make } from "./dom.js";
import { unpack } from "./map/data.js";
import { save, SelectionPanel } from "./map/selection.js";
import { MapView } from "./map/view.js";
import { options } from "./search.js";
import { bounded } from "./state.js";

const POLL_MS = 400; // between two looks how far a map is
const REST_MS = 400; // without a move, until the camera is in the address

/** Hears `pick` (`digest`, `shift`, `alt`) and `made`, when another map is shown. */
export class MapsView extends EventTarget {
  #wanted = null;
  #about = null;
  #labels = null; // the number of each point's label
  #found = null; // the query that is marked
  #resting = 0;
  #pending = {}; // of the state what is not in the address yet
  #items = new Map();
  name = null; // of the map that is shown, the second one's beside it
  other = null;

  constructor(page) {
    super();
    this.page = page;
    this.bar = document.getElementById("spaces");
    this.open = latest(this.#open.bind(this));
    this.marking = latest(this.#mark.bind(this));
    this.overlap = make("output", { className: "overlap" });
  }

  show() {
    const { now } = this.page.state;
    if (now.view !== "map") return;
    const wanted = JSON.stringify([this.#first(now), now.other]);
    if (wanted === this.#wanted) return this.#restore(now);
    this.#wanted = wanted;
    this.#showBar(now);
    this.open(this.#first(now), now.other);
  }

  reload() {
    if (this.name) this.#showBar(this.page.state.now, true);
  }

  #first(now) {
    return now.map ?? `${now.space ?? this.page.gallery.default}~pca`;
  }

  #showBar(now, isOutdated = false) {
    const { state, gallery } = this.page;
    const names = gallery.maps.map((name) => [name, titled(name, gallery)]);
    const first = this.#first(now);
    const shown = { camera: null, hidden: [], highlight: [], region: null, points: [] };
    this.slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, ariaLabel: "From A to B" });
    this.slider.value = now.t;
    this.slider.addEventListener("input", () => {
      this.view.t = +this.slider.value;
      this.#rest({ t: this.view.t });
    });
    this.bar.replaceChildren(
      choice("A", names, first, (map) => state.change({ ...shown, map, other: null, t: 0 })),
      choice("B", [["", "none"], ...names.filter(([name]) => name !== first)], now.other ?? "", (other) =>
        state.change({ map: first, other: other || null, t: 0 }),
      ),
      ...(now.other ? [this.slider] : []),
      this.overlap,
      ...(isOutdated ? [button("Make the map anew", () => this.#again())] : []),
    );
  }

  #again() {
    this.#wanted = null;
    this.name = null;
    this.show();
  }

  // --- opening ----------------------------------------------------------------------------------------------

  async #open(isLatest, first, second) {
    const { tell } = this.page;
    try {
      if (first !== this.name) {
        this.name = this.other = null;
        const about = await this.made(first, isLatest);
        const path = `maps/${encodeURIComponent(first)}`;
        const [positions, labels] = about ? await Promise.all([bytes(`${path}/positions`), bytes(`${path}/labels`)]) : [];
        if (!about || !isLatest()) return;
        this.#about = about;
        this.#labels = unpack(labels, 1, about.block);
        this.#items.clear();
        this.name = first;
        this.#build();
        this.view.show({ ...about, positions: unpack(positions, 2, about.block), numbers: this.#labels });
      }
      if (second !== this.other) {
        this.other = null;
        if (second && !(await this.made(second, isLatest))) return;
        const order = { order: first };
        const moved = second && (await bytes(`maps/${encodeURIComponent(second)}/positions`, order));
        if (!isLatest()) return;
        this.view.other = moved ? unpack(moved, 2, this.#about.block) : null;
        this.other = second;
      }
      tell("");
      this.#restore(this.page.state.now);
      this.dispatchEvent(new Event("made"));
    } catch (error) {
      if (isLatest()) tell(error);
    }
  }

  /** What a map is, made first where it is not there or of a gallery that has changed. */
  async made(name, isLatest) {
    const path = `maps/${encodeURIComponent(name)}`;
    let about = await json(path);
    if (about.state !== "made" || about.is_outdated) about = await json(path, {}, { method: "POST" });
    while (about.state === "making") {
      const { what, done, total } = about.progress;
      this.page.tell(`Making the map: ${what}${total ? `, ${Math.floor((100 * done) / total)} %` : ""}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      if (!isLatest()) return null;
      about = await json(path);
    }
    if (about.state === "failed") throw new Error(`The map was not made: ${about.error}`);
    return about;
  }

  #build() {
    if (this.view) return;
    const items = (rows) => this.#itemsOf(rows);
    const view = (this.view = new MapView(document.getElementById("map"), { items }));
    this.panel = new SelectionPanel(document.getElementById("selection"), {
      items,
      save: (rows) => this.#save(rows),
      pick: (row) => this.#pick({ row }),
      clear: () => this.#change({ region: null, points: [] }),
    });
    view.addEventListener("camera", ({ detail }) => this.#rest(detail));
    for (const name of ["filter", "highlight"]) view.addEventListener(name, ({ detail }) => this.#change(detail));
    view.addEventListener("select", ({ detail: { region, points } }) => this.#change({ region: region && bounded(region), points }));
    view.addEventListener("pick", ({ detail }) => this.#pick(detail));
  }

  /** Show what the state has of the map. */
  #restore(now) {
    if (!this.name || !this.view) return;
    const { view } = this;
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
    now = { ...now, ...this.#pending };
    if (now.camera && !same(now.camera, view.camera)) view.camera = now.camera;
    if (!now.camera) view.fit();
    if (!same(view.t, now.t)) view.t = now.t;
    this.slider.value = now.t;
    for (const name of ["hidden", "highlight", "region", "points"]) if (!same(view[name], now[name])) view[name] = now[name];
    this.panel.show(view.selected, this.#about.labels, this.#labels);
  }

  /** The camera and the slider are in the address when they have come to rest, or when something else changes. */
  #rest(some) {
    this.#pending = { ...this.#pending, ...some };
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => this.#change({}, { step: false }), REST_MS);
  }

  #change(some, how) {
    clearTimeout(this.#resting);
    const change = { ...this.#pending, ...some };
    this.#pending = {};
    this.page.state.change(change, how);
  }

  // --- pictures, selection ----------------------------------------------------------------------------------

  async #itemsOf(rows) {
    const lacking = [...rows].filter((row) => !this.#items.has(row));
    if (lacking.length) {
      const { items } = await json(`maps/${encodeURIComponent(this.name)}/items`, { rows: lacking.join(",") });
      for (const item of items) this.#items.set(item.row, { ...item, thumbnail: thumbnail(item.digest, 96) });
    }
    return Array.from(rows, (row) => this.#items.get(row));
  }

  async #pick({ row, shift = false, alt = false }) {
    const [{ digest }] = await this.#itemsOf([row]);
    this.dispatchEvent(new CustomEvent("pick", { detail: { digest, shift, alt } }));
  }

  async #save(rows) {
    try {
      const response = await post("selections", { map: this.name, rows: [...rows], format: "csv" });
      save(await response.text(), "selection.csv");
    } catch (error) {
      this.page.tell(error);
    }
  }

  // --- the query --------------------------------------------------------------------------------------------

  /** Mark the query of a state and its neighbours; `result` is what was found with the shown map, or null. */
  mark(now, result) {
    this.marking(now, result);
  }

  async #mark(isLatest, now, result) {
    if (!this.view || !this.name) return;
    const { view, name, other } = this;
    if (!result?.place) {
      [view.query, view.rings, this.overlap.textContent] = [null, {}, ""];
      return;
    }
    view.query = { a: result.place };
    view.rings = { a: known(result.rows) };
    this.overlap.textContent = "";
    if (!other) return;
    const [inA, inB, placed] = await Promise.all([
      this.#neighbours(now, result, name),
      this.#neighbours(now, result, other),
      json("recommend", { q: now.q, unlike: now.unlike, text: now.text, combine: now.combine, k: 1, space: spaceOf(other), map: other }),
    ]).catch((error) => [null, error]);
    if (!isLatest()) return;
    if (!inA) return this.page.tell(inB);
    view.query = { a: result.place, b: placed.place };
    view.rings = { a: known(inA.rows), b: known(inB.rows) };
    const shared = inB.digests.filter((digest) => inA.digests.includes(digest)).length;
    const many = Math.max(inA.digests.length, inB.digests.length, 1);
    const own = [now.metric && "metric", Object.keys(now.weights).length && "weights"].filter(Boolean).join(" and ");
    const where = own && `, ${own} in ${summaryOf(result.space, this.page.gallery)} alone`;
    this.overlap.textContent = `overlap@${now.k} ${(shared / many).toFixed(2)}${where}`;
  }

  /** The query's neighbours in a map's space, with their rows on the first map. */
  async #neighbours(now, result, map) {
    if (spaceOf(map) === result.space) return result;
    return json("recommend", { ...options(now), metric: null, weights: null, space: spaceOf(map), map: this.name });
  }
}

const spaceOf = (map) => map.slice(0, map.lastIndexOf("~"));

const known = (rows) => rows.filter((row) => row !== null);

const titled = (map, gallery) => `${summaryOf(spaceOf(map), gallery)}, ${map.slice(spaceOf(map).length + 1)}`;

/** What a space or fusion is called. */
function summaryOf(space, { fusions, spaces }) {
  return [...fusions, ...spaces].find(({ key }) => key === space)?.summary ?? space;
}
