// What was measured in a window, by model: counts, percentiles, errors.

import { get } from "../../lib/api.js";
import { choice } from "../../lib/choice.js";
import { h, replace } from "../../lib/dom.js";
import { count, hint, ms, number, percent, rate, unknown } from "../../lib/format.js";
import { busy, card, empty, iconButton, notice, table } from "../../lib/parts.js";
import { setQuery } from "../../lib/route.js";

const WINDOWS = ["1m", "5m", "1h", "24h", "7d"];
const AGAIN_SECONDS = { "1m": 5, "5m": 10, "1h": 30 };
const perSecond = (value) => rate(value);

/** Each measure: its field, its name, how a value is told, and its formula. */
const MEASURES = [
  ["queue_ms", "Queue", ms, "waiting for its model without the load, and for a place in the batch"],
  ["load_ms", "Load", ms, "the load of its model that it waited for"],
  ["ttft_ms", "TTFT", ms, "first token − received"],
  ["tpot_ms", "TPOT", ms, "(last token − first token) ÷ (output tokens − 1)"],
  ["itl_ms", "ITL", ms, "the gap before each token after the first; n counts tokens"],
  ["e2e_ms", "E2E", ms, "closed − received"],
  ["prefill_tokens_per_second", "Prefill", perSecond, "(prompt − cached tokens) ÷ (first token − admitted)"],
  ["decode_tokens_per_second", "Decode", perSecond, "(output tokens − 1) ÷ (last token − first token)"],
];
const NAMED = Object.fromEntries(MEASURES.map((measure) => [measure[0], measure]));
const LEAST = { p50: 1, p90: 20, p95: 20, p99: 100 };

export function windowSection(query) {
  let window = WINDOWS.includes(query.get("window")) ? query.get("window") : "1h";
  let selected = query.get("measured");
  let timer = null;
  let asked = 0;
  const body = h("div", { class: "stack" }, busy());
  async function load() {
    clearTimeout(timer);
    const mine = ++asked;
    try {
      const told = await get(`/v1/performance?window=${window}`);
      if (mine === asked) show(told);
    } catch (error) {
      if (mine === asked) replace(body, notice("bad", error.message));
    }
    const pause = AGAIN_SECONDS[window];
    if (mine === asked && pause) timer = setTimeout(() => (document.hidden ? later() : load()), pause * 1000);
  }
  const later = () => document.addEventListener("visibilitychange", load, { once: true });
  function show(told) {
    const focused = body.contains(document.activeElement);
    if (focused && document.activeElement.matches(".hinted")) return; // somebody reads it
    const models = Object.entries(told.models).map(([id, model]) => ({ id, ...model }));
    models.sort((a, b) => b.count - a.count);
    if (!models.length && !told.refused.count) {
      return replace(body, empty("No request in this window", "Ask a model something, or choose a longer window."));
    }
    const chosen = models.find((model) => model.id === selected) ?? models[0];
    const parts = [chosen ? details(chosen) : null, errors(models, told.refused)].filter(Boolean);
    replace(body, chosen ? overview(models, chosen, select) : null, h("div", { class: parts.length > 1 ? "beside" : "stack" }, parts), remarks(told));
    if (focused) body.querySelector('[aria-pressed="true"]')?.focus();
  }
  function select(model) {
    selected = model;
    setQuery({ measured: model });
    load();
  }
  function choose(value) {
    window = value;
    setQuery({ window: value });
    load();
  }
  const element = card("In a window", body, {
    actions: [choice("Window", WINDOWS, window, choose), iconButton("again", "Measure anew", load)],
  });
  return { element, load, close: () => ((asked += 1), clearTimeout(timer), document.removeEventListener("visibilitychange", load)) };
}

// ---- the models beside each other -----------------------------------------------------------------------------------

function overview(models, chosen, select) {
  const named = (model) =>
    h(
      "button",
      { class: "pick", type: "button", title: model.id, "aria-pressed": String(model === chosen), on: { click: () => select(model.id) } },
      model.id,
    );
  const value = (field, quantile) => ({
    align: "end",
    cell: (model) => quantileCell(model, field, quantile),
    sort: (model) => model[field][quantile],
  });
  return table(
    [
      { label: "Model", cell: named, sort: (model) => model.id },
      { label: "Requests", align: "end", cell: (model) => count(model.count), sort: (model) => model.count, note: "Requests that ended in this window." },
      { label: "Failed", align: "end", cell: failed, sort: failures, note: "Requests that ended with an error; those cancelled or left are no errors." },
      { label: "TTFT p50", ...value("ttft_ms", "p50") },
      { label: "TTFT p95", ...value("ttft_ms", "p95") },
      { label: "TPOT p50", ...value("tpot_ms", "p50") },
      { label: "E2E p50", ...value("e2e_ms", "p50") },
      { label: "E2E p95", ...value("e2e_ms", "p95") },
      { label: "Decode p50", ...value("decode_tokens_per_second", "p50") },
      { label: "Cached", align: "end", cell: cached, sort: (model) => model.cache_hit_share },
      { label: "Batch", align: "end", cell: batch, sort: (model) => model.batch_size_mean },
    ],
    models,
    { caption: "Models in this window" },
  );
}

function failures(model) {
  return model.outcomes.error ?? 0;
}

function failed(model) {
  const found = failures(model);
  return found ? h("span", { class: "bad" }, count(found)) : count(0);
}

function cached(model) {
  const told = percent(model.cache_hit_share, "no prompt was computed");
  if (model.cache_hit_share === null) return told;
  return hint(h("span", {}, told), { formula: "cached prompt tokens ÷ prompt tokens", n: `${count(model.tokens.prompt_tokens)} prompt tokens` });
}

function batch(model) {
  if (model.batch_size_mean === null) return unknown("nothing was decoded");
  const places = model.batch_occupancy === null ? "the model isn't loaded, so its places aren't known" : `${percent(model.batch_occupancy)} of its places`;
  return hint(h("span", {}, number(model.batch_size_mean)), { formula: "mean of the requests' batch sizes", note: places });
}

function quantileCell(model, field, quantile) {
  const [, , told, formula] = NAMED[field];
  const found = model[field];
  if (found[quantile] === null) {
    const least = LEAST[quantile];
    return unknown(found.n === 0 ? "no request has it" : `needs ${least} samples, there are ${found.n}`);
  }
  const error = found.relative_error;
  return hint(h("span", {}, told(found[quantile])), {
    formula,
    n: found.n,
    note: error ? `of a histogram, within ${percent(error)}` : "of the samples themselves",
  });
}

// ---- one model ------------------------------------------------------------------------------------------------------

function details(model) {
  const quantile = (name) => ({ label: name, align: "end", cell: ([field]) => quantileCell(model, field, name) });
  const columns = [
    { label: "Measure", cell: ([, name, , formula]) => hint(h("span", {}, name), { formula }) },
    { label: "n", align: "end", cell: ([field]) => count(model[field].n), note: "Of how many values; requests, of ITL gaps between tokens." },
    ...Object.keys(LEAST).map(quantile),
  ];
  const tokens = model.tokens;
  const facts = [
    ["prompt tokens", tokens.prompt_tokens],
    ["of them cached", tokens.cached_tokens],
    ["output tokens", tokens.output_tokens],
    ["of them reasoning", tokens.reasoning_tokens],
    ["guessed ahead", tokens.draft_tokens],
    ["of them right", tokens.accepted_tokens],
  ].filter(([, value]) => value);
  return h(
    "section",
    { class: "stack tight" },
    h("h3", { class: "ellipsis", title: model.id }, `Percentiles of ${model.id}`),
    table(columns, MEASURES, { caption: `Percentiles of ${model.id}` }),
    h("ul", { class: "inline-facts" }, facts.map(([name, value]) => h("li", {}, h("b", {}, count(value)), ` ${name}`))),
  );
}

// ---- errors ---------------------------------------------------------------------------------------------------------

function errors(models, refused) {
  const rows = models.flatMap((model) => Object.entries(model.errors).map(([code, times]) => ({ code, times, where: model.id })));
  rows.push(...Object.entries(refused.errors).map(([code, times]) => ({ code, times, where: null })));
  if (!rows.length) return null;
  rows.sort((a, b) => b.times - a.times);
  const before = () => hint(h("span", { class: "muted" }, "refused"), { note: "Refused before it became a request: it left no row, only this count." });
  return h(
    "section",
    { class: "stack tight" },
    h("h3", {}, "Errors"),
    table(
      [
        { label: "Error", cell: (row) => h("code", {}, row.code) },
        { label: "Model", cell: (row) => row.where ?? before() },
        { label: "Times", align: "end", cell: (row) => count(row.times) },
      ],
      rows,
      { caption: "Errors by type" },
    ),
  );
}

function remarks(told) {
  const said = [];
  if (told.method === "histogram") said.push(`Percentiles are of histograms: each within ${percent(told.relative_error)} of the exact one.`);
  if (told.dropped_requests) said.push(`${count(told.dropped_requests)} requests could not be kept since the server began.`);
  return said.length ? h("p", { class: "muted small" }, said.join(" ")) : null;
}
