/**
 * A table that is sorted by its headings and divided into pages.
 *
 * Thousands of rows are sorted, 50 are in the document. Pages rather than a virtual list: the browser's search, a screen
 * reader and the keyboard reach every row that is there. Roles are written out, because the cards of narrow screens
 * change `display`, after which browsers no longer treat the elements as a table.
 */
import { html, useEffect, useState } from "../lib.js";
import { count, NOTHING } from "../format.js";

const PAGE = 50;

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} id
 * @property {string} label
 * @property {(row: Row) => string | number | null | undefined} [value] what is sorted by, and shown without `cell`
 * @property {(row: Row) => any} [cell]
 * @property {string} [kind] classes: end (numbers), words, tight, wide
 * @property {boolean} [descending] whether the first click sorts downwards
 */

/** @typedef {{by: string, down: boolean}} Order */

/**
 * @template {{key: string}} Row
 * @param {{caption: string, columns: Column<Row>[], rows: Row[], order: Order, chosen?: string, cards?: boolean}} props
 */
export function Table({ caption, columns, rows, order: first, chosen, cards = true }) {
  const [order, setOrder] = useState(first);
  const [page, setPage] = useState(0);
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  const shown = Math.min(page, pages - 1);
  useEffect(() => { if (page > pages - 1) setPage(pages - 1); }, [pages]);
  const sorted = sortRows(rows, columns, order);
  const visible = sorted.slice(shown * PAGE, (shown + 1) * PAGE);
  return html`<div class=${cards ? "cards" : ""}>
    <${SortBy} columns=${columns} order=${order} onChange=${setOrder} />
    <div class="scroll" tabindex="0" role="region" aria-label=${caption}>
      <table role="table">
        <caption>${caption}</caption>
        <thead role="rowgroup"><tr role="row">
          ${columns.map((column) => html`<${Heading} key=${column.id} column=${column} order=${order} onChange=${setOrder} />`)}
        </tr></thead>
        <tbody role="rowgroup">
          ${visible.map((row) => html`<tr role="row" key=${row.key} class=${row.key === chosen ? "chosen" : ""}>
            ${columns.map((column, index) => html`<${Cell} key=${column.id} column=${column} row=${row} head=${index === 0} />`)}
          </tr>`)}
        </tbody>
      </table>
    </div>
    ${pages > 1 && html`<${Pager} page=${shown} pages=${pages} total=${rows.length} onChange=${setPage} />`}
  </div>`;
}

/**
 * @template Row
 * @param {Row[]} rows @param {Column<Row>[]} columns @param {Order} order @returns {Row[]}
 */
export function sortRows(rows, columns, order) {
  const value = columns.find((column) => column.id === order.by)?.value;
  if (!value) return rows;
  const sign = order.down ? -1 : 1;
  return rows
    .map((row) => ({ row, by: value(row) }))
    .sort((one, two) => {
      // What is unknown comes last in both directions.
      if (one.by == null || two.by == null) return Number(one.by == null) - Number(two.by == null);
      if (typeof one.by === "number" && typeof two.by === "number") return sign * (one.by - two.by);
      return sign * collator.compare(String(one.by), String(two.by));
    })
    .map((item) => item.row);
}

const collator = new Intl.Collator("en", { numeric: true });

/** @param {{column: Column<any>, order: Order, onChange: (order: Order) => void}} props */
function Heading({ column, order, onChange }) {
  const active = order.by === column.id;
  const sort = active ? (order.down ? "descending" : "ascending") : undefined;
  const down = active ? !order.down : Boolean(column.descending);
  return html`<th scope="col" role="columnheader" class=${column.kind ?? ""} aria-sort=${sort}>
    ${column.value
      ? html`<button type="button" class="sort" onClick=${() => onChange({ by: column.id, down })}>${column.label}
          ${active && html`<span aria-hidden="true">${order.down ? "↓" : "↑"}</span>`}</button>`
      : column.label}
  </th>`;
}

/** @param {{column: Column<any>, row: any, head: boolean}} props */
function Cell({ column, row, head }) {
  const content = column.cell ? column.cell(row) : column.value?.(row);
  const blank = content == null || content === "" || content === false;
  const text = blank ? NOTHING : content;
  return head
    ? html`<th scope="row" role="rowheader" class=${column.kind ?? ""}>${text}</th>`
    : html`<td role="cell" class="${column.kind ?? ""} ${blank ? "blank" : ""}" data-label=${column.label}>${text}</td>`;
}

/** @param {{columns: Column<any>[], order: Order, onChange: (order: Order) => void}} props */
function SortBy({ columns, order, onChange }) {
  const pick = (/** @type {any} */ event) => {
    const by = event.currentTarget.value;
    onChange({ by, down: Boolean(columns.find((column) => column.id === by)?.descending) });
  };
  if (!columns.some((column) => column.id === order.by)) return null;
  return html`<label class="field sortby"><span>Sort by</span>
    <select value=${order.by} onChange=${pick}>
      ${columns.filter((column) => column.value).map((column) => html`<option key=${column.id} value=${column.id}
        selected=${column.id === order.by}>${column.label}</option>`)}
    </select>
  </label>`;
}

/** @param {{page: number, pages: number, total: number, onChange: (page: number) => void}} props */
function Pager({ page, pages, total, onChange }) {
  const last = Math.min(total, (page + 1) * PAGE);
  return html`<nav class="pager" aria-label="Pages of the table">
    <button type="button" disabled=${page === 0} onClick=${() => onChange(page - 1)}>Previous</button>
    <span>${count(page * PAGE + 1)} to ${count(last)} of ${count(total)}</span>
    <button type="button" disabled=${page >= pages - 1} onClick=${() => onChange(page + 1)}>Next</button>
  </nav>`;
}
