/**
 * Which span of time a chart shows: it follows the newest candle, or stands where it was put.
 *
 * Contract: `range` is [fromMs, toMs]; at least `LEAST` and at most `MOST` candles wide. No DOM.
 */

const LEAST = 20;
const MOST = 1500;
const AHEAD = 3; // candles of free space before the right edge

export class View {
  /**
   * @param {number} stepMs  length of a candle
   * @param {number} candles  how many to show
   */
  constructor(stepMs, candles) {
    this.stepMs = stepMs;
    this.#widthMs = candles * stepMs;
  }

  #widthMs;
  #toMs = 0;
  following = true;

  /** @param {number} newestMs  open time of the newest candle */
  follow(newestMs) {
    if (this.following) this.#toMs = newestMs + AHEAD * this.stepMs;
  }

  /** @returns {[number, number]} */
  get range() {
    return [this.#toMs - this.#widthMs, this.#toMs];
  }

  /**
   * Stand there; follow again when the newest candle is in sight.
   *
   * @param {number} fromMs
   * @param {number} toMs
   * @param {number} newestMs
   */
  stand(fromMs, toMs, newestMs) {
    this.#widthMs = clamp(toMs - fromMs, LEAST * this.stepMs, MOST * this.stepMs);
    this.#toMs = Math.min(toMs, newestMs + this.#widthMs / 2);
    this.following = this.#toMs > newestMs && fromMs < newestMs;
    this.follow(newestMs);
  }

  /**
   * @param {number} factor  below 1: closer
   * @param {number} newestMs
   */
  zoom(factor, newestMs) {
    const [from, to] = this.range;
    const width = clamp((to - from) * factor, LEAST * this.stepMs, MOST * this.stepMs);
    this.stand(to - width, to, newestMs);
  }

  /**
   * @param {number} share  of the width; below 0: into the past
   * @param {number} newestMs
   */
  move(share, newestMs) {
    const [from, to] = this.range;
    this.stand(from + share * (to - from), to + share * (to - from), newestMs);
  }

  /** @param {number} newestMs */
  latest(newestMs) {
    this.following = true;
    this.follow(newestMs);
  }
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
