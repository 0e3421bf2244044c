/** The history behind the charts: fetched for the range and filters in the URL, and again for each new step. */
import { effect, signal } from "../lib.js";
import { route } from "../route.js";
import { caughtUp } from "./feed.js";
import { getJson } from "./http.js";
import { paused } from "./store.js";

/** @typedef {import("../types.js").History} History */
/** @typedef {{wanted: string, data: History | null, error: string}} Shown */

export const RANGES = /** @type {const} */ (["15m", "1h", "6h", "24h", "7d"]);
/** Ranges that the sidecars remember. Longer ones need Prometheus. */
export const SHORT_RANGES = ["15m", "1h"];
const FASTEST_MS = 2000;
const SLOWEST_MS = 60000;

export const shown = signal(/** @type {Shown} */ ({ wanted: "", data: null, error: "" }));

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {AbortController | null} */
let running = null;

/** The range in the URL, or 15 minutes. @param {Record<string, string>} params @returns {string} */
export function rangeOf(params) {
  return RANGES.find((range) => range === params.range) ?? "15m";
}

/** Keep the history current while the overview is shown. */
export function follow() {
  effect(() => {
    const { page, params } = route.value;
    void caughtUp.value;
    clearTimeout(timer);
    running?.abort();
    const wanted = query(params);
    if (page === "overview" && (!paused.value || shown.peek().wanted !== wanted)) void load(wanted);
  });
}

/** @param {Record<string, string>} params @returns {string} */
function query(params) {
  const wanted = new URLSearchParams({ range: rangeOf(params) });
  if (params.model) wanted.set("model", params.model);
  if (params.tenant) wanted.set("tenant", params.tenant);
  return wanted.toString();
}

/** @param {string} wanted */
async function load(wanted) {
  const mine = new AbortController();
  running = mine;
  // A chart of other data must not stay under the new filter.
  if (shown.peek().wanted !== wanted) shown.value = { wanted, data: null, error: "" };
  let wait = FASTEST_MS;
  if (!document.hidden) {
    try {
      const data = /** @type {History} */ (await getJson(`api/v1/history?${wanted}`, mine.signal));
      wait = Math.min(Math.max(data.step * 1000, FASTEST_MS), SLOWEST_MS);
      shown.value = { wanted, data, error: "" };
    } catch (error) {
      if (mine.signal.aborted) return;
      shown.value = { ...shown.peek(), error: error instanceof Error ? error.message : String(error) };
    }
  }
  if (!mine.signal.aborted && !paused.peek()) timer = setTimeout(() => void load(wanted), wait);
}
