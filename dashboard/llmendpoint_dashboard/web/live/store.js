/**
 * The state of the server, as signals, one per section.
 *
 * Messages are applied when they arrive, and shown once per animation frame, however many there were. A hidden page has
 * no frames: it applies, and shows everything when it is seen again.
 */
import { batch, signal } from "../lib.js";

const TABLES = ["models", "endpoints", "loadtests", "requests", "doctor"];

/** Sections with one value. Null: not received yet. */
export const about = signal(/** @type {import("../types.js").About | null} */ (null));
export const overview = signal(/** @type {import("../types.js").Overview | null} */ (null));

/** Tables. Null: not received yet. */
export const models = signal(/** @type {import("../types.js").ModelRow[] | null} */ (null));
export const endpoints = signal(/** @type {import("../types.js").EndpointRow[] | null} */ (null));
export const loadtests = signal(/** @type {import("../types.js").LoadTestRow[] | null} */ (null));
export const requests = signal(/** @type {import("../types.js").RequestRow[] | null} */ (null));
export const doctor = signal(/** @type {import("../types.js").FindingRow[] | null} */ (null));

/** A model that the commands on the pages name: one that an Ollama has, if any is known. @returns {string} */
export function exampleModel() {
  return models.value?.[0]?.name ?? "llama3.2:3b";
}

/** Whether the shown data stand still. They are still received. */
export const paused = signal(false);

/** @type {Record<string, {value: any}>} */
const shown = { about, overview, models, endpoints, loadtests, requests, doctor };
/** @type {Map<string, any>} */
const received = new Map();
/** @type {Set<string>} */
const changed = new Set();
let scheduled = false;

/** @param {string} name @param {any} value */
function set(name, value) {
  if (TABLES.includes(name)) {
    const rows = Array.isArray(value) ? value : [];
    received.set(name, new Map(rows.map((row) => [row.key, row])));
  } else received.set(name, value);
  changed.add(name);
}

/** The whole state replaces what there was. @param {{sections: Record<string, any>}} state */
export function applyState(state) {
  for (const name of Object.keys(shown)) set(name, state.sections[name] ?? null);
  schedule();
}

/** @param {{name: string, value: any}} section */
export function applySection(section) {
  set(section.name, section.value);
  schedule();
}

/** @param {{name: string, upsert?: {key: string}[], remove?: string[]}} rows */
export function applyRows(rows) {
  const table = received.get(rows.name) ?? new Map();
  for (const key of rows.remove ?? []) table.delete(key);
  for (const row of rows.upsert ?? []) table.set(row.key, row);
  received.set(rows.name, table);
  changed.add(rows.name);
  schedule();
}

function schedule() {
  if (scheduled || paused.peek()) return;
  scheduled = true;
  requestAnimationFrame(publish);
}

function publish() {
  scheduled = false;
  batch(() => {
    for (const name of changed) {
      const value = received.get(name);
      if (name in shown) shown[name].value = value instanceof Map ? [...value.values()] : value;
    }
  });
  changed.clear();
}

/** @param {boolean} value */
export function setPaused(value) {
  paused.value = value;
  if (!value) schedule();
}
