/** One endpoint: its address, advice and conditions. */
import { html } from "../lib.js";
import { age, count, dateTime } from "../format.js";
import { now } from "../live/clock.js";
import { href, route } from "../route.js";
import { Badge, Banner, Command } from "../ui/parts.js";
import { Table } from "../ui/table.js";
import { ReadyBadge } from "./endpoints.js";

/** @typedef {import("../types.js").EndpointRow} EndpointRow */
/** @typedef {import("../types.js").Condition & {key: string}} Row */

/** Conditions whose status True is the bad one. */
const NEGATIVE = new Set(["Degraded", "Stalled"]);

/** @type {import("../ui/table.js").Column<Row>[]} */
const COLUMNS = [
  { id: "type", label: "Condition", value: (row) => row.type },
  { id: "status", label: "Status", value: (row) => row.status, cell: (row) => html`<${Badge} tone=${toneOf(row)}>${row.status}<//>` },
  { id: "reason", label: "Reason", kind: "wide", value: (row) => row.reason },
  { id: "message", label: "Message", kind: "words", cell: (row) => row.message },
  { id: "since", label: "Since", kind: "tight", value: (row) => row.lastTransitionTime, cell: (row) => html`<${Since} time=${row.lastTransitionTime} />` },
];

/** @param {Row} row @returns {import("../ui/parts.js").Tone} */
function toneOf(row) {
  if (row.status === "Unknown") return "wait";
  if (row.type === "Reconciling") return row.status === "True" ? "info" : "";
  return (row.status === "True") === NEGATIVE.has(row.type) ? "bad" : "good";
}

/** @param {{time: string}} props */
function Since({ time }) {
  const seconds = Date.parse(time) / 1000;
  if (!Number.isFinite(seconds)) return null;
  return html`<span title=${dateTime(seconds)}>${age(now.value - seconds)}</span>`;
}

/** @param {{row: EndpointRow}} props */
export function EndpointDetail({ row }) {
  const { q, show } = route.value.params;
  return html`<section class="card" aria-labelledby="endpoint">
    <div class="cardhead"><h2 id="endpoint">${row.key}</h2><${ReadyBadge} status=${row.ready} />
      <a class="end button" href=${href("endpoints", { q, show })}>Close</a></div>
    ${row.advice && html`<${Banner} tone="warn" title="What to do">${row.advice}<//>`}
    <dl class="facts">
      <div><dt>Replicas</dt><dd>${count(row.readyReplicas)} of ${count(row.replicas)} ready</dd></div>
      <div><dt>GPU per replica</dt><dd>${row.gpu || "none"}</dd></div>
      <div class="wide"><dt>Models</dt><dd>${row.models.join(", ") || "none"}</dd></div>
      ${row.url && html`<div class="wide"><dt>Address in the cluster</dt><dd><code>${row.url}</code></dd></div>`}
    </dl>
    <br />
    <${Table} caption="Conditions of ${row.key}" columns=${COLUMNS} order=${{ by: "", down: false }}
      rows=${row.conditions.map((condition) => ({ ...condition, key: condition.type }))} />
    <${Command} text="kubectl describe llmendpoint ${row.name} --namespace ${row.namespace}" />
  </section>`;
}
