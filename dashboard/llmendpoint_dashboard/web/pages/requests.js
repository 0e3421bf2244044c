/** Requests: the last ones, with their time split into queue, load, prefill and decode. Never with content. */
import { html } from "../lib.js";
import { clockTime, count, duration, plural, words } from "../format.js";
import { about, requests } from "../live/store.js";
import { route, setParams } from "../route.js";
import { Badge, Command, Empty, Head, Loading, Select } from "../ui/parts.js";
import { PhaseKeys, Phases, PHASES } from "../ui/phases.js";
import { Table } from "../ui/table.js";
import { isError } from "./traffic.js";

/** @typedef {import("../types.js").RequestRow} RequestRow */

/** @param {"queue" | "load" | "prefill" | "decode"} id @returns {import("../ui/table.js").Column<RequestRow>} */
function phase(id) {
  return { id, label: words(id)[0].toUpperCase() + id.slice(1), kind: "end", descending: true, value: (row) => row[id], cell: (row) => row[id] != null && duration(row[id]) };
}

/** @param {number} longest @returns {import("../ui/table.js").Column<RequestRow>[]} */
function columns(longest) {
  return [
    { id: "time", label: "Ended", kind: "tight", descending: true, value: (row) => row.time, cell: (row) => clockTime(row.time) },
    { id: "model", label: "Model", value: (row) => row.model, cell: (row) => html`${row.model}<span class="sub">${operation(row)}</span>` },
    { id: "tenant", label: "Tenant", kind: "tight", value: (row) => row.tenant },
    { id: "outcome", label: "Outcome", value: (row) => row.outcome, cell: Outcome },
    { id: "split", label: "Time split", kind: "wide", cell: (row) => html`<${Phases} row=${row} longest=${longest} />` },
    { id: "duration", label: "Duration", kind: "end", descending: true, value: (row) => row.duration, cell: (row) => duration(row.duration) },
    { id: "ttft", label: "TTFT", kind: "end", descending: true, value: (row) => row.ttft, cell: (row) => row.ttft != null && duration(row.ttft) },
    ...PHASES.map(phase),
    { id: "in", label: "Tokens in", kind: "end", descending: true, value: (row) => row.promptTokens, cell: (row) => row.promptTokens != null && count(row.promptTokens) },
    { id: "out", label: "Tokens out", kind: "end", descending: true, value: (row) => row.generationTokens, cell: (row) => row.generationTokens != null && count(row.generationTokens) },
  ];
}

/** @param {RequestRow} row @returns {string} */
function operation(row) {
  const sources = about.value?.sources.length ?? 0;
  return sources > 1 ? `${words(row.operation)} on ${row.source}` : words(row.operation);
}

/** @param {RequestRow} row */
function Outcome(row) {
  const tone = row.outcome === "client_cancelled" ? "warn" : isError(row.outcome) ? "bad" : "good";
  return html`<${Badge} tone=${tone}>${words(row.outcome)}<//>${row.code > 0 && row.code !== 200 && html`<span class="sub">code ${row.code}</span>`}`;
}

export function RequestsPage() {
  const rows = requests.value;
  return html`
    <${Head} title="Requests" lead="The last 200 requests with their times. Prompts and answers are never recorded." />
    ${!rows || !about.value ? html`<${Loading} />` : rows.length === 0 ? html`<${NoRequests} />` : html`<${List} rows=${rows} />`}`;
}

/** @param {{rows: RequestRow[]}} props */
function List({ rows }) {
  const { model = "", tenant = "", outcome = "" } = route.value.params;
  const found = rows.filter((row) => (!model || row.model === model) && (!tenant || row.tenant === tenant)
    && (!outcome || (outcome === "errors" ? isError(row.outcome) : row.outcome === outcome)));
  const longest = Math.max(0, ...found.map((row) => row.duration));
  return html`
    <form class="fields" aria-label="Filters" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${Select} label="Model" all="All models" value=${model} options=${distinct(rows, (row) => row.model)}
        onChange=${(/** @type {string} */ value) => setParams({ model: value })} />
      <${Select} label="Tenant" all="All tenants" value=${tenant} options=${distinct(rows, (row) => row.tenant)}
        onChange=${(/** @type {string} */ value) => setParams({ tenant: value })} />
      <${Select} label="Outcome" all="All outcomes" value=${outcome} options=${["errors", ...distinct(rows, (row) => row.outcome)]}
        onChange=${(/** @type {string} */ value) => setParams({ outcome: value })} />
    </form>
    <section class="card">
      <${PhaseKeys} />
      <${Table} caption=${summary(found)} columns=${columns(longest).filter((column) => column.id !== "tenant" || rows.some((row) => row.tenant))} rows=${found} order=${{ by: "time", down: true }} />
      ${found.some(isCutOff) && html`<p class="soft small">Ollama reports the tokens at the end of an answer. Answers that were cut off have none
        here. The metrics and the overview count each of their chunks as one token.</p>`}
    </section>`;
}

/** Whether an answer began, and ended before its tokens were reported. @param {RequestRow} row @returns {boolean} */
function isCutOff(row) {
  return isError(row.outcome) && row.ttft != null && row.generationTokens == null;
}

/** @param {RequestRow[]} rows @returns {string} */
function summary(rows) {
  const sum = (/** @type {"promptTokens" | "generationTokens"} */ name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
  const errors = rows.filter((row) => isError(row.outcome)).length;
  return `${plural(rows.length, "request")} with ${count(sum("promptTokens"))} tokens in and ${count(sum("generationTokens"))} tokens out, ${plural(errors, "error")}`;
}

/** @param {RequestRow[]} rows @param {(row: RequestRow) => string} pick @returns {string[]} */
function distinct(rows, pick) {
  return [...new Set(rows.map(pick))].filter(Boolean).sort();
}

function NoRequests() {
  return html`<${Empty} title="No requests yet">
    <p>Requests appear here when they end, if they go through the metering proxy.</p>
    ${about.value?.mode !== "cluster" && html`<p>A generator sends some:</p><${Command} text="llmendpoint traffic" />`}
  <//>`;
}
