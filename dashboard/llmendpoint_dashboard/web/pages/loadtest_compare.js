/** Two load tests side by side, with the better value marked by a word, a sign and weight. */
import { html, useEffect, useState } from "../lib.js";
import { count, dateTime, duration, number, percent } from "../format.js";
import { getJson } from "../live/http.js";
import { loadtests } from "../live/store.js";
import { href, setParams } from "../route.js";
import { Badge, Banner, Command, Head, Loading } from "../ui/parts.js";
import { Table } from "../ui/table.js";
import { VerdictBadge } from "./loadtest_parts.js";

/** @typedef {import("../types.js").ComparedMetric} ComparedMetric */
/** @typedef {import("../types.js").LoadTestRow} LoadTestRow */

/** @param {{a: string, b: string}} props */
export function CompareView({ a, b }) {
  const [result, setResult] = useState(/** @type {import("../types.js").Comparison | null} */ (null));
  const [fault, setFault] = useState("");
  useEffect(() => {
    setResult(null);
    setFault("");
    if (!a || !b) return undefined;
    const gone = new AbortController();
    getJson(`api/v1/loadtests/compare?${new URLSearchParams({ a, b })}`, gone.signal).then(
      setResult, (error) => { if (!gone.signal.aborted) setFault(error.message); },
    );
    return () => gone.abort();
  }, [a, b]);
  const rows = loadtests.value;
  if (!rows) return html`<${Head} title="Compare two runs" /><${Loading} />`;
  // A run that has not ended can be compared too, by a link.
  const runs = rows.filter((row) => row.state === "ended" || row.key === a || row.key === b).toSorted((one, two) => (two.started ?? 0) - (one.started ?? 0));
  return html`<${Head} title="Compare two runs" lead="B is compared with A.">
      <a class="button" href=${href("loadtests")}>All load tests</a><//>
    <form class="fields" aria-label="Runs" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${RunSelect} label="Run A" value=${a} runs=${runs} onChange=${(/** @type {string} */ key) => setParams({ a: key })} />
      <${RunSelect} label="Run B" value=${b} runs=${runs} onChange=${(/** @type {string} */ key) => setParams({ b: key })} />
    </form>
    ${(!a || !b) && html`<p class="soft">Choose two runs.</p>`}
    ${fault && html`<${Banner} tone="bad" title="Not compared">${fault}<//>`}
    ${result?.message && html`<${Banner} tone="warn" title="Not compared">${result.message}<//>`}
    ${result && result.differences.length > 0 && html`<${Banner} tone="warn" title="Different tests">${result.differences.join("; ")}<//>`}
    ${result && result.metrics.length > 0 && html`<${Result} result=${result} />`}
    ${result?.command && html`<section class="card"><h2>All that was measured</h2>
      <p>The table has what the statuses hold. This command compares everything, with the settings:</p>
      <${Command} text=${result.command} /></section>`}`;
}

/** @param {{label: string, value: string, runs: LoadTestRow[], onChange: (key: string) => void}} props */
function RunSelect({ label, value, runs, onChange }) {
  return html`<label class="field"><span>${label}</span>
    <select value=${value} onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.value)}>
      <option value="" selected=${!value}>choose</option>
      ${runs.map((row) => html`<option key=${row.key} value=${row.key} selected=${row.key === value}>${row.name}, ${dateTime(row.started)}</option>`)}
    </select></label>`;
}

/** @param {{result: import("../types.js").Comparison}} props */
function Result({ result }) {
  const rows = result.metrics.filter((metric) => metric.a != null || metric.b != null).map((metric) => ({
    ...metric,
    key: metric.name,
    better: looksEqual(metric) ? null : metric.better,
  }));
  return html`<section class="card">
    <dl class="facts two"><div><dt>A: ${result.a.name}</dt><dd><${VerdictBadge} row=${result.a} /></dd></div>
      <div><dt>B: ${result.b.name}</dt><dd><${VerdictBadge} row=${result.b} /></dd></div></dl>
    <${Table} caption="The better value has a check mark" columns=${COLUMNS} rows=${rows} order=${{ by: "", down: false }} />
  </section>`;
}

/** @typedef {ComparedMetric & {key: string}} Row */

/** @type {import("../ui/table.js").Column<Row>[]} */
const COLUMNS = [
  { id: "name", label: "Metric", cell: (row) => row.name },
  { id: "a", label: "A", kind: "end", cell: (row) => value(row, "a") },
  { id: "b", label: "B", kind: "end", cell: (row) => value(row, "b") },
  { id: "change", label: "Change", kind: "end", cell: (row) => row.change != null && change(row.change) },
  { id: "better", label: "Better", kind: "tight", cell: (row) => row.better ? row.better.toUpperCase() : "neither" },
];

/** Whether both values are shown as the same text, so that a mark could not be understood. @param {ComparedMetric} metric */
function looksEqual({ a, b, unit }) {
  return withUnit(a, unit) === withUnit(b, unit);
}

/** @param {Row} row @param {"a" | "b"} side */
function value(row, side) {
  const text = withUnit(row[side], row.unit);
  return row.better === side ? html`<${Badge} tone="good">${text}<span class="hidden-text"> better</span><//>` : text;
}

/** A relative change with its sign. Nearly all is not all, so it is cut off and not rounded: −99.9 %.
 * @param {number} share @returns {string} */
function change(share) {
  const size = Math.abs(share);
  if (size < 0.0005) return percent(0);
  const text = size >= 0.995 && size < 1 ? `${number(Math.floor(size * 1000) / 10)} %` : percent(size);
  return `${share > 0 ? "+" : "−"}${text}`;
}

/** @param {number | null} amount @param {string} unit @returns {string} */
function withUnit(amount, unit) {
  if (unit === "s") return duration(amount);
  if (unit === "share") return percent(amount);
  if (!unit && Number.isInteger(amount)) return count(amount);
  return unit && amount != null ? `${number(amount)} ${unit}` : number(amount);
}
