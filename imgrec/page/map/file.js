/** A map that is one file: what it shows is in elements of the page, packed. */

import { inflated, unpack } from "./data.js";
import { csv, save, SelectionPanel } from "./selection.js";
import { MapView } from "./view.js";

const text = (id) => document.getElementById(id).textContent;
const about = JSON.parse(text("about"));
const { labels, block, frame } = about;
const positions = unpack(await inflated(text("positions")), 2, block);
const numbers = unpack(await inflated(text("labels")), 1, block);
const paths = JSON.parse(new TextDecoder().decode(await inflated(text("paths"))));
const thumbnails = text("thumbnails").trim().split("\n");

const items = async (rows) =>
  Array.from(rows, (row) => ({
    path: paths[row],
    thumbnail: thumbnails[row] ? `data:image/webp;base64,${thumbnails[row]}` : null,
  }));

const element = document.getElementById("map");
const view = new MapView(element, { items });
const panel = new SelectionPanel(document.getElementById("selection"), {
  items,
  save: (rows) => save(csv(["path", "x", "y", "label"], rows, cells), "selection.csv"),
  pick: (row) => view.fit([row]),
  clear: () => select(null),
});

/** What `map.csv` has of a row. */
function cells(row) {
  const [left, bottom, side] = frame;
  const at = (start, i) => start + (side * positions[2 * row + i]) / 65535;
  return [paths[row], at(left, 0), at(bottom, 1), labels[numbers[row]][0]];
}

function select(rows) {
  view.selected = rows;
  panel.show(rows, labels, numbers);
}

view.addEventListener("select", ({ detail }) => panel.show(detail.rows, labels, numbers));
view.addEventListener("pick", ({ detail }) => {
  const chosen = new Set(detail.shift ? view.selected : []);
  if (!chosen.delete(detail.row)) chosen.add(detail.row);
  select(Uint32Array.from(chosen));
});
view.show({ ...about, positions, numbers });
await view.whole();
document.documentElement.dataset.drawn = "yes";
