/**
 * What the page knows of everything but the chosen chart: the newest state of each
 * instrument, recent sales and sessions, and the health of flows.
 *
 * Contract: `apply` folds one row in and notes what it touched; applying a row twice is
 * applying it once. Every map is bounded. No DOM, no clock.
 *
 * @typedef {import("./types.js").Row} Row
 * @typedef {import("./types.js").Candle} Candle
 * @typedef {import("./types.js").Statistics} Statistics
 * @typedef {import("./types.js").Sales} Sales
 * @typedef {import("./types.js").Session} Session
 * @typedef {import("./types.js").Health} Health
 *
 * @typedef {object} Instrument
 * @property {string} name
 * @property {Candle | null} preview
 * @property {Statistics | null} statistics
 * @property {string | null} last  newest known price
 * @property {"" | "up" | "down"} tick  against the price before
 */
import { compareDecimals } from "./decimals.js";

const MOST_WINDOWS = 60;
const MOST_SALES = 20_000;
const MOST_SESSIONS = 500;

/** The sales of the newest windows, by start of the window and by seller. */
export class SalesWindows {
  constructor() {
    /** @type {Map<number, Map<string, Sales>>} */
    this.byStart = new Map();
  }

  #rows = 0;

  /** @returns {number[]} starts of the windows in epoch ms, oldest first */
  get starts() {
    return [...this.byStart.keys()].sort((a, b) => a - b);
  }

  /** @param {Sales} row */
  put(row) {
    const startMs = Date.parse(row.window_start);
    let window = this.byStart.get(startMs);
    if (!window) this.byStart.set(startMs, (window = new Map()));
    if (!window.has(row.seller_id)) this.#rows += 1;
    window.set(row.seller_id, row);
    while (this.byStart.size > MOST_WINDOWS || (this.#rows > MOST_SALES && this.byStart.size > 1)) {
      const [oldest] = this.starts;
      this.#rows -= this.byStart.get(oldest)?.size ?? 0;
      this.byStart.delete(oldest);
    }
  }
}

/** What was touched since the last look. */
export class Changes {
  constructor() {
    /** @type {Set<string>} */
    this.instruments = new Set();
    this.all = false;
    this.sales = false;
    this.sessions = false;
    this.health = false;
    this.series = false;
  }

  /** Of everything, after a snapshot. */
  everything() {
    this.all = this.sales = this.sessions = this.health = this.series = true;
    return this;
  }
}

export class Board {
  constructor() {
    this.clear();
  }

  /** Know nothing. */
  clear() {
    /** @type {Map<string, Instrument>} */
    this.instruments = new Map();
    this.sales = new SalesWindows();
    /** @type {Map<string, Session>} oldest first */
    this.sessions = new Map();
    /** @type {Map<string, Health>} */
    this.health = new Map();
  }

  /**
   * @param {Row} row
   * @param {Changes} changes
   */
  apply(row, changes) {
    switch (row.kind) {
      case "preview":
        this.#preview(row, changes);
        break;
      case "statistics":
        this.#statistics(row, changes);
        break;
      case "sales":
        this.sales.put(row);
        changes.sales = true;
        break;
      case "session":
        keep(this.sessions, `${row.session_id} ${row.device}`, row, MOST_SESSIONS);
        changes.sessions = true;
        break;
      case "health":
        // Two processes of one flow are two lines.
        this.health.set(`${row.flow} ${row.url ?? ""}`, row);
        changes.health = true;
        break;
      default: // candles and averages belong to the chart
    }
  }

  /**
   * @param {Candle} row
   * @param {Changes} changes
   */
  #preview(row, changes) {
    const one = this.#instrument(row.instrument, changes);
    if (one.preview && one.preview.interval === row.interval) {
      if (Date.parse(row.open_time) < Date.parse(one.preview.open_time)) return;
    }
    one.preview = row;
    price(one);
    changes.instruments.add(one.name);
  }

  /**
   * @param {Statistics} row
   * @param {Changes} changes
   */
  #statistics(row, changes) {
    const one = this.#instrument(row.instrument, changes);
    if (one.statistics && Date.parse(row.close_time) < Date.parse(one.statistics.close_time)) return;
    one.statistics = row;
    price(one);
    changes.instruments.add(one.name);
  }

  /**
   * @param {string} name
   * @param {Changes} changes
   * @returns {Instrument}
   */
  #instrument(name, changes) {
    let one = this.instruments.get(name);
    if (!one) {
      one = { name, preview: null, statistics: null, last: null, tick: "" };
      this.instruments.set(name, one);
      changes.all = true;
    }
    return one;
  }
}

/**
 * The newest of what preview and statistics say; the statistics end at a watermark, so the
 * preview is ahead of them unless it belongs to a candle long past.
 *
 * @param {Instrument} one
 */
function price(one) {
  const { preview, statistics } = one;
  let last = preview?.close ?? null;
  if (statistics?.last && (!preview || stale(preview, statistics))) last = statistics.last;
  if (last === null || last === one.last) return;
  const order = one.last === null ? 0 : compareDecimals(last, one.last);
  if (order !== 0) one.tick = order > 0 ? "up" : "down";
  one.last = last;
}

/**
 * @param {Candle} preview
 * @param {Statistics} statistics
 */
function stale(preview, statistics) {
  const at = preview.close_trade_time;
  return Boolean(at) && Date.parse(/** @type {string} */ (at)) < Date.parse(statistics.close_time);
}

/**
 * Set, and forget the oldest above the bound. A known key keeps its place.
 *
 * @template T
 * @param {Map<string, T>} map
 * @param {string} key
 * @param {T} value
 * @param {number} most
 */
function keep(map, key, value, most) {
  map.set(key, value);
  if (map.size > most) map.delete(/** @type {string} */ (map.keys().next().value));
}
