/** Tables of a finished load test: latencies, categories of questions, classes of errors. */
import { html } from "../lib.js";
import { count, duration, percent, words } from "../format.js";
import { Table } from "../ui/table.js";

/** @typedef {Record<string, any>} Summary */

/** @type {[field: string, label: string][]} */
const LATENCIES = [
  ["ttft", "Time to first token"],
  ["tpot", "Time per output token"],
  ["interChunkLatency", "Between chunks"],
  ["requestLatency", "Whole request"],
  ["queueDelay", "Delay in the client"],
  ["serverQueue", "Queue in the server"],
  ["serverLoad", "Load in the server"],
  ["serverPrefill", "Prefill in the server"],
  ["serverDecode", "Decode in the server"],
];
const PERCENTILES = ["mean", "p50", "p90", "p95", "p99", "max"];

/** @type {import("../ui/table.js").Column<any>[]} */
const LATENCY_COLUMNS = [
  { id: "label", label: "Latency", cell: (row) => row.label },
  ...PERCENTILES.map((name) => ({ id: name, label: name, kind: "end", cell: (/** @type {any} */ row) => duration(row.value[name]) })),
];

/** @param {{summary: Summary}} props */
export function Latencies({ summary }) {
  const rows = LATENCIES.filter(([field]) => summary[field]).map(([field, label]) => ({ key: field, label, value: summary[field] }));
  if (rows.length === 0) return null;
  return html`<section class="card"><h2>Latencies</h2>
    <${Table} caption="Of requests that were answered" columns=${LATENCY_COLUMNS} rows=${rows} order=${{ by: "", down: false }} /></section>`;
}

/** @type {import("../ui/table.js").Column<any>[]} */
const CATEGORY_COLUMNS = [
  { id: "category", label: "Category", value: (row) => row.category },
  { id: "requests", label: "Requests", kind: "end", descending: true, value: (row) => row.requests, cell: (row) => count(row.requests) },
  { id: "errors", label: "Errors", kind: "end", descending: true, value: (row) => row.errors, cell: (row) => errorsOf(row) },
  { id: "ttft50", label: "TTFT p50", kind: "end", descending: true, value: (row) => row.ttft?.p50, cell: (row) => duration(row.ttft?.p50) },
  { id: "ttft95", label: "TTFT p95", kind: "end", descending: true, value: (row) => row.ttft?.p95, cell: (row) => duration(row.ttft?.p95) },
  { id: "whole95", label: "Whole request p95", kind: "end", descending: true, value: (row) => row.requestLatency?.p95, cell: (row) => duration(row.requestLatency?.p95) },
  { id: "tokens", label: "Tokens out", kind: "end", descending: true, value: (row) => row.outputTokens, cell: (row) => count(row.outputTokens) },
  { id: "expected", label: "As expected", kind: "end", descending: true, value: (row) => (row.expected ? row.matched / row.expected : null), cell: (row) => row.expected > 0 && percent(row.matched / row.expected) },
];

/** @param {any} row */
function errorsOf(row) {
  return row.errors ? html`<span class="bad-text">${count(row.errors)} (${percent(row.errors / Math.max(1, row.requests))})</span>` : "0";
}

/** @param {{summary: Summary}} props */
export function Categories({ summary }) {
  const rows = (summary.categories ?? []).map((/** @type {any} */ row) => ({ ...row, key: row.category }));
  if (rows.length === 0) return null;
  return html`<section class="card"><h2>Categories</h2>
    <${Table} caption="By category of questions" columns=${CATEGORY_COLUMNS} rows=${rows} order=${{ by: "category", down: false }} /></section>`;
}

/** @type {import("../ui/table.js").Column<any>[]} */
const ERROR_COLUMNS = [
  { id: "class", label: "Class", value: (row) => row.errorClass, cell: (row) => words(row.errorClass) },
  { id: "count", label: "Requests", kind: "end", descending: true, value: (row) => row.count, cell: (row) => count(row.count) },
  { id: "example", label: "What the server said", kind: "words", cell: (row) => row.example },
  { id: "advice", label: "What to do", kind: "words", cell: (row) => row.advice },
];

/** @param {{summary: Summary}} props */
export function ErrorClasses({ summary }) {
  const rows = (summary.errorDetails ?? []).map((/** @type {any} */ row) => ({ ...row, key: row.errorClass }));
  if (rows.length === 0) return null;
  return html`<section class="card"><h2>Errors</h2>
    <${Table} caption="Failed requests by class" columns=${ERROR_COLUMNS} rows=${rows} order=${{ by: "count", down: true }} /></section>`;
}
