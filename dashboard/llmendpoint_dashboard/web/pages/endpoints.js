/** Endpoints of the cluster: conditions, reasons and advice. */
import { html } from "../lib.js";
import { count, plural } from "../format.js";
import { about, endpoints } from "../live/store.js";
import { href, route, setParams } from "../route.js";
import { Badge, Command, Empty, Head, Loading, Search } from "../ui/parts.js";
import { Table } from "../ui/table.js";
import { EndpointDetail } from "./endpoint.js";

/** @typedef {import("../types.js").EndpointRow} EndpointRow */

const READY = ["False", "Unknown", "True"];

/** @type {import("../ui/table.js").Column<EndpointRow>[]} */
const COLUMNS = [
  { id: "name", label: "Endpoint", value: (row) => row.key, cell: Name },
  { id: "ready", label: "Ready", kind: "wide", value: (row) => READY.indexOf(row.ready), cell: Ready },
  { id: "replicas", label: "Replicas", kind: "end", value: (row) => row.replicas, cell: (row) => `${count(row.readyReplicas)} of ${count(row.replicas)}` },
  { id: "models", label: "Models", kind: "wide", value: (row) => row.models.join(", ") },
  { id: "gpu", label: "GPU per replica", kind: "tight", value: (row) => row.gpu },
  { id: "message", label: "What it says", kind: "words", cell: (row) => row.message },
];

export function EndpointsPage() {
  const rows = endpoints.value;
  if (!rows || !about.value) return html`<${Head} title="Endpoints" /><${Loading} />`;
  return html`
    <${Head} title="Endpoints" lead="LLMEndpoints of the cluster, with the conditions that the operator writes." />
    ${rows.length === 0 ? html`<${NoEndpoints} />` : html`<${List} rows=${rows} />`}`;
}

/** @param {{rows: EndpointRow[]}} props */
function List({ rows }) {
  const { params } = route.value;
  const wanted = (params.q ?? "").toLowerCase();
  const onlyBad = params.show === "notready";
  const found = rows.filter((row) => (!onlyBad || row.ready !== "True") && matches(row, wanted));
  const bad = rows.filter((row) => row.ready !== "True").length;
  const chosen = rows.find((row) => row.key === params.run);
  return html`
    <form class="fields" aria-label="Filters" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${Search} label="Find" placeholder="name, model, reason" value=${params.q ?? ""} onChange=${(/** @type {string} */ q) => setParams({ q })} />
      <label class="check"><input type="checkbox" checked=${onlyBad}
        onChange=${() => setParams({ show: onlyBad ? undefined : "notready" })} />Only those that are not ready (${count(bad)})</label>
    </form>
    <div class="stack">
      ${chosen && html`<${EndpointDetail} row=${chosen} />`}
      <section class="card"><${Table} caption=${caption(found.length, rows.length, bad)} columns=${COLUMNS} rows=${found}
        order=${{ by: "ready", down: false }} chosen=${params.run} /></section>
    </div>`;
}

/** @param {number} found @param {number} all @param {number} bad @returns {string} */
function caption(found, all, bad) {
  const total = `${plural(all, "endpoint")}, ${count(all - bad)} ready`;
  return found === all ? total : `${count(found)} of ${total}`;
}

/** @param {EndpointRow} row @param {string} wanted @returns {boolean} */
function matches(row, wanted) {
  return !wanted || [row.key, row.reason, row.message, ...row.models].some((text) => text.toLowerCase().includes(wanted));
}

/** @param {EndpointRow} row */
function Name(row) {
  const { q, show } = route.peek().params;
  return html`<a href=${href("endpoints", { q, show, run: row.key })}>${row.name}</a><span class="sub">${row.namespace}</span>`;
}

/** @param {EndpointRow} row */
function Ready(row) {
  return html`<${ReadyBadge} status=${row.ready} />${row.ready !== "True" && row.reason && html`<span class="sub">${row.reason}</span>`}`;
}

/** @param {{status: string}} props */
export function ReadyBadge({ status }) {
  if (status === "True") return html`<${Badge} tone="good">Ready<//>`;
  return status === "False" ? html`<${Badge} tone="bad">Not ready<//>` : html`<${Badge} tone="wait">Unknown<//>`;
}

function NoEndpoints() {
  if (about.value?.mode === "machine") {
    return html`<${Empty} title="This dashboard watches one machine">
      <p>Endpoints are resources of a Kubernetes cluster. Start the dashboard with <code>--cluster</code>, or install it with the chart.</p>
    <//>`;
  }
  return html`<${Empty} title="No endpoints yet">
    <p>An LLMEndpoint turns a GPU and the name of a model into a metered Ollama endpoint:</p>
    <${Command} label="the manifest" text=${EXAMPLE} />
  <//>`;
}

const EXAMPLE = `kubectl apply -f - <<EOF
apiVersion: llmendpoint.dev/v1alpha1
kind: LLMEndpoint
metadata:
  name: assistant
spec:
  models:
    - name: llama3.2:3b
EOF`;
