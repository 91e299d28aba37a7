/** A map that is one file: what it shows is in elements of the page, packed. */

import { inflated, unpack } from "./data.js";
import { toggled } from "./region.js";
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
  clear: () => {
    view.selected = null;
    show();
  },
});

/** What `map.csv` has of a row. */
function cells(row) {
  const [left, bottom, side] = frame;
  const at = (start, i) => start + (side * positions[2 * row + i]) / 65535;
  return [paths[row], at(left, 0), at(bottom, 1), labels[numbers[row]][0]];
}

const show = () => panel.show(view.selected, labels, numbers);

view.addEventListener("select", show);
view.addEventListener("pick", ({ detail: { row, shift } }) => {
  if (!shift) view.region = null;
  view.points = toggled(view.points, [row]);
  show();
});
view.show({ ...about, positions, numbers });
await view.whole();
document.documentElement.dataset.drawn = "yes";
