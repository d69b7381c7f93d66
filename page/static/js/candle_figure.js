/**
 * What Plotly is to draw of candles: traces and layout. Floats are right here.
 *
 * @typedef {import("./series.js").Bar} Bar
 * @typedef {import("./series.js").Point} Point
 */
import { colours } from "./plotly.js";

/** The day is told below the first time and where it changes. */
const TIMES = [
  { dtickrange: [null, 60_000], value: "%H:%M:%S\n%-d %b %Y" },
  { dtickrange: [60_000, 86_400_000], value: "%H:%M\n%-d %b %Y" },
  { dtickrange: [86_400_000, null], value: "%-d %b\n%Y" },
];

/**
 * @param {Bar[]} bars  closed
 * @param {Bar | null} forming
 * @param {Point[]} averages
 * @param {[number, number]} range  visible span, epoch ms
 * @param {number} stepMs
 */
export function figure(bars, forming, averages, range, stepMs) {
  const paint = colours("up", "down", "up-soft", "down-soft", "average", "line", "muted", "surface", "text", "font");
  const all = forming ? [...bars, forming] : bars;
  const last = all[all.length - 1];
  const newest = forming ?? last;
  const data = [
    volume(all, stepMs, paint),
    candles("closed", bars, paint, [paint.up, paint.down]),
    candles("forming", forming ? [forming] : [], paint, [paint.surface, paint.surface]),
    {
      type: "scatter",
      name: "EWMA",
      mode: "lines",
      x: averages.map((one) => one.timeMs),
      y: averages.map((one) => one.value),
      line: { color: paint.average, width: 1.5 },
      hoverinfo: "skip",
    },
  ];
  const axis = {
    gridcolor: paint.line,
    linecolor: paint.line,
    zeroline: false,
    tickfont: { color: paint.muted, size: 11 },
  };
  const layout = {
    margin: { l: 8, r: 68, t: 8, b: 36 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: paint.font, color: paint.text },
    showlegend: false,
    dragmode: "pan",
    hovermode: "x",
    hoverdistance: 40,
    xaxis: {
      ...axis,
      type: "date",
      range,
      rangeslider: { visible: false },
      showspikes: true,
      spikemode: "across",
      spikedash: "solid",
      spikethickness: -1,
      spikecolor: paint.muted,
      spikesnap: "data",
      anchor: "y2",
      tickformatstops: TIMES,
    },
    yaxis: {
      ...axis,
      side: "right",
      domain: [0.24, 1],
      range: priceRange(all, averages, range),
      fixedrange: true,
      tickformat: "~f",
      nticks: 9,
    },
    yaxis2: {
      ...axis,
      side: "right",
      domain: [0, 0.19],
      range: [0, 1.05 * volumeRange(all, range)],
      fixedrange: true,
      nticks: 4,
      tickformat: "~s",
      gridcolor: "rgba(0,0,0,0)",
    },
    ...(newest ? lastPrice(newest, paint) : {}),
  };
  return { data, layout };
}

/**
 * @param {string} name
 * @param {Bar[]} bars
 * @param {Record<string, string>} paint
 * @param {[string, string]} fills  rising, falling
 */
function candles(name, bars, paint, [rising, falling]) {
  return {
    type: "candlestick",
    name,
    x: bars.map((one) => one.openMs),
    open: bars.map((one) => one.open),
    high: bars.map((one) => one.high),
    low: bars.map((one) => one.low),
    close: bars.map((one) => one.close),
    increasing: { line: { color: paint.up, width: 1 }, fillcolor: rising },
    decreasing: { line: { color: paint.down, width: 1 }, fillcolor: falling },
    whiskerwidth: 0,
    hoverinfo: "none",
  };
}

/**
 * @param {Bar[]} bars
 * @param {number} stepMs
 * @param {Record<string, string>} paint
 */
function volume(bars, stepMs, paint) {
  return {
    type: "bar",
    name: "volume",
    yaxis: "y2",
    x: bars.map((one) => one.openMs),
    y: bars.map((one) => one.volume),
    width: 0.7 * stepMs,
    marker: {
      color: bars.map((one) => paint[one.close < one.open ? "down-soft" : "up-soft"]),
      line: { width: 0 },
    },
    hoverinfo: "none",
  };
}

/**
 * A line at the newest price, and the price as it was published on the axis.
 *
 * @param {Bar} newest
 * @param {Record<string, string>} paint
 */
function lastPrice(newest, paint) {
  const color = newest.close < newest.open ? paint.down : paint.up;
  const y = newest.close;
  return {
    shapes: [
      { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color, width: 1, dash: "dot" } },
    ],
    annotations: [
      {
        xref: "paper",
        x: 1,
        xanchor: "left",
        y,
        text: newest.row.close,
        showarrow: false,
        font: { size: 11, color: paint.surface },
        bgcolor: color,
        borderpad: 2,
      },
    ],
  };
}

/**
 * @param {Bar[]} bars
 * @param {Point[]} averages
 * @param {[number, number]} range
 */
function priceRange(bars, averages, [from, to]) {
  let low = Infinity;
  let high = -Infinity;
  for (const one of bars) {
    if (one.openMs < from || one.openMs > to) continue;
    low = Math.min(low, one.low);
    high = Math.max(high, one.high);
  }
  for (const one of averages) {
    if (one.timeMs < from || one.timeMs > to) continue;
    low = Math.min(low, one.value);
    high = Math.max(high, one.value);
  }
  if (low > high) return [0, 1];
  const air = 0.06 * (high - low) || 0.001 * high || 1;
  return [low - air, high + air];
}

/**
 * @param {Bar[]} bars
 * @param {[number, number]} range
 */
function volumeRange(bars, [from, to]) {
  let high = 0;
  for (const one of bars) {
    if (one.openMs >= from && one.openMs <= to) high = Math.max(high, one.volume);
  }
  return high || 1;
}
