/** Notices above the content of every page: the data are simulated, old, or not live. */
import { html } from "../lib.js";
import { age } from "../format.js";
import { now } from "../live/clock.js";
import { lastArrival, link } from "../live/feed.js";
import { about, paused } from "../live/store.js";
import { Banner } from "./parts.js";

const OLD_SECONDS = 10;

/** The seconds since something last arrived, or null if nothing has. @returns {number | null} */
export function dataAge() {
  void now.value;
  return lastArrival.value == null ? null : (Date.now() - lastArrival.value) / 1000;
}

/** Whether the shown numbers are no longer those of now. @returns {boolean} */
export function isStale() {
  if (paused.value) return true;
  if (link.value !== "live" && (dataAge() ?? 0) > OLD_SECONDS) return true;
  const sources = about.value?.sources ?? [];
  return sources.length > 0 && sources.every((source) => source.state !== "ok");
}

export function Notices() {
  const sources = about.value?.sources ?? [];
  const simulated = sources.filter((source) => source.simulated).map((source) => source.name);
  return html`
    ${simulated.length > 0 && html`<${Banner} tone="info" title="Simulated">${simulation(simulated, sources.length)}<//>`}
    <${Connection} />
    ${sources.filter((source) => source.state !== "ok" || source.message).map((source) => html`<${SourceNotice} key=${source.name} source=${source} />`)}
    ${about.value?.cluster && html`<${Banner} tone="warn" title="Cluster">${about.value.cluster}<//>`}
    ${about.value?.prometheusMessage && html`<${Banner} tone="warn" title="Prometheus">${about.value.prometheusMessage}<//>`}
    ${paused.value && html`<${Banner} tone="warn" title="Paused">The shown data stand still until you resume.<//>`}`;
}

/** @param {string[]} names @param {number} of @returns {string} */
function simulation(names, of) {
  const who = names.length < of ? `The answers of ${names.join(", ")} come` : "All answers come";
  return `${who} from the simulator and not from a model. Tokens and times are made up; everything else is measured.`;
}

function Connection() {
  if (link.value !== "lost") return null;
  const seconds = dataAge();
  return html`<${Banner} tone="bad" title="No connection">The dashboard's server does not answer.
    ${seconds != null && ` The data are ${age(seconds)} old.`} The page tries again by itself.<//>`;
}

/** @param {{source: import("../types.js").Source}} props */
function SourceNotice({ source }) {
  if (source.state === "ok") return html`<${Banner} tone="warn" title=${source.name}>${source.message}<//>`;
  const seen = source.lastSeen == null ? "it has never answered" : `last seen ${age(now.value - source.lastSeen)} ago`;
  const title = source.state === "stale" ? `${source.name} is stale` : `${source.name} is down`;
  return html`<${Banner} tone=${source.state === "stale" ? "warn" : "bad"} title=${title}>
    ${source.message || `The sidecar at ${source.url} does not answer.`} (${seen})<//>`;
}
