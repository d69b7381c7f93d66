/**
 * The candlestick chart: closed candles, the one still forming, volume, averages.
 *
 * Contract: `show` may be called at any rate; it draws at most ten times a second and at
 * most a third of the time. Only what lies in the visible span is handed to Plotly, and while
 * the pointer is over the chart, which may drag it, as much again on either side; so the
 * cost does not grow with the history that is held.
 *
 * @typedef {import("./series.js").Bar} Bar
 * @typedef {import("./series.js").Series} Series
 * @typedef {import("./types.js").Candle} Candle
 */
import { figure } from "./candle_figure.js";
import { byId } from "./dom.js";
import { Paced } from "./frames.js";
import { CONFIG, onScheme, plotly } from "./plotly.js";
import { bar } from "./series.js";
import { View } from "./view.js";

const DRAW_MS = 100;
const CANDLE_PX = 7;

export class CandleChart {
  /**
   * @param {object} events
   * @param {(fromMs: number, candles: number) => void} events.onView  what is in sight
   * @param {(row: Candle | null) => void} events.onPoint  the candle under the pointer
   */
  constructor({ onView, onPoint }) {
    this.#onView = onView;
    this.#onPoint = onPoint;
    onScheme(() => this.#draws.ask());
    new ResizeObserver(() => this.#draws.ask()).observe(this.#node);
    this.#node.addEventListener("keydown", (event) => this.#key(event));
    this.#node.addEventListener("pointerenter", () => this.#point(true));
    this.#node.addEventListener("pointerleave", () => this.#point(false));
    for (const [id, act] of /** @type {[string, () => void][]} */ ([
      ["earlier", () => this.#move((view, at) => view.move(-0.5, at))],
      ["later", () => this.#move((view, at) => view.move(0.5, at))],
      ["closer", () => this.#move((view, at) => view.zoom(0.7, at))],
      ["wider", () => this.#move((view, at) => view.zoom(1.4, at))],
      ["latest", () => this.#move((view, at) => view.latest(at))],
    ])) {
      byId(id).addEventListener("click", act);
    }
  }

  #node = byId("chart");
  #latest = /** @type {HTMLButtonElement} */ (byId("latest"));
  #onView;
  #onPoint;
  #draws = new Paced(() => void this.#draw(), DRAW_MS);
  /** @type {Series | null} */
  #series = null;
  /** @type {Bar | null} */
  #forming = null;
  #view = new View(60_000, 100);
  #drawn = false;
  #drawing = false;
  #held = false;
  #pointed = false;

  /**
   * @param {Series} series
   * @param {Candle | null} forming
   */
  show(series, forming) {
    if (series.instrument !== this.#series?.instrument || series.interval !== this.#series.interval) {
      const candles = Math.max(30, Math.round(this.#node.clientWidth / CANDLE_PX));
      this.#view = new View(series.stepMs, candles);
    }
    this.#series = series;
    // A preview stays in place when its candle has closed.
    const open = forming && bar(forming);
    this.#forming = open && open.openMs > (series.newest?.openMs ?? 0) ? open : null;
    this.#draws.ask();
  }

  /** The candle at the right end, or none. */
  get newest() {
    return (this.#forming ?? this.#series?.newest)?.row ?? null;
  }

  get #newestMs() {
    return this.#forming?.openMs ?? this.#series?.newest?.openMs ?? Date.now();
  }

  /** @param {(view: View, newestMs: number) => void} change */
  #move(change) {
    change(this.#view, this.#newestMs);
    this.#draws.ask();
  }

  async #draw() {
    // While it is dragged Plotly moves what is drawn; to draw anew would tear it away.
    if (this.#drawing || this.#held || !this.#series || this.#node.clientWidth === 0) return;
    this.#drawing = true;
    try {
      const library = await plotly();
      this.#view.follow(this.#newestMs);
      const [from, to] = this.#view.range;
      const margin = this.#pointed ? to - from : 2 * this.#view.stepMs;
      const bars = this.#series.between(from - margin, to + margin);
      const averages = this.#series.averagesBetween(from - margin, to + margin);
      const { data, layout } = figure(bars, this.#forming, averages, [from, to], this.#view.stepMs);
      // Its place also changes when something above it comes or goes.
      const size = { width: this.#node.clientWidth, height: this.#node.clientHeight };
      const config = { ...CONFIG, responsive: false, scrollZoom: true };
      await library.react(this.#node, data, { ...layout, ...size }, config);
      if (!this.#drawn) this.#listen();
      this.#latest.hidden = this.#view.following;
      this.#onView(from, Math.round((to - from) / this.#view.stepMs));
    } finally {
      this.#drawing = false;
    }
  }

  /** @param {boolean} pointed */
  #point(pointed) {
    this.#pointed = pointed;
    this.#draws.ask();
  }

  #listen() {
    this.#drawn = true;
    const node = /** @type {any} */ (this.#node);
    node.on("plotly_relayouting", () => {
      this.#held = true;
    });
    node.on("plotly_relayout", (/** @type {Record<string, unknown>} */ change) => {
      this.#held = false;
      const [from, to] = [time(change["xaxis.range[0]"]), time(change["xaxis.range[1]"])];
      if (from === null || to === null) return;
      this.#move((view, at) => view.stand(from, to, at));
    });
    node.on("plotly_hover", (/** @type {{points: {x: number | string}[]}} */ event) => {
      const at = time(event.points[0]?.x);
      if (at === null) return;
      const found = this.#series?.between(at, at)[0] ?? (this.#forming?.openMs === at ? this.#forming : null);
      this.#onPoint(found?.row ?? null);
    });
    node.on("plotly_unhover", () => this.#onPoint(null));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    /** @type {Record<string, string>} */
    const button = { ArrowLeft: "earlier", ArrowRight: "later", "+": "closer", "-": "wider", End: "latest" };
    if (!(event.key in button)) return;
    event.preventDefault();
    byId(button[event.key]).click();
  }
}

/**
 * A time as Plotly tells it: epoch ms, or text in UTC without a zone.
 *
 * @param {unknown} value
 * @returns {number | null}
 */
function time(value) {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return null;
  const parsed = Date.parse(`${value.replace(" ", "T")}${value.includes(":") ? "Z" : ""}`);
  return Number.isNaN(parsed) ? null : parsed;
}
