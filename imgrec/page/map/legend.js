/** The legend of a map: what colour a label has, how many images, which of them are shown, and which stand out. */

import { faded, LABEL_COLOURS, rgb } from "./colours.js";
import { BACKGROUND, CIRCLE, HIDDEN, TRIANGLE } from "./layer.js";

const MOST = 2 * LABEL_COLOURS.length; // labels with a mark of their own

export class Legend {
  #entries = []; // { name, numbers, colour (null: that of others), kind }
  #entryOf = new Map();

  /** In a parent; `filtered(numbers)` is called when someone hides or shows labels, `highlighted(numbers)` likewise. */
  constructor(parent, { filtered, highlighted }) {
    Object.assign(this, { filtered, highlighted });
    this.box = Object.assign(document.createElement("details"), { className: "map-legend", open: true });
    const summary = Object.assign(document.createElement("summary"), { textContent: "Labels" });
    this.list = document.createElement("ul");
    this.box.append(summary, this.list);
    parent.append(this.box);
    this.box.open = parent.clientWidth > 640;
  }

  /** Labels `[name, count]` by number, the most frequent first; `rest` is the number of the background, or null. */
  show(labels, rest) {
    this.#entries = entriesOf(labels, rest);
    this.#entryOf = new Map();
    for (const entry of this.#entries) for (const number of entry.numbers) this.#entryOf.set(number, entry);
    this.box.hidden = this.#entries.filter(({ name }) => name).length < 2;
    this.list.replaceChildren(...this.#entries.map((entry) => this.#line(entry)));
  }

  /** The numbers of labels that are hidden; those of an entry together. */
  set hidden(numbers) {
    for (const entry of this.#entries) entry.box.checked = !entry.numbers.every((number) => numbers.has(number));
  }

  /** The numbers of labels that stand out; none: all do. */
  set highlight(numbers) {
    for (const { star, numbers: own } of this.#entries) star.setAttribute("aria-pressed", own.every((each) => numbers.has(each)));
  }

  restyle(style) {
    for (const entry of this.#entries) entry.swatch.style.background = entry.colour ?? style.others;
  }

  /** The colour of a label. */
  colour(number, style) {
    return this.#entryOf.get(number)?.colour ?? style.others;
  }

  /** The colours of all labels, as `Layer.colour` takes them. */
  palette(style, hidden, highlight) {
    const palette = new Uint8Array(65536 * 4);
    const paper = rgb(style.paper);
    for (const [number, entry] of this.#entryOf) {
      const isBright = stands(highlight, number);
      const kind = hidden.has(number) ? HIDDEN : isBright ? entry.kind : BACKGROUND;
      const colour = rgb(entry.colour ?? style.others);
      palette.set([...(isBright ? colour : faded(colour, paper)), kind], 4 * number);
    }
    return palette;
  }

  #line(entry) {
    const line = document.createElement("li");
    const label = document.createElement("label");
    entry.box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    entry.swatch = document.createElement("i");
    entry.swatch.className = { [TRIANGLE]: "map-triangle", [BACKGROUND]: "map-rest" }[entry.kind] ?? "map-circle";
    const text = entry.name || "no label";
    const name = Object.assign(document.createElement("span"), { textContent: text, title: text });
    const count = Object.assign(document.createElement("small"), { textContent: entry.count.toLocaleString("en") });
    label.append(entry.box, entry.swatch, name, count);
    const only = Object.assign(document.createElement("button"), { type: "button", textContent: "only" });
    only.setAttribute("aria-label", `Show only ${text}, or all again`);
    entry.box.addEventListener("change", () => this.#tell());
    only.addEventListener("click", () => {
      const isAlone = this.#entries.every((each) => each.box.checked === (each === entry));
      for (const each of this.#entries) each.box.checked = isAlone || each === entry;
      this.#tell();
    });
    entry.star = Object.assign(document.createElement("button"), { type: "button", textContent: "\u2605", title: "Highlight" });
    entry.star.setAttribute("aria-label", `Highlight ${text}`);
    entry.star.setAttribute("aria-pressed", false);
    entry.star.addEventListener("click", () => {
      entry.star.setAttribute("aria-pressed", !isPressed(entry));
      this.highlighted(this.#entries.filter(isPressed).flatMap(({ numbers }) => numbers));
    });
    line.append(label, only, entry.star);
    return line;
  }

  #tell() {
    this.filtered(this.#entries.filter(({ box }) => !box.checked).flatMap(({ numbers }) => numbers));
  }
}

const isPressed = ({ star }) => star.getAttribute("aria-pressed") === "true";

/** Whether a label stands out, where some are highlighted. */
export const stands = (highlight, number) => !highlight.size || highlight.has(number);

/** The lines of a legend, as `map.png` has them: by name, after what is drawn as background. */
function entriesOf(labels, rest) {
  const numbers = labels.map((_, number) => number).filter((number) => number !== rest);
  const isMany = numbers.length > MOST;
  const named = isMany ? numbers.slice(0, MOST - 1) : numbers;
  const others = numbers.slice(named.length);
  const count = (chosen) => chosen.reduce((sum, number) => sum + labels[number][1], 0);
  const line = (name, chosen, colour, kind) => ({ name, numbers: chosen, count: count(chosen), colour, kind });
  const entries = [];
  if (others.length) entries.push(line(`${others.length.toLocaleString("en")} others`, others, null, BACKGROUND));
  if (rest !== null) entries.push(line(labels[rest][0], [rest], null, BACKGROUND));
  const byName = (a, b) => (labels[a][0] < labels[b][0] ? -1 : 1);
  const marked = named.sort(byName).map((number, i) => {
    const colour = rest !== null && named.length === 1 ? "#c2410c" : LABEL_COLOURS[i % LABEL_COLOURS.length];
    return line(labels[number][0], [number], colour, i < LABEL_COLOURS.length ? CIRCLE : TRIANGLE);
  });
  return [...entries, ...marked];
}
