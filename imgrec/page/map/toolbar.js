/** The buttons of a map. */

const MODES = { move: "Move", lasso: "Lasso", rectangle: "Rectangle" };
const HINT = "Draw around points, or click single ones, to select them";

export class Toolbar {
  /** In a parent; `actions`: `mode(name)`, `fit()` and `pictures()`. */
  constructor(parent, actions) {
    this.box = Object.assign(document.createElement("div"), { className: "map-tools" });
    this.box.setAttribute("role", "toolbar");
    this.box.setAttribute("aria-label", "Map");
    this.modes = Object.entries(MODES).map(([mode, text]) => {
      const button = this.#button(text, () => actions.mode(mode));
      if (mode !== "move") button.title = HINT;
      return [mode, button];
    });
    this.#button("Fit", actions.fit);
    this.shown = this.#button("Pictures", actions.pictures);
    parent.append(this.box);
    this.mode = "move";
    this.pictures = true;
  }

  set mode(chosen) {
    for (const [mode, button] of this.modes) button.setAttribute("aria-pressed", mode === chosen);
  }

  set pictures(shown) {
    this.shown.setAttribute("aria-pressed", shown);
  }

  #button(text, action) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.addEventListener("click", action);
    this.box.append(button);
    return button;
  }
}
