/**
 * The few things the views do to the document. Text is always text: nothing here parses HTML.
 */

/**
 * A new element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number>} [attributes]  `text` is its content
 * @param {...Node} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = String(value);
    else node.setAttribute(name, String(value));
  }
  node.append(...children);
  return node;
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no #${id}`);
  return node;
}

/**
 * A node whose text and class are written only when they differ from the last ones; the
 * document is never read.
 */
export class Cell {
  /** @param {HTMLElement} node */
  constructor(node) {
    this.node = node;
    this.#text = node.textContent ?? "";
    this.#name = node.className;
  }

  #text;
  #name;
  #title = "";

  /** @param {string} text */
  text(text) {
    if (text !== this.#text) this.node.textContent = this.#text = text;
  }

  /** @param {string} name */
  name(name) {
    if (name !== this.#name) this.node.className = this.#name = name;
  }

  /** @param {string} title */
  title(title) {
    if (title !== this.#title) this.node.title = this.#title = title;
  }
}
