/** Icons with the same meaning as the words beside them. They differ in shape, so that no meaning is only a colour. */
import { html } from "../lib.js";

const PATHS = {
  good: "M3 8.5 6.5 12 13 4.5",
  bad: "M4 4l8 8M12 4l-8 8",
  warn: "M8 2.5 14.5 13.5H1.5ZM8 6.5v3M8 11.3v.4",
  info: "M8 7.2v5M8 3.6v.4",
  wait: "M8 4v4.5l3 2M8 1.5a6.5 6.5 0 1 0 .01 0",
  dot: "M8 4.5a3.5 3.5 0 1 0 .01 0Z",
  sun: "M8 5a3 3 0 1 0 .01 0M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.1 1.1M11.9 11.9 13 13M13 3l-1.1 1.1M4.1 11.9 3 13",
  pause: "M5 3v10M11 3v10",
  play: "M4.5 2.5 13 8l-8.5 5.5Z",
};

/** @typedef {keyof typeof PATHS} IconName */

/** @param {{name: IconName}} props */
export function Icon({ name }) {
  return html`<svg viewBox="0 0 16 16" aria-hidden="true" width="14" height="14">
    <path d=${PATHS[name]} fill=${name === "dot" ? "currentColor" : "none"} stroke="currentColor" stroke-width="2"
      stroke-linecap="round" stroke-linejoin="round" />
  </svg>`;
}
