/** The theme: that of the system, light or dark. The choice is kept in this browser. */
import { signal } from "./lib.js";

const KEY = "llmendpoint.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @typedef {"system" | "light" | "dark"} Theme */

/** @returns {Theme} */
function stored() {
  const theme = document.documentElement.dataset.theme;
  return theme === "light" || theme === "dark" ? theme : "system";
}

export const theme = signal(stored());

/** The number of changes of the colours. Charts are drawn on a canvas, and so are drawn again after each. */
export const repaint = signal(0);
dark.addEventListener("change", () => repaint.value++);

/** @param {Theme} value */
export function setTheme(value) {
  if (value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  try {
    if (value === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, value);
  } catch {
    // Without storage the choice lasts until the page is closed.
  }
  theme.value = value;
  repaint.value++;
}

const probe = document.createElement("span");
probe.hidden = true;
document.documentElement.append(probe);

/** The colour of a custom property in the theme that is shown, for a canvas. @param {string} name @returns {string} */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
