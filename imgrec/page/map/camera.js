/** What part of a map is in view: between pixels of the view (y downward) and the map's units (y upward). */

const WHOLE = 65535; // the side of a map
const MARGIN = 28; // pixels around the whole map
const NEAREST = 4096; // the largest zoom

export class Camera {
  at = { x: WHOLE / 2, y: WHOLE / 2, zoom: 1 };
  width = 1;
  height = 1;

  /** Pixels for one unit of the map. */
  get scale() {
    return (this.at.zoom * Math.max(Math.min(this.width, this.height) - 2 * MARGIN, 16)) / WHOLE;
  }

  resize(width, height) {
    this.width = Math.max(width, 1);
    this.height = Math.max(height, 1);
  }

  onScreen(x, y) {
    return [this.width / 2 + (x - this.at.x) * this.scale, this.height / 2 - (y - this.at.y) * this.scale];
  }

  /** Points of the view, `[x, y, ...]`, on the map; to whole units, as those of points are. */
  onMap(pixels, whole = true) {
    const { at, scale } = this;
    return pixels.map((value, i) => {
      const exact = i % 2 ? at.y - (value - this.height / 2) / scale : at.x + (value - this.width / 2) / scale;
      return whole ? Math.round(exact) : exact;
    });
  }

  /** The rectangle in view, as a polygon. */
  corners() {
    const { width, height } = this;
    return this.onMap([0, 0, width, 0, width, height, 0, height]);
  }

  pan(dx, dy) {
    const { x, y, zoom } = this.at;
    const within = (value) => Math.min(Math.max(value, 0), WHOLE);
    this.at = { x: within(x - dx / this.scale), y: within(y + dy / this.scale), zoom };
  }

  /** Zoom by a factor; what is at a point of the view stays there. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [mapX, mapY] = this.onMap([x, y], false);
    const zoom = Math.min(Math.max(this.at.zoom * factor, 0.5), NEAREST);
    const share = this.at.zoom / zoom;
    this.at = { x: mapX + (this.at.x - mapX) * share, y: mapY + (this.at.y - mapY) * share, zoom };
  }

  /** Bring points `[[x, y], ...]` into view; null: the whole map. */
  fit(points) {
    this.at = { x: WHOLE / 2, y: WHOLE / 2, zoom: 1 };
    if (!points?.length) return;
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const ends = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [WHOLE, 0]);
    const [[left, right], [bottom, top]] = [ends(xs), ends(ys)];
    const across = Math.max((right - left) / (this.width - 2 * MARGIN), (top - bottom) / (this.height - 2 * MARGIN));
    const zoom = Math.min(1 / Math.max(across * this.scale, 1 / 64), 64);
    this.at = { x: (left + right) / 2, y: (bottom + top) / 2, zoom };
  }
}
