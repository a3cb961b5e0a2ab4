// What a run measured: the verdict, the curves, where time went, the slowest requests by both clocks, and every sample.

import { get } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { figure as plot } from "../lib/figure.js";
import { figures } from "/ui/lib/figures.js";
import { bytes, hint, ms, number, percent, unknown } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { badge, bar, busy, card, dotted, empty, facts, figure, notice, select, table } from "../lib/parts.js";
import { pathOf } from "./bench/run_actions.js";
import { downloads } from "./bench_files.js";
import { quantity, range, told } from "./bench_numbers.js";
import { samples } from "./bench_samples.js";

const MOST_SLOW = 12;
const SHOWN_SHARE = 0.01; // a phase of less is seen in the bar alone
const PERCENTILES = ["p50", "p90", "p95", "p99"];
const HEAD = ["output", "ttft.p50", "ttft.p95", "tpot.p50", "e2e.p95", "errors"];

/** The result of a run, as GET /v1/bench/runs/ID tells it; an element that fills itself. */
export function result(run) {
  const place = h("div", { class: "result stack" }, busy("Reading the samples…"));
  get(pathOf(run, "/result"))
    .then((found) => replace(place, parts(run, found)))
    .catch((error) => replace(place, notice("bad", error.message)));
  return place;
}

function parts(run, found) {
  if (!found.rows.length) {
    return [verdict(found), empty("Nothing was measured", "This run has no cells whose requests were sent.")];
  }
  const drawn = figures(found.figures);
  const draw = (name) => (style) => figures(found.figures, style)[name];
  const plotted = (name, title, text) =>
    drawn[name] && card(title, [h("p", { class: "muted small" }, text), plot(draw(name), { label: title })]);
  return [
    verdict(found),
    known(found),
    rows(found),
    within(found),
    h("div", { class: "grid result-plots" }, [
      plotted("curve", "Latency and throughput", "More clients push to the right; a server that is full pushes up."),
      plotted("spread", "Percentiles", "How many requests had their first token, and each token, within which time."),
    ]),
    where(found),
    percentiles(found),
    speeds(found),
    slowest(found),
    card("Samples", samples(run, found)),
    h("div", { class: "grid" }, about(run, found), downloads(run)),
  ];
}

// ---- what came of it ------------------------------------------------------------------------------------------------

function verdict(found) {
  const best = found.rows[bestRow(found.report.rows)];
  const flags = found.report.flags.map((flag) => badge(flag, "warn"));
  return h(
    "section",
    { class: "card result-verdict" },
    flags.length > 0 && h("div", { class: "row" }, flags),
    h("p", { class: "result-sentence" }, found.verdict.replaceAll(" %", "\u00a0%")),
    best && h("div", { class: "result-figures" }, HEAD.map((name) => headFigure(best, name, found.meanings))),
    best && found.rows.length > 1 && h("p", { class: "faint small" }, `These numbers are of ${best.label}, which gave the most tokens.`),
  );
}

function headFigure(row, wanted, meanings) {
  const name = wanted === "output" && row.numbers.output.value === null ? "whole_output" : wanted;
  const { title } = told(name, meanings);
  return figure(title, quantity(row, name, meanings));
}

/** Which row gave the most tokens: the one that the verdict speaks of. */
function bestRow(rows) {
  const output = (row) => row.rates.output ?? row.rates.whole_output ?? 0;
  return rows.reduce((best, row, at) => (output(row) > output(rows[best]) ? at : best), 0);
}

/** What the numbers alone don't show; what was in the way while it ran stands above, where the run's page says it. */
function known(found) {
  if (!found.remarks.length) return null;
  const remarks = found.remarks.map((text) => h("li", {}, text));
  return card("To know before trusting it", h("ul", { class: "result-remarks" }, remarks));
}

/** How many requests kept the limits that the run states. */
function within(found) {
  if (!found.within.length) return null;
  return card("Within the limits", h("ul", { class: "result-remarks" }, found.within.map((text) => h("li", {}, text))));
}

// ---- rows -----------------------------------------------------------------------------------------------------------

function rows(found) {
  const { varied, constant } = found.axes;
  const columns = [
    ...varied.map((name) => ({ label: name, cell: (row) => h("span", { class: "result-axis" }, row.axes[name]), sort: (row) => row.axes[name] })),
    { label: "n", align: "end", cell: (row) => row.requests, note: "Requests that are in the latencies, of those that were measured." },
    ...found.columns.map(({ quantity: name, title }) => ({
      label: title,
      align: "end",
      cell: (row) => quantity(row, name, found.meanings),
      sort: (row) => row.numbers[name].value,
      note: told(name, found.meanings).formula,
    })),
  ];
  return card("Rows", [h("p", { class: "muted small" }, constant.join(" · ")), table(columns, found.rows, { caption: "Rows of the run" })]);
}

function where(found) {
  const seen = new Set();
  const lines = found.rows.map((row, at) => {
    const spent = Object.entries(found.report.rows[at].where);
    const whole = spent.reduce((sum, [, one]) => sum + one, 0);
    spent.forEach(([phase]) => seen.add(phase));
    const segments = spent.map(([phase, one]) => ({ label: phase, value: one, kind: phase, text: `${one.toFixed(2)} ms` }));
    return h(
      "div",
      { class: "where-line" },
      h("div", { class: "row apart" }, h("b", {}, row.label), hint(h("span", {}, ms(whole, "no request has a known end")), { formula: "the mean of whole requests (E2E)", n: row.numbers["e2e.p50"].n })),
      spent.length ? bar(segments) : h("p", { class: "faint small" }, "Nothing is known of it."),
      h("p", { class: "muted small" }, dotted(spent.filter(([, one]) => one >= SHOWN_SHARE * whole).map((one) => phase(one, whole, found, at)))),
    );
  });
  const paired = found.report.rows.some((row) => row.paired);
  const text = paired
    ? "The mean request, cut into the client's phases and the server's own; residual is what neither accounts for."
    : "The mean request by the client's clock; this server tells nothing of its own times.";
  return card("Where time went", [h("p", { class: "muted small" }, text), h("div", { class: "stack" }, lines), legend(found, seen)]);
}

function phase([name, spent], whole, found, at) {
  const meaning = found.meanings.phases[name]?.meaning;
  return hint(h("span", {}, name, " ", ms(spent), " (", percent(spent / whole), ")"), { formula: `the mean of the time in which ${meaning}`, n: found.rows[at].numbers["e2e.p50"].n });
}

function legend(found, seen) {
  const phases = Object.entries(found.meanings.phases).filter(([name]) => seen.has(name));
  return h("ul", { class: "where-legend" }, phases.map(([name, { meaning }]) => h("li", {}, h("span", { class: `bar-part ${name}` }), h("b", {}, name), ` ${meaning}`)));
}

// ---- percentiles and speed ------------------------------------------------------------------------------------------

function percentiles(found) {
  const place = h("div");
  const show = (at) => replace(place, percentileTable(found, found.rows[at], found.report.rows[at]));
  const choice = found.rows.length > 1 && chosenRow(found, (at) => show(at));
  show(0);
  return card("Percentiles", place, { actions: choice ? [choice] : [] });
}

function chosenRow(found, change) {
  const control = select(found.rows.map((row, at) => [String(at), row.label]), "0", (at) => change(Number(at)));
  control.setAttribute("aria-label", "Row");
  return control;
}

function percentileTable(found, row, measured) {
  const names = Object.keys(measured.measures);
  const cell = (statistic) => (name) => quantity(row, `${name}.${statistic}`, found.meanings);
  const columns = [
    { label: "", cell: (name) => hint(h("span", {}, told(name, found.meanings).title), told(name, found.meanings)) },
    { label: "n", align: "end", cell: (name) => measured.measures[name].n, note: "Of how many values: requests, or gaps between tokens and chunks." },
    { label: "mean ± σ", align: "end", cell: (name) => deviated(measured.measures[name], told(`${name}.mean`, found.meanings)) },
    { label: "least", align: "end", cell: cell("least") },
    ...PERCENTILES.map((statistic) => ({ label: statistic, align: "end", cell: cell(statistic) })),
    { label: "most", align: "end", cell: cell("most") },
  ];
  return table(columns, names, { caption: `Percentiles of ${row.label}` });
}

function deviated(found, { unit, formula }) {
  const value = unit === "ms" ? ms(found.mean) : number(found.mean);
  if (found.deviation === null || found.deviation === undefined) return hint(h("span", {}, value), { formula: `mean of: ${formula}`, n: found.n, note: "Of gaps no σ is told." });
  const spread = unit === "ms" ? ms(found.deviation) : number(found.deviation);
  return hint(h("span", {}, value, " ± ", spread), { formula: `mean and standard deviation of: ${formula}`, n: found.n });
}

function speeds(found) {
  const all = found.report.rows.map((row) => row.measures.speed).filter(Boolean);
  const most = 1.03 * Math.max(0, ...all.map((one) => one.most));
  const columns = [
    { label: "", cell: ([row]) => row.label },
    { label: "mean ± σ", align: "end", cell: ([, one]) => (one ? deviated(one, told("speed.mean", found.meanings)) : unknown("no request has a time per token")) },
    { label: "least – most", align: "end", cell: ([, one]) => (one ? hint(h("span", {}, number(one.least), " – ", number(one.most)), { formula: "the least and the most of single requests", n: one.n }) : null) },
    { label: "tokens per second of one request", cell: ([row, one]) => (one ? range(one, most, row.speed) : null) },
  ];
  const pairs = found.rows.map((row, at) => [row, found.report.rows[at].measures.speed]);
  return card("Speed", table(columns, pairs, { caption: "Tokens per second of single requests" }));
}

// ---- the slowest ----------------------------------------------------------------------------------------------------

function slowest(found) {
  const all = found.rows.flatMap((row) => row.slow.map((slow) => ({ row, slow })));
  all.sort((one, other) => other.slow.e2e_ms - one.slow.e2e_ms);
  if (!all.length) return null;
  const text = "Each by the client's clock and, where the server told of it, by its own: what took it longer than it takes the others.";
  const some = all.slice(0, MOST_SLOW);
  const first = some.find(({ slow: one }) => one.server) ?? some[0];
  return card("The slowest requests", [h("p", { class: "muted small" }, text), some.map((one) => slow(one, one === first))]);
}

function slow({ row, slow: one }, isFirst) {
  const place = h("div");
  const summary = h(
    "summary",
    { class: "slow-head" },
    icon("right"),
    h("b", { class: "slow-time" }, ms(one.e2e_ms)),
    badge(one.verdict, one.verdict === "normal" ? "" : "warn"),
    h("span", {}, `#${one.ordinal}`),
    h("span", { class: "muted" }, row.label),
    one.causes && h("span", { class: "muted" }, one.causes),
  );
  const element = h("details", { class: "slow", open: isFirst, on: { toggle: () => element.open && fill() } }, summary, place);
  async function fill() {
    if (place.firstChild) return;
    replace(place, busy("Drawing…"));
    replace(place, await clocks(one).catch((error) => notice("bad", error.message)));
  }
  if (isFirst) fill();
  return element;
}

const ALONE = "The server told nothing of this request, so only the client's clock is drawn.";

async function clocks(one) {
  if (!one.client) return h("p", { class: "faint" }, "Its stamps aren't known here.");
  const client = one.server ? one.client : { ...one.client, offset_ms: 0, note: ALONE };
  const { waterfall } = await import("../lib/waterfall.js");
  const drawing = waterfall(one.server ?? {}, { client });
  const link =
    one.source === "heylook" && one.server_request_id && h("a", { href: `/ui/performance/requests/${encodeURIComponent(one.server_request_id)}` }, "The request as this server kept it");
  const beside = one.shared_with !== null && `Computed beside ${one.shared_with} ${one.shared_with === 1 ? "other" : "others"}. `;
  return [drawing, h("p", { class: "muted small" }, beside, link)];
}

// ---- about ----------------------------------------------------------------------------------------------------------

function about(run, found) {
  const { manifest, spec_hash: hash } = found.report;
  const hardware = manifest.machine;
  const calibration = manifest.calibration;
  const targets = Object.values(manifest.targets ?? {});
  const models = targets.flatMap((one) => Object.entries(one.models ?? {}));
  return card("About", facts([
    ["Server", targets.map((one) => [one.flavor, one.version].filter(Boolean).join(" ")).join(", ") || unknown("the run doesn't say")],
    ["Mode", mode(models)],
    ["Memory", memory(models, found)],
    ["Energy", energy(found)],
    ["Machine", hardware ? [hardware.cpu, ...(hardware.gpus ?? [])].join(", ") : unknown("the run doesn't say")],
    ["System", hardware?.system ?? null],
    ["heylookllm", manifest.heylookllm ?? unknown("the run doesn't say")],
    ["Calibration", calibration ? hint(h("span", {}, ms(calibration.error_p99_ms)), { formula: "how late stamps are beside a null target, p99", n: calibration.chunks }) : unknown("the run began without one")],
    ["Tokens", tokens(found)],
    ["Spec", h("code", { title: hash }, hash.slice(0, 12))],
  ]));
}

/** Where each model was computed: CPU, GPU, or a part on each. */
function mode(models) {
  const told = models.filter(([, one]) => one.compute);
  if (!told.length) return unknown("the server doesn't say where it computes");
  const names = { cpu: "CPU", gpu: "GPU", hybrid: "hybrid: a part on the GPU" };
  const words = told.map(([name, one]) => (models.length > 1 ? `${name}: ` : "") + (names[one.compute] ?? one.compute));
  return words.join(", ");
}

function memory(models, found) {
  const told = models.filter(([, one]) => Number.isFinite(one.bytes));
  const beside = found.report.rows.map((row) => row.meanwhile?.target_bytes).filter(Number.isFinite);
  if (told.length) {
    const parts = told.map(([name, one]) => [models.length > 1 ? `${name}: ` : "", bytes(one.bytes), one.gpu_bytes > 0 ? [", of it on the GPU ", bytes(one.gpu_bytes)] : ""]);
    return hint(h("span", {}, parts.map((part, at) => [at > 0 && "; ", part])), { note: "What the server said of its model behind each cell." });
  }
  if (beside.length) return hint(h("span", {}, bytes(Math.max(...beside))), { note: "The most that the server's processes held meanwhile." });
  return unknown("the server doesn't say what its model takes");
}

function energy(found) {
  const told = found.report.rows.map((row) => row.meanwhile).filter((one) => Number.isFinite(one?.joules));
  if (!told.length) return unknown("no energy counter could be read");
  const joules = told.reduce((sum, one) => sum + one.joules, 0);
  const spent = told.reduce((sum, one) => sum + one.seconds, 0);
  return hint(h("span", {}, `${number(joules)} J, ${number(joules / spent)} W`), { formula: "all counters of this machine, in the windows of the cells", n: null });
}

function tokens(found) {
  const sums = (name) => found.report.rows.reduce((sum, row) => (sum === null || row.tokens[name] === null ? null : sum + row.tokens[name]), 0);
  const input = sums("in_engine") ?? sums("in_usage");
  const output = sums("out_engine") ?? sums("out_usage") ?? sums("out_counted");
  const differ = found.report.rows.some((row) => Object.keys(row.tokens.disagree).length);
  const text = `${input ?? "–"} in, ${output ?? "–"} out`;
  return hint(h("span", {}, text), { note: differ ? "Those who count disagree; the remarks say where." : "Counted by the engine, else by usage; all who counted agree." });
}
