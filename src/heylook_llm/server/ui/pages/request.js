// One finished request: where its time went, why it was slow, who shared its batch, and every stamp.

import { get } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { bytes, count, hint, hinted, ms, number, rate, unknown, when } from "../lib/format.js";
import { badge, card, copyButton, empty, facts, heading, notice, table } from "../lib/parts.js";
import { meaning, waterfall } from "../lib/waterfall.js";
import { outcomeBadge, pathOf } from "./performance/requests.js";

export const title = "Request";

const STAMPS = {
  received_ns: "the head had arrived",
  parsed_ns: "the body was understood",
  ready_ns: "checked, its images read: it waited for the model from here",
  load_start_ns: "the load of its model began",
  load_end_ns: "the load ended",
  submitted_ns: "it went to the model's process",
  rendered_ns: "the chat template was applied",
  tokenized_ns: "its tokens were made",
  encoded_ns: "its images were encoded",
  queued_ns: "it was ready, and waited for a place in the batch",
  admitted_ns: "the first step that computed some of it began",
  prefill_end_ns: "the last step of its prompt ended",
  first_token_ns: "its first token was drawn",
  first_byte_ns: "the first byte of output went to the socket",
  last_token_ns: "its last token was drawn",
  all_tokens_ns: "the last token of all choices was drawn",
  closed_ns: "the last bytes went to the socket",
};

export async function open(main, { params }) {
  const id = params.id;
  let request;
  try {
    request = await get(`/v1/performance/requests/${encodeURIComponent(id)}`);
  } catch (error) {
    if (error.status !== 404) throw error;
    const back = h("a", { class: "button primary", href: "/ui/performance" }, "To all requests");
    main.append(empty("This request isn't kept", `${error.message} Requests are forgotten by their age and the file's size.`, back));
    return;
  }
  main.append(
    h(
      "div",
      { class: "page" },
      head(request),
      verdict(request),
      card("Where the time went", waterfall(request)),
      h("div", { class: "grid request-facts" }, card("Measures", measures(request)), card("Tokens", tokens(request)), card("Asked", asked(request)), card("Computed", computed(request))),
      company(request),
      stamps(request),
      texts(request.texts),
    ),
  );
}

function head(request) {
  const name = h("span", { class: "request-id" }, h("code", {}, request.id), copyButton(() => request.id, "Copy the id"));
  return h(
    "header",
    { class: "stack tight" },
    h("nav", { "aria-label": "Above" }, h("a", { href: "/ui/performance" }, "Performance")),
    heading("Request", null, outcomeBadge(request)),
    h("div", { class: "row small muted" }, name, h("span", {}, request.model), when(request.finished_at)),
  );
}

// ---- why it was slow ------------------------------------------------------------------------------------------------

function verdict({ why_slow: why, outcome, e2e_ms: whole }) {
  const told = why.causes.map((cause) =>
    h(
      "li",
      {},
      h("b", {}, cause.phase),
      ": ",
      ms(cause.spent_ms),
      cause.expected_ms > 0 ? [", where ", ms(cause.expected_ms), " is usual"] : ", where none should be",
      `. ${meaning(cause.phase)}`,
    ),
  );
  const kind = why.causes.length ? "warn" : "good";
  return notice(kind, h("div", { class: "stack tight verdict" }, h("strong", {}, words(why, outcome, whole)), told.length ? h("ul", {}, told) : null, h("p", { class: "muted small" }, judged(why))));
}

function words(why, outcome, whole) {
  const took = ["It took ", ms(whole), ". "];
  if (outcome !== "done") took.unshift(`It ended early (${outcome}). `);
  return why.causes.length ? [...took, `It was ${why.verdict}.`] : [...took, "Nothing took longer than it should have."];
}

function judged(why) {
  const all = why.judged.length === 7;
  const than = `Compared with the medians of ${count(why.compared_with)} requests of this model that ended well.`;
  return all ? than : `Only ${why.judged.join(" and ")} could be judged: what else is usual is known from 20 such requests on, and there are ${count(why.compared_with)}.`;
}

// ---- facts ----------------------------------------------------------------------------------------------------------

function measures(request) {
  return facts([
    ["E2E", told(ms(request.e2e_ms), "closed − received")],
    ["TTFT", told(ms(request.ttft_ms, "it drew no token"), "first token − received")],
    ["TPOT", told(ms(request.tpot_ms, "it drew fewer than two tokens"), "(last token − first token) ÷ (output tokens − 1)")],
    ["Queue", told(ms(request.queue_ms, "it was never admitted"), "waiting for its model without the load, and for a place in the batch")],
    ["Load", told(ms(request.load_ms, "its model was loaded already"), "the load that it waited for")],
    ["Prefill", told(rate(request.prefill_tokens_per_second, "tok/s", "no prompt token was computed"), "(prompt − cached tokens) ÷ (first token − admitted)")],
    ["Decode", told(rate(request.decode_tokens_per_second, "tok/s", "it drew fewer than two tokens"), "(output tokens − 1) ÷ (last token − first token)")],
    ["Batch", told(number(request.batch_size_mean, "nothing was decoded"), "mean over its decode steps")],
  ]);
}

function told(value, formula) {
  return hinted(value, { formula });
}

function tokens(request) {
  const drafted = request.draft_tokens > 0;
  return facts([
    ["Prompt", count(request.prompt_tokens)],
    ["of them cached", count(request.cached_tokens)],
    ["Output", count(request.output_tokens)],
    ["of them reasoning", count(request.reasoning_tokens)],
    ["Guessed ahead", drafted ? count(request.draft_tokens) : null],
    ["of them right", drafted ? count(request.accepted_tokens) : null],
    ["Left out of the prompt", request.timeline.dropped_tokens ? count(request.timeline.dropped_tokens) : null],
    ["Choices", request.choices > 1 ? count(request.choices) : null],
  ]);
}

function asked(request) {
  const of = (text) => (text === null ? null : h("span", { title: text }, text));
  return facts([
    ["Route", h("code", {}, request.route.split(/(?<=\/)/).flatMap((part) => [h("wbr"), part]))],
    ["Dialect", request.dialect],
    ["Streamed", request.stream ? "yes" : "no"],
    ["Status", String(request.status)],
    ["Error", request.error && h("code", {}, request.error)],
    ["Provider", request.provider],
    ["Client", of(request.client)],
    ["Its own id", of(request.client_request_id)],
    ["Run", request.run_id && h("a", { href: `/ui/performance?run_id=${encodeURIComponent(request.run_id)}` }, request.run_id)],
  ]);
}

function computed({ timeline, energy }) {
  const watts = energy.baseline_watts === null ? null : `${number(energy.baseline_watts)} W idle, taken off`;
  const joules = energy.joules === null ? unknown(energy.reason ?? "nothing counts it") : hint(h("span", {}, `${number(energy.joules)} J`), { note: [`attributed by ${energy.counters.join(", ")}`, watts].filter(Boolean).join("; ") });
  return facts([
    ["Decode steps", count(timeline.steps)],
    ["Times preempted", count(timeline.preemptions)],
    ["Context cells", count(timeline.kv_cells, "the engine doesn't tell")],
    ["Process at most", bytes(timeline.peak_bytes, "its process wasn't read meanwhile")],
    ["Prefix from", timeline.cached_from || null],
    ["Prefix shared with", !timeline.shared_with ? null : h("span", { class: "ellipsis", title: timeline.shared_with }, timeline.shared_with)],
    ["Energy", joules],
  ]);
}

// ---- who else -------------------------------------------------------------------------------------------------------

function company({ shared_batch_with: others, timeline }) {
  const sizes = Object.entries(timeline.batch_sizes_seen);
  const steps = sizes.map(([size, times]) => h("li", {}, h("b", {}, count(times)), ` ${times === 1 ? "step" : "steps"} with ${size === "1" ? "it alone" : `${size} together`}`));
  const list = others.length
    ? table(
        [
          { label: "Request", cell: (other) => h("a", { href: pathOf(other.id) }, h("code", {}, other.id)) },
          { label: "Outcome", cell: (other) => badge(other.outcome, other.outcome === "done" ? "good" : "warn") },
          { label: "Together for", align: "end", cell: (other) => ms(other.overlap_ms, "one of them was never admitted") },
        ],
        others,
        { caption: "Requests that shared its batch" },
      )
    : h("p", { class: "muted" }, "No other request was in the batch with it.");
  return card("Shared its batch with", h("div", { class: "stack tight" }, steps.length ? h("ul", { class: "inline-facts" }, steps) : null, list));
}

// ---- stamps and texts -----------------------------------------------------------------------------------------------

function stamps({ timeline, clock_id: clock }) {
  const begin = timeline.received_ns;
  const rows = Object.entries(STAMPS)
    .map(([name, what]) => ({ name, what, at: timeline[name] }))
    .filter((row) => row.at !== null && row.at !== undefined)
    .sort((a, b) => a.at - b.at);
  const before = (at, row) => (row === 0 ? "" : `${((at - rows[row - 1].at) / 1e6).toFixed(3)}`);
  const missing = Object.keys(STAMPS).filter((name) => timeline[name] === null || timeline[name] === undefined);
  const list = table(
    [
      { label: "Stamp", cell: (row) => h("code", {}, row.name.replace(/_ns$/, "")) },
      { label: "When", cell: (row) => h("span", { class: "wrap" }, row.what) },
      { label: "Since received (ms)", align: "end", cell: (row) => (begin === null ? unknown("it has no beginning") : ((row.at - begin) / 1e6).toFixed(3)) },
      { label: "Since the one before (ms)", align: "end", cell: (row) => before(row.at, rows.indexOf(row)) },
    ],
    rows,
    { caption: "Stamps" },
  );
  const said = [`Clock ${clock}: only stamps of one clock compare.`];
  if (missing.length) said.push(`What did not happen: ${missing.map((name) => name.replace(/_ns$/, "")).join(", ")}.`);
  return card("Stamps", h("div", { class: "stack tight" }, list, h("p", { class: "muted small" }, said.join(" "))));
}

function texts(kept) {
  if (!kept) return null;
  const one = (name, text) => h("section", { class: "stack tight" }, h("div", { class: "row apart" }, h("h3", {}, name), copyButton(() => text)), h("pre", { class: "kept-text", tabindex: 0 }, text));
  return card("Texts", h("div", { class: "stack" }, one("Prompt", kept.prompt), one("Answer", kept.answer)));
}
