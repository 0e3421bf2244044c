/** The vendored libraries. Modules of the dashboard import them from here, and not from `vendor/`. */
export { h, render } from "./vendor/preact.js";
export { html } from "./vendor/htm-preact.js";
export { useEffect, useErrorBoundary, useMemo, useRef, useState } from "./vendor/hooks.js";
export { batch, computed, effect, signal } from "./vendor/signals.js";
export { default as UPlot } from "./vendor/uPlot.esm.js";
