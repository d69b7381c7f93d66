/**
 * Sales: totals of the newest window, amounts by minute and seller as bars, and the rows.
 *
 * Contract: `show` draws what is held, at most once a second; nothing is drawn while the
 * view is hidden.
 *
 * @typedef {import("./board.js").Board} Board
 * @typedef {import("./types.js").Sales} Sales
 */
import { addDecimals, grouped } from "./decimals.js";
import { Cell, byId, element } from "./dom.js";
import { Paced } from "./frames.js";
import { CONFIG, onScheme, plotly } from "./plotly.js";
import { salesFigure } from "./sales_figure.js";
import { count, edge, moment, NONE } from "./texts.js";

const MOST_LINES = 200;

export class SalesView {
  /** @param {Board} board */
  constructor(board) {
    this.board = board;
    this.#filter.addEventListener("input", () => this.#table());
    onScheme(() => this.show());
  }

  #view = byId("sales");
  #chart = byId("sales-chart");
  #filter = /** @type {HTMLInputElement} */ (byId("seller-filter"));
  #window = new Cell(byId("sales-window"));
  #amount = new Cell(byId("sales-amount"));
  #sales = new Cell(byId("sales-count"));
  #sellers = new Cell(byId("sales-sellers"));
  #tally = new Cell(byId("sales-tally"));
  #draws = new Paced(() => void this.#draw(), 1000);

  /** Draw soon, if it is in sight. */
  show() {
    if (!this.#view.hidden) this.#draws.ask();
  }

  async #draw() {
    const { byStart, starts } = this.board.sales;
    const empty = starts.length === 0;
    byId("sales-empty").hidden = !empty;
    byId("sales-found").hidden = empty;
    if (empty) return;
    this.#totals([...(byStart.get(starts[starts.length - 1])?.values() ?? [])]);
    this.#table();
    const library = await plotly();
    if (this.#view.hidden) return;
    const { data, layout } = salesFigure(this.board.sales);
    await library.react(this.#chart, data, layout, CONFIG);
  }

  /** @param {Sales[]} rows  of one window */
  #totals(rows) {
    const amount = rows.reduce((sum, row) => addDecimals(sum, row.aggregated_amount), "0");
    const [start, end] = rows.length ? ends(rows[0]) : [0, 0];
    this.#window.text(end ? `${edge(start, end - start)} – ${edge(end, end - start)}` : NONE);
    this.#amount.text(grouped(amount));
    this.#sales.text(count(rows.reduce((sum, row) => sum + row.sale_count, 0)));
    this.#sellers.text(count(rows.length));
  }

  #table() {
    const wanted = this.#filter.value.trim().toLowerCase();
    const { byStart, starts } = this.board.sales;
    /** @type {Sales[]} */
    const rows = [];
    let found = 0;
    for (const start of starts.reverse()) {
      const window = [...(byStart.get(start)?.values() ?? [])];
      const fit = window.filter((row) => row.seller_id.toLowerCase().includes(wanted));
      fit.sort((a, b) => (a.seller_id < b.seller_id ? -1 : 1));
      found += fit.length;
      rows.push(...fit.slice(0, MOST_LINES - rows.length));
    }
    this.#tally.text(
      found > rows.length ? `newest ${count(rows.length)} of ${count(found)} rows` : `${count(found)} rows`,
    );
    byId("sales-body").replaceChildren(...rows.map(line));
  }
}

/**
 * @param {Sales} row
 * @returns {[number, number]}
 */
function ends(row) {
  return [Date.parse(row.window_start), Date.parse(row.window_end)];
}

/** @param {Sales} row */
function line(row) {
  const [start, end] = ends(row);
  return element(
    "tr",
    {},
    element("td", { class: "time", text: edge(start, end - start), title: `${moment(start)} UTC` }),
    element("th", { scope: "row", text: row.seller_id }),
    element("td", { text: grouped(row.aggregated_amount) }),
    element("td", { text: count(row.sale_count) }),
    element("td", { class: "spare", text: grouped(row.min_amount) }),
    element("td", { class: "spare", text: grouped(row.max_amount) }),
    element("td", { class: "spare", text: grouped(row.mean_amount) }),
  );
}
