/** Which pictures are shown on a map: one in each occupied cell of a grid that gets finer as one comes nearer. */

const CELL = 64; // pixels: the least side of a cell
const MOST = 40; // points in view for each cell: with more, pictures would say little and hide much

/**
 * The rows whose pictures are shown, the first of each cell; none while one is too far away.
 *
 * The first rows are a random sample, and cells stay where they are on the map as it is moved: so do the pictures.
 */
export function landmarks(camera, positions, other, t, isShown) {
  const cell = 2 ** Math.ceil(Math.log2(CELL / camera.scale));
  const [left, top, , , right, bottom] = camera.corners();
  const cells = Math.max(1, ((camera.width / CELL) * camera.height) / CELL);
  const isMoving = other && t > 0;
  const found = new Map();
  let inView = 0;
  for (let i = 0; i < positions.length; i += 2) {
    const x = positions[i] + (isMoving ? t * (other[i] - positions[i]) : 0);
    const y = positions[i + 1] + (isMoving ? t * (other[i + 1] - positions[i + 1]) : 0);
    if (x < left || x > right || y < bottom || y > top || !isShown(i / 2)) continue;
    if (++inView > MOST * cells) return [];
    const key = Math.floor(x / cell) * 65536 * 64 + Math.floor(y / cell);
    if (!found.has(key)) found.set(key, i / 2);
  }
  return [...found.values()];
}
