/** Fields of the form for a new load test: presets, own load, duration and objectives. */
import { html } from "../lib.js";

/** @typedef {import("./loadtest_start.js").Form} Form */

const OWN = [
  { name: "concurrency", title: "Users", description: "A fixed number of users. Each sends its next request after the answer to the last one." },
  { name: "rate", title: "Rate", description: "A fixed number of requests per second, however long the answers take." },
];

/** @param {{presets: import("../types.js").Preset[], kind: string, onChange: (kind: string) => void}} props */
export function Presets({ presets, kind, onChange }) {
  const options = [...presets.map((preset) => ({ ...preset, title: preset.name })), ...OWN];
  return html`<fieldset><legend>Load</legend><div class="presets">
    ${options.map((option) => html`<label class="preset" key=${option.name}>
      <input type="radio" name="kind" value=${option.name} checked=${option.name === kind}
        aria-label=${option.title} aria-describedby="about-${option.name}" onChange=${() => onChange(option.name)} />
      <b>${option.title}</b><span id="about-${option.name}">${option.description}</span></label>`)}
  </div></fieldset>`;
}

/** @param {{form: Form, onChange: (changes: Partial<Form>) => void}} props */
export function LoadFields({ form, onChange }) {
  const own = form.kind === "concurrency" || form.kind === "rate";
  return html`
    <div class="row">
      ${own && html`<${Text} label=${form.kind === "rate" ? "Requests per second" : "Users"} value=${form.level} type="number"
        onChange=${(/** @type {string} */ level) => onChange({ level })} />`}
      <${Text} label="Duration, such as 30s or 5m" value=${form.duration} placeholder=${own ? "1m" : "that of the preset"}
        onChange=${(/** @type {string} */ duration) => onChange({ duration })} />
      <${Text} label="Name (optional)" value=${form.name} onChange=${(/** @type {string} */ name) => onChange({ name })} />
    </div>
    <label class="field"><span>Objectives, one per line. Without any, the run has no verdict.</span>
      <textarea rows="3" spellcheck=${false} value=${form.objectives} aria-describedby="objectives-help"
        onInput=${(/** @type {any} */ event) => onChange({ objectives: event.currentTarget.value })}></textarea></label>
    <p class="soft small" id="objectives-help">Metrics: <code>ttft:p95=2s</code>, <code>tpot:p95=50ms</code>,${" "}
      <code>request_latency:p99=30s</code>, <code>error_rate=1%</code>.</p>`;
}

/** @param {{label: string, value: string, type?: string, placeholder?: string, onChange: (value: string) => void}} props */
function Text({ label, value, type = "text", placeholder, onChange }) {
  return html`<label class="field"><span>${label}</span>
    <input type=${type} value=${value} placeholder=${placeholder} min=${type === "number" ? "0.01" : undefined}
      step=${type === "number" ? "any" : undefined} required=${type === "number"} autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {any} */ event) => onChange(event.currentTarget.value)} /></label>`;
}
