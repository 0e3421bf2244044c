/** The server's time, which ticks every second while the page is seen. A browser's clock may be wrong; ages are not. */
import { effect, signal } from "../lib.js";
import { overview } from "./store.js";

let offset = 0;
/** The server's Unix time in seconds, estimated. */
export const now = signal(Date.now() / 1000);

effect(() => {
  const time = overview.value?.time;
  if (time) offset = time - Date.now() / 1000;
});

setInterval(() => {
  if (!document.hidden) now.value = Date.now() / 1000 + offset;
}, 1000);
