/**
 * The state of the page in the URL: `#/overview?range=1h&model=tiny:latest`.
 *
 * Another page is a new entry of the browser's history. A changed filter replaces the entry, so that "back" leaves the
 * page and does not undo one keystroke at a time.
 */
import { signal } from "./lib.js";

export const PAGES = /** @type {const} */ (["overview", "models", "endpoints", "loadtests", "requests", "doctor"]);

/** @typedef {{page: string, params: Record<string, string>}} Route */

/** @param {string} hash @returns {Route} */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const page = PAGES.find((name) => name === path) ?? "overview";
  return { page, params: Object.fromEntries(new URLSearchParams(query)) };
}

/** @param {string} page @param {Record<string, string | undefined>} [params] @returns {string} */
export function href(page, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value) query.set(name, value);
  // Colons and slashes are in names of models and endpoints, and are allowed in a fragment (RFC 3986, section 3.5).
  const text = query.toString().replaceAll("%3A", ":").replaceAll("%2F", "/");
  return `#/${page}${text ? `?${text}` : ""}`;
}

export const route = signal(parse(location.hash));

addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

/** Change parameters of this page; an empty value removes one. @param {Record<string, string | undefined>} changes */
export function setParams(changes) {
  const { page, params } = route.peek();
  const hash = href(page, { ...params, ...changes });
  history.replaceState(null, "", hash);
  route.value = parse(hash);
}

/** Go to another page or view. @param {string} page @param {Record<string, string | undefined>} [params] */
export function go(page, params) {
  location.hash = href(page, params);
}
