/** What is shown beside a point that is hovered: its picture, label and path. */

export class Tip {
  #row = null;
  #isAsking = false;

  constructor(parent, items) {
    this.parent = parent;
    this.items = items;
    this.box = Object.assign(document.createElement("figure"), { className: "map-tip", hidden: true });
    this.image = Object.assign(document.createElement("img"), { alt: "" });
    this.image.addEventListener("error", () => (this.image.hidden = true));
    this.label = document.createElement("b");
    this.path = document.createElement("span");
    const caption = document.createElement("figcaption");
    caption.append(this.label, this.path);
    this.box.append(this.image, caption);
    this.box.setAttribute("aria-live", "polite");
    parent.append(this.box);
  }

  /** Show the image of a row, or nothing. */
  show(row, label = "") {
    this.#row = row;
    this.box.hidden = row === null;
    this.label.textContent = label;
    this.path.textContent = "";
    this.image.hidden = true;
    this.#ask();
  }

  /** Beside a point of the view, inside of it. */
  place(x, y) {
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const { clientWidth, clientHeight } = this.parent;
    const left = x + 16 + width > clientWidth ? x - 16 - width : x + 16;
    const top = y + 16 + height > clientHeight ? y - 16 - height : y + 16;
    this.box.style.left = `${Math.max(4, Math.min(left, clientWidth - width - 4))}px`;
    this.box.style.top = `${Math.max(4, top)}px`;
  }

  /** Ask for what is hovered now; while one request is under way, what is hovered at its end is asked for next. */
  async #ask() {
    if (this.#isAsking || this.#row === null) return;
    const row = this.#row;
    this.#isAsking = true;
    const [item] = await this.items([row]).catch(() => []);
    this.#isAsking = false;
    if (row !== this.#row) return this.#ask();
    this.path.textContent = item?.path ?? "";
    this.image.hidden = !item?.thumbnail;
    if (item?.thumbnail) this.image.src = item.thumbnail;
  }
}
