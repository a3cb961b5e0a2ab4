// Small drawings of a run while it goes on, as SVG: each says in words what it shows.

import { s } from "../../lib/dom.js";
import { ms, number } from "../../lib/format.js";
import { bins, largest } from "./statistics.js";

const WIDTH = 480;
const HEIGHT = 160;
const EDGE = { left: 54, right: 8, top: 8, bottom: 24 };
const INNER = { width: WIDTH - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };

/** How often which values came. `words` formats a value. */
export function histogram(sorted, label, words = ms) {
  const made = bins(sorted);
  const most = Math.max(1, ...made.map((bin) => bin.count));
  const wide = INNER.width / Math.max(1, made.length);
  const bars = made.map((bin, at) =>
    s("rect", { class: "mark", x: EDGE.left + at * wide + 0.5, y: across(bin.count, most), width: Math.max(1, wide - 1), height: (bin.count / most) * INNER.height }, s("title", {}, `${words(bin.from)} to ${words(bin.to)}: ${bin.count}`)),
  );
  const ends = made.length ? [[0, words(made[0].from)], [1, words(made[made.length - 1].to)]] : [];
  return drawing(`${label}: ${sorted.length} values`, bars, ends, [[0, "0"], [1, String(most)]]);
}

/** Each value at its time; those that failed at the bottom. */
export function scatter(points, field, label, words = ms) {
  const shown = points.filter((point) => point.at !== null && point.phase !== "warmup");
  const ok = shown.filter((point) => point.outcome === "ok" && point[field] !== null);
  const most = top(ok.map((point) => point[field]));
  const end = top(shown.map((point) => point.at));
  const dots = thinned(ok).map((point) => s("circle", { class: `mark series-${(point.cell % 8) + 1}`, cx: along(point.at, end), cy: across(point[field], most), r: 2.2 }));
  const failed = shown.filter((point) => point.outcome !== "ok").map((point) => s("path", { class: "mark bad", d: cross(along(point.at, end), EDGE.top + INNER.height) }));
  return drawing(`${label}: ${ok.length} answers${failed.length ? `, ${failed.length} failures` : ""}`, [...dots, ...failed], [[0, "0 s"], [1, `${number(end)} s`]], [[0, "0"], [1, words(most)]]);
}

/** A line of values in time. */
export function line(values, label, unit) {
  const most = top(values.map((one) => one.value));
  const end = top(values.map((one) => one.at));
  const path = values.map((one, at) => `${at ? "L" : "M"}${along(one.at, end).toFixed(1)} ${across(one.value, most).toFixed(1)}`).join("");
  const marks = values.length > 1 ? [s("path", { class: "stroke", d: path })] : [];
  return drawing(`${label}: up to ${number(most)} ${unit}`, marks, [[0, "0 s"], [1, `${number(end)} s`]], [[0, "0"], [1, number(most)]]);
}

function drawing(label, marks, below, beside) {
  const axis = s("path", { class: "axis", d: `M${EDGE.left} ${EDGE.top}V${EDGE.top + INNER.height}H${WIDTH - EDGE.right}` });
  const words = [
    ...below.map(([share, text]) => s("text", { x: EDGE.left + share * INNER.width, y: HEIGHT - 6, "text-anchor": share ? "end" : "start" }, text)),
    ...beside.map(([share, text]) => s("text", { x: EDGE.left - 6, y: EDGE.top + (1 - share) * INNER.height + (share ? 9 : 0), "text-anchor": "end" }, text)),
  ];
  return s("svg", { class: "bench-drawing", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, axis, marks, words);
}

const along = (value, most) => EDGE.left + (value / most) * INNER.width;
const across = (value, most) => EDGE.top + (1 - value / most) * INNER.height;
const top = (values) => largest(values) || 1;
const cross = (x, y) => `M${x - 3} ${y - 3}l6 6m0-6l-6 6`;

/** At most two thousand dots: more are no longer seen, and cost. */
function thinned(points) {
  const step = Math.ceil(points.length / 2000);
  return step <= 1 ? points : points.filter((_, at) => at % step === 0);
}
