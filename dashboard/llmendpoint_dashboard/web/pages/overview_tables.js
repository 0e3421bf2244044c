/** Traffic now, by model and by tenant. A name is a link that filters the page. */
import { html } from "../lib.js";
import { count, duration, number, span, words } from "../format.js";
import { overview } from "../live/store.js";
import { href, route } from "../route.js";
import { Table } from "../ui/table.js";
import { errorRate, isError } from "./traffic.js";

/** @typedef {import("../types.js").Traffic & {key: string, name: string}} Named */

/** @type {import("../ui/table.js").Column<Named>[]} */
const RATES = [
  { id: "out", label: "Tokens out (tok/s)", kind: "end", descending: true, value: (row) => row.generationTokensPerSecond, cell: (row) => number(row.generationTokensPerSecond) },
  { id: "in", label: "Tokens in (tok/s)", kind: "end", descending: true, value: (row) => row.promptTokensPerSecond, cell: (row) => number(row.promptTokensPerSecond) },
  { id: "requests", label: "Requests (/s)", kind: "end", descending: true, value: (row) => row.requestsPerSecond, cell: (row) => number(row.requestsPerSecond) },
];

/** @type {import("../ui/table.js").Column<Named>[]} */
const LATENCIES = [
  { id: "running", label: "Running", kind: "end", descending: true, value: (row) => row.running, cell: (row) => count(row.running) },
  { id: "waiting", label: "Waiting", kind: "end", descending: true, value: (row) => row.waiting, cell: (row) => count(row.waiting) },
  { id: "ttft", label: "TTFT p95", kind: "end", descending: true, value: (row) => row.ttft?.p95, cell: (row) => duration(row.ttft?.p95) },
  { id: "chunk", label: "Inter-chunk p95", kind: "end", descending: true, value: (row) => row.interChunk?.p95, cell: (row) => duration(row.interChunk?.p95) },
];

/** @type {import("../ui/table.js").Column<Named>} */
const ERRORS = {
  id: "errors", label: "Errors (/s)", descending: true, value: (row) => errorRate(row.outcomes), cell: (row) => errors(row.outcomes),
};

export function TrafficTables() {
  const state = overview.value;
  if (!state) return null;
  const models = state.models.map((row) => ({ ...row, key: row.model, name: row.model }));
  const tenants = state.tenants.map((row) => ({ ...row, key: row.tenant, name: row.tenant || "without a tenant" }));
  const order = { by: "out", down: true };
  return html`<div class="stack">
    ${models.length > 0 && html`<section class="card"><h2>Models now</h2>
      <${Table} caption="Traffic of each model in the last ${span(Math.round(state.windowSeconds))}" rows=${models} order=${order}
        columns=${[name("model", "Model"), ...RATES, ...LATENCIES, ERRORS]} /></section>`}
    ${tenants.some((row) => row.key) && html`<section class="card"><h2>Tenants now</h2>
      <${Table} caption="Traffic of each tenant in the last ${span(Math.round(state.windowSeconds))}" rows=${tenants} order=${order}
        columns=${[name("tenant", "Tenant"), ...RATES, ERRORS]} /></section>`}
  </div>`;
}

/** @param {string} param @param {string} label @returns {import("../ui/table.js").Column<Named>} */
function name(param, label) {
  return {
    id: param, label, value: (row) => row.name,
    cell: (row) => row.key ? html`<a href=${href("overview", { ...route.value.params, [param]: row.key })}>${row.name}</a>` : row.name,
  };
}

/** @param {Record<string, number>} outcomes */
function errors(outcomes) {
  const bad = Object.entries(outcomes).filter(([outcome, rate]) => isError(outcome) && rate > 0);
  if (bad.length === 0) return "none";
  return bad.map(([outcome, rate]) => html`<span class="bad-text line">${number(rate)} ${words(outcome)}</span>`);
}
