/**
 * Text of times, spans and plain numbers. Pure; all times are UTC.
 */

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const RATE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const MEASURED = new Intl.NumberFormat("en", { maximumSignificantDigits: 5, useGrouping: false });

/** What stands where there is no figure. */
export const NONE = "–";

/**
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function count(value) {
  return value === null || value === undefined ? NONE : COUNT.format(value);
}

/**
 * Three digits of a rate below a thousand, whole numbers above.
 *
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) < 1000 ? RATE.format(value) : COUNT.format(value);
}

/**
 * A measured double, short.
 *
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function measured(value) {
  return value === null || value === undefined ? NONE : MEASURED.format(value);
}

/**
 * A span in the unit that suits it: 250 ms, 2.1 s, 3 min, 5 h.
 *
 * @param {number | null | undefined} seconds
 * @returns {string}
 */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const size = Math.abs(seconds);
  if (size < 1) return `${Math.round(seconds * 1000)} ms`;
  if (size < 90) return `${Math.round(seconds * 10) / 10} s`;
  if (size < 5400) return `${Math.round(seconds / 60)} min`;
  if (size < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/**
 * @param {number} timeMs
 * @returns {string} such as 14:03:12
 */
export function clock(timeMs) {
  return new Date(timeMs).toISOString().slice(11, 19);
}

/**
 * The time at which a window begins or ends: with seconds where windows are no whole minutes.
 *
 * @param {number} timeMs
 * @param {number} lengthMs  of the window
 * @returns {string} such as 14:03
 */
export function edge(timeMs, lengthMs) {
  return clock(timeMs).slice(0, lengthMs % 60_000 ? 8 : 5);
}

/**
 * @param {number} timeMs
 * @returns {string} such as 2026-11-29 14:03:12
 */
export function moment(timeMs) {
  return new Date(timeMs).toISOString().slice(0, 19).replace("T", " ");
}
