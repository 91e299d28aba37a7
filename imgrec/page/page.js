/** The page: what is looked at is in `State`, and each view shows its part of that. */

import { changes, json } from "./api.js";
import { make } from "./dom.js";
import { DuplicatesView } from "./duplicates.js";
import { ExperimentsView } from "./experiments.js";
import { MapsView } from "./maps.js";
import { SearchView } from "./search.js";
import { State } from "./state.js";

const VIEWS = { search: "Search", map: "Map", experiments: "Experiments", duplicates: "Duplicates" };
const LOOK_MS = 15_000; // between two looks whether the gallery has changed

const state = new State();
const told = document.getElementById("told");
const page = {
  state,
  gallery: null,
  tell: (text) => (told.textContent = text instanceof Error ? text.message : text),
};

const links = Object.entries(VIEWS).map(([view, text]) => {
  const click = (event) => {
    event.preventDefault();
    state.change({ view });
  };
  return [view, make("a", { href: `?view=${view}`, click }, text)];
});
document.getElementById("views").append(...links.map(([, link]) => link));

try {
  page.gallery = await json("gallery");
  const maps = new MapsView(page);
  const views = [new SearchView(page, maps), maps, new ExperimentsView(page), new DuplicatesView(page)];
  const show = ({ detail } = {}) => {
    const view = state.now.view in VIEWS ? state.now.view : "search";
    document.body.dataset.view = view;
    for (const [name, link] of links) {
      if (name === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${VIEWS[view]} - imgrec`;
    page.tell(detail?.left.length ? `Too long for the address: ${detail.left.join(", ")}` : "");
    for (const each of views) each.show();
  };
  changes.addEventListener("change", async () => {
    page.gallery = await json("gallery");
    for (const each of views) each.reload?.();
    page.tell("The gallery has changed: this is as it is now");
  });
  setInterval(() => document.hidden || json("gallery").catch(page.tell), LOOK_MS);
  state.addEventListener("change", show);
  show();
} catch (error) {
  page.tell(error);
}
