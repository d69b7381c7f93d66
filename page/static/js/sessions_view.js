/**
 * Sessions that have ended: how they ended, and the newest of them with their sensors.
 *
 * Contract: `show` draws at most twice a second, and nothing while the view is hidden.
 *
 * @typedef {import("./board.js").Board} Board
 * @typedef {import("./types.js").Session} Session
 */
import { Cell, byId, element } from "./dom.js";
import { Paced } from "./frames.js";
import { count, measured, moment, clock, span } from "./texts.js";

const MOST_LINES = 100;
const REASONS = ["completed", "timeout", "superseded", "withdrawn"];

export class SessionsView {
  /** @param {Board} board */
  constructor(board) {
    this.board = board;
    this.#filter.addEventListener("input", () => this.#table());
  }

  #view = byId("sessions");
  #filter = /** @type {HTMLInputElement} */ (byId("device-filter"));
  #tally = new Cell(byId("sessions-tally"));
  #draws = new Paced(() => this.#draw(), 500);

  /** Draw soon, if it is in sight. */
  show() {
    if (!this.#view.hidden) this.#draws.ask();
  }

  #draw() {
    const empty = this.board.sessions.size === 0;
    byId("sessions-empty").hidden = !empty;
    byId("sessions-found").hidden = empty;
    if (empty) return;
    this.#reasons();
    this.#table();
  }

  #reasons() {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const { reason } of this.board.sessions.values()) {
      counts.set(reason, (counts.get(reason) ?? 0) + 1);
    }
    const all = this.board.sessions.size;
    const names = [...counts.keys()].sort((a, b) => REASONS.indexOf(a) - REASONS.indexOf(b));
    byId("reasons").replaceChildren(
      ...names.map((name) => {
        const share = (100 * (counts.get(name) ?? 0)) / all;
        const gauge = element("span", { class: `gauge ${name}`, "aria-hidden": "true" });
        gauge.style.setProperty("--share", `${share}%`);
        const value = element("dd", { text: `${count(counts.get(name))} · ${share.toFixed(0)} %` });
        return element("div", {}, element("dt", { text: name }), value, gauge);
      }),
    );
  }

  #table() {
    const wanted = this.#filter.value.trim().toLowerCase();
    const all = [...this.board.sessions.values()];
    const fit = all.filter((one) => one.device.toLowerCase().includes(wanted));
    fit.sort((a, b) => Date.parse(b.ended_at) - Date.parse(a.ended_at));
    const rows = fit.slice(0, MOST_LINES);
    this.#tally.text(
      fit.length > rows.length ? `newest ${rows.length} of ${fit.length} held` : `${rows.length} sessions`,
    );
    byId("sessions-body").replaceChildren(...rows.map(line));
  }
}

/** @param {Session} row */
function line(row) {
  const [started, ended] = [Date.parse(row.started_at), Date.parse(row.ended_at)];
  return element(
    "tr",
    {},
    element("td", { class: "time", text: clock(ended), title: `${moment(ended)} UTC` }),
    element("th", { scope: "row", text: row.device, title: row.session_id }),
    element("td", { class: "text" }, element("span", { class: `reason ${row.reason}`, text: row.reason })),
    element("td", { text: span((ended - started) / 1000) }),
    element("td", { text: count(row.event_count) }),
    element("td", { class: "text sensors" }, ...sensors(row)),
  );
}

/** @param {Session} row */
function sensors(row) {
  return Object.entries(row.sensors ?? {}).map(([name, { mean, count: n, min, max, last }]) =>
    element(
      "span",
      { title: `${name}: ${n} values from ${measured(min)} to ${measured(max)}, last ${measured(last)}` },
      element("span", { class: "muted", text: `${name} ` }),
      document.createTextNode(measured(mean)),
    ),
  );
}
