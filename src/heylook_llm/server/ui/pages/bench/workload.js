// The builder's middle: what is asked for, how long prompts and answers are, and what caches know of them.

import { get } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { button, chips, field, iconButton, notice, select } from "../../lib/parts.js";
import { OWN_PROMPTS, TIERED, TIERS, TIER_OUTPUT, USUAL, tierLabel } from "./draft.js";
import { ownPrompts } from "./own_prompts.js";

const TASKS = [["chat", "Chat"], ["completion", "Completion of a text"], ["embeddings", "Embeddings"], ["rerank", "Rerank"], ["image-text", "Images and text"]];
const CACHES = [
  ["warm", "warm", "The model is loaded, and no prompt begins like an earlier one."],
  ["cold", "cold", "The model is unloaded before each request, or each round of all clients: every answer waits for its load."],
  ["prefix25", "25 % shared", "Prompts begin alike for a quarter of their length."],
  ["prefix50", "50 % shared", "… for half of it."],
  ["prefix75", "75 % shared", "… for three quarters."],
  ["prefix90", "90 % shared", "… for nine tenths, as turns of a long conversation do."],
];
const TEXT = new Set(["chat", "completion"]);
const SHAPES = {
  exact: { tasks: TEXT, label: "Exactly", fields: [["in", "100"], ["out", "100"]], text: (v) => `D(${v[0]},${v[1]})` },
  normal: { tasks: TEXT, label: "Around a mean", fields: [["in", "480"], ["±", "240"], ["out", "300"], ["±", "150"]], text: (v) => `N(${v[0]},${v[1]})/(${v[2]},${v[3]})` },
  uniform: { tasks: TEXT, label: "Between", fields: [["in from", "50"], ["to", "500"], ["out from", "20"], ["to", "200"]], text: (v) => `U(${v[0]},${v[1]})/(${v[2]},${v[3]})` },
  turns: { tasks: new Set(["chat"]), label: "Conversations", fields: [["turns", "4"], ["in", "100"], ["out", "100"]], text: (v) => `T(${v[0]})*D(${v[1]},${v[2]})` },
  documents: { tasks: new Set(["embeddings"]), label: "Documents", fields: [["each", "256"], ["at once", "1"]], text: (v) => (v[1] === "1" ? `E(${v[0]})` : `E(${v[0]},${v[1]})`) },
  ranked: { tasks: new Set(["rerank"]), label: "Documents", fields: [["each", "256"], ["query", "32"], ["documents", "8"]], text: (v) => `R(${v[0]},${v[1]},${v[2]})` },
  images: { tasks: new Set(["image-text"]), label: "Images", fields: [["wide", "512"], ["high", "512"], ["images", "1"], ["in", "50"], ["out", "100"]], text: (v) => `I(${v[0]},${v[1]},${v[2]})/(${v[3]},${v[4]})` },
};

/** The column. `windowOf()` tells the smallest context that the chosen models are known to have, or null. */
export function workloadColumn(draft, changed, windowOf) {
  const scenarios = h("ul", { class: "bench-list", "aria-label": "Traffic" });
  const tiers = h("div", {});

  function drawScenarios() {
    const rows = draft.scenarios.map((text, at) =>
      h("li", {}, h("span", { class: "mono" }, text), h("span", { class: "faint small" }, spoken(text)), iconButton("close", `Remove ${text}`, () => take(at))),
    );
    const none = !draft.scenarios.length && !draft.tiers.length && !draft.prompts.length && h("li", { class: "faint" }, "No traffic yet: add some below, or choose tiers.");
    replace(scenarios, rows, none);
  }
  function take(at) {
    draft.scenarios.splice(at, 1);
    drawScenarios();
    changed();
  }
  function add(text) {
    if (!draft.scenarios.includes(text)) draft.scenarios.push(text);
    drawScenarios();
    changed();
  }

  /** Tiers beyond the models' context can be chosen, with a warning: another target may have more. */
  function drawTiers() {
    const limit = windowOf();
    const beyond = (tokens) => limit !== null && tokens > limit;
    const items = TIERS.map((tokens) => ({
      value: tokens,
      label: beyond(tokens) ? `${tierLabel(tokens)} ⚠` : tierLabel(tokens),
      selected: draft.tiers.includes(tokens),
      note: beyond(tokens) ? `Beyond the context of ${limit} tokens that a chosen model has: its requests will be refused.` : `${tokens - TIER_OUTPUT} tokens in, ${TIER_OUTPUT} out.`,
    }));
    const warned = draft.tiers.filter(beyond);
    const made = chips("Context tiers", items, (values) => {
      draft.tiers = values.sort((a, b) => a - b);
      drawTiers();
      drawScenarios();
      changed();
    });
    const words = warned.length ? `${warned.map(tierLabel).join(", ")}: beyond the ${limit} tokens of a chosen model's context.` : null;
    const pressed = document.activeElement?.closest?.(".bench-tiers") ? [...tiers.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    replace(tiers, h("div", { class: "bench-tiers stack tight" }, made, words && notice("warn", words)));
    if (pressed >= 0) tiers.querySelectorAll("button")[pressed]?.focus();
  }

  const caches = chips(
    "Caches",
    CACHES.map(([value, label, note]) => ({ value, label, note, selected: draft.cache.includes(value) })),
    (values) => {
      draft.cache = CACHES.map(([value]) => value).filter((value) => values.includes(value));
      changed();
    },
  );
  const task = select(TASKS, draft.task, (value) => {
    if (TEXT.has(value) !== TEXT.has(draft.task) || !TEXT.has(value)) draft.scenarios = [USUAL[value]];
    draft.task = value;
    drawTask();
    changed();
  });
  const adding = h("div", {});
  const tiersField = h("div", { class: "field" }, h("span", { class: "bench-label" }, "Context tiers"), tiers);
  const own = ownPrompts(draft, () => (drawScenarios(), changed()));
  function drawTask() {
    replace(adding, adder(draft.task, add));
    tiersField.hidden = !TIERED.has(draft.task);
    own.hidden = !OWN_PROMPTS.has(draft.task);
    drawScenarios();
    drawTiers();
  }
  drawTask();
  const element = h(
    "section",
    { class: "bench-column", "aria-label": "Workload" },
    h("header", { class: "row apart" }, h("h2", {}, "Workload")),
    field("Task", task),
    h("div", { class: "field" }, h("span", { class: "bench-label" }, "Traffic, in tokens"), scenarios, adding),
    tiersField,
    own,
    h("div", { class: "field" }, h("span", { class: "bench-label" }, "What caches know"), caches),
    more(draft, changed),
  );
  return { element, windowChanged: drawTiers };
}

/** A row that adds traffic of a shape. */
function adder(task, add) {
  const shapes = Object.entries(SHAPES).filter(([, one]) => one.tasks.has(task));
  const place = h("span", { class: "row bench-numbers" });
  let inputs = [];
  const shape = select(shapes.map(([name, one]) => [name, one.label]), shapes[0][0], draw);
  shape.setAttribute("aria-label", "How lengths are drawn");
  function draw() {
    inputs = SHAPES[shape.value].fields.map(([label, value]) => h("input", { type: "number", min: 0, value, "aria-label": `Tokens ${label}` }));
    replace(place, inputs.map((input, at) => h("span", { class: "bench-number" }, h("span", { class: "faint small", "aria-hidden": "true" }, SHAPES[shape.value].fields[at][0]), input)));
  }
  draw();
  const form = h("form", { class: "row bench-adder" }, shape, place, button("Add", null, { type: "submit", icon: "plus" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add(SHAPES[shape.value].text(inputs.map((input) => input.value || "0")));
  });
  return form;
}

/** A scenario in words: "100 in, 50 out". */
function spoken(text) {
  const shape = /^(?:T\((\d+)\)\*)?([A-Z])\(([\d,]+)\)(?:\/\(([\d,]+)\))?$/.exec(text);
  if (!shape) return "";
  const [turns, letter, first, second] = [shape[1], shape[2], shape[3].split(","), shape[4]?.split(",") ?? []];
  const words = {
    D: () => `${first[0]} in, ${first[1]} out`,
    N: () => `${first[0]} ± ${first[1]} in, ${second[0]} ± ${second[1]} out`,
    U: () => `${first[0]} to ${first[1]} in, ${second[0]} to ${second[1]} out`,
    E: () => `${first[1] ?? 1} of ${first[0]} at once`,
    R: () => `${first[2] ?? 1} of ${first[0]}, by a query of ${first[1]}`,
    I: () => `${first[2] ?? 1} of ${first[0]} × ${first[1]}`,
  };
  return `${turns ? `${turns} turns, each ` : ""}${words[letter]?.() ?? ""}`;
}

function more(draft, changed) {
  const keep = (name) => (event) => {
    draft[name] = event.target.type === "checkbox" ? event.target.checked : event.target.value;
    changed();
  };
  const force = h("input", { type: "checkbox", checked: draft.forceLength, on: { change: keep("forceLength") } });
  const options = h("textarea", { rows: 2, spellcheck: "false", class: "mono", value: draft.options, on: { input: keep("options") } });
  const count = select([["user", "the user's text"], ["engine", "all that the engine computes"]], draft.count, (value) => {
    draft.count = value;
    changed();
  });
  const salt = h("input", { value: draft.salt, maxlength: 100, on: { input: keep("salt") } });
  const seed = h("input", { inputmode: "numeric", value: draft.seed, on: { input: keep("seed") } });
  return h(
    "details",
    { class: "bench-more" },
    h("summary", {}, "More about prompts"),
    h(
      "div",
      { class: "stack" },
      field("Hold answers to their length", force, "Asks for ignore_eos where the server knows it; else the length is a limit."),
      field("Lengths are tokens of", count),
      field("Fields of every request", options, "A JSON object, such as a temperature."),
      h("div", { class: "grid", style: "--least: 120px" }, field("Seed", seed, "Of lengths, texts and arrivals."), field("Salt", salt, "Left empty, each run's prompts are its own.")),
    ),
  );
}

/** Traffic like what this server answered lately: `N(…)`, or null where that was too little. */
export async function ownTraffic() {
  const rows = (await get("/v1/performance/requests?limit=1000&outcome=done")).data;
  const asked = rows.filter((row) => row.run_id === null && row.prompt_tokens > 0 && row.output_tokens > 1);
  if (asked.length < 5) return null;
  const [into, out] = [moments(asked.map((row) => row.prompt_tokens)), moments(asked.map((row) => row.output_tokens))];
  return { scenario: `N(${into.join(",")})/(${out.join(",")})`, requests: asked.length };
}

function moments(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  return [Math.max(1, Math.round(mean)), Math.round(spread)];
}

