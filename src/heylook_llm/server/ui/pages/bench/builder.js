// The builder: targets, workload and load, and below them what that comes to, with what can be done with it.

import { get, lines, post } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { copyText } from "../../lib/files.js";
import { bytes, count, hint, seconds, unknown } from "../../lib/format.js";
import { button, dotted, field, menu, notice, toast } from "../../lib/parts.js";
import { go } from "../../lib/route.js";
import { fresh, lacking, specOf, withSpec } from "./draft.js";
import { loadColumn } from "./load.js";
import { presetRow } from "./presets.js";
import { pageOf } from "./run_actions.js";
import { targetsColumn } from "./targets.js";
import { ownTraffic, workloadColumn } from "./workload.js";

const STORED = "heylook.bench.draft";
const PAUSE = 250;

/** The builder; `from` is a spec that it begins with, null: what it held last. Returns `{element, close}`. */
export function builder(from = null) {
  const draft = from ? withSpec(fresh(), from) : stored();
  const place = h("div", { class: "bench-columns" });
  const presets = presetRow({ choose: (spec) => choose(spec), traffic, current: () => footer.spec() });
  const problem = h("div", { class: "problem" });
  const footer = foot(draft, () => targets.missing());
  let contexts = new Map();
  let targets = null;
  let workload = null;

  function changed() {
    keep(draft);
    workload?.windowChanged();
    footer.changed();
  }

  /** The smallest context among the chosen models of this server; others don't tell theirs. */
  function windowOf() {
    const chosen = Object.values(draft.targets).filter((target) => target.on).flatMap((target) => target.models);
    const known = chosen.map((model) => contexts.get(model)).filter(Boolean);
    return known.length ? Math.min(...known) : null;
  }

  function draw() {
    targets = targetsColumn(draft, changed);
    workload = workloadColumn(draft, changed, windowOf);
    replace(place, targets.element, workload.element, loadColumn(draft, changed));
  }

  async function choose(spec) {
    const { targets: servers, name, pull, calibrate } = draft;
    Object.assign(draft, withSpec({ ...fresh(), targets: servers, name, pull, calibrate }, spec));
    draw();
    await opened();
  }

  async function traffic() {
    try {
      const found = await ownTraffic();
      if (found) return { scenarios: [found.scenario] };
      toast("This server has answered too little lately to tell its traffic.", "bad");
    } catch (error) {
      toast(error.message, "bad");
    }
    return null;
  }

  async function opened() {
    try {
      await targets.load();
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  async function begin() {
    const [shipped, able] = await Promise.all([get("/v1/bench/presets"), get("/v1/models")]);
    contexts = new Map(able.data.map((model) => [model.id, model.max_model_len]));
    presets.show(shipped.data);
    await opened();
  }

  function again() {
    Object.assign(draft, fresh());
    presets.clear();
    draw();
    begin().catch((error) => toast(error.message, "bad"));
  }

  draw();
  begin().catch((error) => replace(problem, notice("bad", error.message)));
  const element = h(
    "section",
    { class: "card bench-builder", "aria-label": "New benchmark" },
    h("div", { class: "row apart bench-top" }, presets.element, button("Start over", again, { kind: "quiet", icon: "again" })),
    problem,
    place,
    footer.element,
  );
  return { element, close: footer.close };
}

/** What a draft comes to, asked of the server after each change, and what can be done with it. */
function foot(draft, missing) {
  const summary = h("p", { class: "bench-summary", role: "status" });
  const problems = h("div", { class: "stack tight bench-quiet" });
  const run = button("Run", start, { kind: "primary", icon: "play" });
  const pull = h("input", { type: "checkbox", checked: draft.pull, on: { change: () => ((draft.pull = pull.checked), keep(draft), tell()) } });
  const pulling = h("div", { class: "bench-pulling" }, field("Pull what is missing", pull, "To this server; others have to have theirs."));
  const copies = menu("Copy as…", [
    { label: "As a command", icon: "copy", action: () => copied("command", "The command is copied") },
    { label: "As YAML", icon: "copy", action: () => copied("yaml", "The YAML is copied") },
  ], { face: "Copy as…" });
  let estimate = null;
  let timer = null;
  let asking = null;
  let isEnded = false;

  function changed() {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE);
  }

  async function ask() {
    asking?.abort();
    asking = new AbortController();
    const words = lacking(draft);
    if (words) return refuse(words);
    try {
      estimate = await post("/v1/bench/estimate", specOf(draft), asking.signal);
      tell();
    } catch (error) {
      if (error.name !== "AbortError" && !isEnded) refuse(error.message);
    }
    return null;
  }

  function refuse(words) {
    estimate = null;
    replace(summary, h("span", { class: "bad" }, words));
    replace(problems);
    run.disabled = true;
  }

  function tell() {
    if (!estimate) return;
    const absent = missing();
    const left = absent.filter((one) => !(draft.pull && one.own));
    pulling.hidden = !absent.some((one) => one.own);
    replace(summary, words(estimate));
    replace(
      problems,
      Object.values(estimate.problems).map((text) => notice("warn", text)),
      absence(left.filter((one) => one.own), "not there yet", "“Pull what is missing” fetches it to this server before the run; else its requests fail."),
      absence(left.filter((one) => !one.own), "not listed by its server", "This page pulls to this server alone: fetch it there, else its requests fail."),
    );
    run.disabled = false;
  }

  async function copied(what, said) {
    if (!estimate) return toast("What is wrong with it stands beside the button.", "bad");
    const done = await copyText(estimate[what]);
    const more = what === "command" && estimate.command.includes("--spec ") ? "; its spec is the YAML, as bench.yaml" : "";
    toast(done ? said + more : "The browser lets nothing be copied here", done ? "good" : "bad");
  }

  async function start() {
    run.disabled = true;
    try {
      if (draft.pull) await pullAll(missing().filter((one) => one.own), summary);
      const made = await post(`/v1/bench/runs${draft.calibrate ? "" : "?calibrate=false"}`, specOf(draft));
      go(pageOf(made));
    } catch (error) {
      if (isEnded) return;
      replace(problems, notice("bad", error.message));
      run.disabled = false;
    }
  }

  const element = h("footer", { class: "bench-foot" }, problems, h("div", { class: "row apart" }, summary, h("div", { class: "row" }, pulling, copies, run)));
  pulling.hidden = true;
  run.disabled = true;
  return {
    element,
    changed,
    /** Workload and load as a preset says them; null while something is wrong with them. */
    spec: () => {
      const { targets: _, name: __, ...preset } = specOf(draft);
      return estimate && preset;
    },
    close: () => {
      isEnded = true;
      clearTimeout(timer);
      asking?.abort();
    },
  };
}

/** Models that aren't there, and what can be done about it; null where there are none. */
function absence(missing, what, words) {
  if (!missing.length) return null;
  const names = missing.map((one) => (one.own ? one.model : `${one.model} (${one.server})`));
  return notice("warn", `${names.join(", ")}: ${what}. ${words}`);
}

/** "12 cells · 340 requests · ~6 min · 48,000 tokens". */
function words(estimate) {
  const parts = [
    counted(estimate.cells, "cell"),
    estimate.requests === null ? "requests as time allows" : counted(estimate.requests, "request"),
    time(estimate),
    estimate.input_tokens === null ? null : hint(h("span", {}, `${count(estimate.input_tokens + estimate.output_tokens)} tokens`), { note: `At most ${count(estimate.input_tokens)} in and ${count(estimate.output_tokens)} out.` }),
    estimate.cost === null || estimate.cost === 0 ? null : `${estimate.cost.toFixed(2)} in your prices`,
  ];
  return dotted(parts);
}

function counted(number, name) {
  return `${count(number)} ${name}${number === 1 ? "" : "s"}`;
}

function time(estimate) {
  if (estimate.seconds !== null) {
    const by = estimate.seconds_by.length ? "By how the same models did in the last run that asked them." : "By the seconds of each cell.";
    return hint(h("span", {}, "~ ", seconds(estimate.seconds)), { note: by });
  }
  if (estimate.at_most_seconds !== null) return hint(h("span", {}, "at most ", seconds(estimate.at_most_seconds)), { note: "The seconds of each cell, one after the other." });
  return h("span", {}, unknown("How long it takes isn't known: no earlier run asked these models."), " min");
}

/** Pull models one after the other, and say how far it is. */
async function pullAll(models, place) {
  for (const { model } of models) {
    await lines("/api/pull", { model }, (line) => {
      if (line.error) throw new Error(`${model}: ${line.error}`);
      const how = line.total ? ` ${bytes(line.completed ?? 0)} of ${bytes(line.total)}` : "";
      replace(place, `Pulling ${model}: ${line.status ?? ""}${how}`);
    });
  }
}

function stored() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORED) ?? "null");
    return kept && typeof kept === "object" ? { ...fresh(), ...kept } : fresh();
  } catch {
    return fresh();
  }
}

function keep(draft) {
  try {
    localStorage.setItem(STORED, JSON.stringify(draft));
  } catch {
    // Storage is switched off: the draft is kept as long as the page.
  }
}
