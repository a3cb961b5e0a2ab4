// Numbers for people. What is unknown is a dash with its reason, never 0.

import { h } from "./dom.js";

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const AGES = [
  [60, 1, "s"],
  [3600, 60, "min"],
  [86_400, 3600, "h"],
  [7 * 86_400, 86_400, "d"],
];

/** Milliseconds: "0.42 ms", "812 ms", "1.24 s", "2 min 5 s". */
export function ms(value, reason) {
  return known(value, reason, duration);
}

/** Seconds, in the same words. */
export function seconds(value, reason) {
  return known(value, reason, (number) => duration(number * 1000));
}

/** So many of a unit in a second: "38.2 tok/s". */
export function rate(value, unit = "tok/s", reason) {
  return known(value, reason, (number) => `${digits(number)} ${unit}`);
}

/** A whole number: "12,480". */
export function count(value, reason) {
  return known(value, reason, (number) => GROUPED.format(number));
}

/** Bytes in binary units: "1.4 GiB". */
export function bytes(value, reason) {
  return known(value, reason, (number) => {
    let at = 0;
    while (Math.abs(number) >= 1024 && at < UNITS.length - 1) {
      number /= 1024;
      at += 1;
    }
    return `${at === 0 ? GROUPED.format(number) : digits(number)} ${UNITS[at]}`;
  });
}

/** A share of one: 0.5 is "50 %". */
export function percent(value, reason) {
  return known(value, reason, (number) => (number > 0 && number < 0.001 ? "< 0.1 %" : `${digits(number * 100)} %`));
}

/** A number with three digits that count: "0.042", "1.24", "38.2", "812". */
export function number(value, reason) {
  return known(value, reason, digits);
}

/** A moment (seconds since 1970, a Date or ISO text) as its age, the whole of it as a title. */
export function when(moment, reason) {
  const date = moment instanceof Date ? moment : new Date(typeof moment === "number" ? moment * 1000 : (moment ?? NaN));
  if (Number.isNaN(date.getTime())) return unknown(reason);
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, age(date));
}

/** What isn't known: an en dash, with the reason as its hint. */
export function unknown(reason = "not measured") {
  return hint(h("span", { class: "unknown" }, "–"), { note: reason });
}

/**
 * Tell more of an element on hover and on focus: how its number comes about (`formula`), of how many (`n`), how sure
 * (`interval`), and what else (`note`). Screen readers read it as the element's description.
 */
export function hint(element, { formula = null, n = null, interval = null, note = null } = {}) {
  const told = parts({ formula, n, interval, note });
  if (!told.length) return element;
  if (!element.matches("a[href], button, input, select, textarea, [tabindex]")) element.tabIndex = 0;
  element.classList.add("hinted");
  element.setAttribute("aria-description", told.map(([name, text]) => (name ? `${name}: ${text}` : text)).join(". "));
  for (const type of ["pointerenter", "focus"]) element.addEventListener(type, () => showHint(element, told));
  for (const type of ["pointerleave", "blur"]) element.addEventListener(type, hideHint);
  return element;
}

/**
 * The same on hover alone, for a place in a table: there its column's head tells it to the keyboard and to readers of the
 * screen, and a stop at each number would be in their way.
 */
export function onHover(element, more) {
  const told = parts(more);
  if (!told.length) return element;
  element.addEventListener("pointerenter", () => showHint(element, told));
  element.addEventListener("pointerleave", hideHint);
  return element;
}

function parts({ formula, n, interval, note }) {
  return [
    formula && ["Formula", formula],
    n !== null && n !== undefined && ["n", typeof n === "number" ? GROUPED.format(n) : n],
    interval && ["Interval", interval],
    note && [null, note],
  ].filter(Boolean);
}

/** A number as those above tell it, with more about it; what is unknown tells its reason already. */
export function hinted(value, more) {
  return value instanceof Node ? value : hint(h("span", {}, value), more);
}

function known(value, reason, told) {
  const isNumber = typeof value === "number" && Number.isFinite(value);
  return isNumber ? told(value) : unknown(reason);
}

function duration(milliseconds) {
  const size = Math.abs(milliseconds);
  if (size < 1000) return `${digits(milliseconds)} ms`;
  if (size < 60_000) return `${digits(milliseconds / 1000)} s`;
  const whole = Math.round(milliseconds / 1000);
  if (size < 3_600_000) return both(Math.floor(whole / 60), "min", whole % 60, "s");
  return both(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
}

/** "2 min 5 s", and "10 min" where nothing is behind it. */
function both(large, unit, small, part) {
  return small ? `${large} ${unit} ${small} ${part}` : `${large} ${unit}`;
}

function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return GROUPED.format(value);
  return String(Number(value.toPrecision(size >= 1 ? 3 : 2)));
}

function age(date) {
  const past = (Date.now() - date.getTime()) / 1000;
  if (past < -5) return date.toLocaleString();
  if (past < 5) return "now";
  const found = AGES.find(([below]) => past < below);
  return found ? `${Math.floor(past / found[1])} ${found[2]} ago` : date.toLocaleDateString();
}

// ---- the one tooltip ------------------------------------------------------------------------------------------------

let tip = null;

function showHint(element, told) {
  hideHint();
  tip = h("div", { class: "tip", "aria-hidden": "true" }, told.map(([name, text]) => h("p", {}, name && h("b", {}, `${name} `), text)));
  // Inside an open dialog, since all else lies below it.
  (element.closest("dialog") ?? document.body).append(tip);
  const at = element.getBoundingClientRect();
  const box = tip.getBoundingClientRect();
  const below = at.bottom + box.height + 12 < innerHeight;
  const left = Math.min(Math.max(8, at.left + at.width / 2 - box.width / 2), innerWidth - box.width - 8);
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - box.height - 6)}px`;
}

function hideHint() {
  tip?.remove();
  tip = null;
}

document.addEventListener("keydown", (event) => event.key === "Escape" && hideHint());
document.addEventListener("scroll", hideHint, { capture: true, passive: true });
