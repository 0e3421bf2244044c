/** One polite live region for all of the page. It announces actions of the user and lost connections, and no numbers that change every second. */
import { html, signal } from "../lib.js";

const sentence = signal("");

/** @param {string} text */
export function say(text) {
  // The same sentence twice in a row is only read if the text changes in between.
  sentence.value = sentence.peek() === text ? `${text}\u00a0` : text;
}

export function Announcer() {
  return html`<div class="hidden-text" role="status" aria-live="polite" id="announcer">${sentence}</div>`;
}
