/** Search: the pictures of the query, how they are asked with, and what was found. */

import { address, json, thumbnail } from "./api.js";
import { button, choice, entry, figure, latest, make, nameOf } from "./dom.js";

const MOST_PICTURES = 12; // of a query, so that it fits into an address
const SAMPLES = 24; // pictures of the gallery to begin with

/** The keys of the state that the results depend on. */
const ASKED = ["q", "unlike", "text", "k", "space", "metric", "weights", "combine", "threshold", "label", "among", "taken", "min_side"];

/** What `api/recommend` takes of a state. */
export function options(now) {
  const { weights, label, among, ...asked } = Object.fromEntries(ASKED.map((name) => [name, now[name]]));
  const listed = (text) => text?.split(",").map((each) => each.trim()).filter(Boolean) ?? null;
  return {
    ...asked,
    weights: Object.entries(weights).map(([name, value]) => `${name}:${value}`),
    label: listed(label),
    among: listed(among),
  };
}

export class SearchView {
  #asked = null;
  #controlled = null;
  #view = null;

  constructor(page, maps) {
    this.page = page;
    this.maps = maps;
    this.query = document.getElementById("query");
    this.found = document.getElementById("found");
    this.pictures = make("ul", { className: "pictures", ariaLabel: "Pictures of the query" });
    this.controls = make("div", { className: "controls" });
    this.how = make("details", {}, make("summary", {}, "How to search"), this.controls);
    const [choose, camera] = [this.#input("Choose pictures", { multiple: true }), this.#input("Photograph", { capture: "environment" })];
    camera.classList.add("camera");
    this.query.append(
      make("div", { className: "bring" }, choose, camera, make("small", {}, "or drop, paste, or click one")),
      this.pictures,
      this.how,
    );
    this.search = latest(this.#search.bind(this));
    this.samples = latest(this.#samples.bind(this));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      this.#bring(event.dataTransfer.files, event);
    });
    addEventListener("paste", (event) => this.#bring(event.clipboardData.files, event));
    maps.addEventListener("pick", ({ detail }) => this.pick(detail.digest, detail));
    maps.addEventListener("made", () => this.show());
  }

  show() {
    const { now } = this.page.state;
    if (!["search", "map"].includes(now.view)) return;
    if (now.view !== this.#view) this.how.open = now.view === "search" && innerWidth > 720;
    this.#view = now.view;
    const map = now.view === "map" ? this.maps.name : null;
    const asked = JSON.stringify([options(now), map, now.view === "map" ? this.maps.other : null]);
    const controlled = JSON.stringify(options(now));
    if (controlled !== this.#controlled) this.#showQuery(now);
    this.#controlled = controlled;
    if (asked === this.#asked) return;
    this.#asked = asked;
    if (now.q.length || now.text) this.search(now, map);
    else if (map === null) this.samples();
    else this.#nothing();
  }

  /** Ask again, since the gallery has changed. */
  reload() {
    this.#asked = this.#controlled = null;
    this.show();
  }

  /** Go on from a picture of the gallery: alone, with shift beside the others, with alt away from it. */
  pick(digest, { shift = false, alt = false } = {}) {
    const name = `d:${digest}`;
    const { q, unlike } = this.page.state.now;
    const rest = [q, unlike].map((names) => names.filter((each) => each !== name));
    const [likes, away] = alt ? [rest[0], [...rest[1], name]] : shift ? [[...rest[0], name], rest[1]] : [[name], []];
    if (!likes.length && !this.page.state.now.text) return this.page.tell("First a picture that is liked: then others can be kept away from");
    if (likes.length + away.length > MOST_PICTURES) return this.page.tell(`A query has ${MOST_PICTURES} pictures at most`);
    this.page.state.change({ q: likes, unlike: away, ...(shift || alt ? {} : { text: null }) });
  }

  // --- the query --------------------------------------------------------------------------------------------

  #input(text, properties) {
    const input = make("input", { type: "file", accept: "image/*", ...properties });
    input.addEventListener("change", async () => {
      await this.#bring(input.files);
      input.value = "";
    });
    return make("label", { className: "file" }, text, input);
  }

  /** Upload pictures and search with them. */
  async #bring(files, { shiftKey = false } = {}) {
    const { state, gallery, tell } = this.page;
    const names = [];
    try {
      for (const file of [...files].slice(0, MOST_PICTURES)) {
        if (file.size > gallery.most_bytes) throw new Error(`${file.name} is larger than ${gallery.most_bytes / 1e6} MB`);
        tell(`Taking ${file.name}`);
        const type = file.type.startsWith("image/") ? file.type : "image/unknown";
        const request = { method: "POST", body: file, headers: { "Content-Type": type } };
        names.push((await json("queries", {}, request)).q);
      }
    } catch (error) {
      tell(error);
    }
    if (!names.length) return;
    const q = shiftKey ? [...state.now.q, ...names] : names;
    state.change({ q: [...new Set(q)].slice(-MOST_PICTURES), ...(shiftKey ? {} : { unlike: [], text: null }) });
  }

  #showQuery(now) {
    const chip = (list, text) => (name) => {
      const drop = () => this.page.state.change({ [list]: now[list].filter((each) => each !== name) });
      const image = make("img", { src: thumbnail(name.slice(2), 96), alt: text });
      return make("li", { className: list }, image, button("×", drop, { ariaLabel: `Remove, ${text}`, title: "Remove" }));
    };
    this.pictures.replaceChildren(...now.q.map(chip("q", "like this")), ...now.unlike.map(chip("unlike", "not like this")));
    const { gallery, state } = this.page;
    const set = (name) => (value) => state.change({ [name]: value || null });
    const keys = [...gallery.fusions, ...gallery.spaces].map(({ key, summary }) => [key, summary]);
    const chosen = now.space ?? gallery.default;
    const fusion = gallery.fusions.find(({ key }) => key === chosen);
    const typical = make("input", { type: "checkbox", checked: now.threshold !== null });
    typical.addEventListener("change", () => set("threshold")(typical.checked ? "auto" : null));
    const k = (value) => state.change({ k: Math.min(Math.max(parseInt(value) || 20, 1), 1000) });
    const made = [
      gallery.in_words.length ? entry("In words", now.text, (text) => this.#say(text), { placeholder: "a red hat", maxLength: 200 }) : null,
      entry("How many", now.k, k, { type: "number", min: 1, max: 1000 }),
      choice("Compared by", keys, chosen, (space) => state.change({ space, metric: null, weights: {} })),
      choice("Metric", [["", "as it has"], ...gallery.metrics.map((each) => [each, each])], now.metric ?? "", set("metric")),
      ...(fusion ? Object.entries(fusion.weights).map(([name, usual]) => this.#slider(name, usual, now)) : []),
      now.q.length > 1
        ? choice("Several", [["", "like their mean"], ["nearest", "like any of them"]], now.combine ?? "", set("combine"))
        : null,
      make("label", { className: "check" }, typical, "Only what is unusually near"),
      entry("Labels", now.label, set("label"), { placeholder: "hat, shoes", maxLength: 100 }),
      entry("Paths like", now.among, set("among"), { placeholder: "*/2024/*", maxLength: 100 }),
      entry("Taken", now.taken, set("taken"), { placeholder: "2024-01..2024-06", maxLength: 30 }),
      entry("Shorter side, pixels", now.min_side, (value) => set("min_side")(parseInt(value)), { type: "number", min: 1 }),
    ];
    setTimeout(() => this.#replaceControls(made.filter((each) => each !== null))); // when the focus has moved on
  }

  /** Ask in words, in a space that takes them. */
  #say(text) {
    const { gallery, state } = this.page;
    const able = gallery.in_words.includes(state.now.space ?? gallery.default) ? {} : { space: gallery.in_words[0], metric: null, weights: {} };
    state.change({ text: text || null, ...(text ? able : {}) });
  }

  #replaceControls(made) {
    const inputs = () => [...this.controls.querySelectorAll("input, select")];
    const focused = inputs().indexOf(document.activeElement);
    this.controls.replaceChildren(...made);
    inputs()[focused]?.focus();
  }

  #slider(name, usual, now) {
    const value = now.weights[name] ?? usual;
    const shown = make("output", {}, figure(value));
    const input = make("input", { type: "range", min: 0, max: Math.max(2, 2 * usual), step: 0.05 });
    input.value = value;
    input.addEventListener("input", () => (shown.textContent = figure(+input.value)));
    input.addEventListener("change", () => this.page.state.change({ weights: { ...now.weights, [name]: +input.value } }));
    return make("label", {}, `Weight of ${name}`, input, shown);
  }

  // --- what was found ---------------------------------------------------------------------------------------

  async #search(isLatest, now, map) {
    this.found.ariaBusy = true;
    let shown;
    try {
      const result = await json("recommend", { ...options(now), map });
      if (!isLatest()) return;
      shown = this.#results(result, address("recommend", options(now)));
      this.maps.mark(now, result);
    } catch (error) {
      if (!isLatest()) return;
      shown = [make("p", { className: "problem" }, error.message)];
      this.maps.mark(now, null);
    }
    this.found.replaceChildren(...shown);
    this.found.ariaBusy = false;
  }

  #nothing() {
    this.search = latest(this.#search.bind(this));
    this.maps.mark(this.page.state.now, null);
    this.found.replaceChildren(make("p", {}, "Click a point, or bring a picture, to see what is like it."));
  }

  #results(result, as) {
    const count = result.matches.length;
    const heading = make("h2", {}, count ? `${count} like it` : "None is near enough");
    const how = approximate(result);
    const link = make("a", { href: as, target: "_blank", rel: "noopener" }, "as JSON");
    const cards = result.matches.map((match, i) => this.#card(match, result.digests[i]));
    return [make("header", {}, heading, how, link), make("ol", { className: "grid" }, cards)];
  }

  #card(match, digest) {
    const name = nameOf(match.path);
    const told = [
      make("span", {}, figure(match.distance)),
      make("b", {}, match.label),
      match.typicality === undefined ? null : make("span", { title: "Share of images whose nearest is as far" }, `typicality ${figure(match.typicality)}`),
      match.copies.length ? make("span", { title: match.copies.join("\n") }, `${match.copies.length} more copies`) : null,
    ];
    return make("li", {}, this.#picture(digest, name, match.path), make("p", {}, told), shares(match.shares), this.#actions(digest, name));
  }

  #picture(digest, name, title) {
    const go = (event) => this.pick(digest, { shift: event.shiftKey, alt: event.altKey });
    const image = make("img", { src: thumbnail(digest), alt: "", loading: "lazy" });
    return button(image, go, { className: "shown", title, ariaLabel: `Search with ${name}` });
  }

  #actions(digest, name) {
    return make(
      "div",
      { className: "actions" },
      button("+", () => this.pick(digest, { shift: true }), { title: "Also like this (shift-click)", ariaLabel: `Also like ${name}` }),
      button("−", () => this.pick(digest, { alt: true }), { title: "Not like this (alt-click)", ariaLabel: `Not like ${name}` }),
      make("a", { href: `api/images/${digest}`, target: "_blank", rel: "noopener", ariaLabel: `Open ${name}` }, "open"),
    );
  }

  /** Some pictures of the gallery to begin with, a sample as its map is. */
  async #samples(isLatest) {
    this.found.replaceChildren(make("p", {}, "Bring a picture, or click one, to see what is like it."));
    const name = `${this.page.gallery.default}~pca`;
    try {
      const about = await this.maps.made(name, isLatest);
      if (!about || !isLatest()) return;
      this.page.tell("");
      const count = Math.min(SAMPLES, about.count);
      const rows = Array.from({ length: count }, (_, i) => Math.floor((i * about.count) / count));
      const { items } = await json(`maps/${encodeURIComponent(name)}/items`, { rows: rows.join(",") });
      if (!isLatest() || this.page.state.now.q.length || this.page.state.now.text || this.page.state.now.view !== "search") return;
      const cards = items.map(({ digest, path, label }) => make("li", {}, this.#picture(digest, nameOf(path), path), make("p", {}, make("b", {}, label))));
      this.found.append(make("ol", { className: "grid" }, cards));
    } catch (error) {
      this.page.tell(error);
    }
  }
}

/** Of a fusion each part's share of the distance, as a bar with its numbers. */
function shares(parts = {}) {
  const all = Object.entries(parts);
  if (!all.length) return null;
  const text = all.map(([name, share]) => `${name} ${Math.round(100 * share)} %`).join(", ");
  const bar = make("div", { className: "shares", title: text, "aria-hidden": "true" });
  for (const [, share] of all) {
    const piece = make("i");
    piece.style.flexGrow = share;
    bar.append(piece);
  }
  return make("div", {}, bar, make("small", {}, text));
}

/** That the search was approximate, and how much it finds; nothing where it was exact. */
function approximate({ index, k }) {
  const found = index?.measured.find(({ effort, nearest }) => effort && nearest >= k);
  if (!found) return null;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const title = `Of the nearest ${found.nearest}, at least ${percent(found.at_least)}, as measured on ${found.images} pictures`;
  return make("small", { title }, `approximate: finds ${percent(found.recall)}`);
}
