/** A new load test: a form that starts it on one machine, and shows the manifest and the command for a cluster. */
import { html, useEffect, useRef, useState } from "../lib.js";
import { getJson, postJson, RefusedError } from "../live/http.js";
import { about, endpoints, models } from "../live/store.js";
import { go, href } from "../route.js";
import { say } from "../ui/announce.js";
import { Banner, Command, Head, Loading } from "../ui/parts.js";
import { ApiKey, FieldFault, LoadFields, Presets, marks } from "./loadtest_fields.js";

/** @typedef {import("../types.js").Manifest} Manifest */
/**
 * @typedef {object} Form what the user has entered, as text
 * @property {string} source
 * @property {string} model
 * @property {string} kind the name of a preset, `concurrency` or `rate`
 * @property {string} level
 * @property {string} duration
 * @property {string} objectives
 * @property {string} name
 * @property {string} apiKey sent only to start the run, and kept nowhere
 */

/** @typedef {{text: string, field: string}} Fault a sentence, and the field of the form that is wrong, or empty */

/** @type {Form} */
const FIRST = { source: "", model: "", kind: "Smoke", level: "4", duration: "", objectives: "ttft:p95=2s\nerror_rate=1%", name: "", apiKey: "" };

export function StartView() {
  const [presets, setPresets] = useState(/** @type {import("../types.js").Preset[] | null} */ (null));
  const [fault, setFault] = useState("");
  useEffect(() => {
    getJson("api/v1/presets").then(setPresets, (error) => setFault(error.message));
  }, []);
  if (fault) return html`<${Head} title="New load test" /><${Banner} tone="bad" title="No presets">${fault}<//>`;
  if (!presets || !about.value) return html`<${Head} title="New load test" /><${Loading} />`;
  return html`<${Head} title="New load test" lead=${about.value.canStartLoadTests
      ? "It runs on this machine, through the metering proxy. The page shows its progress."
      : "The form writes a manifest and the command that starts the load test."}>
      <a class="button" href=${href("loadtests")}>All load tests</a><//>
    <${StartForm} presets=${presets} canStart=${about.value.canStartLoadTests} />`;
}

/** @param {{presets: import("../types.js").Preset[], canStart: boolean}} props */
function StartForm({ presets, canStart }) {
  const [form, setForm] = useState(FIRST);
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState(/** @type {Fault | null} */ (null));
  const place = useRef(/** @type {HTMLFormElement | null} */ (null));
  const [manifest, setManifest] = useState(/** @type {Manifest | null} */ (null));
  const sources = sourceNames();
  const source = form.source || sources[0] || "";
  const names = modelNames(source);
  const filled = { ...form, source, model: form.model || names[0] || "" };
  /** @param {Partial<Form>} changes */
  const change = (changes) => { setForm({ ...form, ...changes }); setManifest(null); setFault(null); };
  useEffect(() => { /** @type {HTMLElement | null | undefined} */ (place.current?.querySelector("[aria-invalid=true]"))?.focus(); }, [fault]);
  /** @param {(body: object) => Promise<void>} action */
  const run = async (action) => {
    setBusy(true);
    setFault(null);
    try {
      await action(body(filled));
    } catch (error) {
      setFault({ text: error instanceof Error ? error.message : String(error), field: shownField(error, form.kind) });
    }
    setBusy(false);
  };
  const start = async (/** @type {object} */ document) => {
    const { key } = await postJson("api/v1/loadtests", { ...document, apiKey: form.apiKey });
    say("The load test has started.");
    go("loadtests", { run: key });
  };
  const write = async (/** @type {object} */ document) => {
    setManifest(await postJson("api/v1/manifest", document));
    say("The manifest is below.");
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    void run(canStart ? start : write);
  };
  return html`<form class="form" ref=${place} onSubmit=${submit} aria-label="New load test">
    <div class="row">
      <${Choice} label=${about.value?.mode === "cluster" ? "Endpoint" : "Ollama"} name="source" fault=${fault} value=${source} options=${sources} onChange=${(/** @type {string} */ value) => change({ source: value, model: "" })} />
      <${Choice} label="Model" name="model" fault=${fault} value=${filled.model} options=${names} onChange=${(/** @type {string} */ value) => change({ model: value })} />
    </div>
    <${Presets} presets=${presets} kind=${form.kind} onChange=${(/** @type {string} */ kind) => change({ kind })} />
    <${LoadFields} form=${form} fault=${fault} onChange=${change} />
    ${canStart && html`<${ApiKey} value=${form.apiKey} isOptional=${about.value?.hasLoadKey ?? false} fault=${fault} onChange=${(/** @type {string} */ apiKey) => change({ apiKey })} />`}
    ${fault && !fault.field && html`<p class="fault" role="alert">${fault.text}</p>`}
    <div class="fields">
      ${canStart && html`<button class="primary" disabled=${busy}>${busy ? "Starting…" : "Start the load test"}</button>`}
      <button class=${canStart ? "" : "primary"} type=${canStart ? "button" : "submit"} disabled=${busy}
        onClick=${canStart ? () => void run(write) : undefined}>Show the manifest${canStart ? " and command" : ""}</button>
    </div>
    ${manifest && html`<${Written} manifest=${manifest} hasKey=${form.apiKey !== ""} />`}
  </form>`;
}

/** The field that a refusal is about, if the form shows it. @param {unknown} error @param {string} kind @returns {string} */
function shownField(error, kind) {
  const field = error instanceof RefusedError ? error.field : "";
  return ["source", "model", "duration", "name", "objectives", "apiKey", kind].includes(field) ? field : "";
}

/** @param {{label: string, name: string, fault: Fault | null, value: string, options: string[], onChange: (value: string) => void}} props */
function Choice({ label, name: field, fault, value, options, onChange }) {
  const id = `choice-${label}`;
  return html`<label class="field"><span>${label}</span>
    <input required value=${value} list=${id} autocomplete="off" spellcheck=${false} ...${marks(field, fault)}
      onInput=${(/** @type {any} */ event) => onChange(event.currentTarget.value)} />
    <datalist id=${id}>${options.map((name) => html`<option key=${name} value=${name} />`)}</datalist>
    <${FieldFault} name=${field} fault=${fault} />
  </label>`;
}

/** @param {{manifest: Manifest, hasKey: boolean}} props */
function Written({ manifest, hasKey }) {
  return html`<section class="card" aria-label="Manifest">
    ${manifest.local && html`<h2>On this machine</h2><${Command} text=${manifest.local} />
      ${hasKey && html`<p>Add <code>--api-key-file=FILE</code> with a file that has the API key.</p>`}<br />`}
    <h2>On a cluster</h2>
    <p>The command reads the manifest from its standard input.
      ${hasKey && html`${" "}If the endpoint requires an API key, name the Secret that has it in <code>spec.request.apiKeySecretRef</code>.`}</p>
    <${Command} text=${manifest.command} />
    <${Command} text=${manifest.manifest} label="the manifest" />
  </section>`;
}

/** @returns {string[]} */
function sourceNames() {
  if (about.value?.mode === "cluster") return (endpoints.value ?? []).map((row) => row.key).sort();
  return (about.value?.sources ?? []).map((source) => source.name);
}

/** @param {string} source @returns {string[]} */
function modelNames(source) {
  const endpoint = endpoints.value?.find((row) => row.key === source);
  if (endpoint) return endpoint.models;
  const rows = (models.value ?? []).filter((row) => row.source === source);
  // What is in memory answers immediately.
  return rows.toSorted((one, two) => Number(two.state === "loaded") - Number(one.state === "loaded")).map((row) => row.name);
}

/** The body of the request. @param {Form} form @returns {object} */
export function body(form) {
  const objectives = form.objectives.split(/[\n,]/).map((line) => line.trim()).filter(Boolean);
  const level = form.level ? Number(form.level) : 1;
  const load = form.kind === "concurrency" ? { concurrency: level } : form.kind === "rate" ? { rate: level } : { scenario: form.kind };
  const isPreset = "scenario" in load;
  const lasts = form.duration.trim() || (isPreset ? "" : "1m");
  return {
    source: form.source, model: form.model.trim(), ...load, objectives, name: form.name.trim(),
    ...(lasts ? { duration: lasts } : {}),
  };
}
