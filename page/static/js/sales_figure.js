/**
 * What Plotly is to draw of sales: a stack of bars per window. Floats are right here.
 *
 * @typedef {import("./board.js").SalesWindows} SalesWindows
 */
import { colours } from "./plotly.js";
import { moment } from "./texts.js";

const MOST_SELLERS = 7;
const REST = "all others";

/** @param {SalesWindows} sales */
export function salesFigure(sales) {
  const paint = colours("line", "muted", "text", "font", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8");
  const palette = [paint.s1, paint.s2, paint.s3, paint.s4, paint.s5, paint.s6, paint.s7, paint.s8];
  const starts = sales.starts;
  const names = largest(sales);
  const axis = { gridcolor: paint.line, linecolor: paint.line, zeroline: false, fixedrange: true };
  return {
    data: [...stacks(sales, starts, names)].map(([name, amounts], n) => ({
      type: "bar",
      name: escaped(name),
      x: starts,
      y: amounts,
      customdata: starts.map(moment),
      marker: { color: palette[n], line: { width: 0 } },
      hovertemplate: "%{customdata} UTC<br>%{fullData.name}: %{y:,}<extra></extra>",
    })),
    layout: {
      autosize: true,
      barmode: "relative", // refunds go below the line
      bargap: 0.25,
      margin: { l: 8, r: 56, t: 8, b: 24 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: paint.font, color: paint.text, size: 12 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
      showlegend: true,
      xaxis: { ...axis, type: "date", gridcolor: "rgba(0,0,0,0)", tickfont: { color: paint.muted } },
      yaxis: { ...axis, side: "right", tickformat: "~s", tickfont: { color: paint.muted } },
    },
  };
}

/**
 * The sellers with a colour of their own: those with the largest amounts of all windows.
 *
 * @param {SalesWindows} sales
 * @returns {string[]}
 */
function largest(sales) {
  /** @type {Map<string, number>} */
  const amounts = new Map();
  for (const window of sales.byStart.values()) {
    for (const [seller, row] of window) {
      amounts.set(seller, (amounts.get(seller) ?? 0) + Number(row.aggregated_amount));
    }
  }
  const names = [...amounts.keys()].sort((a, b) => (amounts.get(b) ?? 0) - (amounts.get(a) ?? 0));
  return names.slice(0, names.length > MOST_SELLERS + 1 ? MOST_SELLERS : MOST_SELLERS + 1).sort();
}

/**
 * @param {SalesWindows} sales
 * @param {number[]} starts
 * @param {string[]} names
 * @returns {Map<string, number[]>} amounts per window, by name
 */
function stacks(sales, starts, names) {
  /** @type {Map<string, number[]>} */
  const found = new Map(names.map((name) => [name, starts.map(() => 0)]));
  starts.forEach((start, at) => {
    for (const [seller, row] of sales.byStart.get(start) ?? []) {
      const name = names.includes(seller) ? seller : REST;
      let amounts = found.get(name);
      if (!amounts) found.set(name, (amounts = starts.map(() => 0)));
      amounts[at] += Number(row.aggregated_amount);
    }
  });
  return found;
}

/**
 * Plotly reads a few tags in names; a seller's name is text.
 *
 * @param {string} text
 */
function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
