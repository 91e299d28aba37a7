/** The colours of a map: those of labels are the ones of `map.png`, the others are the page's own, by its theme. */

/** Ten colours that people with any colour vision can tell apart: M. Petroff, arXiv:2107.02270 (2021). */
export const LABEL_COLOURS = [
  "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
]; // prettier-ignore

/** What a theme gives, from the custom properties of an element. */
export function shades(element) {
  const style = getComputedStyle(element);
  const named = (name) => style.getPropertyValue(`--map-${name}`).trim();
  return Object.fromEntries(["paper", "ink", "faint", "accent", "others", "a", "b"].map((name) => [name, named(name)]));
}

/** A colour that fades into the paper, as `PointLayer` has what is not selected. */
export const faded = (colour, paper) => colour.map((value, i) => Math.round(paper[i] + 0.22 * (value - paper[i])));

/** Red, green and blue of `#rrggbb`, from 0 to 255. */
export function rgb(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}
