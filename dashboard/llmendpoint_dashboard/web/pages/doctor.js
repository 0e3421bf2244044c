/** Doctor: what is wrong, and what to do, in the words of `llmendpoint doctor` and of the conditions. */
import { html } from "../lib.js";
import { plural } from "../format.js";
import { about, doctor } from "../live/store.js";
import { Badge, Command, Empty, Head, Loading } from "../ui/parts.js";

/** @typedef {import("../types.js").FindingRow} FindingRow */

const SEVERITIES = ["error", "warning", "info"];
const TONES = /** @type {const} */ ({ error: ["bad", "Error"], warning: ["warn", "Warning"], info: ["info", "Note"] });

export function DoctorPage() {
  const rows = doctor.value;
  return html`
    <${Head} title="Doctor" lead="Causes that were found, the worst first, each with the command that fixes it." />
    ${!rows || !about.value ? html`<${Loading} />` : rows.length === 0 ? html`<${Healthy} />` : html`<${Findings} rows=${rows} />`}`;
}

/** @param {{rows: FindingRow[]}} props */
function Findings({ rows }) {
  const sorted = rows.toSorted((one, two) => SEVERITIES.indexOf(one.severity) - SEVERITIES.indexOf(two.severity)
    || one.subject.localeCompare(two.subject) || one.key.localeCompare(two.key));
  const errors = rows.filter((row) => row.severity === "error").length;
  const warnings = rows.filter((row) => row.severity === "warning").length;
  return html`<p class="soft">${plural(errors, "error")}, ${plural(warnings, "warning")}</p>
    <ul class="findings">${sorted.map((row) => html`<${Finding} key=${row.key} row=${row} />`)}</ul>`;
}

/** @param {{row: FindingRow}} props */
function Finding({ row }) {
  const [tone, word] = TONES[row.severity] ?? TONES.info;
  return html`<li class="card finding ${row.severity}">
    <div class="cardhead"><${Badge} tone=${tone}>${word}<//><h2>${row.subject}</h2><code class="soft end">${row.cause}</code></div>
    <p>${row.sentence}</p>
    ${row.advice && html`<p>${row.advice}</p>`}
    ${row.command && html`<${Command} text=${row.command} />`}
  </li>`;
}

function Healthy() {
  const sources = about.value?.sources ?? [];
  return html`<${Empty} title="Nothing is wrong">
    <p>${sources.length > 0 ? `${plural(sources.length, "source")} ${sources.length === 1 ? "was" : "were"} checked: ${sources.map((source) => source.name).join(", ")}.` : "There is no source to check yet."}${" "}
      The checks run again every 10 seconds. On a terminal, the same checks are:</p>
    <${Command} text="llmendpoint doctor" />
  <//>`;
}
