/** Models: what is in memory and where, what is being pulled, and how often models were loaded and evicted. */
import { html } from "../lib.js";
import { age, bytes, count, percent } from "../format.js";
import { now } from "../live/clock.js";
import { about, models } from "../live/store.js";
import { Badge, Bar, Command, Empty, Head, Loading, Progress } from "../ui/parts.js";
import { Table } from "../ui/table.js";

/** @typedef {import("../types.js").ModelRow} ModelRow */

/** @type {Record<string, [tone: import("../ui/parts.js").Tone, word: string]>} */
const STATES = {
  loaded: ["good", "in memory"],
  available: ["", "on the disk"],
  pending: ["wait", "pending"],
  pulling: ["info", "pulling"],
  loading: ["info", "loading"],
  failed: ["bad", "failed"],
  remote: ["", "remote"],
};
const ORDER = ["failed", "pulling", "loading", "pending", "loaded", "available", "remote"];

/** @type {import("../ui/table.js").Column<ModelRow>[]} */
const COLUMNS = [
  { id: "name", label: "Model", value: (row) => row.name, cell: Name },
  { id: "source", label: "Source", kind: "tight", value: (row) => row.source },
  { id: "state", label: "State", value: (row) => ORDER.indexOf(row.state), cell: State },
  { id: "size", label: "Size", kind: "end", descending: true, value: (row) => row.sizeBytes, cell: (row) => row.sizeBytes != null && bytes(row.sizeBytes) },
  { id: "gpu", label: "On the GPU", descending: true, value: (row) => row.gpuShare, cell: Gpu },
  { id: "context", label: "Context (tokens)", kind: "end", descending: true, value: (row) => row.contextLength, cell: (row) => row.contextLength != null && count(row.contextLength) },
  { id: "expires", label: "Unloads", kind: "tight", value: (row) => row.expires, cell: (row) => row.state === "loaded" && html`<${Expires} row=${row} />` },
  { id: "loads", label: "Loads", kind: "end", descending: true, value: (row) => row.loads, cell: Loads },
  { id: "evictions", label: "Evictions", kind: "end", descending: true, value: (row) => row.evictions, cell: (row) => count(row.evictions) },
];

export function ModelsPage() {
  const rows = models.value;
  return html`
    <${Head} title="Models" lead="Models of every Ollama behind a metering proxy. Loads and evictions are counted since the dashboard started." />
    ${!rows || !about.value ? html`<${Loading} />` : rows.length === 0 ? html`<${NoModels} />` : html`<section class="card">
      <${Table} caption=${summary(rows)} columns=${COLUMNS} rows=${rows} order=${{ by: "state", down: false }} /></section>`}`;
}

/** @param {ModelRow[]} rows @returns {string} */
function summary(rows) {
  const loaded = rows.filter((row) => row.state === "loaded");
  const gpu = loaded.reduce((sum, row) => sum + (row.vramBytes ?? 0), 0);
  const memory = loaded.reduce((sum, row) => sum + (row.sizeBytes ?? 0), 0);
  return `${count(rows.length)} ${rows.length === 1 ? "model" : "models"}, ${count(loaded.length)} in memory with ${bytes(memory)}, of which ${bytes(gpu)} on GPUs`;
}

/** @param {ModelRow} row */
function Name(row) {
  return html`${row.name}${row.digest && html`<span class="sub"><code>${row.digest.replace("sha256:", "").slice(0, 12)}</code></span>`}
    ${row.message && html`<span class="sub ${row.state === "failed" ? "bad-text" : ""}">${row.message}</span>`}`;
}

/** @param {ModelRow} row */
function State(row) {
  const [tone, word] = STATES[row.state] ?? ["", row.state];
  return html`<${Badge} tone=${tone}>${word}<//>${row.pull && html`<${PullProgress} pull=${row.pull} name=${row.name} />`}`;
}

/** @param {{pull: import("../types.js").Pull, name: string}} props */
function PullProgress({ pull, name }) {
  const share = pull.totalBytes > 0 ? pull.completedBytes / pull.totalBytes : 0;
  const left = pull.secondsLeft == null ? "time left not known yet" : `${age(pull.secondsLeft)} left`;
  return html`<${Progress} share=${share} label="Pull of ${name}" />
    <span class="sub">${bytes(pull.completedBytes)} of ${bytes(pull.totalBytes)}, ${bytes(pull.bytesPerSecond)}/s, ${left}</span>`;
}

/** @param {ModelRow} row */
function Gpu(row) {
  if (row.gpuShare == null) return null;
  const partly = row.gpuShare < 0.995;
  return html`<span class="share"><${Bar} share=${row.gpuShare} /><span class=${partly ? "warn-text" : ""}>${percent(row.gpuShare)}</span></span>
    <span class="sub">${bytes(row.vramBytes)}${partly ? ", the rest on the CPU" : ""}</span>`;
}

/** @param {ModelRow} row */
function Loads(row) {
  return html`${count(row.loads)}${row.loadedBefore && html`<span class="sub">loaded before</span>`}`;
}

/** @param {{row: ModelRow}} props */
function Expires({ row }) {
  if (row.expires == null) return "never";
  const left = row.expires - now.value;
  return left > 0 ? `in ${age(left)}` : "now";
}

function NoModels() {
  return html`<${Empty} title="No models yet">
    <p>${about.value?.mode === "cluster" ? "Declare models in an LLMEndpoint (spec.models); its sidecar pulls them." : "Pull one with Ollama; it appears here with its progress."}</p>
    <${Command} text=${about.value?.mode === "cluster" ? "kubectl explain llmendpoint.spec.models" : "ollama pull llama3.2:3b"} />
  <//>`;
}
