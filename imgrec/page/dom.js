/** Elements, made in one expression. */

/** An element: functions among `properties` listen to the event of that name; `null` among `children` is left out. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null));
  return element;
}

export function button(text, click, properties = {}) {
  return make("button", { type: "button", click, ...properties }, text);
}

/** A labelled choice; `options` are `[value, text]`. */
export function choice(label, options, value, change) {
  const select = make("select", { ariaLabel: label, change: () => change(select.value) });
  select.append(...options.map(([each, text]) => make("option", { value: each }, text)));
  select.value = value;
  return make("label", {}, label, select);
}

/** A labelled text or number, told when it is left. */
export function entry(label, value, change, properties = {}) {
  const input = make("input", { value: value ?? "", change: () => change(input.value.trim() || null), ...properties });
  return make("label", {}, label, input);
}

/** The last part of a path. */
export const nameOf = (path) => path.split(/[/\\]/).pop();

/** A number with so many digits that it can be told from others. */
export const figure = (value) =>
  typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: 4 }) : String(value ?? "");

/** Calls of `work` one after the other: while one is under way, only the latest of the others is kept. */
export function latest(work) {
  let number = 0;
  return async (...given) => {
    const own = ++number;
    return work(() => own === number, ...given);
  };
}
