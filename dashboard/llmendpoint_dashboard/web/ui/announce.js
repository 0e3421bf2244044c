/** One polite live region for all of the page. It says what a user did or must know, and never numbers that tick. */
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
