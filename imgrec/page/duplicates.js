/** Duplicates: groups side by side, the one to keep in each, and the choice as a file. Nothing is deleted. */

import { json, thumbnail } from "./api.js";
import { button, choice, entry, figure, latest, make, nameOf } from "./dom.js";
import { csv, save } from "./map/selection.js";

const SHOWN = 50; // groups at first, and with each press of "more"
const KEEP = [["", "the largest"], ["oldest", "the oldest"], ["first", "the first by path"]];

export class DuplicatesView {
  #asked = null;

  constructor(page) {
    this.page = page;
    this.element = document.getElementById("duplicates");
    this.look = latest(this.#look.bind(this));
  }

  show() {
    const { now } = this.page.state;
    if (now.view !== "duplicates") return;
    const asked = JSON.stringify([now.space, now.distance, now.keep]);
    if (asked !== this.#asked) this.look(now);
    this.#asked = asked;
  }

  reload() {
    this.#asked = null;
    this.show();
  }

  async #look(isLatest, { space, distance, keep }) {
    const { state, gallery } = this.page;
    const set = (name) => (value) => state.change({ [name]: value || null });
    const keys = [...gallery.fusions, ...gallery.spaces].map(({ key, summary }) => [key, summary]);
    const status = make("p", { role: "status" }, "Looking for duplicates");
    const controls = [
      choice("Compared by", keys, space ?? gallery.default, set("space")),
      entry("Distance at most", distance, set("distance"), { type: "number", min: 0, step: "any", placeholder: "auto" }),
      choice("Keep", KEEP, keep ?? "", set("keep")),
      button("Save the choice as CSV", () => this.#save(), { disabled: true }),
    ];
    this.element.replaceChildren(make("div", { className: "controls" }, controls), status);
    try {
      const found = await json("duplicates", { space, distance, keep });
      if (!isLatest()) return;
      this.groups = found.groups;
      this.kept = found.groups.map((group) => group.keep);
      const count = found.groups.length;
      status.textContent = `${count.toLocaleString("en")} groups within ${figure(found.distance)}: ${found.distance_reason}. Nothing is deleted.`;
      controls.at(-1).disabled = !count;
      const list = make("div");
      const more = button("More", () => add());
      const add = () => {
        const from = list.childElementCount;
        list.append(...this.groups.slice(from, from + SHOWN).map((group, i) => this.#group(group, from + i, found.digests)));
        more.hidden = list.childElementCount >= count;
      };
      add();
      this.element.append(list, more);
    } catch (error) {
      status.textContent = error.message;
    }
  }

  #group({ images, reason }, number, digests) {
    const cards = images.map(({ path, width, height, bytes, how }) => {
      const change = () => (this.kept[number] = path);
      const radio = make("input", { type: "radio", name: `group-${number}`, checked: path === this.kept[number], change });
      const facts = [`${width} × ${height}`, `${Math.ceil(bytes / 1000).toLocaleString("en")} kB`, how].filter(Boolean).join(", ");
      const image = make("img", { src: thumbnail(digests[path]), alt: "", loading: "lazy" });
      return make("li", {}, make("label", { title: path }, image, make("span", {}, radio, "Keep ", make("b", {}, nameOf(path))), make("small", {}, facts)));
    });
    const legend = make("legend", {}, `Group ${number + 1}, kept: ${reason}`);
    return make("fieldset", {}, legend, make("ul", { className: "grid" }, cards));
  }

  #save() {
    const rows = this.groups.flatMap(({ images }, i) => images.map(({ path }) => [i + 1, path, path === this.kept[i] ? "keep" : "other"]));
    save(csv(["group", "path", "choice"], rows, (row) => row), "duplicates.csv");
  }
}
