/** The charts of the overview, of one history. */
import { html, useMemo } from "../lib.js";
import { clockTime, dateTime, duration, short, span, words } from "../format.js";
import { shown } from "../live/history.js";
import { route } from "../route.js";
import { Chart } from "../ui/chart.js";
import { Banner } from "../ui/parts.js";

/** @typedef {import("../ui/chart.js").Line} Line */
/** @typedef {import("../types.js").History} History */

/** @typedef {{id: string, title: string, format: (value: number | null | undefined) => string,
 *   lines: [name: string, label: string, colour: string, dash?: number[]][], perTenant: boolean}} Definition */

/** @param {string} unit @returns {(value: number | null | undefined) => string} */
function withUnit(unit) {
  return (value) => `${short(value)} ${unit}`;
}

/** @type {Definition[]} */
const DEFINITIONS = [
  { id: "tokens", title: "Tokens per second", format: withUnit("tok/s"), perTenant: true,
    lines: [["generationTokensPerSecond", "out", "out"], ["promptTokensPerSecond", "in", "in", [6, 3]]] },
  { id: "flight", title: "Requests in flight", format: short, perTenant: false,
    lines: [["running", "running", "out"], ["waiting", "waiting", "wait", [6, 3]]] },
  { id: "ttft", title: "Time to first token", format: duration, perTenant: false,
    lines: [["ttftP50", "p50", "out"], ["ttftP95", "p95", "load", [6, 3]]] },
  { id: "chunks", title: "Time between chunks", format: duration, perTenant: false,
    lines: [["interChunkP50", "p50", "out"], ["interChunkP95", "p95", "load", [6, 3]]] },
];

/** Errors have as many lines as there are outcomes. Their dashes differ where the colours repeat. */
const ERROR_COLOURS = ["bad", "wait", "load", "in", "out", "soft"];
const ERROR_DASHES = [undefined, [6, 3], [2, 2], [9, 3, 2, 3]];

export function Charts() {
  const { error } = shown.value;
  const whole = shown.value.data;
  const first = useMemo(() => (whole ? firstKnown(whole) : 0), [whole]);
  const data = useMemo(() => whole && sinceKnown(whole, first), [whole]);
  const charts = useMemo(() => build(data), [data]);
  const { tenant } = route.value.params;
  return html`<div class="stack">
    ${error && html`<${Banner} tone="warn" title="No history">${error}<//>`}
    ${data?.message && html`<${Banner} tone="warn" title="History">${data.message}<//>`}
    <div class="columns">
      ${charts.map((chart) => html`<${Chart} key=${chart.id} ...${chart} times=${data?.times ?? null}
        waiting=${waiting(data, chart, tenant)} />`)}
    </div>
    ${data && html`<p class="soft small charts-note">One value per ${span(data.step)}, from the sidecars${data.source === "prometheus" ? " and, for what is older, from Prometheus" : ""}.
      ${whole && first > 0 && ` ${beginning(whole, first)}`}</p>`}
  </div>`;
}

/** @param {History | null} data @param {{id: string, perTenant: boolean}} chart @param {string | undefined} tenant @returns {string} */
function waiting(data, chart, tenant) {
  if (!data) return "Waiting for the history…";
  if (tenant && !chart.perTenant) return "Not measured per tenant";
  return chart.id === "errors" ? "No errors are known in this range" : "Nothing measured in this range";
}

/** Points that charts show at least, so that a line can be seen. */
const FEWEST = 24;

/** The place of the first time of which anything is known, or -1. @param {History} data @returns {number} */
function firstKnown(data) {
  return data.times.findIndex((_, index) => data.series.some((series) => series.values[index] != null));
}

/** Since when anything is known. A value is that of the step before its time, in which the data began at any time.
 * @param {History} data @param {number} first the place of the first time of which anything is known
 * @returns {string} */
function beginning({ times, step }, first) {
  const begin = times[first] - step;
  const isLong = times[times.length - 1] - begin > 86400;
  return `The first value covers the ${span(step)} from ${isLong ? dateTime(begin) : clockTime(begin)} on. Nothing is known before.`;
}

/**
 * The history since anything is known. A dashboard that has just started would otherwise show an empty range with a line
 * at its end.
 * @param {History} data @param {number} first the place of the first time of which anything is known
 * @returns {History}
 */
function sinceKnown(data, first) {
  const start = Math.max(0, Math.min(first, data.times.length - FEWEST));
  if (start === 0) return data;
  return {
    ...data,
    times: data.times.slice(start),
    series: data.series.map((series) => ({ ...series, values: series.values.slice(start) })),
  };
}

/** @param {History | null} data */
function build(data) {
  /** @type {Map<string, import("../types.js").Series>} */
  const byName = new Map((data?.series ?? []).map((series) => [series.name, series]));
  const charts = DEFINITIONS.map((definition) => ({
    ...definition,
    lines: definition.lines.map(([name, label, colour, dash]) => ({ label, colour, dash, values: byName.get(name)?.values ?? [] })),
  }));
  return [...charts, { id: "errors", title: "Errors by outcome", format: withUnit("/s"), perTenant: true, wide: true, lines: errorLines(data) }];
}

/** @param {History | null} data @returns {Line[]} */
function errorLines(data) {
  const series = (data?.series ?? []).filter((item) => item.name === "errorsPerSecond" && item.values.some((value) => value));
  return series.map((item, index) => ({
    label: words(item.outcome || "errors"),
    colour: ERROR_COLOURS[index % ERROR_COLOURS.length],
    dash: ERROR_DASHES[index % ERROR_DASHES.length],
    values: item.values,
  }));
}
