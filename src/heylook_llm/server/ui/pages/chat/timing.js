// Where an answer's time went: a small bar under it, which opens to the server's whole account.

import { ApiError, get } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { count, ms, rate } from "../../lib/format.js";
import { bar, busy, dialog, facts, notice } from "../../lib/parts.js";

const PHASES = { parse: "Parse", load: "Load", queue: "Queue", prepare: "Prepare", prefill: "Prefill", decode: "Decode", flush: "Flush" };

/** The bar and the numbers of a measured answer, as a button; null where nothing was measured. */
export function timing(answer) {
  const measured = answer.measured;
  if (!measured || measured.last_token_ms === null) return null;
  const segments = segmentsOf(measured);
  return h(
    "button",
    { class: "timing", type: "button", title: "Where the time went", on: { click: () => explain(answer) } },
    bar(segments, { label: "Timeline of this answer" }),
    h("span", { class: "timing-numbers" }, numbersOf(measured).map((text) => h("span", {}, text))),
  );
}

function segmentsOf(measured) {
  const load = measured.load_ms ?? 0;
  const queue = measured.queued_ms ?? 0;
  const { admitted_ms: admitted, first_token_ms: first, last_token_ms: last } = measured;
  const parts = [
    ["Prepare", "other", Math.max(0, (admitted ?? 0) - load - queue)],
    ["Load", "load", load],
    ["Queue", "queue", queue],
    ["Prefill", "prefill", first === null || admitted === null ? 0 : first - admitted],
    ["Decode", "decode", first === null ? 0 : last - first],
  ];
  return parts.filter(([, , value]) => value > 0).map(([label, kind, value]) => ({ label, kind, value, text: ms(value) }));
}

function numbersOf(measured) {
  const { cached_tokens: cached, output_per_second: speed, output_tokens: tokens } = measured;
  return [
    ms(measured.last_token_ms),
    speed === null ? null : rate(speed),
    tokens === null ? null : `${count(tokens)} ${tokens === 1 ? "token" : "tokens"}`,
    measured.load_ms ? `load ${ms(measured.load_ms)}` : null,
    cached ? `${count(cached)} cached` : null,
  ].filter(Boolean);
}

/** The whole of it: the request's waterfall with why it was slow, by the server's own account. */
function explain(answer) {
  const place = h("div", { class: "stack" }, busy("Asking the server…"));
  dialog("Where the time went", () => place, { wide: true });
  account(answer).then((content) => replace(place, content));
}

async function account(answer) {
  const told = answer.measured;
  const known = facts([
    ["Model", answer.model],
    ["Prompt", `${count(told.prompt_tokens)} tokens, ${count(told.cached_tokens ?? 0)} of them cached`],
    ["Prefill", rate(told.prompt_per_second, "tok/s", "every token of the prompt was cached, or too few to tell")],
    ["Decode", rate(told.output_per_second, "tok/s", "one token has no speed")],
    ["First token", ms(told.first_token_ms)],
    ["Last token", ms(told.last_token_ms)],
  ]);
  try {
    const path = `/v1/performance/requests/${encodeURIComponent(answer.request)}`;
    const [request, { waterfall }] = await Promise.all([get(path), import("../../lib/waterfall.js")]);
    const link = h("a", { class: "button", href: `/ui/performance/requests/${encodeURIComponent(request.id)}` }, "Open this request");
    return [h("p", { class: "verdict" }, verdict(request)), waterfall(request), known, h("div", { class: "row end" }, link)];
  } catch (error) {
    const gone = error instanceof ApiError && error.status === 404;
    return [notice("info", gone ? "The server no longer keeps this request; this is what came with the answer." : error.message), known];
  }
}

function verdict({ why_slow: { verdict: word, causes } }) {
  if (word === "normal") return "Nothing about it was slower than usual.";
  const [{ phase, spent_ms: spent, expected_ms: expected }] = causes;
  return `${word}: ${PHASES[phase]} took ${ms(spent)} where ${ms(expected)} was expected.`;
}
