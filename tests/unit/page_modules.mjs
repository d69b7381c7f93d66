// The page's pure functions, run by tests/unit/test_page_modules.py with node's own test runner.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Board, Changes } from "../../page/static/js/board.js";
import {
  addDecimals,
  compareDecimals,
  direction,
  grouped,
  roundDecimal,
  shortDecimal,
  signed,
} from "../../page/static/js/decimals.js";
import { format, parse } from "../../page/static/js/route.js";
import { MOST_CANDLES, Series } from "../../page/static/js/series.js";
import { span } from "../../page/static/js/texts.js";
import { View } from "../../page/static/js/view.js";

const MINUTE = 60_000;
const iso = (ms) => new Date(ms).toISOString();

function candle(minute, close, more = {}) {
  return {
    kind: "candle",
    instrument: "A",
    interval: "1m",
    open_time: iso(minute * MINUTE),
    close_time: iso((minute + 1) * MINUTE),
    open: "1",
    high: "9",
    low: "0.5",
    close,
    volume: "3",
    revision: 0,
    ...more,
  };
}

const preview = (minute, close, more = {}) => ({ ...candle(minute, close, more), kind: "preview" });

function statistics(closeMs, last, more = {}) {
  return { kind: "statistics", instrument: "A", close_time: iso(closeMs), last, ...more };
}

test("decimals are compared and added exactly", () => {
  assert.equal(compareDecimals("0.1", "0.10"), 0);
  assert.equal(compareDecimals("9007199254740993", "9007199254740992"), 1);
  assert.equal(compareDecimals("-2", "1.5"), -1);
  assert.equal(compareDecimals("-0.00000002", "-0.00000001"), -1);
  assert.equal(addDecimals("0.1", "0.2"), "0.3");
  assert.equal(addDecimals("-1.25", "0.25"), "-1.00");
  assert.equal(addDecimals("170141183460469231731687303715884105727", "1"), "170141183460469231731687303715884105728");
});

test("decimals are rounded away from zero, and shortened", () => {
  assert.equal(roundDecimal("1.005", 2), "1.01");
  assert.equal(roundDecimal("-1.005", 2), "-1.01");
  assert.equal(roundDecimal("0.004", 2), "0.00");
  assert.equal(roundDecimal("-0.004", 2), "0.00");
  assert.equal(roundDecimal("7", 2), "7.00");
  assert.equal(roundDecimal("99.995", 0), "100");
  assert.equal(grouped("-1234567.000100"), "-1,234,567.000100");
  assert.equal(grouped("123"), "123");
  assert.equal(shortDecimal("1234567.89"), "1,234,568");
  assert.equal(shortDecimal("-12.34567"), "-12.346");
  assert.deepEqual(["0", "0.00", "1", "-1"].map(signed), ["0", "0.00", "+1", "-1"]);
  assert.deepEqual(["0.0", "2", "-2", null].map(direction), ["", "up", "down", ""]);
});

test("spans have the unit that suits them", () => {
  assert.deepEqual([0.25, 2.04, 180, 7200, 400_000, null].map(span), ["250 ms", "2 s", "3 min", "2 h", "5 d", "–"]);
});

test("a route is the same after a round trip, whatever the name", () => {
  for (const instrument of ["BTC-USD", "a/b #?%&", "<img src=x onerror=alert(1)>", "日本"]) {
    const route = { view: "market", instrument, interval: "5m" };
    assert.deepEqual(parse(format(route)), route);
  }
  assert.deepEqual(parse("#/market/%zz/1m"), { view: "market", instrument: "%zz", interval: "1m" });
  assert.equal(parse("#/sales").view, "sales");
  assert.equal(parse("").view, "market");
  assert.equal(parse("#/nonsense/x").view, "market");
});

test("the newest of preview and statistics is the price", () => {
  const board = new Board();
  board.apply(preview(10, "5", { close_trade_time: iso(10 * MINUTE + 100) }), new Changes());
  assert.equal(board.instruments.get("A").last, "5");
  // The statistics end before the preview's trade.
  board.apply(statistics(10 * MINUTE, "4"), new Changes());
  assert.equal(board.instruments.get("A").last, "5");
  board.apply(statistics(10 * MINUTE + 1000, "6"), new Changes());
  assert.equal(board.instruments.get("A").last, "6");
  assert.equal(board.instruments.get("A").tick, "up");
  board.apply(preview(10, "5.5", { close_trade_time: iso(10 * MINUTE + 1500) }), new Changes());
  assert.equal(board.instruments.get("A").tick, "down");
  // An older preview and older statistics change nothing.
  board.apply(preview(9, "1"), new Changes());
  board.apply(statistics(9 * MINUTE, "1"), new Changes());
  assert.equal(board.instruments.get("A").last, "5.5");
  assert.equal(board.instruments.get("A").statistics.last, "6");
});

test("changes name what was touched", () => {
  const board = new Board();
  const first = new Changes();
  board.apply(preview(1, "5"), first);
  assert.ok(first.all);
  const second = new Changes();
  board.apply(preview(1, "6"), second);
  assert.deepEqual([second.all, [...second.instruments]], [false, ["A"]]);
  board.apply({ kind: "session", session_id: "1", device: "d" }, second);
  board.apply({ kind: "health", flow: "f", url: null }, second);
  assert.deepEqual([second.sales, second.sessions, second.health], [false, true, true]);
});

test("what is held of sales and sessions is bounded, and the newest stays", () => {
  const board = new Board();
  const changes = new Changes();
  for (let n = 0; n < 1000; n += 1) {
    board.apply({ kind: "session", session_id: `${n}`, device: "d" }, changes);
    // A snapshot comes seller by seller, so windows come out of order.
    board.apply({ kind: "sales", seller_id: `s${n % 7}`, window_start: iso(((n * 37) % 1000) * MINUTE) }, changes);
  }
  assert.equal(board.sessions.size, 500);
  assert.ok(board.sessions.has("999 d"));
  assert.equal(board.sales.byStart.size, 60);
  assert.equal(board.sales.starts.at(-1), 999 * MINUTE);
  assert.equal(board.sales.starts[0], 940 * MINUTE);
  board.clear();
  assert.equal(board.sessions.size + board.sales.byStart.size, 0);
});

test("a series is in order, and of one window the highest revision stays", () => {
  const series = new Series("A", "1m");
  for (const minute of [5, 3, 4, 6, 1]) assert.ok(series.put(candle(minute, "2")));
  assert.deepEqual(series.bars.map((one) => one.openMs / MINUTE), [1, 3, 4, 5, 6]);
  assert.ok(series.put(candle(4, "7", { revision: 1 })));
  assert.equal(series.put(candle(4, "8")), false);
  assert.equal(series.bars[2].row.close, "7");
  assert.equal(series.put(candle(7, "2", { instrument: "B" })), false);
  assert.equal(series.put(candle(7, "2", { interval: "5m" })), false);
  assert.deepEqual(series.between(3 * MINUTE, 5 * MINUTE).map((one) => one.openMs / MINUTE), [3, 4, 5]);
});

test("a series is bounded", () => {
  const series = new Series("A", "1m");
  for (let minute = 100; minute < 100 + MOST_CANDLES + 50; minute += 1) series.put(candle(minute, "2"));
  assert.equal(series.bars.length, MOST_CANDLES);
  assert.equal(series.bars[0].openMs, 150 * MINUTE);
  assert.equal(series.put(candle(1, "2")), false);
  assert.equal(series.bars.length, MOST_CANDLES);
});

test("averages are points in time, the last of a period counts", () => {
  const series = new Series("A", "1m");
  const row = (minute, value) => ({ kind: "ewma", instrument: "A", window_end: iso(minute * MINUTE), value });
  for (const [minute, value] of [[5, 1], [10, 2], [15, 3], [10, 2.5]]) series.average(row(minute, value));
  assert.deepEqual(series.averages.map((one) => one.value), [1, 2.5, 3]);
  assert.deepEqual(series.averagesBetween(9 * MINUTE, 11 * MINUTE).map((one) => one.value), [1, 2.5, 3]);
});

test("a view follows the newest candle until it is put elsewhere", () => {
  const view = new View(MINUTE, 100);
  view.follow(1000 * MINUTE);
  const [from, to] = view.range;
  assert.equal(to - from, 100 * MINUTE);
  assert.ok(to > 1000 * MINUTE);
  view.move(-2, 1000 * MINUTE);
  assert.equal(view.following, false);
  const before = view.range;
  view.follow(1001 * MINUTE);
  assert.deepEqual(view.range, before);
  view.latest(1001 * MINUTE);
  assert.ok(view.following);
  view.zoom(1e9, 1001 * MINUTE);
  assert.equal((view.range[1] - view.range[0]) / MINUTE, 1500);
  view.zoom(1e-9, 1001 * MINUTE);
  assert.equal((view.range[1] - view.range[0]) / MINUTE, 20);
});
