// Small lines: what a number did in the last while. SVG, since many of them move once a second.

import { h, replace, s } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 40;
const GAP_SECONDS = 3.5; // a longer silence isn't drawn over

/**
 * A line of the last `seconds`, to which `push(at, value)` adds (`at`: seconds since 1970; null: unknown then).
 * `told(value)` puts a number in words; `most`: where the top is, if not at the highest value.
 */
export function sparkline(label, { seconds = 120, most = null, told = String } = {}) {
  const area = s("path", { class: "spark-area" });
  const line = s("path", { class: "spark-line" });
  const element = s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    area,
    line,
  );
  let points = [];
  function push(at, value) {
    points.push({ at, value });
    points = points.filter((point) => point.at > at - seconds);
    const known = points.filter((point) => point.value !== null);
    const top = Math.max(most ?? 0, ...known.map((point) => point.value), Number.MIN_VALUE);
    const place = (point) => [WIDTH - ((at - point.at) / seconds) * WIDTH, HEIGHT - 1 - (point.value / top) * (HEIGHT - 3)];
    const parts = stretched(points, GAP_SECONDS);
    line.setAttribute("d", parts.map((part) => drawn(part.map(place))).join(""));
    area.setAttribute("d", parts.map((part) => filled(part.map(place))).join(""));
    element.setAttribute("aria-label", known.length ? `${label}: up to ${told(Math.max(...known.map((one) => one.value)))} in this time` : label);
  }
  return { element, push };
}

/** Points that belong together: without unknown ones, and without a silence of more than `gap` seconds between them. */
function stretched(points, gap = Infinity) {
  const parts = [[]];
  let last = null;
  for (const point of points) {
    if (point.value == null || (last && point.at - last.at > gap)) parts.push([]);
    if (point.value != null) parts[parts.length - 1].push(point);
    last = point;
  }
  return parts.filter((part) => part.length);
}

function drawn(places) {
  const [[x, y], ...rest] = places;
  return `M${x.toFixed(1)} ${y.toFixed(1)}${rest.map(([to, at]) => `L${to.toFixed(1)} ${at.toFixed(1)}`).join("") || "h0.5"}`;
}

function filled(places) {
  return `${drawn(places)}L${places[places.length - 1][0].toFixed(1)} ${HEIGHT}L${places[0][0].toFixed(1)} ${HEIGHT}Z`;
}

/**
 * A line over a window, with its scale and the value where the pointer is. `points`: `{at, value}`, null where unknown;
 * `told(value)` puts a number in words.
 */
export function trend(label, points, told) {
  const known = points.filter((point) => point.value !== null && point.value !== undefined);
  const readout = h("span", { class: "trend-readout" });
  const head = h("figcaption", {}, h("span", {}, label), readout);
  if (!known.length) return h("figure", { class: "trend" }, h("figcaption", {}, h("span", {}, label)), h("p", { class: "trend-none" }, "Not measured"));
  const [first, last] = [points[0].at, points[points.length - 1].at];
  const top = Math.max(...known.map((point) => point.value), Number.MIN_VALUE);
  const place = (point) => [last > first ? ((point.at - first) / (last - first)) * WIDTH : WIDTH / 2, HEIGHT - 1 - (point.value / top) * (HEIGHT - 3)];
  const parts = stretched(points);
  const cursor = s("line", { class: "trend-cursor", y1: 0, y2: HEIGHT, x1: -1, x2: -1 });
  const drawing = s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: up to ${words(told(top))}` },
    s("path", { class: "spark-area", d: parts.map((part) => filled(part.map(place))).join("") }),
    s("path", { class: "spark-line", d: parts.map((part) => drawn(part.map(place))).join("") }),
    cursor,
  );
  const rest = () => replace(readout, "up to ", told(top));
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = first + ((event.clientX - box.left) / box.width) * (last - first);
    const near = points.reduce((best, point) => (Math.abs(point.at - at) < Math.abs(best.at - at) ? point : best));
    const [x] = place({ ...near, value: 0 });
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    replace(readout, clock(near.at), " ", near.value == null ? "not measured" : told(near.value));
  });
  drawing.addEventListener("pointerleave", () => {
    cursor.setAttribute("x1", -1);
    cursor.setAttribute("x2", -1);
    rest();
  });
  rest();
  return h("figure", { class: "trend" }, head, drawing);
}

function words(told) {
  return told instanceof Node ? told.textContent : told;
}

function clock(at) {
  return new Date(at * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}
