/**
 * The exact figures of one candle in a line: of that under the pointer, else of the newest.
 *
 * @typedef {import("./types.js").Candle} Candle
 */
import { Cell, byId, element } from "./dom.js";
import { grouped, compareDecimals } from "./decimals.js";
import { count, moment, NONE } from "./texts.js";

/** @type {[string, string, (row: Candle) => string | null][]} */
const FIGURES = [
  ["O", "open", (row) => row.open],
  ["H", "high", (row) => row.high],
  ["L", "low", (row) => row.low],
  ["C", "close", (row) => row.close],
  ["V", "volume", (row) => grouped(row.volume)],
  ["trades", "number of trades", (row) => count(row.trade_count)],
];

export class CandleReadout {
  constructor() {
    const list = byId("readout-figures");
    for (const [label, title] of FIGURES) {
      const value = element("dd");
      list.append(element("div", { title }, element("dt", { text: label }), value));
      this.#cells.push(new Cell(value));
    }
  }

  #time = new Cell(byId("readout-time"));
  #note = new Cell(byId("readout-note"));
  /** @type {Cell[]} */
  #cells = [];
  /** @type {Candle | null} */
  #newest = null;
  /** @type {Candle | null} */
  #pointed = null;

  /** @param {Candle | null} row */
  newest(row) {
    this.#newest = row;
    this.#show();
  }

  /** @param {Candle | null} row  under the pointer */
  point(row) {
    this.#pointed = row;
    this.#show();
  }

  #show() {
    const row = this.#pointed ?? this.#newest;
    const name = row && compareDecimals(row.close, row.open) < 0 ? "down" : "up";
    this.#time.text(row ? moment(Date.parse(row.open_time)) : NONE);
    FIGURES.forEach(([, , figure], n) => {
      this.#cells[n].text((row && figure(row)) || NONE);
      this.#cells[n].name(n < 4 ? name : "");
    });
    this.#note.text(row ? notes(row).join(" · ") : "");
  }
}

/** @param {Candle} row */
function notes(row) {
  const found = [];
  if (row.kind === "preview") found.push("forming");
  if (row.revision > 0) found.push(`corrected, revision ${row.revision}`);
  if (row.gap_filled) found.push("no trades");
  if (row.complete === false) found.push("trades are missing");
  return found;
}
