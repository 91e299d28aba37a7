/** What a layer of points has, however it is drawn. */

import { rgb } from "./colours.js";

/** How a label is drawn: the fourth value of its colour in the palette. */
export const HIDDEN = 0;
export const BACKGROUND = 1;
export const CIRCLE = 2;
export const TRIANGLE = 3;

export class Layer {
  positions = new Uint16Array(0);
  other = null;
  numbers = new Uint16Array(0);
  selected = null; // for each row 1 or 0; null: all are
  palette = null;
  paper = [255, 255, 255];

  constructor(canvas) {
    this.canvas = canvas;
  }

  /** Positions, `Uint16Array` of x and y in turns, and the numbers of the points' labels. */
  load(positions, numbers) {
    Object.assign(this, { positions, other: null, numbers, selected: null });
  }

  /** The positions of the same points on a second map; null for none. */
  loadOther(positions) {
    this.other = positions;
  }

  /** The rows that stay bright while the others fade; null: all. */
  select(rows) {
    this.selected = rows && new Uint8Array(this.numbers.length);
    for (const row of rows ?? []) this.selected[row] = 1;
  }

  /** Whether a row fades. */
  fades(row) {
    return this.selected !== null && !this.selected[row];
  }

  /** The colours of labels by number, each red, green, blue and how it is drawn; and that of the background. */
  colour(palette, paper) {
    this.palette = palette;
    this.paper = rgb(paper);
  }
}
