/** Load tests: those that run, with live progress, and the history. The views of one run are in their own modules. */
import { html } from "../lib.js";
import { count, dateTime, duration, number, percent, plural } from "../format.js";
import { about, exampleModel, loadtests } from "../live/store.js";
import { href, route } from "../route.js";
import { Badge, Command, Empty, Head, Loading, Progress } from "../ui/parts.js";
import { Table } from "../ui/table.js";
import { LoadTestDetailView } from "./loadtest.js";
import { CompareView } from "./loadtest_compare.js";
import { StartView } from "./loadtest_start.js";
import { Objectives, StopButton, VerdictBadge } from "./loadtest_parts.js";

/** @typedef {import("../types.js").LoadTestRow} LoadTestRow */

/** @type {import("../ui/table.js").Column<LoadTestRow>[]} */
const COLUMNS = [
  { id: "name", label: "Run", value: (row) => row.name, cell: Name },
  { id: "verdict", label: "Verdict", value: (row) => row.verdict, cell: (row) => html`<${VerdictBadge} row=${row} />` },
  { id: "started", label: "Started", kind: "tight", descending: true, value: (row) => row.started, cell: (row) => row.started != null && dateTime(row.started) },
  { id: "load", label: "Load", kind: "words", value: (row) => row.load, cell: (row) => html`${row.load}<span class="sub">${row.model}</span>` },
  { id: "requests", label: "Requests", kind: "end", descending: true, value: (row) => row.requests, cell: (row) => count(row.requests) },
  { id: "errors", label: "Errors", kind: "end", descending: true, value: (row) => (row.requests ? row.errors / row.requests : 0), cell: Errors },
  { id: "rate", label: "Requests (/s)", kind: "end", descending: true, value: (row) => row.requestsPerSecond, cell: (row) => row.requestsPerSecond != null && number(row.requestsPerSecond) },
  { id: "ttft", label: "TTFT p95", kind: "end", descending: true, value: (row) => row.ttft?.p95, cell: (row) => row.ttft && duration(row.ttft.p95) },
];

export function LoadTestsPage() {
  const { params } = route.value;
  if (params.view === "new") return html`<${StartView} />`;
  if (params.view === "compare") return html`<${CompareView} a=${params.a ?? ""} b=${params.b ?? ""} />`;
  if (params.run) return html`<${LoadTestDetailView} key=${params.run} run=${params.run} />`;
  return html`<${List} />`;
}

function List() {
  const rows = loadtests.value;
  if (!rows || !about.value) return html`<${Head} title="Load tests" /><${Loading} />`;
  const active = rows.filter((row) => row.state !== "ended");
  const ended = rows.filter((row) => row.state === "ended");
  const [latest, earlier] = ended.toSorted((one, two) => (two.started ?? 0) - (one.started ?? 0));
  return html`
    <${Head} title="Load tests" lead="Runs with their objectives and verdicts.">
      ${earlier && html`<a class="button" href=${href("loadtests", { view: "compare", a: earlier.key, b: latest.key })}>Compare two runs</a>`}
      <a class="button primary" href=${href("loadtests", { view: "new" })}>New load test</a>
    <//>
    ${rows.length === 0 && html`<${NoRuns} />`}
    <div class="stack">
      ${active.length > 0 && html`<div class="running">${active.map((row) => html`<${Active} key=${row.key} row=${row} />`)}</div>`}
      ${ended.length > 0 && html`<section class="card"><h2>History</h2>
        <${Table} caption=${plural(ended.length, "run")} columns=${COLUMNS} rows=${ended} order=${{ by: "started", down: true }} /></section>`}
    </div>`;
}

/** A run that has not ended. On its own page, the heading of the page has its name.
 * @param {{row: LoadTestRow, hasHeading?: boolean}} props */
export function Active({ row, hasHeading = false }) {
  const word = row.state === "waiting" ? "Waiting" : "Running";
  return html`<section class="card" aria-label="Load test ${row.name}">
    <div class="cardhead">${!hasHeading && html`<h2><a href=${href("loadtests", { run: row.key })}>${row.name}</a></h2>`}
      <${Badge} tone=${row.state === "waiting" ? "wait" : "info"}>${word}<//><span class="soft">${row.load}</span>
      <span class="end"><${StopButton} row=${row} /></span></div>
    <${Progress} share=${row.percent / 100} label="Progress of ${row.name}" />
    <dl class="facts">
      <div><dt>Requests</dt><dd>${count(row.requests)}</dd></div>
      <div><dt>In flight</dt><dd>${count(row.inFlight)}</dd></div>
      <div><dt>Rate</dt><dd>${number(row.requestsPerSecond)} req/s</dd></div>
      <div><dt>Errors</dt><dd class=${row.errors ? "bad-text" : ""}>${count(row.errors)}${row.requests ? ` (${percent(row.errors / row.requests)})` : ""}</dd></div>
      <div><dt>Model</dt><dd>${row.model}</dd></div>
    </dl>
    ${(row.awaiting || row.message) && html`<p>${row.awaiting || row.message}</p>`}
    <${Objectives} rows=${row.objectives} isFinal=${false} />
  </section>`;
}

/** @param {LoadTestRow} row */
function Name(row) {
  return html`<a href=${href("loadtests", { run: row.key })}>${row.name}</a>${row.namespace && html`<span class="sub">${row.namespace}</span>`}`;
}

/** @param {LoadTestRow} row */
function Errors(row) {
  if (!row.errors) return "0";
  return html`<span class="bad-text">${percent(row.errors / Math.max(1, row.requests))}</span>`;
}

function NoRuns() {
  const cluster = about.value?.mode === "cluster";
  return html`<${Empty} title="No load tests yet">
    <p>A load test sends requests at a rate, or with a number of users, and compares what it measures with objectives.
      Start one with the button above, or on a terminal:</p>
    <${Command} text=${cluster
      ? "llmendpoint load --endpoint default/assistant --scenario Smoke --slo ttft:p95=2s"
      : `llmendpoint load --model ${exampleModel()} --concurrency 4 --duration 1m --slo ttft:p95=2s --slo error_rate=1%`} />
  <//>`;
}
