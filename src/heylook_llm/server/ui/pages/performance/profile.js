// Where time went in a window, what the machine did meanwhile, which models are slow, and whether it gets better.

import { get } from "../../lib/api.js";
import { choice } from "../../lib/choice.js";
import { h, replace } from "../../lib/dom.js";
import { bytes, count, hint, ms, number, percent, rate } from "../../lib/format.js";
import { bar, busy, card, empty, iconButton, notice, table } from "../../lib/parts.js";
import { setQuery } from "../../lib/route.js";
import { trend } from "../../lib/sparkline.js";

const SPANS = ["1h", "6h", "24h", "7d"];

/** Each operation: its name, and the phase whose colour it has. */
const OPERATIONS = {
  queue: ["Queue", "queue"],
  model_load: ["Load", "load"],
  image_processing: ["Images", "network"],
  prompt_processing: ["Prefill", "prefill"],
  token_generation: ["Decode", "decode"],
  other: ["Other", "other"],
};

export function profileSection(query) {
  let span = SPANS.includes(query.get("profile")) ? query.get("profile") : "1h";
  let asked = 0;
  const body = h("div", { class: "stack" }, busy());
  async function load() {
    const mine = ++asked;
    try {
      const told = await get(`/v1/performance/profile/${span}`);
      if (mine === asked) replace(body, told.request_count ? drawn(told) : none());
    } catch (error) {
      if (mine === asked) replace(body, notice("bad", error.message));
    }
  }
  function choose(value) {
    span = value;
    setQuery({ profile: value });
    load();
  }
  const element = card("Profile", body, {
    actions: [choice("Span of the profile", SPANS, span, choose), iconButton("again", "Compute anew", load)],
  });
  return { element, load };
}

function none() {
  return empty("Nothing to profile yet", "No request ended in this span.");
}

function drawn(told) {
  return [breakdown(told), bottlenecks(told.bottlenecks), resources(told), trends(told.trends)];
}

// ---- where the time went --------------------------------------------------------------------------------------------

function breakdown({ timing_breakdown: operations, request_count: requests }) {
  const parts = operations
    .filter((one) => one.percentage)
    .map((one) => ({ ...one, name: OPERATIONS[one.operation][0], kind: OPERATIONS[one.operation][1] }));
  return h(
    "section",
    { class: "stack tight" },
    h("h3", {}, `Where the time of ${requests === 1 ? "1 request" : `${count(requests)} requests`} went`),
    bar(parts.map((one) => ({ label: one.name, value: one.percentage, kind: one.kind, text: percent(one.percentage / 100) }))),
    h("ul", { class: "inline-facts" }, parts.map((one) => h("li", {}, swatch(one.kind), ` ${one.name} `, hint(h("b", {}, percent(one.percentage / 100)), { formula: "the time of all requests in it ÷ the time of all requests", n: one.count }), h("span", { class: "faint" }, " ", ms(one.avg_time_ms), ` each of ${count(one.count)}`)))),
  );
}

function swatch(kind) {
  return h("span", { class: `dot ${kind}`, "aria-hidden": "true" });
}

function bottlenecks(models) {
  const operations = (model) =>
    Object.entries(OPERATIONS).map(([name, [label, kind]]) => ({ label, kind, value: model.breakdown[name] ?? 0, text: ms(model.breakdown[name]) }));
  return h(
    "section",
    { class: "stack tight" },
    h("h3", {}, "Models, the slowest first"),
    table(
      [
        { label: "Model", cell: (model) => h("span", { class: "ellipsis name", title: model.model }, model.model) },
        { label: "Requests", align: "end", cell: (model) => count(model.request_count) },
        { label: "Mean E2E", align: "end", cell: (model) => ms(model.avg_total_ms), formula: "the mean of: closed − received" },
        { label: "Mean TTFT", align: "end", cell: (model) => ms(model.breakdown.first_token, "no request drew a token"), formula: "the mean of: first token − received" },
        { label: "Where it goes", cell: (model) => h("div", { class: "wide-bar" }, bar(operations(model).map((one) => ({ ...one, text: one.text.textContent ?? one.text })))) },
        { label: "Most of it", cell: (model) => (model.largest ? OPERATIONS[model.largest][0] : "–") },
      ],
      models,
      { caption: "Bottlenecks by model" },
    ),
  );
}

// ---- over time ------------------------------------------------------------------------------------------------------

function resources({ resource_timeline: buckets }) {
  const line = (label, field, told) => trend(label, buckets.map((bucket) => ({ at: bucket.timestamp, value: bucket[field] })), told);
  const hasGpu = buckets.some((bucket) => bucket.gpu_percent !== null);
  const hasPower = buckets.some((bucket) => bucket.power_watts !== null);
  return h(
    "section",
    { class: "stack tight" },
    h("h3", {}, "Meanwhile"),
    h(
      "div",
      { class: "trends" },
      line("Requests", "requests", count),
      line("Tokens out", "tokens_per_second", (value) => rate(value)),
      line("Processor", "cpu_percent", (value) => percent(value / 100)),
      line("Memory", "memory_used_bytes", bytes),
      line("Models' memory", "models_resident_bytes", bytes),
      hasGpu && line("GPU", "gpu_percent", (value) => percent(value / 100)),
      hasPower && line("Power", "power_watts", (value) => `${number(value)} W`),
    ),
  );
}

function trends(hours) {
  const shown = hours.filter((hour) => hour.requests).reverse();
  if (shown.length < 2) return null;
  return h(
    "section",
    { class: "stack tight" },
    h("h3", {}, "By the hour"),
    table(
      [
        { label: "Hour", cell: (hour) => new Date(hour.hour * 1000).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" }) },
        { label: "Requests", align: "end", cell: (hour) => count(hour.requests) },
        { label: "Errors", align: "end", cell: (hour) => count(hour.errors) },
        { label: "Mean E2E", align: "end", cell: (hour) => ms(hour.response_time_ms), formula: "the mean of: closed − received" },
        { label: "", align: "end", cell: (hour) => change(hour.response_time_change, true), formula: "against the hour before" },
        { label: "Mean TTFT", align: "end", cell: (hour) => ms(hour.first_token_ms, "no request drew a token"), formula: "the mean of: first token − received" },
        { label: "Decode", align: "end", cell: (hour) => rate(hour.tokens_per_second, "tok/s", "no request drew two tokens"), formula: "the mean of: (output tokens − 1) ÷ (last token − first token)" },
        { label: "", align: "end", cell: (hour) => change(hour.tps_change, false), formula: "against the hour before" },
      ],
      shown,
      { caption: "Trends by the hour" },
    ),
  );
}

/** A change against the hour before: with its sign, and whether that is for the better. */
function change(value, less) {
  if (value === null) return "";
  if (Math.abs(value) < 1) return h("span", { class: "faint" }, "±0 %");
  const better = less ? value < 0 : value > 0;
  return h("span", { class: better ? "good" : "bad" }, `${value > 0 ? "+" : "−"}${number(Math.abs(value))} %`);
}
