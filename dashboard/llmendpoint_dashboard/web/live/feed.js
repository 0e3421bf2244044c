/**
 * The connection to the server: server-sent events, and polling while events do not come through.
 *
 * - A lost connection is opened again by the browser, which sends `Last-Event-ID`. If the server refused it, the page
 *   tries again itself after 1 s.
 * - After 2 failures in a row, or one before the first event, the page polls every 2 s with an ETag, and tries events
 *   again every 15 s, or as soon as a server that was away answers again. Only a poll without an answer shows that the
 *   connection is lost: something on the way may refuse only streams.
 * - Some proxies pass responses on but hold streams back. The server sends the state first, so a stream that has brought
 *   nothing for 5 s is held back, and the page polls.
 * - If the login has ended, the page is loaded again, and the server shows its form.
 * - Heartbeats are comments, which a page cannot see. If nothing has arrived for 15 s, the page asks once whether it has
 *   missed something.
 * - A page that has been hidden for 10 s closes the connection, and gets the whole state when it is seen again.
 */
import { signal } from "../lib.js";
import { applyRows, applySection, applyState } from "./store.js";

const FAILURES_BEFORE_POLLING = 2;
const POLL_MS = 2000;
const AGAIN_MS = 1000;
const RETRY_MS = 15000;
const SILENCE_MS = 15000;
const FIRST_EVENT_MS = 5000;
const HIDDEN_MS = 10000;

/** @typedef {"connecting" | "live" | "polling" | "lost" | "asleep"} Link */

export const link = signal(/** @type {Link} */ ("connecting"));
/** When something last arrived, in milliseconds of the browser's clock. Null: nothing has arrived yet. */
export const lastArrival = signal(/** @type {number | null} */ (null));
/** How often the page caught up: charts fetch their history again. */
export const caughtUp = signal(0);

/** @type {EventSource | null} */
let source = null;
let failures = 0;
let away = false;
let etag = "";
/** @type {Record<string, ReturnType<typeof setTimeout> | undefined>} */
const timers = {};

/** @param {string} name @param {number} delay @param {() => void} action */
function later(name, delay, action) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(action, delay);
}

/** Connect, and stay connected while the page is seen. */
export function start() {
  document.addEventListener("visibilitychange", onVisibility);
  addEventListener("online", reopen);
  open();
}

function open() {
  source?.close();
  source = new EventSource("api/v1/events");
  source.onerror = onError;
  source.addEventListener("state", (event) => arrived(event, applyState));
  source.addEventListener("section", (event) => arrived(event, applySection));
  source.addEventListener("rows", (event) => arrived(event, applyRows));
  source.onopen = onOpen;
  later("silence", FIRST_EVENT_MS, usePolling);
}

function reopen() {
  failures = 0;
  open();
}

function onOpen() {
  // After a short break the server has nothing to send if nothing has changed.
  if (link.peek() === "live") watch();
}

/** @param {MessageEvent} event @param {(value: any) => void} apply */
function arrived(event, apply) {
  failures = 0;
  away = false;
  lastArrival.value = Date.now();
  // The ID of an event is the version of the state, which is also its ETag.
  if (event.lastEventId) etag = `"${event.lastEventId}"`;
  if (link.peek() !== "live") {
    link.value = "live";
    caughtUp.value++;
    clearTimeout(timers.poll);
    clearTimeout(timers.retry);
  }
  watch();
  apply(JSON.parse(event.data));
}

function watch() {
  later("silence", SILENCE_MS, () => void poll().then((answer) => {
    if (answer === "same") watch();
    else if (answer === "changed") usePolling();
    else reopen();
  }));
}

function onError() {
  failures++;
  clearTimeout(timers.silence);
  // The server ends a stream from time to time, and the browser opens it again. That is not a loss.
  if (failures >= FAILURES_BEFORE_POLLING || link.peek() === "connecting") usePolling();
  else if (source?.readyState === EventSource.CLOSED) later("retry", AGAIN_MS, open);
  else later("silence", FIRST_EVENT_MS, usePolling);
}

function usePolling() {
  source?.close();
  // The first poll shows whether the server answers.
  if (link.peek() === "live") link.value = "connecting";
  clearTimeout(timers.silence);
  later("retry", RETRY_MS, open);
  keepPolling();
}

function keepPolling() {
  void poll().then((answer) => {
    if (link.peek() === "live" || link.peek() === "asleep") return;
    link.value = answer === "none" ? "lost" : "polling";
    // A server that was away has started again, and probably serves events.
    if (answer !== "none" && away) later("retry", 0, reopen);
    away = answer === "none";
    later("poll", POLL_MS, keepPolling);
  });
}

/** Fetch the whole state if it has changed. @returns {Promise<"changed" | "same" | "none">} none: no answer */
async function poll() {
  try {
    const response = await fetch("api/v1/state", { cache: "no-store", headers: etag ? { "If-None-Match": etag } : {} });
    if (response.status === 401) location.reload();
    if (response.status !== 200 && response.status !== 304) return "none";
    lastArrival.value = Date.now();
    if (response.status === 304) return "same";
    etag = response.headers.get("ETag") ?? "";
    applyState(await response.json());
    return "changed";
  } catch {
    return "none";
  }
}

function onVisibility() {
  clearTimeout(timers.hidden);
  if (document.hidden) later("hidden", HIDDEN_MS, sleep);
  else if (link.peek() === "asleep") {
    link.value = "connecting";
    reopen();
  } else caughtUp.value++;
}

function sleep() {
  for (const timer of Object.values(timers)) clearTimeout(timer);
  source?.close();
  link.value = "asleep";
}
