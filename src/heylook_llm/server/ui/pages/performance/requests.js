// The finished requests, newest first: chosen by what they are, page by page.

import { get } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { count, ms, rate, when } from "../../lib/format.js";
import { badge, bar, busy, button, card, empty, field, notice, select, table } from "../../lib/parts.js";
import { go, setQuery } from "../../lib/route.js";

const PAGE = 25;
const OUTCOMES = { done: "good", error: "bad", cancelled: "warn", disconnected: "warn" };
const WINDOWS = ["1m", "5m", "1h", "24h", "7d"];
const FILTERS = ["model", "outcome", "since", "client", "run_id", "client_request_id"];

/** What became of a request, as a word with its colour. */
export function outcomeBadge({ outcome, error }) {
  return badge(error ?? outcome, OUTCOMES[outcome] ?? "");
}

/** The address of a request's page. */
export function pathOf(id) {
  return `/ui/performance/requests/${encodeURIComponent(id)}`;
}

export function requestsSection(models, query) {
  const chosen = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  let before = [];
  let news = 0;
  let asked = 0;
  const body = h("div", { class: "stack tight" }, busy());
  const fresh = h("div", { class: "fresh", role: "status" });
  async function load() {
    const mine = ++asked;
    news = 0;
    replace(fresh);
    const at = before[before.length - 1];
    const given = new URLSearchParams({ ...filters(), limit: PAGE, ...(at ? { before: at } : {}) });
    try {
      const told = await get(`/v1/performance/requests?${given}`);
      if (mine === asked) show(told);
    } catch (error) {
      if (mine === asked) replace(body, notice("bad", error.message));
    }
  }
  function show(told) {
    if (!told.data.length) return replace(body, none(Object.keys(filters()).length > 0));
    replace(body, listed(told.data), pager(told));
  }
  function pager(told) {
    const newer = button("Newer", () => (before.pop(), load()), { disabled: !before.length });
    const older = button("Older", () => (before.push(told.next_before), load()), { disabled: !told.has_more });
    return before.length || told.has_more ? h("div", { class: "row end" }, newer, older) : null;
  }
  function noteFinished(request) {
    if (!matches(request)) return;
    news += 1;
    if (news === 1 || news % 10 === 0) requestAnimationFrame(offer);
  }
  function offer() {
    if (!news || !element.isConnected) return;
    const text = news === 1 ? "Show 1 new" : `Show ${news < 10 ? "new ones" : `${count(news)} new`}`;
    replace(fresh, button(text, () => ((before = []), load()), { icon: "again" }));
  }
  function matches(request) {
    return ["model", "outcome", "client", "run_id", "client_request_id"].every((name) => !chosen[name] || request[name] === chosen[name]);
  }
  function filters() {
    const { since, ...rest } = chosen;
    const given = { ...rest, window: since };
    return Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  }
  function choose(name, value) {
    chosen[name] = value.trim();
    before = [];
    setQuery({ [name]: chosen[name] });
    load();
  }
  const element = card("Requests", [h("div", { class: "filters" }, controls(models, chosen, choose)), body], { actions: [fresh] });
  return { element, load, filters, noteFinished };
}

function controls(models, chosen, choose) {
  const known = models.includes(chosen.model) || !chosen.model ? models : [...models, chosen.model];
  const text = (name, label) =>
    field(label, h("input", { value: chosen[name], maxlength: 128, spellcheck: "false", on: { change: (event) => choose(name, event.target.value) } }));
  const one = (name, label, options) => field(label, select([["", "any"], ...options], chosen[name], (value) => choose(name, value)));
  return [
    one("model", "Model", known),
    one("outcome", "Outcome", Object.keys(OUTCOMES)),
    one("since", "Ended within", WINDOWS),
    text("client", "Client tag"),
    text("run_id", "Run"),
    text("client_request_id", "Client's own id"),
  ];
}

function none(isFiltered) {
  if (isFiltered) return empty("No request is like that", "Choose less, or a longer window.");
  return empty("No request was measured yet", "Each one that this server answers appears here, with where its time went.", h("a", { class: "button primary", href: "/ui/chat" }, "Ask something"));
}

function listed(rows) {
  return table(
    [
      { label: "Ended", cell: (row) => h("a", { href: pathOf(row.id), title: `Request ${row.id}` }, when(row.finished_at)) },
      { label: "Model", cell: (row) => h("span", { class: "ellipsis name", title: row.model }, row.model) },
      { label: "Outcome", cell: outcomeBadge },
      { label: "Time", cell: parts },
      { label: "E2E", align: "end", cell: (row) => ms(row.e2e_ms), formula: "closed − received" },
      { label: "TTFT", align: "end", cell: (row) => ms(row.ttft_ms, "it drew no token"), formula: "first token − received" },
      { label: "Decode", align: "end", cell: (row) => rate(row.decode_tokens_per_second, "tok/s", "it drew fewer than two tokens"), formula: "(output tokens − 1) ÷ (last token − first token)" },
      { label: "Prompt", align: "end", cell: (row) => count(row.prompt_tokens), note: "Prompt tokens, those found in memory among them." },
      { label: "Cached", align: "end", cell: (row) => count(row.cached_tokens), note: "Prompt tokens that were found in memory." },
      { label: "Output", align: "end", cell: (row) => count(row.output_tokens), note: "Tokens of the answer, with its reasoning." },
      { label: "Client", cell: (row) => tag(row) },
    ],
    rows,
    { caption: "Finished requests", press: (row) => go(pathOf(row.id)) },
  );
}

function tag({ client, run_id: run }) {
  const text = client ?? run;
  return text ? h("span", { class: "ellipsis tag", title: text }, text) : h("span", { class: "faint" }, "–");
}

/** Load and queue, then until the first token, then the rest: what the list knows of a request's time. */
function parts({ e2e_ms: whole, load_ms: load, queue_ms: queue, ttft_ms: first }) {
  if (!whole) return h("span", { class: "faint" }, "–");
  const waited = (load ?? 0) + (queue ?? 0);
  const prompt = first === null ? 0 : Math.max(0, first - waited);
  const rest = Math.max(0, whole - waited - prompt);
  const segments = [
    { label: "load", value: load ?? 0, kind: "load" },
    { label: "queue", value: queue ?? 0, kind: "queue" },
    { label: "to the first token", value: prompt, kind: "prefill" },
    { label: first === null ? "the rest" : "from the first token on", value: rest, kind: first === null ? "other" : "decode" },
  ];
  return h("div", { class: "wide-bar" }, bar(segments.map((one) => ({ ...one, text: ms(one.value) }))));
}
