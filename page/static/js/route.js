/**
 * View, instrument and interval in the address's hash: `#/market/BTC-USD/1m`, `#/sales`,
 * `#/sessions`. Pure but for `go` and `current`.
 *
 * @typedef {object} Route
 * @property {"market" | "sales" | "sessions"} view
 * @property {string} instrument  empty: none chosen yet
 * @property {string} interval
 */

const DEFAULT_INTERVAL = "1m";

/**
 * Anything that is no view of ours is the market.
 *
 * @param {string} hash
 * @returns {Route}
 */
export function parse(hash) {
  const [view, instrument = "", interval = ""] = hash.replace(/^#?\/?/, "").split("/");
  if (view === "sales" || view === "sessions") {
    return { view, instrument: "", interval: DEFAULT_INTERVAL };
  }
  return { view: "market", instrument: decoded(instrument), interval: decoded(interval) || DEFAULT_INTERVAL };
}

/**
 * @param {Partial<Route>} route
 * @returns {string}
 */
export function format({ view = "market", instrument = "", interval = DEFAULT_INTERVAL }) {
  if (view !== "market") return `#/${view}`;
  if (!instrument) return "#/market";
  return `#/market/${encodeURIComponent(instrument)}/${encodeURIComponent(interval)}`;
}

/** @returns {Route} */
export function current() {
  return parse(location.hash);
}

/**
 * Change the address; `replace` where nobody chose it, so that Back does not come here.
 *
 * @param {Partial<Route>} route
 * @param {boolean} [replace]
 */
export function go(route, replace = false) {
  if (replace) {
    history.replaceState(null, "", format(route));
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = format(route);
  }
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
