/** Traffic that the filters choose, and which outcomes are errors. */

/** @typedef {import("../types.js").Traffic} Traffic */

/** Outcomes that are not errors, as in the totals of a sidecar and in the history. */
const FINE = new Set(["ok", "length", "load", "unload"]);

/** @param {string} outcome @returns {boolean} */
export function isError(outcome) {
  return !FINE.has(outcome);
}

/** Errors per second. @param {Record<string, number>} outcomes @returns {number} */
export function errorRate(outcomes) {
  return Object.entries(outcomes).reduce((sum, [name, rate]) => sum + (isError(name) ? rate : 0), 0);
}

/** @type {Traffic} */
const NO_TRAFFIC = {
  promptTokensPerSecond: 0, generationTokensPerSecond: 0, requestsPerSecond: 0, running: 0, waiting: 0,
  ttft: null, interChunk: null, outcomes: {},
};

/**
 * The traffic now for the filters in the URL. With a model and a tenant it is the tenant's, because there is no
 * traffic now by both; the charts are filtered by both.
 * @param {import("../types.js").Overview} state @param {Record<string, string>} params @returns {Traffic}
 */
export function chosenTraffic(state, params) {
  if (params.tenant) return state.tenants.find((row) => row.tenant === params.tenant) ?? { ...NO_TRAFFIC, running: null, waiting: null };
  if (params.model) return state.models.find((row) => row.model === params.model) ?? NO_TRAFFIC;
  return state.total;
}
