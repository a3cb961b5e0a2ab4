// Numbers of a run with their formula, n, interval and exclusions, and small drawings of them.

import { h, s } from "../lib/dom.js";
import { hint, ms, number, percent, unknown } from "../lib/format.js";

const STATISTICS = { least: "the least", most: "the most", mean: "the mean" };

/** What a number's name means, as "ttft.p95": {title, unit, formula, note, better}. */
export function told(name, meanings) {
  const [measure, statistic] = name.split(".");
  const one = meanings.measures[measure] ?? { title: measure, unit: "", formula: "", leaves_out: "" };
  const which = statistic && (STATISTICS[statistic] ?? statistic);
  return {
    title: statistic ? `${short(one.title)} ${statistic}` : one.title,
    unit: one.unit,
    better: one.better,
    formula: which ? `${which} of: ${one.formula}` : one.formula,
    note: one.leaves_out ? `Leaves out ${one.leaves_out}.` : null,
  };
}

function short(title) {
  return /\(([A-Z0-9]+)\)/.exec(title)?.[1] ?? title;
}

/** A row's number by its name; unknown is a dash with its reason. */
export function quantity(row, name, meanings) {
  return measured(row.numbers[name], told(name, meanings));
}

/** A number {value, n, interval, why} of what `told` says. */
export function measured(found, { unit, formula, note }) {
  if (!found || found.value === null || found.value === undefined) return unknown(found?.why ?? "not measured");
  const text = shown(found.value, unit);
  return hint(h("span", { class: "number" }, text), { formula, n: found.n, interval: interval(found.interval, unit), note });
}

/** A value in its unit's way. */
export function shown(value, unit) {
  if (unit === "ms") return ms(value);
  return unit === "share" ? percent(value) : number(value);
}

/** An interval in words: 95 %, … where the samples bound it on the other side only. */
export function interval(bounds, unit) {
  if (!bounds || (bounds[0] === null && bounds[1] === null)) return null;
  const [low, high] = bounds.map((bound) => (bound === null ? "…" : shown(bound, unit)));
  return `95 %: ${low} to ${high}`;
}

/** A range drawn on a scale from 0 to `most`: least to most as a line, ± σ as a bar, the mean as a mark. */
export function range(found, most, words) {
  const at = (value) => `${most > 0 ? (100 * Math.min(Math.max(value, 0), most)) / most : 0}%`;
  const wide = (from, to) => `${most > 0 ? (100 * Math.max(0, Math.min(to, most) - Math.max(from, 0))) / most : 0}%`;
  const deviation = found.deviation ?? 0;
  return s(
    "svg",
    { class: "range", width: "100%", height: 20, role: "img", "aria-label": words },
    s("line", { x1: at(found.least), x2: at(found.most), y1: 10, y2: 10, class: "range-line" }),
    [found.least, found.most].map((end) => s("line", { x1: at(end), x2: at(end), y1: 6, y2: 14, class: "range-line" })),
    s("rect", { x: at(found.mean - deviation), width: wide(found.mean - deviation, found.mean + deviation), y: 5, height: 10, rx: 2, class: "range-bar" }),
    s("line", { x1: at(found.mean), x2: at(found.mean), y1: 3, y2: 17, class: "range-mark" }),
  );
}
