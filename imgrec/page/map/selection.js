/** A panel about selected images: how many, of which labels, some of their pictures, and all of them as CSV. */

const SHOWN = 60; // pictures at first, and with each press of "more"

/** How many rows each label has, the most frequent first: `[[number, count], ...]`. */
export function counted(rows, numbers) {
  const counts = new Map();
  for (const row of rows) counts.set(numbers[row], (counts.get(numbers[row]) ?? 0) + 1);
  return [...counts].sort(([a, m], [b, n]) => n - m || a - b);
}

/** Text of CSV, a line for each row; `cells(row)` gives its values. */
export function csv(header, rows, cells) {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = [header.join(",")];
  for (const row of rows) lines.push(cells(row).map((cell) => quoted(String(cell))).join(","));
  return lines.join("\n") + "\n";
}

/** Let the browser save a text as a file. */
export function save(text, name, type = "text/csv") {
  const link = Object.assign(document.createElement("a"), { download: name });
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export class SelectionPanel {
  #rows = [];

  /**
   * In an element. `items(rows)` is as in `MapView`; `save(rows)` is called for the CSV, `pick(row)` for a picture that
   * is clicked, `clear()` to take the selection away.
   */
  constructor(element, { items, save, pick, clear }) {
    this.element = element;
    this.items = items;
    this.pick = pick;
    element.classList.add("selection");
    element.hidden = true;
    const [head, heading] = [document.createElement("header"), document.createElement("h2")];
    this.heading = heading;
    head.append(heading, button("Save as CSV", () => save(this.#rows)), button("Clear", clear));
    this.counts = Object.assign(document.createElement("ul"), { className: "selection-counts" });
    this.pictures = Object.assign(document.createElement("ul"), { className: "selection-pictures" });
    this.more = button("More", () => this.#add());
    element.append(head, this.counts, this.pictures, this.more);
  }

  /** Show rows, or nothing: `labels` as in `MapView.show`, `numbers` those of all points' labels. */
  show(rows, labels, numbers) {
    this.#rows = rows ?? [];
    this.element.hidden = !rows;
    const count = this.#rows.length;
    this.heading.textContent = `${count.toLocaleString("en")} image${count === 1 ? "" : "s"} selected`;
    const lines = counted(this.#rows, numbers).map(([number, many]) => {
      const line = Object.assign(document.createElement("li"), { textContent: labels[number][0] || "no label" });
      line.append(Object.assign(document.createElement("small"), { textContent: many.toLocaleString("en") }));
      return line;
    });
    this.counts.replaceChildren(...lines);
    this.pictures.replaceChildren();
    this.#add();
  }

  async #add() {
    const all = this.#rows;
    const from = this.pictures.childElementCount;
    const rows = [...all.slice(from, from + SHOWN)];
    this.more.hidden = from + rows.length >= all.length;
    const places = rows.map(() => document.createElement("li"));
    this.pictures.append(...places);
    const found = rows.length ? await this.items(rows).catch(() => []) : [];
    rows.forEach((row, i) => places[i].append(this.#picture(row, found[i])));
  }

  #picture(row, item) {
    const path = item?.path ?? "";
    const shown = button("", () => this.pick(row));
    shown.title = path;
    if (item?.thumbnail) {
      shown.append(Object.assign(document.createElement("img"), { src: item.thumbnail, alt: path, loading: "lazy" }));
    } else {
      shown.textContent = path.split(/[/\\]/).pop() || "no picture";
    }
    return shown;
  }
}

function button(text, action) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", action);
  return made;
}
