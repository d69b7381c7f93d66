/**
 * The chosen instrument's name, price, interval and 24 h figures.
 *
 * @typedef {import("./board.js").Instrument} Instrument
 * @typedef {import("./series.js").Point} Point
 * @typedef {import("./types.js").Statistics} Statistics
 */
import { direction, grouped, roundDecimal, signed } from "./decimals.js";
import { Cell, byId, element } from "./dom.js";
import { format } from "./route.js";
import { count, measured, NONE } from "./texts.js";

/** @type {[string, string, (day: Statistics) => string | null | undefined][]} */
const FIGURES = [
  ["Open", "price 24 hours ago", (day) => day.open],
  ["High", "highest price of 24 hours", (day) => day.high],
  ["Low", "lowest price of 24 hours", (day) => day.low],
  ["VWAP", "average price weighted by volume", (day) => day.weighted_average_price],
  ["Volume", "sum of quantities", (day) => grouped(day.volume)],
  ["Quote volume", "sum of price times quantity", (day) => grouped(roundDecimal(day.quote_volume, 2))],
  ["Trades", "in 24 hours", (day) => count(day.trade_count)],
];

export class MarketFigures {
  constructor() {
    for (const [label, title] of [...FIGURES, ["EWMA", "exponentially weighted average"]]) {
      const value = element("dd", { text: NONE });
      byId("figures").append(element("div", { title: String(title) }, element("dt", { text: String(label) }), value));
      this.#cells.push(new Cell(value));
    }
  }

  #name = new Cell(byId("instrument"));
  #last = new Cell(byId("last"));
  #change = new Cell(byId("change"));
  /** @type {Cell[]} */
  #cells = [];
  #choices = "";

  /**
   * @param {string} name
   * @param {Instrument | undefined} one
   * @param {Point | undefined} average
   */
  show(name, one, average) {
    const day = one?.statistics ?? null;
    this.#name.text(name);
    this.#last.text(one?.last ?? NONE);
    this.#last.name(`last ${one?.tick ?? ""}`);
    this.#change.text(change(day));
    this.#change.name(`change ${direction(day?.price_change)}`);
    FIGURES.forEach(([, , figure], n) => this.#cells[n].text((day && figure(day)) || NONE));
    this.#cells[FIGURES.length].text(average ? measured(average.value) : NONE);
  }

  /**
   * The intervals to choose from.
   *
   * @param {string} instrument
   * @param {string} chosen
   * @param {string[]} intervals
   */
  intervals(instrument, chosen, intervals) {
    const choices = JSON.stringify([instrument, chosen, intervals]);
    if (choices === this.#choices) return;
    this.#choices = choices;
    byId("intervals").replaceChildren(
      ...intervals.map((interval) => {
        const link = element("a", { href: format({ instrument, interval }), text: interval });
        if (interval === chosen) link.setAttribute("aria-current", "true");
        return link;
      }),
    );
  }
}

/** @param {Statistics | null} day */
function change(day) {
  if (!day?.price_change || !day.price_change_percent) return "";
  return `${signed(day.price_change)} (${signed(roundDecimal(day.price_change_percent, 2))} %)`;
}
