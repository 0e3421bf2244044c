/** Options of uPlot: axes with units, thin grid lines, a cursor that all charts share. */
import { UPlot } from "../lib.js";

const HEIGHT = 190;
const FONT = "12px system-ui, sans-serif";
const sync = UPlot.sync("overview");

/** @typedef {import("./chart.js").Line} Line */

/**
 * @param {Line[]} lines @param {number} width @param {(value: number | null) => string} format
 * @param {(name: string) => string} colour @param {(index: number | null) => void} onCursor @returns {any}
 */
export function options(lines, width, format, colour, onCursor) {
  const axis = { stroke: colour("soft"), font: FONT, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: sync.key }, points: { size: 6 } },
    hooks: { setCursor: [(/** @type {any} */ chart) => onCursor(chart.cursor.idx ?? null)] },
    scales: { y: { range: (/** @type {any} */ _chart, /** @type {number} */ _low, /** @type {number} */ high) => [0, top(high)] } },
    axes: [
      { ...axis, values: TIMES, space: 84, size: 30, gap: 12 },
      { ...axis, size: 70, space: 34, values: (/** @type {any} */ _chart, /** @type {number[]} */ splits) => splits.map(format) },
    ],
    series: [{}, ...lines.map((line) => ({
      label: line.label, stroke: colour(line.colour), width: 2, dash: line.dash, spanGaps: false,
      points: { show: false, filter: alone, size: 5, width: 0 },
    }))],
  };
}

/** The places of values without neighbours. They are drawn as points, because a line needs two.
 * @param {any} chart @param {number} series @returns {number[]} */
function alone(chart, series) {
  const values = /** @type {(number | null)[]} */ (chart.data[series]);
  return [...values.keys()].filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null);
}

/** The end of the vertical axis: above the highest value, or 1 without values. @param {number | null} high @returns {number} */
function top(high) {
  return high ? high * 1.12 : 1;
}

// Of each row: the distance of two labels in seconds, the format, and the format at a new year, day, hour and so on.
const TIMES = [
  [10800, "{D} {MMM} {HH}:{mm}", null, null, null, null, null, null, 1],
  [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
];
