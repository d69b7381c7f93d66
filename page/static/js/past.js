/**
 * Loads the candles before those that are held, a page at a time, when they come into sight,
 * and the averages that belong to them.
 *
 * Contract: one request at a time; none after the oldest candle was found, or when the
 * series is full. A failed request is tried again when the view moves, not before
 * `FIRST_REST_MS`, and twice as late each time: there may be no database behind the server.
 *
 * @typedef {import("./series.js").Series} Series
 */

const PAGE = 500;
const MOST_AVERAGES = 1000;
const FIRST_REST_MS = 2000;
const LAST_REST_MS = 300_000;

export class Past {
  /** @param {() => void} changed  the series has more, or the state is another one */
  constructor(changed) {
    this.#changed = changed;
  }

  #changed;
  /** @type {Series | null} */
  #series = null;
  #notBefore = 0;
  #restMs = FIRST_REST_MS;
  /** @type {"" | "loading" | "all" | "full" | "failed"} */
  state = "";

  /** @param {Series} series  a new one, of which nothing older is known */
  begin(series) {
    this.#series = series;
    this.state = "";
    this.#notBefore = 0;
    this.#restMs = FIRST_REST_MS;
  }

  /**
   * What is in sight; fetches when it is near the oldest candle.
   *
   * @param {number} fromMs
   * @param {number} candles  the width
   */
  async see(fromMs, candles) {
    const series = this.#series;
    const oldest = series?.bars[0];
    if (!series || !oldest || ["loading", "all", "full"].includes(this.state)) return;
    if (fromMs - (candles / 2) * series.stepMs > oldest.openMs) return;
    if (performance.now() < this.#notBefore) return;
    if (series.full) return this.#become(series, "full");
    this.#become(series, "loading");
    try {
      const { instrument, interval } = series;
      const { rows, next } = await before("candles", { instrument, interval }, oldest.row.open_time, PAGE);
      for (const row of rows) series.put({ ...row, kind: "candle" });
      const from = rows.length ? rows[rows.length - 1].open_time : oldest.row.open_time;
      const until = series.averages[0]?.row.window_start;
      if (until && from < until) {
        const averages = await before("ewma", { instrument, from }, until, MOST_AVERAGES);
        for (const row of averages.rows) series.average({ ...row, kind: "ewma" });
      }
      this.#become(series, next === null ? "all" : "");
    } catch (error) {
      console.info(`Older candles could not be loaded: ${error}`);
      this.#notBefore = performance.now() + this.#restMs;
      this.#restMs = Math.min(LAST_REST_MS, 2 * this.#restMs);
      this.#become(series, "failed");
    }
  }

  /**
   * @param {Series} series
   * @param {Past["state"]} state
   */
  #become(series, state) {
    if (series !== this.#series) return;
    this.state = state;
    this.#changed();
  }
}

/**
 * The newest rows before a time, newest first.
 *
 * @param {string} what
 * @param {Record<string, string>} of
 * @param {string} to
 * @param {number} limit
 * @returns {Promise<{rows: any[], next: string | null}>}
 */
async function before(what, of, to, limit) {
  const query = new URLSearchParams({ ...of, to, order: "desc", limit: String(limit) });
  const answer = await fetch(`api/${what}?${query}`);
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}
