/**
 * Whether what is on the page is live, in words: live, reconnecting, paused, stale since.
 *
 * @typedef {import("./stream.js").Condition} Condition
 */
import { Cell, byId } from "./dom.js";
import { clock } from "./texts.js";

/** Rows come several times a second as a rule; this long without one is worth a word. */
const QUIET_MS = 10_000;

export class Connection {
  constructor() {
    setInterval(() => this.#show(), 1000);
  }

  #node = byId("connection");
  #text = new Cell(byId("connection-text"));
  /** @type {Condition} */
  #condition = "connecting";
  #heardMs = 0;

  /** @param {Condition} condition */
  set(condition) {
    this.#condition = condition;
    this.#show();
  }

  /** Rows came. */
  heard() {
    this.#heardMs = Date.now();
    if (this.#node.dataset.condition !== "live") this.#show();
  }

  #show() {
    const since = this.#heardMs ? `${clock(this.#heardMs)} UTC` : "";
    let [condition, text] = [/** @type {string} */ (this.#condition), "Connecting"];
    if (this.#condition === "live") {
      const quiet = Date.now() - this.#heardMs > QUIET_MS;
      condition = quiet ? "quiet" : "live";
      text = quiet ? `Connected, nothing new since ${since}` : "Live";
    } else if (this.#condition === "reconnecting") {
      text = `Reconnecting, stale since ${since}`;
    } else if (this.#condition === "paused") {
      text = `Paused, stale since ${since}`;
    }
    this.#node.dataset.condition = condition;
    this.#text.text(text);
  }
}
