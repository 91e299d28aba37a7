/** What people do on a map with mouse, touch, pen and keyboard, as a few actions. */

const STILL = 5; // pixels that a click may move
const STEP = 60; // pixels that an arrow key moves
const KEY_ZOOM = 1.4;
const APART = 3; // pixels between two vertices of a lasso

/**
 * Listen on an element, until a signal.
 *
 * `actions`: `mode(shift)` says what a drag does, "move", "lasso" or "rectangle"; `pan(dx, dy)`, `zoom(factor, x, y)`,
 * `fit()`, `hover(x, y)` or `hover(null)`, `middle()` (hover what is in the middle), `pick(x, y, event)` or
 * `pick(null, null, event)` for what is hovered, `drawing(polygon)` while one is drawn and `drawn(polygon)` at its end,
 * in pixels `[x, y, ...]`, `selectView()`, `clear()`.
 */
export function listen(element, actions, signal) {
  const pointers = new Map();
  let drag = null; // of one pointer: { mode, x, y, polygon, isClick }
  const on = (name, handle, options = {}) => element.addEventListener(name, handle, { signal, ...options });
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  on("pointerdown", (event) => {
    if (event.button > 0) return;
    element.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    pointers.set(event.pointerId, [x, y]);
    if (pointers.size > 1) {
      if (drag?.polygon) actions.drawing(null);
      drag = null; // two fingers move and zoom
    } else {
      drag = { mode: actions.mode(event.shiftKey), x, y, polygon: null, isClick: true };
    }
  });

  on("pointermove", (event) => {
    const [x, y] = at(event);
    if (!pointers.has(event.pointerId)) {
      if (event.pointerType !== "touch") actions.hover(x, y);
      return;
    }
    if (pointers.size === 2) pinch(event.pointerId, x, y);
    else if (drag) dragged(x, y);
    pointers.set(event.pointerId, [x, y]);
  });

  function pinch(id, x, y) {
    const [[, [otherX, otherY]]] = [...pointers].filter(([each]) => each !== id);
    const [beforeX, beforeY] = pointers.get(id);
    const apart = (px, py) => Math.max(Math.hypot(px - otherX, py - otherY), 8);
    actions.pan((x - beforeX) / 2, (y - beforeY) / 2);
    actions.zoom(apart(x, y) / apart(beforeX, beforeY), (x + otherX) / 2, (y + otherY) / 2);
  }

  function dragged(x, y) {
    if (drag.isClick && Math.hypot(x - drag.x, y - drag.y) < STILL) return;
    drag.isClick = false;
    if (drag.mode === "move") {
      actions.hover(null);
      actions.pan(x - drag.x, y - drag.y);
      [drag.x, drag.y] = [x, y];
    } else if (drag.mode === "rectangle") {
      drag.polygon = [drag.x, drag.y, x, drag.y, x, y, drag.x, y];
      actions.drawing(drag.polygon);
    } else {
      drag.polygon ??= [drag.x, drag.y];
      const [lastX, lastY] = drag.polygon.slice(-2);
      if (Math.hypot(x - lastX, y - lastY) >= APART) drag.polygon.push(x, y);
      actions.drawing(drag.polygon);
    }
  }

  on("pointerup", (event) => {
    pointers.delete(event.pointerId);
    if (drag?.isClick) {
      actions.hover(...at(event));
      actions.pick(...at(event), event);
    } else if (drag?.polygon) {
      actions.drawn(drag.polygon);
    }
    drag = null;
  });

  on("pointercancel", (event) => {
    pointers.delete(event.pointerId);
    if (drag?.polygon) actions.drawing(null);
    drag = null;
  });

  on("pointerleave", (event) => {
    if (event.pointerType !== "touch") actions.hover(null);
  });

  on(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode ? 16 : 1;
      actions.zoom(Math.exp(-Math.min(Math.max(event.deltaY * lines, -240), 240) * 0.0022), ...at(event));
    },
    { passive: false },
  );

  const keys = {
    ArrowLeft: () => actions.pan(STEP, 0),
    ArrowRight: () => actions.pan(-STEP, 0),
    ArrowUp: () => actions.pan(0, STEP),
    ArrowDown: () => actions.pan(0, -STEP),
    "+": () => actions.zoom(KEY_ZOOM),
    "=": () => actions.zoom(KEY_ZOOM),
    "-": () => actions.zoom(1 / KEY_ZOOM),
    0: () => actions.fit(),
  };

  on("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    if (keys[event.key]) {
      keys[event.key]();
      actions.middle();
    } else if (event.key === "Enter") actions.pick(null, null, event);
    else if (event.key.toLowerCase() === "s") actions.selectView();
    else if (event.key === "Escape") actions.clear();
    else return;
    event.preventDefault();
  });
}
