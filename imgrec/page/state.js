/** What is looked at, kept in the address: a link opens the same, and back and forward lead through it. */

const MOST = 2_000; // characters of the query of an address
const MOST_NUMBERS = 65_536; // of a list in an address
const DISPENSABLE = ["points", "region", "highlight", "hidden", "runs", "unlike"]; // left out first where it gets too long
const TEXTS = ["view", "text", "space", "metric", "combine", "threshold", "label", "among", "taken", "map", "other", "keep", "sort"];
const NUMBERS = ["k", "min_side", "t", "distance"];
const RANGES = ["hidden", "highlight", "points"];

const START = {
  ...Object.fromEntries([...TEXTS, ...NUMBERS].map((name) => [name, null])),
  view: "search",
  k: 20,
  t: 0,
  q: [],
  unlike: [],
  weights: {},
  camera: null,
  hidden: [],
  highlight: [],
  points: [],
  region: null,
  runs: [],
};

/** The state that an address has; what cannot be understood is left out. */
export function parsed(search) {
  const given = new URLSearchParams(search);
  const state = { ...START };
  for (const name of TEXTS) state[name] = given.get(name) ?? START[name];
  for (const name of NUMBERS) {
    const value = parseFloat(given.get(name));
    if (Number.isFinite(value)) state[name] = value;
  }
  for (const name of ["q", "unlike", "runs"]) state[name] = given.getAll(name);
  for (const each of given.getAll("weights")) {
    const [name, value] = each.split(":");
    if (Number.isFinite(parseFloat(value))) state.weights = { ...state.weights, [name]: parseFloat(value) };
  }
  const [x, y, zoom] = (given.get("camera") ?? "").split("_").map(parseFloat);
  if ([x, y, zoom].every(Number.isFinite) && zoom > 0) state.camera = { x, y, zoom };
  for (const name of RANGES) state[name] = unranged(given.get(name) ?? "");
  state.region = polygon(given.get("region"));
  return state;
}

/** The address of a state, and what had to be left out of it. */
export function formatted(state) {
  const left = [];
  for (let text = format(state); ; text = format(state)) {
    const name = DISPENSABLE.find((each) => state[each]?.length);
    if (text.length <= MOST || !name) return { text, left };
    left.push(name);
    state = { ...state, [name]: START[name] };
  }
}

function format(state) {
  const query = new URLSearchParams();
  for (const name of [...TEXTS, ...NUMBERS]) {
    if (state[name] !== null && state[name] !== START[name]) query.set(name, state[name]);
  }
  for (const name of ["q", "unlike", "runs"]) for (const each of state[name]) query.append(name, each);
  for (const [name, value] of Object.entries(state.weights)) query.append("weights", `${name}:${value}`);
  if (state.camera) {
    const { x, y, zoom } = state.camera;
    query.set("camera", [x.toFixed(3), y.toFixed(3), zoom.toPrecision(9)].join("_"));
  }
  for (const name of RANGES) if (state[name].length) query.set(name, ranged(state[name]));
  if (state.region) query.set("region", packed(state.region));
  return query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%2F", "/");
}

/** Numbers in ascending order, `[1, 2, 3, 7]`, as `1-3.7`. */
function ranged(numbers) {
  const ranges = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([from, to]) => (from === to ? from : `${from}-${to}`)).join(".");
}

function unranged(text) {
  if (!/^\d{1,9}(-\d{1,9})?(\.\d{1,9}(-\d{1,9})?)*$/.test(text)) return [];
  const numbers = [];
  for (const range of text.split(".")) {
    const [from, to = from] = range.split("-").map(Number);
    for (let number = from; number <= to && numbers.length < MOST_NUMBERS; number++) numbers.push(number);
  }
  return numbers;
}

/** A polygon as an address can have it: what is at the edge of the map or beyond it, just beyond it. */
export function bounded(region) {
  return region.map((value) => (value <= 0 ? -1 : value >= 65_535 ? 65_536 : value));
}

/** Such a polygon in base64 for addresses: four bytes a corner. */
function packed(region) {
  const words = Uint16Array.from(region, (value) => Math.min(Math.max(value, 0), 65_535));
  const text = btoa(String.fromCharCode(...new Uint8Array(words.buffer)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function polygon(text) {
  try {
    const letters = atob((text ?? "").replaceAll("-", "+").replaceAll("_", "/"));
    if (letters.length < 12 || letters.length % 4 || letters.length > 800) return null;
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    return bounded([...new Uint16Array(bytes.buffer)]);
  } catch {
    return null;
  }
}

/** The state of the page. Hears `change` with what was changed, by whoever and by back and forward. */
export class State extends EventTarget {
  now = parsed(location.search);

  constructor() {
    super();
    addEventListener("popstate", () => {
      this.now = parsed(location.search);
      this.#tell([]);
    });
  }

  /** Change some; `step`: whether "back" leads to what was before. */
  change(some, { step = true } = {}) {
    this.now = { ...this.now, ...some };
    const { text, left } = formatted(this.now);
    history[step ? "pushState" : "replaceState"](null, "", text ? `?${text}` : location.pathname);
    this.#tell(left);
  }

  #tell(left) {
    this.dispatchEvent(new CustomEvent("change", { detail: { left } }));
  }
}
