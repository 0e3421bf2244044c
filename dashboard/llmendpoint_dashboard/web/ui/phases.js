/** The time of a request as one bar: queue, load, prefill, decode, and what Ollama does not explain. */
import { html } from "../lib.js";
import { duration } from "../format.js";

/** @typedef {import("../types.js").RequestRow} RequestRow */

export const PHASES = /** @type {const} */ (["queue", "load", "prefill", "decode"]);
/** @type {Record<string, string>} */
const MEANINGS = {
  queue: "queue: waiting for a slot",
  load: "load: the model comes into memory",
  prefill: "prefill: the prompt is read",
  decode: "decode: the answer is generated",
  other: "other: proxy, network, unexplained",
};

/** A bar whose length is the duration beside the longest one. @param {{row: RequestRow, longest: number}} props */
export function Phases({ row, longest }) {
  const known = PHASES.map((name) => ({ name, seconds: row[name] ?? 0 })).filter((part) => part.seconds > 0);
  const total = known.reduce((sum, part) => sum + part.seconds, 0);
  const parts = [...known, { name: "other", seconds: Math.max(0, row.duration - total) }];
  const scale = longest > 0 ? 100 / Math.max(longest, total) : 0;
  let left = 0;
  return html`<svg class="parts" role="img" aria-label=${spoken(parts)} viewBox="0 0 100 12" preserveAspectRatio="none">
    ${parts.map((part) => {
      const x = left * scale;
      left += part.seconds;
      return html`<rect key=${part.name} class="phase-${part.name}" x=${x} width=${Math.max(0, part.seconds * scale - 0.3)} height="12"><title>${part.name} ${duration(part.seconds)}</title></rect>`;
    })}
  </svg>`;
}

/** @param {{name: string, seconds: number}[]} parts @returns {string} */
function spoken(parts) {
  return parts.filter((part) => part.seconds > 0).map((part) => `${part.name} ${duration(part.seconds)}`).join(", ") || "no time";
}

export function PhaseKeys() {
  return html`<ul class="keys">${Object.entries(MEANINGS).map(([name, meaning]) => html`<li key=${name}>
    <svg viewBox="0 0 20 8" aria-hidden="true"><rect class="key-${name}" width="20" height="8" rx="2" /></svg>${meaning}</li>`)}</ul>`;
}
