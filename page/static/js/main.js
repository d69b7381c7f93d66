/**
 * Puts the page together: the address says what is shown, two streams say what is known.
 *
 *     stream of all ──▶ Board ──┐
 *     stream of one ─▶ Series ──┴▶ one paint per frame ──▶ views
 *
 * After each paint the event `tidemark:applied` on the document tells programs beside the
 * page which rows are on it now.
 *
 * @typedef {import("./types.js").Row} Row
 */
import { Board, Changes } from "./board.js";
import { Connection } from "./connection.js";
import { byId } from "./dom.js";
import { Frames } from "./frames.js";
import { HealthStrip } from "./health_strip.js";
import { MarketView } from "./market_view.js";
import { current } from "./route.js";
import { SalesView } from "./sales_view.js";
import { SessionsView } from "./sessions_view.js";
import { Stream } from "./stream.js";

const VIEWS = ["market", "sales", "sessions"];
/** Rows told to whoever listens; more of them come only where no frame is painted. */
const MOST_TOLD = 50_000;

const board = new Board();
const connection = new Connection();
const health = new HealthStrip();
const sales = new SalesView(board);
const sessions = new SessionsView(board);
const frames = new Frames(paint);
const market = new MarketView(board, {
  onSnapshot(rows) {
    changes.series = true;
    takeChosen(rows);
  },
  onRows: takeChosen,
});

let changes = new Changes();
/** @type {Row[]} */
let applied = [];
/** @type {Stream | null} */
let stream = null;
let interval = "";

/**
 * @param {Row[]} rows
 * @param {(row: Row) => void} apply
 */
function note(rows, apply) {
  rows.forEach(apply);
  if (applied.length < MOST_TOLD) applied.push(...rows);
  if (rows.length) connection.heard();
  frames.ask();
}

/** @param {Row[]} rows */
function take(rows) {
  note(rows, (row) => board.apply(row, changes));
}

/** @param {Row[]} rows  of the chosen instrument */
function takeChosen(rows) {
  note(rows, (row) => market.apply(row, changes));
}

/** @param {string} wanted  interval of the previews */
function subscribe(wanted) {
  if (wanted === interval) return;
  interval = wanted;
  stream?.close();
  const kind = "preview,statistics,sales,session,health";
  stream = new Stream(
    { kind, interval },
    {
      onSnapshot({ rows }) {
        board.clear();
        changes.everything();
        document.body.dataset.known = "true";
        connection.heard();
        take(rows);
      },
      onRows: take,
      onCondition: (condition) => connection.set(condition),
    },
  );
}

function paint() {
  const now = changes;
  changes = new Changes();
  market.paint(now);
  if (now.sales) sales.show();
  if (now.sessions) sessions.show();
  if (now.health) health.show(board.health);
  const rows = applied;
  applied = [];
  document.dispatchEvent(new CustomEvent("tidemark:applied", { detail: { rows } }));
}

function follow() {
  const route = current();
  for (const view of VIEWS) {
    byId(view).hidden = view !== route.view;
    const link = byId(`to-${view}`);
    if (view === route.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (route.view === "market") subscribe(route.interval);
  else if (!stream) subscribe("1m");
  market.go(route);
  changes.everything();
  frames.ask();
}

addEventListener("hashchange", follow);
follow();
