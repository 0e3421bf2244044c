/** One load test: its verdict, objectives, latencies, categories and errors. */
import { html, useEffect, useState } from "../lib.js";
import { count, dateTime, duration, number, percent, words } from "../format.js";
import { getJson } from "../live/http.js";
import { loadtests } from "../live/store.js";
import { href } from "../route.js";
import { say } from "../ui/announce.js";
import { Banner, Command, Head, Loading } from "../ui/parts.js";
import { Active } from "./loadtests.js";
import { Objectives, verdictTone, verdictWord } from "./loadtest_parts.js";
import { Categories, ErrorClasses, Latencies } from "./loadtest_tables.js";

/** @typedef {import("../types.js").LoadTestRow} LoadTestRow */

/** @param {{run: string}} props */
export function LoadTestDetailView({ run }) {
  const row = loadtests.value?.find((item) => item.key === run);
  const [summary, setSummary] = useState(/** @type {Record<string, any> | null} */ (null));
  const [fault, setFault] = useState("");
  const state = row?.state;
  useEffect(() => {
    if (state !== "ended") return undefined;
    const gone = new AbortController();
    getJson(`api/v1/loadtests/${encodeURIComponent(run)}`, gone.signal).then(
      (detail) => setSummary(detail.summary),
      (error) => { if (!gone.signal.aborted) setFault(error.message); },
    );
    return () => gone.abort();
  }, [run, state]);
  useAnnouncedEnd(row);
  if (!loadtests.value) return html`<${Head} title="Load test" /><${Loading} />`;
  if (!row) return html`<${Head} title="Load test" /><p>There is no load test with the key <code>${run}</code>. <a href=${href("loadtests")}>All load tests</a></p>`;
  return html`<${Head} title=${row.name}>
      <a class="button" href=${href("loadtests")}>All load tests</a>
      ${row.state === "ended" && html`<a class="button" href=${href("loadtests", { view: "compare", b: row.key })}>Compare</a>`}
      ${row.hasReport && html`<a class="button primary" href="api/v1/loadtests/${encodeURIComponent(row.key)}/report.html" target="_blank" rel="noopener">Open the report</a>`}
    <//>
    <div class="stack">
      ${row.state === "ended" ? html`<${Ended} row=${row} summary=${summary} />` : html`<${Active} row=${row} hasHeading=${true} />`}
      ${!row.hasReport && row.reportCommand && html`<section class="card"><h2>Report</h2><${Command} text=${row.reportCommand} /></section>`}
      ${fault && html`<${Banner} tone="warn" title="No details">${fault}<//>`}
    </div>`;
}

/** Say the verdict of a run that ends while it is shown. @param {LoadTestRow | undefined} row */
function useAnnouncedEnd(row) {
  const [was, setWas] = useState(row?.state);
  useEffect(() => {
    if (row && row.state === "ended" && was && was !== "ended") say(`Load test ${row.name} has ended: ${verdictWord(row)}. ${row.message}`);
    setWas(row?.state);
  }, [row?.state]);
}

/** @param {{row: LoadTestRow, summary: Record<string, any> | null}} props */
function Ended({ row, summary }) {
  return html`
    <section class="card verdict ${verdictTone(row.verdict)}">
      <h2>${verdictWord(row)}${row.reason && html` <span class="soft small">${words(row.reason)}</span>`}</h2>
      <p>${row.message}</p>
      ${row.objectives.length > 0 && html`<${Objectives} rows=${row.objectives} isFinal=${true} />`}
    </section>
    <section class="card"><h2>Run</h2><${Facts} row=${row} summary=${summary} /></section>
    ${summary && html`<${Latencies} summary=${summary} /><${Categories} summary=${summary} /><${ErrorClasses} summary=${summary} />`}`;
}

/** @param {{row: LoadTestRow, summary: Record<string, any> | null}} props */
function Facts({ row, summary }) {
  const lasted = row.started != null && row.ended != null ? duration(row.ended - row.started) : "";
  /** @type {[string, any][]} */
  const facts = [
    ["Model", row.model],
    ["Started", dateTime(row.started)],
    ["Lasted", lasted],
    ["Requests", count(row.requests)],
    ["Errors", row.errors ? `${count(row.errors)} (${percent(row.errors / Math.max(1, row.requests))})` : "0"],
    ["Rate", row.requestsPerSecond == null ? "" : `${number(row.requestsPerSecond)} req/s`],
    ["Tokens out", summary?.outputTokens == null ? "" : count(summary.outputTokens)],
    ["Tokens per second", summary?.outputTokensPerSecond ? `${number(summary.outputTokensPerSecond.value)} tok/s` : ""],
  ];
  return html`<dl class="facts four">
    ${facts.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    <div class="wide"><dt>Load</dt><dd>${row.load}</dd></div>
    ${row.target && html`<div class="wide"><dt>Target</dt><dd><code>${row.target}</code></dd></div>`}
    ${summary?.unknown?.length > 0 && html`<div class="wide"><dt>Not measured</dt>${summary?.unknown.map((/** @type {string} */ sentence) => html`<dd key=${sentence}>${sentence}</dd>`)}</div>`}
  </dl>`;
}
