/** The header: pages, the state of the connection, pause, theme. */
import { html, useEffect } from "../lib.js";
import { age } from "../format.js";
import { link } from "../live/feed.js";
import { about, doctor, loadtests, paused, setPaused } from "../live/store.js";
import { href, PAGES, route } from "../route.js";
import { setTheme, theme } from "../theme.js";
import { say } from "./announce.js";
import { Icon } from "./icons.js";
import { dataAge } from "./notices.js";

/** @type {Record<string, string>} */
export const TITLES = {
  overview: "Overview",
  models: "Models",
  endpoints: "Endpoints",
  loadtests: "Load tests",
  requests: "Requests",
  doctor: "Doctor",
};

export function Top() {
  return html`<header class="top"><div class="bar">
    <a class="brand" href=${href("overview")} aria-label="llmendpoint, to the overview">
      <img src="web/icon.svg" alt="" /><span>llmendpoint</span>
    </a>
    <${Pages} />
    <div class="tools"><${LinkState} /><${Pause} /><${ThemeSwitch} /></div>
  </div></header>`;
}

function Pages() {
  const { page, params } = route.value;
  useEffect(() => {
    // On a narrow screen the pages are a row that scrolls.
    document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [page]);
  // A machine has no endpoints of a cluster. A link to the page still works, and the page explains it.
  const shown = PAGES.filter((name) => name !== "endpoints" || about.value?.mode === "cluster" || page === name);
  return html`<nav class="nav" aria-label="Pages">
    ${shown.map((name) => html`<a key=${name} href=${href(name, kept(name, params))}
      aria-current=${name === page ? "page" : undefined}>${TITLES[name]}<${Tally} page=${name} /></a>`)}
  </nav>`;
}

/** The filters that mean the same on another page. @param {string} name @param {Record<string, string>} params */
function kept(name, params) {
  const { range, model, tenant } = params;
  if (name === "overview") return { range, model, tenant };
  return name === "requests" ? { model, tenant } : {};
}

/** @param {{page: string}} props */
function Tally({ page }) {
  if (page === "doctor") {
    const bad = (doctor.value ?? []).filter((row) => row.severity === "error").length;
    return bad > 0 && html`<span class="number bad" aria-label="${bad} errors">${bad}</span>`;
  }
  if (page !== "loadtests") return null;
  const active = (loadtests.value ?? []).filter((row) => row.state === "running").length;
  return active > 0 && html`<span class="number info" aria-label="${active} running">${active}</span>`;
}

const STATES = /** @type {const} */ ({
  connecting: ["Connecting", "", "wait"],
  live: ["Live", "good", "dot"],
  polling: ["Polling every 2 s", "warn", "warn"],
  lost: ["No connection", "bad", "bad"],
  asleep: ["Paused while hidden", "", "pause"],
});

function LinkState() {
  const [word, tone, icon] = STATES[link.value];
  return html`<span class="link ${tone}" id="link" data-link=${link.value}><${Icon} name=${icon} />${word}<${Age} /></span>`;
}

/** How old the shown data are, if they are not live. */
function Age() {
  if (link.value === "live" || link.value === "connecting") return null;
  const seconds = dataAge();
  return html`<span>${seconds == null || (link.value === "polling" && seconds < 5) ? "" : `, data ${age(seconds)} old`}</span>`;
}

function Pause() {
  const toggle = () => {
    setPaused(!paused.peek());
    say(paused.peek() ? "Updates are paused." : "Updates continue.");
  };
  return html`<button type="button" aria-pressed=${paused.value} onClick=${toggle} title="Hold the shown data still">
    <${Icon} name=${paused.value ? "play" : "pause"} /><span class=${paused.value ? "" : "hidden-text"}>${paused.value ? "Resume" : "Pause updates"}</span>
  </button>`;
}

function ThemeSwitch() {
  return html`<label><span class="hidden-text">Theme</span>
    <select value=${theme.value} onChange=${(/** @type {any} */ event) => setTheme(event.currentTarget.value)} title="Theme">
      <option value="system">Auto</option><option value="light">Light</option><option value="dark">Dark</option>
    </select>
  </label>`;
}
