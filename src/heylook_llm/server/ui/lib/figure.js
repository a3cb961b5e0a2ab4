// Figures drawn by plotly, in the page's colours, each with what it shows in words. plotly comes with the first of them.

import { h, replace } from "./dom.js";
import { draw } from "/ui/lib/figures.js";
import { colour, onTheme } from "./theme.js";

const SERIES = 8;
const PHASES = { network: "network", residual: "network", queue: "queue", load: "load", prefill: "prefill", decode: "decode" };
let loading = null;

/**
 * A figure: `make(style)` gives {traces, layout, text, rows} as lib/figures.js does, and is asked again when the colours
 * change. The element has `update(make)` for other data. `text` is what it shows in words, for those who don't see it.
 */
export function figure(make, { label }) {
  const place = h("div", { class: "plot", role: "group" });
  const words = h("p", {});
  const element = h("figure", { class: "plotted" }, place, h("details", {}, h("summary", {}, "In words"), words));
  let wanted = make;
  const paint = () => painted(place, words, wanted, label);
  element.update = (next) => {
    wanted = next;
    return paint();
  };
  const end = onTheme(() => (element.isConnected ? paint() : end()));
  new ResizeObserver(() => place.data && place.offsetWidth && globalThis.Plotly.Plots.resize(place)).observe(element);
  paint();
  return element;
}

/** The colours of base.css, as lib/figures.js wants them. */
function pageStyle() {
  const phases = Object.fromEntries(Object.entries(PHASES).map(([name, one]) => [name, colour(`--phase-${one}`)]));
  return {
    ink: colour("--ink"), quiet: colour("--ink-3"), line: colour("--line"), paper: colour("--raised"),
    font: getComputedStyle(document.body).fontFamily, phases,
    series: Array.from({ length: SERIES }, (_, at) => colour(`--series-${at + 1}`)),
  };
}

async function painted(place, words, make, label) {
  const style = pageStyle();
  const made = make(style);
  place.setAttribute("aria-label", `${label}. ${made.text ?? ""}`);
  replace(words, made.text || "Nothing is drawn.");
  try {
    const plotly = await loaded();
    await draw(plotly, place, made, style, { responsive: false });
  } catch (error) {
    replace(place, h("p", { class: "unknown" }, `This figure can't be drawn: ${error.message}`));
  }
}

function loaded() {
  loading ??= new Promise((resolve, reject) => {
    const script = h("script", { src: "/ui/plotly.js" });
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error("the server has no plotly"));
    };
    document.head.append(script);
  });
  return loading;
}
