/** Numbers, units and times as text. Nothing measured is a dash, which is never mistaken for zero. */

export const NOTHING = "–";

const DIGITS = [0, 1, 2, 3].map(
  (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);

/** @param {number} value @param {number} digits @returns {string} */
function fixed(value, digits) {
  return DIGITS[digits].format(value);
}

/** An integer with separators: 12,345. @param {number | null | undefined} value @returns {string} */
export function count(value) {
  return value == null ? NOTHING : fixed(value, 0);
}

/** Three significant digits for small numbers, whole numbers from 100: 0.25, 3.42, 12.5, 1,234.
 * @param {number | null | undefined} value @returns {string} */
export function number(value) {
  if (value == null || !Number.isFinite(value)) return NOTHING;
  const size = Math.abs(value);
  if (size === 0) return "0";
  return fixed(value, size < 10 ? 2 : size < 100 ? 1 : 0);
}

const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** The same without zeros at the end, and with three significant digits however small the number is, for axes and
 * charts: 7.5, 10 and 0.0025. Labels of an axis then differ.
 * @param {number | null | undefined} value @returns {string} */
export function short(value) {
  return value != null && Math.abs(value) < 100 ? SHORT.format(value) : number(value);
}

/** A duration that was chosen and not measured: 5 s, 1 min, 90 s. @param {number} seconds @returns {string} */
export function span(seconds) {
  return seconds >= 60 && seconds % 60 === 0 ? `${short(seconds / 60)} min` : `${short(seconds)} s`;
}

/** A duration and its unit apart, so that a tile can set the unit smaller.
 * @param {number | null | undefined} seconds @returns {[string, string]} */
export function durationParts(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return [NOTHING, ""];
  if (seconds < 0.001) return [seconds === 0 ? "0" : fixed(seconds * 1000, 2), "ms"];
  if (seconds < 0.0995) return [fixed(seconds * 1000, 1), "ms"];
  if (seconds < 0.9995) return [fixed(seconds * 1000, 0), "ms"];
  if (seconds < 60) return [fixed(seconds, seconds < 10 ? 2 : 1), "s"];
  return [long(seconds), ""];
}

/** A duration: 12.5 ms, 1.25 s, 2 min 5 s, 3 h 10 min. @param {number | null | undefined} seconds @returns {string} */
export function duration(seconds) {
  const [value, unit] = durationParts(seconds);
  return unit ? `${value} ${unit}` : value;
}

/** @param {number} seconds @returns {string} */
function long(seconds) {
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

const SIZES = /** @type {const} */ ([["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]);

/** A size in binary units: 4.66 GiB. @param {number | null | undefined} value @returns {string} */
export function bytes(value) {
  if (value == null) return NOTHING;
  for (const [unit, size] of SIZES) if (value >= size) return `${number(value / size)} ${unit}`;
  return `${count(value)} B`;
}

/** A share as percent: 12.5 %. @param {number | null | undefined} share @returns {string} */
export function percent(share) {
  if (share == null || !Number.isFinite(share)) return NOTHING;
  const value = share * 100;
  const size = Math.abs(value);
  // Few errors are not none, and nearly all are not all.
  if (size > 0 && size < 0.05) return "<0.1 %";
  if (size >= 99.5 && size < 100) return ">99 %";
  return `${value === 0 || value === 100 ? fixed(value, 0) : fixed(value, size < 10 ? 1 : 0)} %`;
}

/** The age of data: 3 s, 5 min, 2 h. @param {number} seconds @returns {string} */
export function age(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  return whole < 172800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86400)} d`;
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DATE = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", hour12: false,
});

/** The time of day of a Unix time: 14:05:09. @param {number | null | undefined} time @returns {string} */
export function clockTime(time) {
  return time == null ? NOTHING : TIME.format(time * 1000);
}

/** Date and time of a Unix time. @param {number | null | undefined} time @returns {string} */
export function dateTime(time) {
  return time == null ? NOTHING : DATE.format(time * 1000);
}

/** The words of an identifier: `upstream_5xx` is "upstream 5xx", `ObjectivesMet` is "objectives met".
 * @param {string} name @returns {string} */
export function words(name) {
  return name.replaceAll("_", " ").replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
}

/** @param {number} many @param {string} one @param {string} [more] @returns {string} */
export function plural(many, one, more = `${one}s`) {
  return `${count(many)} ${many === 1 ? one : more}`;
}
