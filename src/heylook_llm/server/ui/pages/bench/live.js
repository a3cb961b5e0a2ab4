// A run while it goes on: how far it is, what it measured so far, and what happened.

import { get } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { count, hint, hinted, ms, rate, seconds, unknown } from "../../lib/format.js";
import { card, chips, figure, notice } from "../../lib/parts.js";
import { cellsTable, numbered } from "./cells.js";
import { histogram, line, scatter } from "./drawings.js";
import { pathOf } from "./run_actions.js";
import { course, leastOf, measured, quantile, rates, remaining } from "./statistics.js";

const MOST_LINES = 200;
const PAUSE = 400;
const MEASURES = [["ttft", "First token"], ["tpot", "Per token"], ["e2e", "Whole answer"]];

/** The view: `{element, heard(message), changed(run), connection(state), close()}`. */
export function liveView(first) {
  let run = first;
  let progress = null;
  let measure = "ttft";
  let points = [];
  let after = 0;
  let timer = null;
  let isReading = false;
  let isEnded = false;
  const seen = new Set();

  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress of the run" });
  const where = h("p", { class: "muted", role: "status" });
  const figures = h("div", { class: "bench-figures" });
  const drawings = h("div", { class: "grid", style: "--least: 320px" });
  const cells = h("div", {});
  const lines = h("ol", { class: "bench-log", tabindex: 0, "aria-label": "What happened" });
  const lost = h("div", { class: "bench-quiet" });
  const choice = chips("Measure", MEASURES.map(([value, label]) => ({ value, label, selected: value === measure })), ([value]) => {
    measure = value ?? measure;
    draw();
  }, { single: true });

  /** Read the points that came since; one request at a time, and not more often than people look. */
  function more() {
    if (timer !== null || isReading || isEnded) return;
    timer = setTimeout(read, PAUSE);
  }
  async function read() {
    timer = null;
    isReading = true;
    try {
      let page;
      do {
        page = await get(pathOf(run, `/points?after=${after}`));
        points.push(...page.data);
        after = page.next_after;
      } while (page.data.length && !isEnded);
      replace(lost);
    } catch (error) {
      if (!isEnded) replace(lost, notice("warn", error.message));
    } finally {
      isReading = false;
    }
    if (!isEnded) draw();
  }

  function draw() {
    drawProgress();
    drawFigures();
    const values = measured(points, measure);
    const label = MEASURES.find(([name]) => name === measure)[1];
    replace(
      drawings,
      card(`${label}: how often`, histogram(values, label)),
      card(`${label}: when`, scatter(points, measure, label)),
      card("Output tokens per second", line(course(points), "Output tokens per second", "tok/s")),
    );
  }

  function drawProgress() {
    const share = shareOf(run, progress);
    bar.value = share;
    const elapsed = run.started === null ? null : Date.now() / 1000 - run.started;
    const left = elapsed === null ? null : remaining(share, elapsed);
    if (run.state === "queued") return replace(where, run.place ? `It waits behind ${run.place} ${run.place === 1 ? "run" : "runs"}.` : "It begins: its servers are asked what they are.");
    const cell = progress ? run.cells[progress.cell] : run.cells.find((one) => one.state === "running");
    const parts = [
      cell && `Cell ${cell.ordinal + 1} of ${run.cells.length}: ${cell.model}, ${cell.scenario}, ${cell.load} ${cell.level ?? ""}, ${cell.cache}`,
      progress && `${count(progress.done)}${progress.in_cell ? ` of ${count(progress.in_cell)}` : ""} done`,
    ].filter(Boolean);
    const eta = left === null ? unknown("too little is done to tell how long the rest takes") : hint(h("span", {}, seconds(left)), { formula: "time so far × what is left / what is done" });
    return replace(where, parts.join(" · "), " · ", eta, " left");
  }

  function drawFigures() {
    const counted = points.filter((point) => point.phase === "measure");
    const failed = counted.filter((point) => point.outcome !== "ok");
    const now = rates(points);
    const last = "Of the answers that ended in the last 10 seconds of the run.";
    replace(
      figures,
      figure("Requests", hinted(count(counted.length), { formula: "answers of the measured phase that came so far, of whatever outcome" }), `${failed.length} failed`),
      figure("Requests/s", hinted(rate(now.requests, "/s", "no answer has ended yet"), { note: last })),
      figure("Output", hinted(rate(now.tokens, "tok/s", "nobody tells how many tokens the answers have"), { note: last })),
      MEASURES.slice(0, 3).map(([name, label]) => percentiles(label, measured(points, name))),
    );
  }

  const drawCells = () => replace(cells, cellsTable(run));

  function log(message) {
    const text = wordsOf(message, run);
    if (text === null || seen.has(message.id)) return;
    seen.add(message.id);
    const kind = message.type === "warning" ? "warn" : "";
    lines.prepend(h("li", { class: kind }, h("time", {}, new Date(message.at * 1000).toLocaleTimeString()), h("span", {}, text)));
    while (lines.children.length > MOST_LINES) lines.lastChild.remove();
  }

  const ticking = setInterval(drawProgress, 1000);
  draw();
  drawCells();
  more();
  return {
    element: h(
      "div",
      { class: "stack" },
      card(null, [bar, where, lost]),
      card(null, figures),
      h("div", { class: "row apart" }, choice),
      drawings,
      h("div", { class: "bench-below" }, card("Cells", cells), card("Log", lines)),
    ),
    heard: (message) => {
      if (message.type === "progress") progress = message;
      log(message);
      more();
    },
    changed: (next) => {
      run = next;
      progress ??= next.progress;
      drawCells();
      draw();
    },
    connection: (state) => replace(lost, state === "waiting" ? notice("warn", "The connection is lost; it is tried again. The run goes on without this page.") : null),
    close: () => {
      isEnded = true;
      clearTimeout(timer);
      clearInterval(ticking);
    },
  };
}

/** How much of a run is done, 0 to 1: of whole cells, and of the one that goes on. */
function shareOf(run, progress) {
  const settled = run.cells.filter((cell) => ["done", "failed", "skipped"].includes(cell.state)).length;
  const running = run.cells.find((cell) => cell.state === "running");
  const isCurrent = progress && running && progress.cell === running.ordinal;
  const limit = run.spec.duration_seconds;
  const within = !isCurrent ? 0 : progress.in_cell ? (progress.done + progress.failed) / progress.in_cell : limit ? progress.seconds / limit : 0;
  return run.cells.length ? Math.min(1, (settled + Math.min(1, within)) / run.cells.length) : 0;
}

function percentiles(label, values) {
  const of = (share) => {
    const value = quantile(values, share);
    return hinted(ms(value, `it takes ${leastOf(share)} answers; there are ${values.length}`), { n: values.length, formula: `nearest rank at ${share * 100} %, of the whole run so far` });
  };
  return figure(label, of(0.5), h("span", {}, "p95 ", of(0.95), " · p99 ", of(0.99)));
}

function wordsOf(message, run) {
  switch (message.type) {
    case "run.state":
      return `The run is ${message.state}.`;
    case "cell.state": {
      const cell = run.cells[message.cell];
      return `Cell ${message.cell + 1} ${message.state}${cell ? `: ${cell.model}, ${cell.scenario}, ${cell.load} ${cell.level ?? ""}` : ""}`;
    }
    case "warning":
    case "note":
      return numbered(message.text);
    default:
      return null;
  }
}
