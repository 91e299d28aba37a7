/** How many points a frame has time for: fewer when the first ones were late, more when they were in time. */

const QUICK_MS = 24; // from then on more points are drawn in a frame
const SLOW_MS = 45; // fewer
const AT_REST = 8; // portions at once when nothing changes

export class Pace {
  #portion = 1 << 16;
  #begun = null; // when the first portion was drawn, until it is on the screen

  /** A frame begins: look how long the last one took, if it had a first portion; a portion is within bounds. */
  frame(now, least, most) {
    const took = this.#begun === null ? null : now - this.#begun;
    this.#begun = null;
    if (took === null) return;
    const factor = took > SLOW_MS ? 0.7 : took < QUICK_MS ? 1.4 : 1;
    this.#portion = Math.min(Math.max(least, Math.round(this.#portion * factor)), Math.max(least, most));
  }

  /** How many points to draw now, the first ones or others. */
  portion(now, isFirst) {
    this.#begun = isFirst ? now : null;
    return isFirst ? this.#portion : AT_REST * this.#portion;
  }
}
