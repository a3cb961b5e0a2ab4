// The samples of a run, page by page, sorted by the server.

import { get } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { hint, ms, number, onHover, unknown } from "../lib/format.js";
import { badge, button, notice, scrolling, select } from "../lib/parts.js";
import { pathOf } from "./bench/run_actions.js";
import { told } from "./bench_numbers.js";

const SIZE = 20;
const AXES = ["target", "model", "scenario", "level", "cache", "repeat"];
const MEASURES = ["ttft", "tpot", "e2e", "stall", "lag", "speed", "prefill"];
const OUTCOMES = ["ok", "error", "timeout", "cancelled", "cut"];

/** The table of a run's samples. */
export function samples(run, found) {
  const asked = { offset: 0, sort: null, descending: false, outcome: "", phase: "measure" };
  const place = h("div", { class: "stack tight" });
  const change = (changes) => {
    Object.assign(asked, { offset: 0 }, changes);
    load();
  };
  async function load() {
    place.setAttribute("aria-busy", "true");
    try {
      replace(place, page(await get(path(run, asked)), asked, found, change));
    } catch (error) {
      replace(place, notice("bad", error.message));
    }
    place.removeAttribute("aria-busy");
  }
  load();
  return [filters(asked, change), place];
}

function path(run, asked) {
  const query = new URLSearchParams({ offset: asked.offset, limit: SIZE, descending: asked.descending });
  for (const name of ["sort", "outcome", "phase"]) if (asked[name]) query.set(name, asked[name]);
  return pathOf(run, `/rows?${query}`);
}

function filters(asked, change) {
  const outcome = select([["", "any outcome"], ...OUTCOMES], asked.outcome, (value) => change({ outcome: value }));
  const phase = select([["measure", "measured"], ["", "all phases"], "warmup", "drain"], asked.phase, (value) => change({ phase: value }));
  outcome.setAttribute("aria-label", "Outcome");
  phase.setAttribute("aria-label", "Phase");
  return h("div", { class: "row samples-filters" }, outcome, phase);
}

function page(list, asked, found, change) {
  const repeated = found.report.rows.some((row) => row.repeats > 1);
  const axes = AXES.filter((name) => (name === "repeat" ? repeated : found.axes.varied.includes(name)));
  const columns = ["ordinal", ...axes, "outcome", "input", "cached", "output", ...MEASURES];
  const shown = columns.filter((name) => !MEASURES.includes(name) || list.data.some((row) => row[name] !== null));
  const heads = shown.map((name) => head(name, asked, found, change));
  const lines = list.data.map((row) => h("tr", {}, shown.map((name) => place(row, name, found))));
  const made = h("table", { class: "table samples" }, h("caption", { class: "visually-hidden" }, "Samples"), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, lines));
  if (!list.data.length) return h("p", { class: "faint" }, "No sample is like that.");
  return [scrolling("Samples", made), pager(list, asked, change)];
}

function place(row, name, found) {
  const made = h("td", { class: isNumber(name) ? "end" : null }, cell(row, name));
  return MEASURES.includes(name) && row[name] !== null ? onHover(made, { formula: told(name, found.meanings).formula, n: "this request alone" }) : made;
}

function head(name, asked, found, change) {
  const sorted = asked.sort === name || (asked.sort === null && name === "ordinal");
  const order = sorted ? (asked.descending ? "descending" : "ascending") : "none";
  const press = () => change({ sort: name, descending: asked.sort === name ? !asked.descending : isNumber(name) && name !== "ordinal" });
  const meaning = MEASURES.includes(name) ? told(name, found.meanings).formula : null;
  return h("th", { scope: "col", class: isNumber(name) ? "end" : null, "aria-sort": order }, hint(h("button", { class: "sort", type: "button", on: { click: press } }, name === "ordinal" ? "#" : name), { formula: meaning }));
}

function isNumber(name) {
  return MEASURES.includes(name) || ["ordinal", "input", "cached", "output", "level", "repeat"].includes(name);
}

function cell(row, name) {
  const value = row[name];
  if (name === "outcome") return outcome(row);
  if (name === "ordinal") return h("span", { title: row.client_request_id }, value);
  if (value === null || value === undefined) return unknown(why(row, name));
  if (["speed", "prefill"].includes(name)) return number(value);
  if (MEASURES.includes(name)) return ms(value);
  return String(value);
}

function outcome(row) {
  if (row.outcome === "ok") return badge("ok", "good");
  const status = row.http_status && row.http_status !== 200 ? ` ${row.http_status}` : "";
  return badge(`${row.error_class ?? row.outcome}${status}`, row.outcome === "cut" || row.outcome === "cancelled" ? "warn" : "bad");
}

function why(row, name) {
  if (row.outcome !== "ok") return `it ended as ${row.outcome}`;
  return name === "cached" ? "the server doesn't say" : "this answer has none";
}

function pager(list, asked, change) {
  const last = Math.min(list.offset + SIZE, list.total);
  const turn = (offset) => change({ offset });
  return h(
    "div",
    { class: "row apart" },
    h("span", { class: "muted small", role: "status" }, `${list.offset + 1}–${last} of ${list.total}`),
    h("div", { class: "row" },
      button("Back", () => turn(Math.max(0, list.offset - SIZE)), { disabled: list.offset === 0 }),
      button("Next", () => turn(list.offset + SIZE), { disabled: last >= list.total })),
  );
}
