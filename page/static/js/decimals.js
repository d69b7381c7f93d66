/**
 * Exact arithmetic and shortened text of decimal figures. Pure.
 *
 * A figure is text such as "-12.50"; it never becomes a float here.
 *
 * @typedef {import("./types.js").Decimal} Decimal
 */

/**
 * Unscaled value and number of decimals.
 *
 * @param {Decimal} text
 * @returns {[bigint, number]}
 */
function parts(text) {
  const point = text.indexOf(".");
  if (point < 0) return [BigInt(text), 0];
  return [BigInt(text.slice(0, point) + text.slice(point + 1)), text.length - point - 1];
}

/**
 * Both on the larger number of decimals.
 *
 * @param {Decimal} a
 * @param {Decimal} b
 * @returns {[bigint, bigint, number]}
 */
function aligned(a, b) {
  const [x, xScale] = parts(a);
  const [y, yScale] = parts(b);
  const scale = Math.max(xScale, yScale);
  return [x * 10n ** BigInt(scale - xScale), y * 10n ** BigInt(scale - yScale), scale];
}

/**
 * @param {Decimal} a
 * @param {Decimal} b
 * @returns {-1 | 0 | 1} -1 when a is the lesser
 */
export function compareDecimals(a, b) {
  if (a === b) return 0;
  const [x, y] = aligned(a, b);
  return x < y ? -1 : x > y ? 1 : 0;
}

/**
 * The exact sum, with as many decimals as the more exact of the two.
 *
 * @param {Decimal} a
 * @param {Decimal} b
 * @returns {Decimal}
 */
export function addDecimals(a, b) {
  const [x, y, scale] = aligned(a, b);
  return unscaled(x + y, scale);
}

/**
 * Rounded half away from zero to so many decimals, which are always shown.
 *
 * @param {Decimal} text
 * @param {number} decimals
 * @returns {Decimal}
 */
export function roundDecimal(text, decimals) {
  const [value, scale] = parts(text);
  if (scale <= decimals) return unscaled(value * 10n ** BigInt(decimals - scale), decimals);
  const unit = 10n ** BigInt(scale - decimals);
  const half = value < 0n ? -unit / 2n : unit / 2n;
  return unscaled((value + half) / unit, decimals);
}

/**
 * Short and grouped for a narrow column: three decimals below a hundred, none above.
 *
 * @param {Decimal} text
 * @returns {string}
 */
export function shortDecimal(text) {
  const digits = text.replace("-", "").indexOf(".");
  const whole = digits < 0 ? text.replace("-", "").length : digits;
  return grouped(roundDecimal(text, whole > 2 ? 0 : 3));
}

/**
 * The same figure with thousands parted; every digit stays.
 *
 * @param {Decimal} text
 * @returns {string}
 */
export function grouped(text) {
  const point = text.indexOf(".");
  const whole = point < 0 ? text : text.slice(0, point);
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (point < 0 ? "" : text.slice(point));
}

/**
 * @param {Decimal} text
 * @returns {string} with a plus where it is positive
 */
export function signed(text) {
  return text.startsWith("-") || !/[1-9]/.test(text) ? text : `+${text}`;
}

/**
 * @param {Decimal | null | undefined} text
 * @returns {"up" | "down" | ""} by its sign
 */
export function direction(text) {
  if (!text || !/[1-9]/.test(text)) return "";
  return text.startsWith("-") ? "down" : "up";
}

/**
 * @param {bigint} value
 * @param {number} scale
 * @returns {Decimal}
 */
function unscaled(value, scale) {
  const sign = value < 0n ? "-" : "";
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, "0");
  if (scale === 0) return sign + digits;
  return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}
