/** Small parts that every page uses: badges, banners, commands to copy, empty states, progress. */
import { html, useEffect, useState } from "../lib.js";
import { percent } from "../format.js";
import { say } from "./announce.js";
import { Icon } from "./icons.js";

/** @typedef {import("./icons.js").IconName} IconName */
/** @typedef {"good" | "bad" | "warn" | "info" | "wait" | ""} Tone */

/** @param {{tone: Tone, children: any}} props */
export function Badge({ tone, children }) {
  return html`<span class="badge ${tone === "wait" ? "" : tone}">${tone && html`<${Icon} name=${tone} />`}${children}</span>`;
}

/** @param {{tone: "info" | "warn" | "bad", title: string, children?: any}} props */
export function Banner({ tone, title, children }) {
  return html`<div class="banner ${tone}"><b>${title}</b> <span>${children}</span></div>`;
}

/** A command or a file with a button that copies it. @param {{text: string, label?: string}} props */
export function Command({ text, label = "the command" }) {
  return html`<div class="command">
    <pre tabindex="0" role="group" aria-label=${sentenceCase(label)}><code>${text}</code></pre>
    <${CopyButton} text=${text} label=${label} />
  </div>`;
}

/** @param {string} text @returns {string} */
function sentenceCase(text) {
  const words = text.replace(/^the /, "");
  return words[0].toUpperCase() + words.slice(1);
}

/** @param {{text: string, label: string}} props */
function CopyButton({ text, label }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 2000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    await copyText(text);
    setDone(true);
    say(`Copied ${label}.`);
  };
  return html`<button type="button" onClick=${() => void copy()} aria-label="Copy ${label}">${done ? "Copied" : "Copy"}</button>`;
}

/** Copy text. The clipboard API is absent on pages without TLS, other than on this machine. @param {string} text */
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** The content of a page without data: the reason, and what to do. @param {{title: string, children: any}} props */
export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

export function Loading() {
  return html`<p class="starting">Waiting for the first data…</p>`;
}

/** The heading of a page. It takes the focus when the page changes. @param {{title: string, lead?: string, children?: any}} props */
export function Head({ title, lead, children }) {
  return html`<div class="head">
    <h1 id="title" tabindex="-1">${title}</h1>
    ${children && html`<div class="actions">${children}</div>`}
    ${lead && html`<p class="lead">${lead}</p>`}
  </div>`;
}

/** A bar that is filled to a share, with the number beside it. @param {{share: number, label: string}} props */
export function Progress({ share, label }) {
  const part = Math.max(0, Math.min(1, share));
  return html`<div class="progress" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${Math.round(part * 100)}>
    <${Bar} share=${part} /><span>${percent(part)}</span>
  </div>`;
}

/** @param {{share: number}} props */
export function Bar({ share }) {
  return html`<svg aria-hidden="true" preserveAspectRatio="none" viewBox="0 0 100 6"><rect width=${share * 100} height="6" /></svg>`;
}

/** Radio buttons side by side.
 * @param {{legend: string, name: string, value: string, onChange: (value: string) => void,
 *   options: {value: string, label: string, disabled?: boolean, title?: string}[]}} props */
export function Segments({ legend, name, value, options, onChange }) {
  return html`<fieldset class="segments">
    <legend class="hidden-text">${legend}</legend>
    ${options.map((option) => html`<label key=${option.value} title=${option.title}>
      <input type="radio" name=${name} value=${option.value} checked=${option.value === value} disabled=${option.disabled}
        onChange=${() => onChange(option.value)} />${option.label}
    </label>`)}
  </fieldset>`;
}

/** @param {{label: string, value: string, all: string, options: string[], onChange: (value: string) => void}} props */
export function Select({ label, value, all, options, onChange }) {
  // A chosen value stays in the list while nothing has it.
  const values = value && !options.includes(value) ? [value, ...options] : options;
  return html`<label class="field"><span>${label}</span>
    <select value=${value} onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.value)}>
      <option value="" selected=${!value}>${all}</option>
      ${values.map((name) => html`<option key=${name} value=${name} selected=${name === value}>${name}</option>`)}
    </select>
  </label>`;
}

/** @param {{label: string, value: string, placeholder?: string, onChange: (value: string) => void}} props */
export function Search({ label, value, placeholder, onChange }) {
  return html`<label class="field"><span>${label}</span>
    <input type="search" value=${value} placeholder=${placeholder} autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {any} */ event) => onChange(event.currentTarget.value)} />
  </label>`;
}
