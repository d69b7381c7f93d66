/**
 * The market: table of instruments, and the chosen one's figures and chart.
 *
 * Contract: `go` when the address changed, `apply` for rows of the chosen instrument,
 * `paint` once per frame with what was touched. It holds the stream of the chosen
 * instrument, and none while another view is shown.
 *
 * @typedef {import("./board.js").Board} Board
 * @typedef {import("./board.js").Changes} Changes
 * @typedef {import("./route.js").Route} Route
 * @typedef {import("./types.js").Row} Row
 */
import { CandleChart } from "./candle_chart.js";
import { CandleReadout } from "./candle_readout.js";
import { byId, Cell } from "./dom.js";
import { MarketFigures } from "./market_figures.js";
import { MarketTable } from "./market_table.js";
import { Past } from "./past.js";
import { go } from "./route.js";
import { INTERVAL_MS, Series } from "./series.js";
import { Stream } from "./stream.js";

/** So that a key held down in the table does not open a stream per row. */
const SETTLE_MS = 150;

/** What is said of the past beside the chart. */
const PAST = {
  "": "",
  loading: "Loading older candles …",
  all: "Nothing older was found",
  full: "No more candles are held: choose a longer interval",
  failed: "Older candles could not be loaded",
};

export class MarketView {
  /**
   * @param {Board} board
   * @param {object} events  of the chosen instrument
   * @param {(rows: Row[]) => void} events.onSnapshot
   * @param {(rows: Row[]) => void} events.onRows
   */
  constructor(board, { onSnapshot, onRows }) {
    this.board = board;
    this.#onSnapshot = onSnapshot;
    this.#onRows = onRows;
    this.#table = new MarketTable(board);
  }

  #onSnapshot;
  #onRows;
  #table;
  #figures = new MarketFigures();
  #readout = new CandleReadout();
  #past = new Past(() => this.#chosen());
  #chart = new CandleChart({
    onView: (fromMs, candles) => void this.#past.see(fromMs, candles),
    onPoint: (row) => this.#readout.point(row),
  });
  #note = new Cell(byId("past"));
  #series = new Series("", "1m");
  #known = false;
  /** @type {Stream | null} */
  #stream = null;
  #opening = 0;
  /** @type {Route} */
  #route = { view: "market", instrument: "", interval: "1m" };
  #open = "";

  /** @param {Route} route */
  go(route) {
    const { instrument, interval, view } = route;
    if (view === "market") {
      this.#route = route;
      document.title = instrument ? `${instrument} · Tidemark` : "Tidemark";
      this.#table.choose(instrument, interval);
      this.#figures.intervals(instrument, interval, Object.keys(INTERVAL_MS));
    }
    const wanted = view === "market" && instrument ? JSON.stringify([instrument, interval]) : "";
    if (wanted === this.#open) return;
    this.#open = wanted;
    clearTimeout(this.#opening);
    this.#stream?.close();
    this.#stream = null;
    if (!wanted) return;
    this.#series = new Series(instrument, interval);
    this.#known = false;
    this.#past.begin(this.#series);
    this.#opening = setTimeout(() => this.#subscribe(instrument, interval), SETTLE_MS);
  }

  /**
   * @param {string} instrument
   * @param {string} interval
   */
  #subscribe(instrument, interval) {
    this.#stream = new Stream(
      // A comma would part two names.
      { kind: "candle,ewma,health", instrument: encodeURIComponent(instrument), interval },
      {
        onSnapshot: ({ rows }) => {
          this.#series = new Series(instrument, interval);
          this.#known = true;
          this.#past.begin(this.#series);
          this.#onSnapshot(rows);
        },
        onRows: this.#onRows,
        onCondition() {}, // the other stream tells, from the same server
      },
    );
  }

  /**
   * @param {Row} row
   * @param {Changes} changes
   */
  apply(row, changes) {
    if (row.kind === "candle") changes.series = this.#series.put(row) || changes.series;
    if (row.kind === "ewma") changes.series = this.#series.average(row) || changes.series;
  }

  /** @param {Changes} changes */
  paint(changes) {
    if (changes.all) this.#table.refresh();
    else this.#table.touch(changes.instruments);
    const { instrument, interval, view } = this.#route;
    if (!instrument && this.#table.first && this.#open === "" && !byId("market").hidden) {
      go({ view, instrument: this.#table.first, interval }, true);
      return;
    }
    if (changes.all || changes.series || changes.instruments.has(instrument)) this.#chosen();
  }

  #chosen() {
    const { instrument, interval } = this.#route;
    const one = this.board.instruments.get(instrument);
    const forming = one?.preview?.interval === interval ? one.preview : null;
    const series = this.#series;
    const anything = series.bars.length > 0 || forming !== null;
    byId("market-empty").hidden = this.board.instruments.size > 0 || instrument !== "";
    byId("market-found").hidden = !byId("market-empty").hidden;
    byId("chart-empty").hidden = anything || !this.#known;
    byId("chart-empty-interval").textContent = interval;
    byId("chart-empty-name").textContent = instrument;
    this.#figures.show(instrument, one, series.averages[series.averages.length - 1]);
    this.#chart.show(series, forming);
    this.#readout.newest(this.#chart.newest);
    this.#note.text(PAST[this.#past.state]);
  }
}
