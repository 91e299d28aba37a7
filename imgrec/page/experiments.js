/** Experiments: runs and sweeps with their figures and pictures, and some of them side by side. */

import { address, json } from "./api.js";
import { button, figure, latest, make } from "./dom.js";

export class ExperimentsView {
  #shown = null;

  constructor(page) {
    this.page = page;
    this.element = document.getElementById("experiments");
    this.open = latest(this.#open.bind(this));
  }

  show() {
    const { now } = this.page.state;
    const shown = now.view === "experiments" ? now.runs.join("\n") : null;
    if (shown !== null && shown !== this.#shown) this.open(now.runs);
    else if (shown !== null) this.#sort();
    this.#shown = shown;
  }

  /** Sort all tables that have the column of the state, `NAME` or `-NAME` for the largest first. */
  #sort() {
    const { sort } = this.page.state.now;
    for (const table of this.element.querySelectorAll("table")) sorted(table, sort?.replace(/^-/, ""), sort?.startsWith("-"));
  }

  /** A table whose columns of a name can be sorted; `others` cannot. */
  #table(names, rows, ...others) {
    const { state } = this.page;
    const sort = (name) => () => state.change({ sort: state.now.sort === name ? `-${name}` : name }, { step: false });
    return table([...names.map((name) => name && button(name, sort(name))), ...others], rows);
  }

  async #open(isLatest, chosen) {
    try {
      const [{ runs, sweeps }, compared] = await Promise.all([
        json("runs"),
        chosen.length > 1 ? json("runs/compare", { run: chosen }) : null,
      ]);
      if (!isLatest()) return;
      this.element.replaceChildren(
        ...(compared ? [this.#compared(compared, runs.filter(({ run }) => chosen.includes(run)))] : []),
        ...sweeps.map((sweep) => this.#sweep(sweep)),
        this.#runs(runs, chosen),
      );
      this.#sort();
    } catch (error) {
      this.page.tell(error);
    }
  }

  #runs(runs, chosen) {
    if (!runs.length) return make("p", {}, "There are no runs yet: what imgrec does is written below outputs/.");
    const headings = [...new Set(runs.flatMap(({ figures }) => Object.keys(figures)))];
    const rows = runs.map((run) => {
      const change = ({ target }) => {
        const others = chosen.filter((name) => name !== run.run);
        this.page.state.change({ runs: target.checked ? [...others.slice(-1), run.run] : others });
      };
      const box = make("input", { type: "checkbox", checked: chosen.includes(run.run), change, ariaLabel: `Compare ${run.run}` });
      const about = [run.stage, run.status, run.started?.slice(0, 16).replace("T", " "), figure(run.seconds)];
      const figures = headings.map((heading) => run.figures[heading] ?? null);
      const again = make("td", {}, make("details", {}, make("summary", {}, run.run), command(run.command), command(run.again)));
      return make("tr", {}, make("td", {}, box), again, cells(about), cells(figures), make("td", {}, pictures(run.run, run.pictures)));
    });
    const names = ["", "Run", "Stage", "Status", "Started", "Seconds", ...headings];
    return block("Runs", make("p", {}, "Choose two to see them side by side."), this.#table(names, rows, "Pictures"));
  }

  /** A leaderboard, a figure and its bounds in one cell: `map`, `map_low` and `map_high` are a column. */
  #sweep({ sweep, columns, headings, rows, pictures: files }) {
    const isBound = (name) => /_(low|high)$/.test(name) && columns.includes(name.slice(0, name.lastIndexOf("_")));
    const shown = columns.filter((name) => !isBound(name));
    const lines = rows.map((row) => {
      const told = shown.map((name) => {
        const [low, high] = ["low", "high"].map((end) => row[columns.indexOf(`${name}_${end}`)]);
        const [cell] = cells([read(row[columns.indexOf(name)])]);
        if (low && high) cell.append(make("small", {}, `${figure(+low)} to ${figure(+high)}`));
        return cell;
      });
      return make("tr", {}, told);
    });
    return block(sweep, this.#table(shown.map((name) => headings[name] ?? name), lines), pictures(sweep, files));
  }

  #compared({ runs, differs, figures }, listed) {
    const lines = (values) =>
      Object.entries(values).map(([key, each]) => make("tr", {}, make("th", { scope: "row" }, key), cells(each)));
    const drawn = listed.map(({ run, pictures: files, again }) => make("div", {}, make("h3", {}, run), command(again), pictures(run, files)));
    return block(
      "Side by side",
      button("Close", () => this.page.state.change({ runs: [] })),
      table(["Differs", ...runs], lines(differs)),
      table(["Figures", ...runs], lines(figures)),
      make("div", { className: "beside" }, drawn),
    );
  }
}

const block = (title, ...children) => make("article", {}, make("h2", {}, title), children);

/** A cell of CSV: numbers as such. */
const read = (text) => (text && Number.isFinite(+text) ? +text : text);

const cells = (values) =>
  values.map((value) => {
    const isPlain = typeof value !== "object" || value === null;
    const cell = make("td", {}, isPlain ? figure(value) : JSON.stringify(value));
    return Object.assign(cell, { number: typeof value === "number" ? value : null });
  });

/** Sort a table by its column of a name, if it has one: numbers before texts, what is empty last. */
function sorted(table, name, isDescending) {
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.textContent === name);
  for (const head of heads) head.removeAttribute("aria-sort");
  if (!name || column < 0) return;
  heads[column].setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  const [body] = table.tBodies;
  const keyed = [...body.rows].map((row) => [row.cells[column].number ?? row.cells[column].textContent, row]);
  const rank = (value) => (typeof value === "number" ? 0 : value === "" ? 2 : 1);
  keyed.sort(([a], [b]) => {
    if (rank(a) !== rank(b)) return rank(a) - rank(b);
    const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
    return isDescending ? -order : order;
  });
  body.append(...keyed.map(([, row]) => row));
}

function table(names, rows) {
  const head = make("tr", {}, names.map((name) => make("th", { scope: "col" }, name)));
  return make("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: "Table" }, make("table", {}, make("thead", {}, head), make("tbody", {}, rows)));
}

function pictures(run, files) {
  return files.map((file) => {
    const src = address("runs/picture", { run, file });
    return make("a", { href: src, target: "_blank", rel: "noopener" }, make("img", { src, alt: file, loading: "lazy" }));
  });
}

function command(text) {
  return make("p", { className: "command" }, make("code", {}, text), button("Copy", () => navigator.clipboard?.writeText(text)));
}
