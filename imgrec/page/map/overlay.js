/** What lies above the points: pictures, the polygon that selects, rings around rows, and where the query is. */

const PICTURE = 46; // pixels: the side of a picture on the map
const AT_ONCE = 24; // pictures in one request
const KEPT = 600; // pictures that stay in memory

export class Overlay {
  landmarks = [];
  crosshair = false;
  #pictures = new Map(); // by row: an image, or null where there is none
  #isAsking = false;

  constructor(canvas, items, redraw) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.items = items;
    this.redraw = redraw;
  }

  resize(width, height, ratio) {
    this.ratio = ratio;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
  }

  /** Forget all pictures: rows have other images now. */
  forget() {
    this.#pictures.clear();
    this.landmarks = [];
  }

  draw(camera, style, { at, colour, fades, drag, region, hovered, rings, query, t }) {
    const { context } = this;
    this.style = style;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, camera.width, camera.height);
    const place = (row) => camera.onScreen(...at(row));
    this.#drawPictures(place, colour, fades);
    if (region) this.#polygon(region.flatMap((_, i) => (i % 2 ? [] : camera.onScreen(region[i], region[i + 1]))));
    if (drag) this.#polygon(drag);
    for (const row of rings.b) this.#ring(place(row), 11, style.b, [4, 3]);
    for (const row of rings.a) this.#ring(place(row), 8, style.a);
    if (hovered !== null) this.#ring(place(hovered), 9, style.ink);
    if (query?.a) this.#query(camera, query, t);
    if (this.crosshair) this.#cross(camera.width / 2, camera.height / 2, 10, style.faint, 1);
    this.#ask();
  }

  #drawPictures(place, colour, fades) {
    const { context } = this;
    const taken = [];
    for (const row of this.landmarks) {
      const image = this.#pictures.get(row);
      const [x, y] = place(row);
      if (!image || taken.some(([left, top]) => Math.abs(left - x) < PICTURE + 6 && Math.abs(top - y) < PICTURE + 6)) {
        continue;
      }
      taken.push([x, y]);
      const share = PICTURE / Math.max(image.width, image.height);
      const [width, height] = [image.width * share, image.height * share];
      context.globalAlpha = fades(row) ? 0.3 : 1;
      context.fillStyle = colour(row);
      context.fillRect(x - width / 2 - 2, y - height / 2 - 2, width + 4, height + 4);
      context.drawImage(image, x - width / 2, y - height / 2, width, height);
    }
    context.globalAlpha = 1;
  }

  #polygon(pixels) {
    const { context, style } = this;
    context.beginPath();
    for (let i = 0; i < pixels.length; i += 2) context.lineTo(pixels[i], pixels[i + 1]);
    context.closePath();
    context.globalAlpha = 0.06;
    context.fillStyle = style.accent;
    context.fill("evenodd");
    context.globalAlpha = 1;
    this.#stroke(style.accent, 1.5);
  }

  #ring([x, y], radius, colour, dashes = []) {
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.#stroke(this.style.paper, 4.5);
    this.#stroke(colour, 2.5, dashes);
  }

  #cross(x, y, size, colour, width) {
    this.context.beginPath();
    for (const [dx, dy] of [[size, 0], [0, size]]) {
      this.context.moveTo(x - dx, y - dy);
      this.context.lineTo(x + dx, y + dy);
    }
    this.#stroke(this.style.paper, width + 2);
    this.#stroke(colour, width);
  }

  #stroke(colour, width, dashes = []) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = width;
    this.context.setLineDash(dashes);
    this.context.stroke();
    this.context.setLineDash([]);
  }

  /** A cross where the query is; where that is estimated, also how far its neighbours are spread, and so it says. */
  #query(camera, { a, b }, t) {
    const mixed = (name) => a[name] + (b ? t * (b[name] - a[name]) : 0);
    const [x, y] = camera.onScreen(mixed("x"), mixed("y"));
    const { context, style } = this;
    const isEstimated = b && t > 0.5 ? b.estimated : a.estimated;
    if (isEstimated) {
      context.beginPath();
      context.arc(x, y, Math.max(mixed("spread") * camera.scale, 14), 0, 2 * Math.PI);
      context.globalAlpha = 0.12;
      context.fillStyle = style.accent;
      context.fill();
      context.globalAlpha = 1;
      this.#stroke(style.paper, 4);
      this.#stroke(style.accent, 2, [6, 4]);
    }
    this.#cross(x, y, 9, style.accent, 3);
    context.font = "600 12px system-ui, sans-serif";
    context.strokeStyle = style.paper;
    context.lineWidth = 4;
    context.fillStyle = style.accent;
    const text = isEstimated ? "query, estimated" : "query";
    context.strokeText(text, x + 13, y - 8);
    context.fillText(text, x + 13, y - 8);
  }

  /** Fetch the next pictures that are lacking, one request at a time. */
  async #ask() {
    const lacking = this.landmarks.filter((row) => !this.#pictures.has(row)).slice(0, AT_ONCE);
    if (this.#isAsking || !lacking.length) return;
    this.#isAsking = true;
    const found = await this.items(lacking).catch(() => []);
    await Promise.all(
      lacking.map(async (row, i) => this.#pictures.set(row, await loaded(found[i]?.thumbnail).catch(() => null))),
    );
    const spare = [...this.#pictures.keys()].filter((row) => !this.landmarks.includes(row));
    for (const row of spare.slice(0, Math.max(0, this.#pictures.size - KEPT))) this.#pictures.delete(row);
    this.#isAsking = false;
    this.redraw();
  }
}

async function loaded(address) {
  if (!address) return null;
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}
