/** The layer of points by WebGL2: what is drawn stays, so that a picture may take several frames. */

import { Layer } from "./layer.js";

const SHAPED = 4; // pixels of the screen: smaller points are squares
const SIDE = 256; // of the palette, which has a colour for each of 65,536 labels

const VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in vec2 first;
layout(location = 1) in vec2 second;
layout(location = 2) in float label;
layout(location = 3) in float selected;
uniform sampler2D palette;
uniform vec2 centre, scale;
uniform float t, size;
uniform bool dims;
uniform vec3 paper;
flat out vec3 colour;
flat out int kind;
void main() {
  int number = int(label);
  vec4 drawn = texelFetch(palette, ivec2(number & 255, number >> 8), 0);
  kind = int(drawn.a * 255.0 + 0.5);
  bool fades = dims && selected == 0.0;
  colour = fades ? mix(paper, drawn.rgb, 0.22) : drawn.rgb;
  gl_Position = kind == 0 ? vec4(2.0, 2.0, 2.0, 1.0) : vec4((mix(first, second, t) - centre) * scale, 0.0, 1.0);
  gl_PointSize = kind == 1 ? max(1.0, 0.7 * size) : size;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
#define SHAPED ${SHAPED}.0
flat in vec3 colour;
flat in int kind;
uniform float size;
out vec4 drawn;
void main() {
  float cover = 1.0;
  if (size >= SHAPED) {
    vec2 at = 2.0 * gl_PointCoord - 1.0;
    float inside = kind == 3 ? 0.5 * (at.y + 1.0) - abs(at.x) : 1.0 - length(at);
    cover = clamp(0.5 * size * inside, 0.0, 1.0);
  }
  drawn = vec4(colour, 1.0) * cover;
}`;

export class PointLayer extends Layer {
  /** The layer on a canvas; null where there is no WebGL2. After a lost context it is rebuilt, and `redraw` called. */
  static on(canvas, redraw) {
    const options = { alpha: true, antialias: false, depth: false, preserveDrawingBuffer: true };
    const gl = canvas.getContext("webgl2", options);
    return gl && new PointLayer(canvas, gl, redraw);
  }

  constructor(canvas, gl, redraw) {
    super(canvas);
    this.gl = gl;
    this.stop = new AbortController();
    const { signal } = this.stop;
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault(), { signal });
    const restored = () => {
      this.#build();
      redraw();
    };
    canvas.addEventListener("webglcontextrestored", restored, { signal });
    this.#build();
  }

  load(positions, numbers) {
    super.load(positions, numbers);
    this.#upload();
  }

  loadOther(positions) {
    super.loadOther(positions);
    this.#fill(1, positions, 2);
  }

  select(rows) {
    super.select(rows);
    this.#fill(3, this.selected, 1);
  }

  colour(palette, paper) {
    super.colour(palette, paper);
    this.#fillPalette();
  }

  resize(width, height, ratio) {
    this.ratio = ratio;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
  }

  /** Whether what was drawn last is still on its way to the screen. */
  get isBusy() {
    const { gl } = this;
    return this.fence != null && gl.getSyncParameter(this.fence, gl.SYNC_STATUS) === gl.UNSIGNALED;
  }

  /** Draw points from one row to another, on what is there; row 0 begins anew. */
  draw(camera, t, from, until) {
    const { gl, uniforms } = this;
    if (gl.isContextLost()) return;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    if (from === 0) gl.clear(gl.COLOR_BUFFER_BIT);
    if (until <= from) return;
    const { x, y } = camera.at;
    gl.uniform2f(uniforms.centre, x, y);
    gl.uniform2f(uniforms.scale, (2 * camera.scale) / camera.width, (2 * camera.scale) / camera.height);
    gl.uniform1f(uniforms.t, this.other ? t : 0);
    const size = pointSize(this.numbers.length, camera) * this.ratio;
    gl.uniform1f(uniforms.size, size);
    gl[size >= SHAPED ? "enable" : "disable"](gl.BLEND); // for smooth edges
    gl.uniform1i(uniforms.dims, this.selected ? 1 : 0);
    gl.uniform3f(uniforms.paper, ...this.paper.map((value) => value / 255));
    gl.drawArrays(gl.POINTS, from, until - from);
    gl.deleteSync(this.fence);
    this.fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
  }

  close() {
    this.stop.abort();
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  #build() {
    const { gl } = this;
    this.fence = null;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    const names = ["centre", "scale", "t", "size", "dims", "paper"];
    this.uniforms = Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.buffers = [0, 1, 2, 3].map(() => gl.createBuffer());
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    this.#fillPalette();
    this.#upload();
  }

  #upload() {
    this.#fill(0, this.positions, 2);
    this.#fill(1, this.other, 2);
    this.#fill(2, this.numbers, 1);
    this.#fill(3, this.selected, 1);
  }

  /** An attribute of all points; null: zero. */
  #fill(place, values, size) {
    const { gl } = this;
    if (!values) {
      gl.disableVertexAttribArray(place);
      gl.vertexAttrib4f(place, 0, 0, 0, 0);
      return;
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[place]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    const type = values instanceof Uint8Array ? gl.UNSIGNED_BYTE : gl.UNSIGNED_SHORT;
    gl.vertexAttribPointer(place, size, type, false, 0, 0);
  }

  #fillPalette() {
    const { gl } = this;
    if (!this.palette) return;
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, SIDE, SIDE, 0, gl.RGBA, gl.UNSIGNED_BYTE, this.palette);
  }
}

/** The diameter of a point in pixels of the page: smaller the more there are, larger the nearer one is. */
export function pointSize(count, camera) {
  const whole = Math.min(Math.max(150 / Math.max(count, 1) ** 0.4, 1.5), 9);
  return Math.min(whole * camera.at.zoom ** 0.3, 12);
}
