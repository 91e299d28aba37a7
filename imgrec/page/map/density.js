/** The layer of points without WebGL: a density map on a 2D canvas, drawn at once. */

import { HIDDEN, Layer } from "./layer.js";

const CELL = 3; // pixels of the page: the side of a cell

export class DensityLayer extends Layer {
  isBusy = false;

  constructor(canvas) {
    super(canvas);
    this.context = canvas.getContext("2d");
  }

  resize(width, height) {
    this.canvas.width = Math.max(1, Math.ceil(width / CELL));
    this.canvas.height = Math.max(1, Math.ceil(height / CELL));
  }

  /** See `PointLayer.draw`; the first call draws all points. */
  draw(camera, t, from) {
    if (from > 0) return;
    const { positions, other, numbers, palette } = this;
    const { width, height } = this.canvas;
    const [counts, sums] = [new Uint32Array(width * height), new Float32Array(3 * width * height)];
    const scale = camera.scale / CELL;
    for (let row = 0; row < numbers.length; row++) {
      const colour = 4 * numbers[row];
      if (palette[colour + 3] === HIDDEN || this.fades(row)) continue;
      const [i, j] = [2 * row, 2 * row + 1];
      const mapX = other ? positions[i] + t * (other[i] - positions[i]) : positions[i];
      const mapY = other ? positions[j] + t * (other[j] - positions[j]) : positions[j];
      const x = Math.floor(camera.width / CELL / 2 + (mapX - camera.at.x) * scale);
      const y = Math.floor(camera.height / CELL / 2 - (mapY - camera.at.y) * scale);
      if (x < 0 || x >= width || y < 0 || y >= height) continue;
      const cell = y * width + x;
      counts[cell]++;
      for (let k = 0; k < 3; k++) sums[3 * cell + k] += palette[colour + k];
    }
    this.context.putImageData(this.#picture(counts, sums), 0, 0);
  }

  close() {}

  /** The mean colour of each cell, the stronger the more points it has. */
  #picture(counts, sums) {
    const image = this.context.createImageData(this.canvas.width, this.canvas.height);
    const most = Math.log1p(counts.reduce((a, b) => Math.max(a, b), 1));
    for (let cell = 0; cell < counts.length; cell++) {
      if (!counts[cell]) continue;
      const strength = 0.35 + (0.65 * Math.log1p(counts[cell])) / most;
      for (let k = 0; k < 3; k++) {
        const mean = sums[3 * cell + k] / counts[cell];
        image.data[4 * cell + k] = this.paper[k] + strength * (mean - this.paper[k]);
      }
      image.data[4 * cell + 3] = 255;
    }
    return image;
  }
}
