/** The dashboard: the frame of the page, and the page that the URL names. */
import { effect, html, render, useEffect, useErrorBoundary } from "./lib.js";
import { link, start } from "./live/feed.js";
import { follow } from "./live/history.js";
import { about } from "./live/store.js";
import { DoctorPage } from "./pages/doctor.js";
import { EndpointsPage } from "./pages/endpoints.js";
import { LoadTestsPage } from "./pages/loadtests.js";
import { ModelsPage } from "./pages/models.js";
import { OverviewPage } from "./pages/overview.js";
import { RequestsPage } from "./pages/requests.js";
import { route } from "./route.js";
import { Announcer, say } from "./ui/announce.js";
import { Head } from "./ui/parts.js";
import { Notices } from "./ui/notices.js";
import { TITLES, Top } from "./ui/top.js";

/** @type {Record<string, () => any>} */
const VIEWS = {
  overview: OverviewPage,
  models: ModelsPage,
  endpoints: EndpointsPage,
  loadtests: LoadTestsPage,
  requests: RequestsPage,
  doctor: DoctorPage,
};

function App() {
  const { page, params } = route.value;
  const view = `${page} ${params.run ?? ""} ${params.view ?? ""}`;
  useEffect(() => { document.title = `${TITLES[page]} · llmendpoint`; }, [page]);
  return html`
    <a class="skip" href="#title" onClick=${skip}>Skip to the content</a>
    <${Top} />
    <main id="main">
      <${Notices} />
      <${Guarded} key=${view} view=${VIEWS[page]} />
    </main>
    <footer class="foot">${about.value && `llmendpoint ${about.value.version}. Prompts and answers are never recorded.`}</footer>
    <${Announcer} />`;
}

/** A view. If it fails, the frame of the page stays, and shows the error. @param {{view: () => any}} props */
function Guarded({ view }) {
  const [error, reset] = useErrorBoundary((/** @type {unknown} */ fault) => console.error(fault));
  if (!error) return html`<${view} />`;
  return html`<${Head} title="This page failed" lead=${String(error)} />
    <p><button type="button" onClick=${reset}>Show it again</button></p>`;
}

// The hash is the state of the page, so an ordinary link to an anchor would change the page.
function skip(/** @type {Event} */ event) {
  event.preventDefault();
  focusTitle();
}

function focusTitle() {
  document.getElementById("title")?.focus();
}

let wasLost = false;
effect(() => {
  if (link.value === "lost" && !wasLost) say("The connection to the dashboard's server is lost.");
  if (link.value === "live" && wasLost) say("The connection is back.");
  if (link.value === "lost" || link.value === "live") wasLost = link.value === "lost";
});

let before = "";
// Another page, or another view of one, begins at its heading, for the keyboard and for screen readers.
effect(() => {
  const { page, params } = route.value;
  const view = `${page} ${params.run ?? ""} ${params.view ?? ""}`;
  if (before && before !== view) {
    requestAnimationFrame(() => {
      scrollTo(0, 0);
      focusTitle();
    });
  }
  before = view;
});

const place = document.getElementById("app");
if (place) {
  place.textContent = "";
  render(html`<${App} />`, place);
}
follow();
start();
