/** Which points are in a polygon, and which is the nearest: over all points, without an index. */

const MOST = 200; // vertices of a polygon
const BANDS = 1024; // of a polygon, each with the edges that cross it

/** The position of a point between two maps, in turns x and y. */
function mixed(positions, other, t) {
  if (!other || t === 0) return positions;
  if (t === 1) return other;
  return Float32Array.from(positions, (value, i) => value + t * (other[i] - value));
}

/**
 * The rows in a polygon `[x, y, ...]`, by the even-odd rule, ascending.
 *
 * A band of the polygon's height knows which edges cross it, so that a point is compared with few.
 */
export function inside(polygon, positions, other = null, t = 0) {
  const at = mixed(positions, other, t);
  const [left, right, bottom, top] = bounds(polygon);
  const high = Math.max(top - bottom, 1);
  const bandOf = (y) => Math.min(BANDS - 1, Math.floor(((y - bottom) * BANDS) / high));
  const bands = Array.from({ length: BANDS }, () => []);
  for (let i = 0, j = polygon.length - 2; i < polygon.length; j = i, i += 2) {
    const [x1, y1, x2, y2] = [polygon[j], polygon[j + 1], polygon[i], polygon[i + 1]];
    if (y1 === y2) continue;
    const slope = (x2 - x1) / (y2 - y1);
    const [from, to] = y1 < y2 ? [y1, y2] : [y2, y1];
    for (let band = bandOf(from); band <= bandOf(to); band++) bands[band].push(from, to, x1 - slope * y1, slope);
  }
  const rows = new Uint32Array(at.length / 2);
  let count = 0;
  for (let row = 0; row < rows.length; row++) {
    const x = at[2 * row];
    const y = at[2 * row + 1];
    if (x < left || x > right || y < bottom || y > top) continue;
    const edges = bands[bandOf(y)];
    let isIn = false;
    for (let i = 0; i < edges.length; i += 4) {
      if (edges[i] <= y && y < edges[i + 1] && x < edges[i + 2] + edges[i + 3] * y) isIn = !isIn;
    }
    if (isIn) rows[count++] = row;
  }
  return rows.slice(0, count);
}

/** Rows, as a `Set`, with some others; those that they have already are taken away. */
export function toggled(rows, some) {
  const all = new Set(rows);
  for (const row of some) if (!all.delete(row)) all.add(row);
  return all;
}

/** The row of the nearest point within a distance that `isShown`, or null. */
export function nearest(x, y, reach, positions, other, t, isShown) {
  const isMoving = other && t > 0;
  let best = reach * reach;
  let found = null;
  for (let i = 0; i < positions.length; i += 2) {
    const dx = positions[i] + (isMoving ? t * (other[i] - positions[i]) : 0) - x;
    const dy = positions[i + 1] + (isMoving ? t * (other[i + 1] - positions[i + 1]) : 0) - y;
    const square = dx * dx + dy * dy;
    if (square <= best && isShown(i / 2)) {
      best = square;
      found = i / 2;
    }
  }
  return found;
}

function bounds(polygon) {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < polygon.length; i += 2) {
    left = Math.min(left, polygon[i]);
    right = Math.max(right, polygon[i]);
    bottom = Math.min(bottom, polygon[i + 1]);
    top = Math.max(top, polygon[i + 1]);
  }
  return [left, right, bottom, top];
}

/**
 * A polygon of at most 200 vertices: those go first that are nearest to the line between their neighbours, by the
 * area of the triangle (M. Visvalingam and J. Whyatt, 1993).
 */
export function simplified(polygon) {
  const points = [];
  for (let i = 0; i < polygon.length; i += 2) points.push([polygon[i], polygon[i + 1]]);
  const area = (i) => {
    const [[ax, ay], [bx, by], [cx, cy]] = [points.at(i - 1), points[i], points[(i + 1) % points.length]];
    return Math.abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay));
  };
  while (points.length > 3) {
    let least = 0;
    for (let i = 1; i < points.length; i++) if (area(i) < area(least)) least = i;
    if (points.length <= MOST && area(least) > 0) break;
    points.splice(least, 1);
  }
  return points.flat();
}
