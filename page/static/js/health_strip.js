/**
 * The health of each flow, as a strip of small cards that stay in place.
 *
 * @typedef {import("./types.js").Health} Health
 */
import { Cell, byId, element } from "./dom.js";
import { count, rate, span } from "./texts.js";

/** @type {[string, string, (row: Health) => string, (row: Health) => boolean][]} */
const FIGURES = [
  ["events/s", "events read per second", (row) => rate(row.events_per_s), () => false],
  ["watermark", "how far the watermark is behind the clock", (row) => span(row.watermark_lag_s), () => false],
  ["lag", "records in the log that are not read yet", (row) => count(row.consumer_lag), () => false],
  ["late", "events after the correction horizon", (row) => count(row.late), (row) => Boolean(row.late)],
  ["rejected", "records that could not be used", (row) => count(row.rejected), (row) => Boolean(row.rejected)],
];

/** Tells what is wrong with the page's own source; it is no flow. */
const PAGE = "page";

/** What has not been looked at for so much longer than the newest is no longer there. */
const GONE_MS = 15_000;

export class HealthStrip {
  #problem = byId("health-problem");
  #list = byId("health-list");
  #empty = byId("health-empty");
  /** @type {Map<string, Card>} */
  #cards = new Map();

  /** @param {Map<string, Health>} all */
  show(all) {
    const newestMs = Math.max(...[...all.values()].map((row) => Date.parse(row.checked_at)));
    const health = new Map(
      [...all].filter(([, row]) => row.flow !== PAGE && newestMs - Date.parse(row.checked_at) < GONE_MS),
    );
    const own = [...all.values()].find((row) => row.flow === PAGE);
    const problem = own && !own.up ? (own.error ?? "it does not answer") : "";
    if (this.#problem.textContent !== problem) this.#problem.textContent = problem;
    this.#problem.hidden = !problem;
    this.#empty.hidden = health.size > 0;
    this.#list.hidden = health.size === 0;
    for (const [key, card] of this.#cards) {
      if (health.has(key)) continue;
      card.node.remove();
      this.#cards.delete(key);
    }
    for (const key of [...health.keys()].sort()) {
      let card = this.#cards.get(key);
      if (!card) {
        card = new Card();
        this.#cards.set(key, card);
        const after = [...this.#cards.keys()].filter((other) => other > key).sort()[0];
        this.#list.insertBefore(card.node, this.#cards.get(after ?? "")?.node ?? null);
      }
      card.show(/** @type {Health} */ (health.get(key)));
    }
  }
}

class Card {
  constructor() {
    const name = element("h3");
    const state = element("span");
    const error = element("p", { class: "error" });
    const list = element("dl");
    this.node = element("li", {}, element("div", { class: "flow" }, name, state), list, error);
    this.#name = new Cell(name);
    this.#state = new Cell(state);
    this.#error = new Cell(error);
    this.#cells = FIGURES.map(([label, title]) => {
      const value = element("dd");
      list.append(element("div", { title }, element("dt", { text: label }), value));
      return new Cell(value);
    });
  }

  #name;
  #state;
  #error;
  #cells;

  /** @param {Health} row */
  show(row) {
    this.#name.text(row.flow);
    this.#name.title(row.url ?? "");
    const state = row.up ? "up" : row.starting ? "starting" : "down";
    this.#state.text(state);
    this.#state.name(`state ${state}`);
    this.#error.text(state === "down" ? (row.error ?? "does not answer") : "");
    FIGURES.forEach(([, , figure, alarming], n) => {
      this.#cells[n].text(figure(row));
      this.#cells[n].name(alarming(row) ? "warn" : "");
    });
  }
}
