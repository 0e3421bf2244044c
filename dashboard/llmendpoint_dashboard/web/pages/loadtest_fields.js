/** Fields of the form for a new load test: presets, own load, duration and objectives. */
import { html } from "../lib.js";

/** @typedef {import("./loadtest_start.js").Form} Form */
/** @typedef {import("./loadtest_start.js").Fault} Fault */

/** The attributes of a field that the server has refused. @param {string} name @param {Fault | null} fault
 * @param {string} [help] the ID of its description */
export function marks(name, fault, help) {
  if (fault?.field !== name) return { "aria-describedby": help };
  return { "aria-invalid": "true", "aria-describedby": [`fault-${name}`, help].filter(Boolean).join(" ") };
}

/** The sentence beside a field that the server has refused. @param {{name: string, fault: Fault | null}} props */
export function FieldFault({ name, fault }) {
  return fault?.field === name ? html`<p class="fault" id="fault-${name}" role="alert">${fault.text}</p>` : null;
}

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

/** @param {{form: Form, fault: Fault | null, onChange: (changes: Partial<Form>) => void}} props */
export function LoadFields({ form, fault, onChange }) {
  const own = form.kind === "concurrency" || form.kind === "rate";
  return html`
    <div class="row">
      ${own && html`<${Text} label=${form.kind === "rate" ? "Requests per second" : "Users"} name=${form.kind} fault=${fault} value=${form.level} type="number" whole=${form.kind === "concurrency"}
        onChange=${(/** @type {string} */ level) => onChange({ level })} />`}
      <${Text} label="Duration, such as 30s or 5m" name="duration" fault=${fault} value=${form.duration} placeholder=${own ? "1m" : "that of the preset"}
        onChange=${(/** @type {string} */ duration) => onChange({ duration })} />
      <${Text} label="Name (optional)" name="name" fault=${fault} value=${form.name} onChange=${(/** @type {string} */ name) => onChange({ name })} />
    </div>
    <label class="field"><span>Objectives, one per line. Without any, the run has no verdict.</span>
      <textarea rows="3" spellcheck=${false} value=${form.objectives} ...${marks("objectives", fault, "objectives-help")}
        onInput=${(/** @type {any} */ event) => onChange({ objectives: event.currentTarget.value })}></textarea>
      <${FieldFault} name="objectives" fault=${fault} /></label>
    <p class="soft small" id="objectives-help">Metrics: <code>ttft:p95=2s</code>, <code>tpot:p95=50ms</code>,${" "}
      <code>request_latency:p99=30s</code>, <code>error_rate=1%</code>.</p>`;
}

/**
 * `isOptional` is whether requests have the API key of the stack if the field is empty.
 * @param {{value: string, isOptional: boolean, fault: Fault | null, onChange: (value: string) => void}} props
 */
export function ApiKey({ value, isOptional, fault, onChange }) {
  return html`<div><${Text} label=${isOptional ? "API key (optional)" : "API key (only if the endpoint requires one)"} name="apiKey" type="password" fault=${fault} value=${value}
      help="apiKey-help" onChange=${onChange} />
    <p class="soft small" id="apiKey-help">${isOptional && "If the field is empty, the requests have the API key of the stack. "}It is sent with the requests of this run, and stored nowhere.</p></div>`;
}

/** @param {{label: string, name: string, fault: Fault | null, value: string, type?: string, whole?: boolean, placeholder?: string, help?: string, onChange: (value: string) => void}} props */
function Text({ label, name, fault, value, type = "text", whole, placeholder, help, onChange }) {
  // Steps are counted from the minimum, so whole numbers need one that is whole.
  const [min, step] = whole ? ["1", "1"] : ["0.01", "any"];
  return html`<label class="field"><span>${label}</span>
    <input type=${type} value=${value} placeholder=${placeholder} min=${type === "number" ? min : undefined}
      step=${type === "number" ? step : undefined} required=${type === "number"} autocomplete=${type === "password" ? "new-password" : "off"} spellcheck=${false} ...${marks(name, fault, help)}
      onInput=${(/** @type {any} */ event) => onChange(event.currentTarget.value)} />
    <${FieldFault} name=${name} fault=${fault} /></label>`;
}
