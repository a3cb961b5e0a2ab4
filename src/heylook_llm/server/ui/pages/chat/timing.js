// Where an answer's time went: a small bar under it, which opens to the server's whole account.

import { ApiError, get } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { count, ms, rate, unknown } from "../../lib/format.js";
import { bar, busy, dialog, facts, notice } from "../../lib/parts.js";

const PHASES = { parse: "Parse", load: "Load", queue: "Queue", prepare: "Prepare", prefill: "Prefill", decode: "Decode", flush: "Flush" };

/** The bar and the numbers of a measured answer, as a button; null where nothing was measured. */
export function timing(answer) {
  const measured = answer.measured;
  if (!measured || (measured.last_token_ms === null && !measured.until_ms)) return null;
  const segments = segmentsOf(measured);
  return h(
    "button",
    { class: "timing", type: "button", title: "Where the time went", on: { click: () => explain(answer) } },
    bar(segments, { label: "Timeline of this answer" }),
    h("span", { class: "timing-numbers" }, numbersOf(measured).map((text) => h("span", {}, text))),
  );
}

/** Whether it ended before the server's account of it came: then `until_ms` says how far what is known goes. */
const isCut = (measured) => typeof measured.until_ms === "number";

function segmentsOf(measured) {
  return partsOf(measured)
    .filter(([, , value]) => value > 0)
    .map(([label, kind, value]) => ({ label, kind, value, text: ms(value) }));
}

function partsOf(measured) {
  const load = measured.load_ms ?? 0;
  const queue = measured.queued_ms ?? 0;
  const { admitted_ms: admitted, first_token_ms: first, last_token_ms: last, until_ms: until } = measured;
  if (first === null && isCut(measured)) return [["Waiting", "other", until]];
  return [
    isCut(measured) ? ["Before the prompt", "other", admitted ?? 0] : ["Prepare", "other", Math.max(0, (admitted ?? 0) - load - queue)],
    ["Load", "load", load],
    ["Queue", "queue", queue],
    ["Prefill", "prefill", first === null || admitted === null ? 0 : first - admitted],
    ["Decode", "decode", first === null ? 0 : last - first],
  ];
}

function numbersOf(measured) {
  const { cached_tokens: cached, output_per_second: speed, output_tokens: tokens } = measured;
  if (isCut(measured) && measured.first_token_ms === null) return [ms(measured.until_ms), "before the first token"];
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
  if (isCut(told)) return cut(answer);
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

/** Of an answer that was stopped or broke off: the worker's own account comes with the last token, which never came. */
async function cut(answer) {
  const told = answer.measured;
  const { waterfall } = await import("../../lib/waterfall.js");
  const reason = "it ended before the first token";
  const phases = { before: told.admitted_ms ?? told.until_ms, prefill: span(told.admitted_ms, told.first_token_ms), decode: span(told.first_token_ms, told.last_token_ms) };
  return [
    notice("info", "It ended before the server told of it. This is what had been measured until then: the engine's times of prompt and tokens, behind what came before them as this browser saw it."),
    waterfall({ phases_ms: phases }),
    facts([
      ["Model", answer.model],
      ["Prompt", told.first_token_ms === null ? unknown(reason) : `${count(told.prompt_tokens)} tokens, ${count(told.cached_tokens ?? 0)} of them cached`],
      ["Prefill", rate(told.prompt_per_second, "tok/s", told.first_token_ms === null ? reason : "every token of the prompt was cached, or too few to tell")],
      ["Decode", rate(told.output_per_second, "tok/s", told.first_token_ms === null ? reason : "one token has no speed")],
      ["Output", count(told.output_tokens, reason)],
      ["First token", ms(told.first_token_ms, reason)],
      ["Ended after", ms(told.until_ms)],
    ]),
  ];
}

const span = (from, to) => (from === null || to === null ? 0 : to - from);

function verdict({ why_slow: { verdict: word, causes } }) {
  if (word === "normal") return "Nothing about it was slower than usual.";
  const [{ phase, spent_ms: spent, expected_ms: expected }] = causes;
  return `${word}: ${PHASES[phase]} took ${ms(spent)} where ${ms(expected)} was expected.`;
}
