/**
 * The candles of one instrument and interval in order of time, and its averages.
 *
 * Contract: `put` takes rows in any order; of one window the highest revision stays. At most
 * `MOST_CANDLES` are held: the oldest go first. No DOM, no clock. Floats are for drawing,
 * the row holds what is exact.
 *
 * @typedef {import("./types.js").Candle} Candle
 * @typedef {import("./types.js").Ewma} Ewma
 *
 * @typedef {object} Bar
 * @property {number} openMs
 * @property {number} open
 * @property {number} high
 * @property {number} low
 * @property {number} close
 * @property {number} volume
 * @property {Candle} row
 *
 * @typedef {{timeMs: number, value: number, row: Ewma}} Point
 */

export const MOST_CANDLES = 10_000;
const MOST_AVERAGES = 5000;

/** Length in ms of the intervals that candles have. */
export const INTERVAL_MS = /** @type {Record<string, number>} */ ({
  "1s": 1000,
  "1m": 60_000,
  "5m": 300_000,
  "1h": 3_600_000,
  "1d": 86_400_000,
});

/**
 * @param {Candle} row
 * @returns {Bar}
 */
export function bar(row) {
  return {
    openMs: Date.parse(row.open_time),
    open: Number(row.open),
    high: Number(row.high),
    low: Number(row.low),
    close: Number(row.close),
    volume: Number(row.volume),
    row,
  };
}

export class Series {
  /**
   * @param {string} instrument
   * @param {string} interval
   */
  constructor(instrument, interval) {
    this.instrument = instrument;
    this.interval = interval;
    this.stepMs = INTERVAL_MS[interval] ?? 60_000;
    /** @type {Bar[]} */
    this.bars = [];
    /** @type {Point[]} */
    this.averages = [];
  }

  /** Whether no older candle can be taken. */
  get full() {
    return this.bars.length >= MOST_CANDLES;
  }

  /** @returns {Bar | undefined} */
  get newest() {
    return this.bars[this.bars.length - 1];
  }

  /**
   * A closed candle.
   *
   * @param {Candle} row
   * @returns {boolean} whether anything changed
   */
  put(row) {
    if (row.instrument !== this.instrument || row.interval !== this.interval) return false;
    const next = bar(row);
    const at = place(this.bars, next.openMs, openMs);
    const there = this.bars[at];
    if (there && there.openMs === next.openMs) {
      if (there.row.revision > row.revision) return false;
      this.bars[at] = next;
      return true;
    }
    if (at === 0 && this.full) return false;
    this.bars.splice(at, 0, next);
    if (this.bars.length > MOST_CANDLES) this.bars.shift();
    return true;
  }

  /**
   * @param {Ewma} row
   * @returns {boolean} whether anything changed
   */
  average(row) {
    if (row.instrument !== this.instrument) return false;
    const point = { timeMs: Date.parse(row.window_end), value: row.value, row };
    const at = place(this.averages, point.timeMs, timeMs);
    const same = this.averages[at]?.timeMs === point.timeMs;
    this.averages.splice(at, same ? 1 : 0, point);
    if (this.averages.length > MOST_AVERAGES) this.averages.shift();
    return true;
  }

  /**
   * Bars that open from `fromMs` to `toMs`.
   *
   * @param {number} fromMs
   * @param {number} toMs
   * @returns {Bar[]}
   */
  between(fromMs, toMs) {
    return this.bars.slice(place(this.bars, fromMs, openMs), place(this.bars, toMs + 1, openMs));
  }

  /**
   * Averages in a range, and one on either side, so that the line reaches the edges.
   *
   * @param {number} fromMs
   * @param {number} toMs
   * @returns {Point[]}
   */
  averagesBetween(fromMs, toMs) {
    const from = place(this.averages, fromMs, timeMs);
    const to = place(this.averages, toMs + 1, timeMs);
    return this.averages.slice(Math.max(0, from - 1), to + 1);
  }
}

/** @param {Bar} one */
const openMs = (one) => one.openMs;

/** @param {Point} one */
const timeMs = (one) => one.timeMs;

/**
 * Index of the first that is not before `time`; looks at the end first, where rows arrive.
 *
 * @template T
 * @param {T[]} rows
 * @param {number} time
 * @param {(one: T) => number} of
 */
function place(rows, time, of) {
  let low = 0;
  let high = rows.length;
  if (high && of(rows[high - 1]) < time) return high;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (of(rows[middle]) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
