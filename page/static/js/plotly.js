/**
 * plotly.js, fetched when the first chart is drawn: it is larger than all the rest together.
 */

/** @type {Promise<any> | null} */
let loading = null;

/** @returns {Promise<any>} the library */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    // Kept by the browser for good, so its version is part of the address.
    script.src = `static/plotly.min.js?v=${document.documentElement.dataset.plotly}`;
    script.addEventListener("load", () => resolve(/** @type {any} */ (window).Plotly));
    script.addEventListener("error", () => {
      loading = null;
      reject(new Error("static/plotly.min.js could not be loaded"));
    });
    document.head.append(script);
  });
  return loading;
}

/** What all charts share. */
export const CONFIG = {
  displayModeBar: false,
  responsive: true,
  doubleClick: false,
  showTips: false,
};

/**
 * Colours of the style sheet, as they are in the present scheme.
 *
 * @template {string} K
 * @param {K[]} names
 * @returns {Record<K, string>}
 */
export function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return /** @type {any} */ (
    Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]))
  );
}

/**
 * Call back when the scheme changes between light and dark.
 *
 * @param {() => void} changed
 */
export function onScheme(changed) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
