/**
 * A chart over time, with a legend that shows values, and a table with the same numbers behind a button.
 *
 * The plot is an image for screen readers, which get one sentence and the table. uPlot draws on a canvas and sets styles
 * through the CSSOM, which the policy of the page allows.
 */
import { html, useEffect, useRef, useState, UPlot } from "../lib.js";
import { clockTime, dateTime, NOTHING } from "../format.js";
import { colour, repaint } from "../theme.js";
import { options } from "./plot.js";

/** @typedef {{label: string, colour: string, dash?: number[], values: (number | null)[]}} Line */

/**
 * @param {{id: string, title: string, note?: string, times: number[] | null, lines: Line[], waiting: string, wide?: boolean,
 *   format: (value: number | null | undefined) => string}} props
 */
export function Chart(props) {
  const [asTable, setAsTable] = useState(false);
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const { id, title, note, times, lines, waiting } = props;
  const empty = !times || times.length === 0 || lines.every((line) => line.values.every((value) => value == null));
  const shown = at != null && times && at < times.length ? at : null;
  return html`<section class="card ${props.wide ? "wide-chart" : ""}" aria-labelledby=${id}><figure>
    <div class="cardhead">
      <h2 id=${id}>${title}</h2>${note && html`<span class="soft small">${note}</span>`}
      <button type="button" class="quiet end" aria-pressed=${asTable} onClick=${() => setAsTable(!asTable)}
        aria-label="Show ${title} as a table">${asTable ? "Chart" : "Table"}</button>
    </div>
    ${!empty && html`<${Keys} lines=${lines} times=${times} at=${shown} format=${props.format} />`}
    ${asTable
      ? html`<${Twin} ...${props} />`
      : html`<${Plot} ...${props} empty=${empty} onCursor=${setAt} waiting=${waiting} />`}
  </figure></section>`;
}

/** @param {{lines: Line[], times: number[], at: number | null, format: (value: number | null | undefined) => string}} props */
function Keys({ lines, times, at, format }) {
  return html`<ul class="keys">
    ${lines.map((line) => html`<li key=${line.label}>
      <svg viewBox="0 0 20 8" aria-hidden="true"><line x1="0" y1="4" x2="20" y2="4" stroke="var(--${line.colour})"
        stroke-width="2.5" stroke-dasharray=${(line.dash ?? []).join(" ")} /></svg>
      ${line.label} <b>${format(at == null ? lastOf(line.values) : line.values[at])}</b>
    </li>`)}
    ${at != null && html`<li class="time">${clockTime(times[at])}</li>`}
  </ul>`;
}

/** Steps at the end of which a value counts as current. The newest two may not be complete. */
const CURRENT_STEPS = 3;

/** The current value, or null if none was measured lately. @param {(number | null)[]} values @returns {number | null} */
function lastOf(values) {
  return values.slice(-CURRENT_STEPS).findLast((value) => value != null) ?? null;
}

/** @param {any} props */
function Plot({ title, times, lines, format, empty, waiting, onCursor }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {UPlot | null} */ (null));
  const shape = lines.map((/** @type {Line} */ line) => `${line.label}/${line.colour}`).join();
  const painted = repaint.value;
  useEffect(() => {
    const element = place.current;
    if (!element || empty) return undefined;
    const chart = new UPlot(options(lines, element.clientWidth, format, colour, onCursor), data(times, lines), element);
    plot.current = chart;
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: chart.height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [shape, painted, empty]);
  useEffect(() => { if (times) plot.current?.setData(data(times, lines)); }, [times, lines]);
  return html`<div class="plot ${empty ? "empty" : ""}" role="img" aria-label=${spoken(title, lines, format, empty, waiting)}>
    <div ref=${place}></div>
    ${empty && html`<div class="waiting">${waiting}</div>`}
  </div>`;
}

/** @param {number[]} times @param {Line[]} lines @returns {any} */
function data(times, lines) {
  return [times, ...lines.map((line) => line.values)];
}

/** @param {string} title @param {Line[]} lines @param {(value: number | null) => string} format @param {boolean} empty
 * @param {string} waiting @returns {string} */
function spoken(title, lines, format, empty, waiting) {
  if (empty) return `${title}: ${waiting}`;
  return `${title}: ${lines.map((line) => `${line.label} ${format(lastOf(line.values))}`).join(", ")}. The table has all values.`;
}

/** The same numbers as a table, the newest first. @param {any} props */
function Twin({ title, times, lines, format }) {
  const rows = (times ?? []).map((/** @type {number} */ time, /** @type {number} */ index) => ({ time, index })).reverse();
  const isLong = rows.length > 1 && rows[0].time - rows[rows.length - 1].time > 86400;
  return html`<div class="scroll tall" tabindex="0" role="region" aria-label="${title}, as a table">
    <table>
      <caption>${title}, newest first</caption>
      <thead><tr><th scope="col">Time</th>${lines.map((/** @type {Line} */ line) => html`<th scope="col" class="end">${line.label}</th>`)}</tr></thead>
      <tbody>${rows.map((/** @type {{time: number, index: number}} */ row) => html`<tr key=${row.time}>
        <th scope="row">${isLong ? dateTime(row.time) : clockTime(row.time)}</th>
        ${lines.map((/** @type {Line} */ line) => html`<td class="end">${line.values[row.index] == null ? NOTHING : format(line.values[row.index])}</td>`)}
      </tr>`)}</tbody>
    </table>
  </div>`;
}
