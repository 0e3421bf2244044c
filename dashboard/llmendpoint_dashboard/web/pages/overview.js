/** Overview: traffic now as tiles, over a range as charts, and by model and tenant as tables. */
import { html } from "../lib.js";
import { count, duration, durationParts, number, percent, span } from "../format.js";
import { RANGES, rangeOf, SHORT_RANGES, shown } from "../live/history.js";
import { about, exampleModel, overview } from "../live/store.js";
import { route, setParams } from "../route.js";
import { isStale } from "../ui/notices.js";
import { Command, Empty, Head, Loading, Segments, Select } from "../ui/parts.js";
import { Charts } from "./overview_charts.js";
import { TrafficTables } from "./overview_tables.js";
import { chosenTraffic, errorRate } from "./traffic.js";

/** @typedef {import("../types.js").Traffic} Traffic */

export function OverviewPage() {
  const state = overview.value;
  return html`
    <${Head} title="Overview" lead="Requests that pass through the metering proxies, now and over time." />
    <${Filters} />
    ${state ? html`<${Tiles} /><${FirstSteps} /><${Charts} /><${TrafficTables} />` : html`<${Loading} />`}`;
}

function Filters() {
  const { params } = route.value;
  const state = overview.value;
  // Until the first state has arrived, it is not known whether there is a Prometheus.
  const long = about.value?.prometheus ?? true;
  const ranges = RANGES.map((value) => {
    const disabled = !long && !SHORT_RANGES.includes(value);
    return { value, label: value, disabled, title: disabled ? "Needs Prometheus: the sidecars remember one hour" : undefined };
  });
  return html`<form class="fields" aria-label="Filters" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <div class="field full"><span aria-hidden="true">Range${long ? "" : " (more than 1 h needs Prometheus)"}</span>
      <${Segments} legend="Range of the charts" name="range" value=${rangeOf(params)} options=${ranges}
        onChange=${(/** @type {string} */ range) => setParams({ range: range === "15m" ? undefined : range })} />
    </div>
    <${Select} label="Model" all="All models" value=${params.model ?? ""} options=${(state?.models ?? []).map((row) => row.model)}
      onChange=${(/** @type {string} */ model) => setParams({ model })} />
    <${Select} label="Tenant" all="All tenants" value=${params.tenant ?? ""}
      options=${(state?.tenants ?? []).map((row) => row.tenant).filter(Boolean)}
      onChange=${(/** @type {string} */ tenant) => setParams({ tenant })} />
  </form>`;
}

function Tiles() {
  const state = overview.value;
  if (!state) return null;
  const traffic = chosenTraffic(state, route.value.params);
  const errors = errorRate(traffic.outcomes);
  const share = traffic.requestsPerSecond ? errors / traffic.requestsPerSecond : 0;
  const byTenant = Boolean(route.value.params.tenant);
  const none = byTenant ? "not measured per tenant" : "none in flight";
  return html`<dl class="tiles ${isStale() ? "stale" : ""}" aria-label="Now">
    <${Tile} label="Tokens out" figure=${number(traffic.generationTokensPerSecond)} unit="tok/s" note="generated" />
    <${Tile} label="Tokens in" figure=${number(traffic.promptTokensPerSecond)} unit="tok/s" note="read from prompts" />
    <${Tile} label="Requests" figure=${number(traffic.requestsPerSecond)} unit="req/s" note="ended, last ${span(Math.round(state.windowSeconds))}" />
    <${Tile} label="Running" figure=${count(traffic.running)} note=${traffic.running ? "being answered" : none} />
    <${Tile} label="Waiting" figure=${count(traffic.waiting)} note=${traffic.waiting ? "in the queue" : byTenant ? none : "no queue"} />
    <${Latency} label="Time to first token, p95" short="TTFT" value=${traffic.ttft} byTenant=${byTenant} />
    <${Latency} label="Between chunks, p95" short="Inter-chunk" value=${traffic.interChunk} byTenant=${byTenant} />
    <${Tile} label="Errors" figure=${percent(share)} bad=${errors > 0} note=${errors > 0 ? `${number(errors)} per second` : "none"} />
  </dl>`;
}

/** @param {{label: string, figure: string, unit?: string, note: string, bad?: boolean}} props */
function Tile({ label, figure, unit, note, bad }) {
  return html`<div class="tile ${bad ? "bad" : ""}"><dt>${label}</dt>
    <dd class="figure">${figure}${unit && html`<span class="unit">${unit}</span>`}</dd><dd class="note">${note}</dd></div>`;
}

/** @param {{label: string, value: import("../types.js").Percentiles | null, byTenant: boolean}} props */
function Latency({ label, value, byTenant }) {
  const [figure, unit] = durationParts(value?.p95);
  // The note breaks between the percentiles, and not between a number and its unit.
  const note = value ? [["p50", value.p50], ["p99", value.p99]].map(([name, one]) => `${name} ${duration(Number(one))}`.replaceAll(" ", "\u00a0")).join(", ") : byTenant ? "not measured per tenant" : "nothing measured";
  return html`<${Tile} label=${label} figure=${figure} unit=${unit} note=${note} />`;
}

/** What to do when nothing has ever been sent. */
function FirstSteps() {
  const state = overview.value;
  const data = shown.value.data;
  const hadTraffic = data?.series.some((series) => series.values.some((value) => value));
  if (!state || !data || hadTraffic || state.total.requestsPerSecond > 0 || state.models.length > 0) return null;
  return html`<${Empty} title="No requests yet">
    <p>Send requests to the metering proxy instead of to Ollama, and they appear here within two seconds.
      ${about.value?.mode === "cluster" ? " The proxy is the Service of an endpoint:" : " It listens on port 11435, unless `llmendpoint up` has named another port:"}</p>
    <${Command} text=${firstRequest()} label="the request" />
    ${about.value?.mode !== "cluster" && html`<p>Or let a generator send some:</p><${Command} text="llmendpoint traffic" />`}
  <//><br />`;
}

/** @returns {string} */
function firstRequest() {
  if (about.value?.mode === "cluster") return "kubectl get llmendpoints --all-namespaces";
  return `curl http://127.0.0.1:11435/api/chat -d '{"model": "${exampleModel()}", "messages": [{"role": "user", "content": "Hello"}]}'`;
}
