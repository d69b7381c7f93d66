/**
 * The table of all instruments: sorted, filtered, and only the visible rows exist.
 *
 * Contract: `refresh` after a change of what is listed, `touch` after changes of figures;
 * both write only cells that differ. A row is a fixed height; what is above and below is
 * blank space of the right size. While sorted by a figure that moves, the order is looked
 * at no more than once a second, so that rows can be read.
 *
 * @typedef {import("./board.js").Board} Board
 * @typedef {import("./board.js").Instrument} Instrument
 */
import { compareDecimals, direction, roundDecimal, shortDecimal, signed } from "./decimals.js";
import { Cell, byId, element } from "./dom.js";
import { Paced } from "./frames.js";
import { format } from "./route.js";
import { NONE } from "./texts.js";

const ROW_PX = 28;
const SPARE = 6;

/** @type {Record<string, (one: Instrument) => string | null | undefined>} */
const FIGURES = {
  last: (one) => one.last,
  change: (one) => one.statistics?.price_change_percent,
  high: (one) => one.statistics?.high,
  low: (one) => one.statistics?.low,
  volume: (one) => one.statistics?.volume,
};

export class MarketTable {
  /** @param {Board} board */
  constructor(board) {
    this.board = board;
    this.#box.addEventListener("scroll", () => this.#draw(), { passive: true });
    new ResizeObserver(() => this.#draw()).observe(this.#box);
    this.#filter.addEventListener("input", () => {
      this.#box.scrollTop = 0;
      this.refresh();
    });
    for (const button of this.#heads) button.addEventListener("click", () => this.#sortBy(button));
    this.#body.addEventListener("keydown", (event) => this.#arrow(event));
  }

  #box = byId("instruments-box");
  #table = byId("instruments");
  #body = byId("instruments-body");
  #above = byId("instruments-above");
  #below = byId("instruments-below");
  #filter = /** @type {HTMLInputElement} */ (byId("filter"));
  #tally = new Cell(byId("instruments-tally"));
  #heads = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("#instruments [data-sort]"))];
  /** @type {Instrument[]} */
  #listed = [];
  /** @type {Line[]} */
  #lines = [];
  /** @type {Map<string, Line>} */
  #shown = new Map();
  #sort = "name";
  #falling = false;
  #interval = "1m";
  #chosen = "";
  #resort = new Paced(() => this.refresh(), 1000);

  /** The first instrument of the list, or none. */
  get first() {
    return this.#listed[0]?.name ?? "";
  }

  /**
   * @param {string} chosen
   * @param {string} interval
   */
  choose(chosen, interval) {
    this.#chosen = chosen;
    this.#interval = interval;
    this.#draw();
  }

  /** Filter and sort anew. */
  refresh() {
    this.#resort.cancel();
    const wanted = this.#filter.value.trim().toLowerCase();
    const all = [...this.board.instruments.values()];
    this.#listed = wanted ? all.filter((one) => one.name.toLowerCase().includes(wanted)) : all;
    this.#listed.sort(this.#order());
    this.#table.setAttribute("aria-rowcount", String(this.#listed.length + 1));
    this.#tally.text(
      wanted ? `${this.#listed.length} of ${all.length}` : `${all.length} instruments`,
    );
    this.#draw();
  }

  /** @param {Set<string>} names */
  touch(names) {
    for (const name of names) {
      const line = this.#shown.get(name);
      const one = line && this.board.instruments.get(name);
      if (one) line.figures(one);
    }
    if (this.#sort !== "name") this.#resort.ask();
  }

  /** @returns {(a: Instrument, b: Instrument) => number} */
  #order() {
    const turn = this.#falling ? -1 : 1;
    const byName = (/** @type {Instrument} */ a, /** @type {Instrument} */ b) => (a.name < b.name ? -1 : 1);
    if (this.#sort === "name") return (a, b) => turn * byName(a, b);
    const figure = FIGURES[this.#sort];
    return (a, b) => {
      const [x, y] = [figure(a), figure(b)];
      if (!x || !y) return x ? -1 : y ? 1 : byName(a, b);
      return turn * compareDecimals(x, y) || byName(a, b);
    };
  }

  /** @param {HTMLElement} button */
  #sortBy(button) {
    const sort = button.dataset.sort ?? "name";
    // Figures begin with the greatest, names with A.
    this.#falling = sort === this.#sort ? !this.#falling : sort !== "name";
    this.#sort = sort;
    for (const head of this.#heads) {
      const on = head === button;
      const order = on ? (this.#falling ? "descending" : "ascending") : "none";
      head.closest("th")?.setAttribute("aria-sort", order);
    }
    this.refresh();
  }

  #draw() {
    const height = this.#box.clientHeight;
    const first = Math.max(0, Math.floor(this.#box.scrollTop / ROW_PX) - SPARE);
    const last = Math.min(
      this.#listed.length,
      Math.ceil((this.#box.scrollTop + height) / ROW_PX) + SPARE,
    );
    const shown = this.#listed.slice(Math.min(first, last), last);
    const focused = this.#lines.find((line) => line.link === document.activeElement)?.name;
    while (this.#lines.length < shown.length) {
      const line = new Line();
      this.#lines.push(line);
      this.#below.before(line.row);
    }
    for (const line of this.#lines.splice(shown.length)) line.row.remove();
    this.#shown.clear();
    shown.forEach((one, n) => {
      const line = this.#lines[n];
      line.show(one, first + n, this.#interval, one.name === this.#chosen);
      this.#shown.set(one.name, line);
    });
    if (focused) this.#shown.get(focused)?.link.focus({ preventScroll: true });
    this.#above.style.height = `${first * ROW_PX}px`;
    this.#below.style.height = `${(this.#listed.length - last) * ROW_PX}px`;
  }

  /** @param {KeyboardEvent} event */
  #arrow(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const line = this.#lines.find((one) => one.link === event.target);
    if (!step || !line) return;
    event.preventDefault();
    const next = this.#listed[this.#listed.findIndex((one) => one.name === line.name) + step];
    if (!next) return;
    const top = this.#listed.indexOf(next) * ROW_PX;
    const head = ROW_PX; // the head sticks to the top of the box
    if (top < this.#box.scrollTop) this.#box.scrollTop = top;
    if (top + ROW_PX + head > this.#box.scrollTop + this.#box.clientHeight) {
      this.#box.scrollTop = top + ROW_PX + head - this.#box.clientHeight;
    }
    this.#draw();
    this.#shown.get(next.name)?.link.focus({ preventScroll: true });
  }
}

/** One row of the document, which shows one instrument after the other. */
class Line {
  constructor() {
    this.link = element("a");
    this.row = element("tr", {}, element("th", { scope: "row" }, this.link));
    for (const name of ["last", "change", "high", "low", "volume"]) {
      const node = element("td", { class: name });
      this.row.append(node);
      this.#cells[name] = new Cell(node);
    }
    this.#name = new Cell(this.link);
  }

  name = "";
  #name;
  /** @type {Record<string, Cell>} */
  #cells = {};
  #place = "";

  /**
   * @param {Instrument} one
   * @param {number} index
   * @param {string} interval
   * @param {boolean} chosen
   */
  show(one, index, interval, chosen) {
    this.name = one.name;
    const place = `${index} ${chosen} ${interval} ${one.name}`;
    if (place !== this.#place) {
      this.#place = place;
      this.#name.text(one.name);
      this.#name.title(one.name);
      this.link.setAttribute("href", format({ instrument: one.name, interval }));
      this.row.setAttribute("aria-rowindex", String(index + 2));
      this.row.classList.toggle("chosen", chosen);
      if (chosen) this.link.setAttribute("aria-current", "true");
      else this.link.removeAttribute("aria-current");
    }
    this.figures(one);
  }

  /** @param {Instrument} one */
  figures(one) {
    const { last, change, high, low, volume } = this.#cells;
    const day = one.statistics;
    const percent = day?.price_change_percent;
    last.text(one.last ?? NONE);
    last.name(`last ${one.tick}`);
    change.text(percent ? signed(roundDecimal(percent, 2)) : NONE);
    change.name(`change ${direction(percent)}`);
    high.text(day?.high ?? NONE);
    low.text(day?.low ?? NONE);
    volume.text(day ? shortDecimal(day.volume) : NONE);
    volume.title(day ? day.volume : "");
  }
}
