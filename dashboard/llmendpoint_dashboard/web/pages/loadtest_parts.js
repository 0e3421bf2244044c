/** Parts that several views of load tests use: verdicts and objectives in words, and the button that stops a run. */
import { html, useState } from "../lib.js";
import { words } from "../format.js";
import { postJson } from "../live/http.js";
import { say } from "../ui/announce.js";
import { Badge } from "../ui/parts.js";

/** @typedef {import("../types.js").LoadTestRow} LoadTestRow */

/** @type {Record<string, import("../ui/parts.js").Tone>} */
const TONES = { Passed: "good", Failed: "bad", Invalid: "warn", Error: "bad", None: "" };

/** @param {string} verdict @returns {import("../ui/parts.js").Tone} */
export function verdictTone(verdict) {
  return TONES[verdict] ?? "";
}

/** @param {LoadTestRow} row @returns {string} */
export function verdictWord(row) {
  if (row.state === "waiting") return "Waiting";
  if (row.state === "running") return "Running";
  if (!row.verdict) return "No result";
  return row.verdict === "None" ? "No verdict" : row.verdict;
}

/** @param {{row: LoadTestRow}} props */
export function VerdictBadge({ row }) {
  return html`<${Badge} tone=${verdictTone(row.verdict)}>${verdictWord(row)}<//>${row.reason && html`<span class="sub">${words(row.reason)}</span>`}`;
}

/** Objectives with what was measured. @param {{rows: import("../types.js").Objective[], isFinal: boolean}} props */
export function Objectives({ rows, isFinal }) {
  if (rows.length === 0) return html`<p class="soft">This run has no objectives.</p>`;
  return html`<ul class="objectives" aria-label="Objectives">${rows.map((row) => html`<li key=${row.text}>
    <${Met} met=${row.met} isFinal=${isFinal} /><span>${row.text}</span>
    <span class="soft">${row.measured ? `measured ${row.measured}` : isFinal ? "nothing measured" : "nothing measured yet"}</span>
  </li>`)}</ul>`;
}

/** @param {{met: boolean | null, isFinal: boolean}} props */
function Met({ met, isFinal }) {
  if (met == null) return html`<${Badge} tone="wait">not judged<//>`;
  const so = isFinal ? "" : " so far";
  return met ? html`<${Badge} tone="good">met${so}<//>` : html`<${Badge} tone="bad">missed${so}<//>`;
}

/** @param {{row: LoadTestRow}} props */
export function StopButton({ row }) {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  if (!row.canStop || row.state === "ended") return null;
  const stop = async () => {
    setBusy(true);
    setFault("");
    try {
      await postJson(`api/v1/loadtests/${encodeURIComponent(row.key)}/stop`, {});
      say(`Load test ${row.name} is being stopped.`);
    } catch (error) {
      setBusy(false);
      setFault(String(error instanceof Error ? error.message : error));
    }
  };
  return html`${fault && html`<span class="fault" role="alert">${fault}</span>`}
    <button type="button" disabled=${busy} aria-label="Stop ${row.name}" onClick=${() => void stop()}>${busy ? "Stopping…" : "Stop"}</button>`;
}
