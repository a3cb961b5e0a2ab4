// Runs and dropped files beside each other: a rank only where intervals part, a distance with its interval.

import { get, post } from "../lib/api.js";
import { h, replace, s } from "../lib/dom.js";
import { figure } from "../lib/figure.js";
import { curve } from "/ui/lib/figures.js";
import { pickFiles } from "../lib/files.js";
import { hint, unknown, when } from "../lib/format.js";
import { badge, busy, button, card, chips, copyButton, empty, heading, iconButton, notice, scrolling, select, table } from "../lib/parts.js";
import { coded } from "../lib/words.js";
import { pageOf } from "./bench/run_actions.js";
import { keep, kept } from "./bench_dropped.js";
import { interval, measured, shown, told } from "./bench_numbers.js";

export const title = "Comparison";

const LISTED = 200;
const NOT_SHOWN = "no difference shown";

/** The page. What it shows stands in its address: `runs`, `files`, `measures`, `models`, `scenarios`. */
export async function open(main, route) {
  const names = ["runs", "files", "measures", "models", "scenarios"];
  const state = Object.fromEntries(names.map((name) => [name, listOf(route.query, name)]));
  const page = new Page(main, state);
  const end = droppable(main, (files) => page.drop(files));
  await page.load();
  return () => {
    page.ended = true;
    end();
  };
}

/** A list in the address: names may hold commas, so each stands by itself but runs and files, which can't. */
function listOf(query, name) {
  const found = query.getAll(name);
  return (name === "runs" || name === "files" ? found.flatMap((one) => one.split(",")) : found).filter(Boolean);
}

class Page {
  constructor(main, state) {
    this.state = state;
    this.ended = false;
    this.body = h("div", { class: "stack compare-body" });
    this.refused = h("div", { class: "stack tight", "aria-live": "polite" });
    this.adding = h("div", { class: "row" });
    const pick = button("Add files", () => this.pick(), { icon: "upload" });
    const link = copyButton(() => location.href, "Copy the link");
    const text = "Ranked only where the measurements show it; drop exports of other machines anywhere on this page.";
    replace(main, h("div", { class: "page" }, heading("Comparison", text, this.adding, pick, link), this.refused, this.body));
  }

  /** Read what is chosen, and show it. */
  async load() {
    this.remember();
    if (!this.body.firstChild) replace(this.body, busy("Reading the samples…"));
    const turn = (this.turn = Symbol("turn"));
    try {
      const [runs, files] = await Promise.all([get(`/v1/bench/runs?limit=${LISTED}`), kept(this.state.files)]);
      const missing = files.filter((file) => file === null).length;
      const found = await this.compared(files.filter(Boolean));
      if (this.ended || turn !== this.turn) return;
      this.offer(runs.data);
      this.show(found, files.filter(Boolean), missing);
    } catch (error) {
      const anew = button("Begin anew", () => this.change({ runs: [], files: [], models: [], scenarios: [] }));
      if (!this.ended && turn === this.turn) replace(this.body, notice("bad", error.message, anew));
    }
  }

  compared(files) {
    const { runs, measures, models, scenarios } = this.state;
    if (!runs.length && !files.length) return null;
    return post("/v1/bench/compare", { runs, measures, models, scenarios, files: files.map(({ name, text }) => ({ name: plain(name), text })) });
  }

  remember() {
    const { runs, files } = this.state;
    const query = new URLSearchParams();
    if (runs.length) query.set("runs", runs.join(","));
    if (files.length) query.set("files", files.join(","));
    for (const name of ["measures", "models", "scenarios"]) for (const one of this.state[name]) query.append(name, one);
    const text = query.toString().replaceAll("%2C", ",");
    history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
  }

  change(changes) {
    Object.assign(this.state, changes);
    return this.load();
  }

  async pick() {
    await this.drop(await pickFiles({ accept: ".json,.jsonl,.ndjson", multiple: true }));
  }

  async drop(files) {
    replace(this.refused);
    for (const file of files) {
      try {
        const key = await keep(file);
        if (!this.state.files.includes(key)) this.state.files.push(key);
      } catch (error) {
        this.refused.append(notice("bad", error.message));
      }
    }
    if (!this.ended) await this.load();
  }

  /** The runs that aren't here yet. */
  offer(runs) {
    const others = runs.filter((run) => run.samples && !this.state.runs.includes(run.id));
    const options = [["", "Add a run…"], ...others.map((run) => [run.id, `${run.name ?? run.id.slice(-8)} · ${run.targets.join(", ")} · ${run.state}`])];
    const control = select(options, "", (id) => id && this.change({ runs: [...this.state.runs, id] }));
    control.setAttribute("aria-label", "Add a run");
    replace(this.adding, others.length ? control : null);
  }

  show(found, files, missing) {
    const absent = missing > 0 && notice("warn", `${missing === 1 ? "A file" : `${missing} files`} of this address ${missing === 1 ? "is" : "are"} kept by another browser. Drop ${missing === 1 ? "it" : "them"} here again.`);
    if (!found) {
      const text = coded("Add runs of this machine above, or drop JSON and JSON lines here that `heylookllm bench export` made, of this machine or another.");
      replace(this.body, absent, h("div", { class: "compare-drop" }, empty("Nothing to compare yet", text, button("Add files", () => this.pick(), { kind: "primary", icon: "upload" }))));
      return;
    }
    replace(this.body, absent, doubts(found), this.systems(found, files), this.pickers(found), curves(found), lines(found), alone(found));
  }

  // ---- systems ----

  systems(found, files) {
    const byRun = new Map(files.map((file) => [file.run, file]));
    const columns = [
      { label: "Run", cell: (one) => this.runCell(one, byRun.get(one.run)), sort: (one) => one.name },
      { label: "Target", cell: (one) => one.target, sort: (one) => one.target },
      { label: "Models", cell: (one) => one.models.join(", ") },
      { label: "Server", cell: (one) => [one.about.flavor, one.about.version].filter(Boolean).join(" ") || unknown("the run doesn't say") },
      { label: "Mode", cell: (one) => mode(one) },
      { label: "Machine", cell: (one) => machine(one) },
      { label: "Measured", align: "end", cell: (one) => one.measured, sort: (one) => one.measured, note: "Requests sent to be measured, whatever became of them." },
      { label: "When", cell: (one) => (one.created ? when(one.created) : unknown("samples alone don't say")), sort: (one) => one.created },
      { label: "", align: "end", cell: (one) => iconButton("close", `Leave ${one.name} out`, () => this.leave(one.run, byRun)) },
    ];
    return card("Systems", table(columns, found.systems, { caption: "What is compared" }));
  }

  runCell(one, file) {
    const name = file ? h("span", {}, one.name) : h("a", { href: pageOf({ id: one.run }) }, one.name);
    const state = one.state === "done" ? null : badge(one.state, "warn");
    return [h("div", { class: "row" }, name, file && badge("file"), state, one.flags.map((flag) => badge(flag, "warn"))), file && h("span", { class: "faint small" }, file.name)];
  }

  leave(run, byRun) {
    const file = byRun.get(run);
    const runs = this.state.runs.filter((id) => id !== run);
    return this.change(file ? { files: this.state.files.filter((key) => key !== file.key) } : { runs });
  }

  // ---- pickers ----

  pickers(found) {
    const { choices, meanings } = found;
    const wanted = this.state.measures.length ? this.state.measures : choices.usual;
    const rest = choices.quantities.filter((name) => !wanted.includes(name));
    const add = select([["", "More…"], ...rest.map((name) => [name, told(name, meanings).title])], "", (name) => name && this.change({ measures: [...wanted, name] }));
    add.setAttribute("aria-label", "Add a number");
    const measures = chips("Numbers", wanted.map((name) => ({ value: name, label: told(name, meanings).title, selected: true })), (values) => this.change({ measures: values }));
    const some = (name, label, values) =>
      values.length > 1 && h("div", { class: "picker" }, h("span", { class: "figure-label" }, label), chips(label, values.map((value) => ({ value, label: value, selected: this.state[name].includes(value) })), (chosen) => this.change({ [name]: chosen })));
    return card(null, [
      h("div", { class: "picker" }, h("span", { class: "figure-label" }, "Numbers"), h("div", { class: "row" }, measures, add)),
      some("models", "Models", choices.models),
      some("scenarios", "Prompts", choices.scenarios),
    ]);
  }
}

/** What a file's run is called where it has no name of its own. */
function plain(name) {
  return name.replace(/\.(json|jsonl|ndjson)$/i, "");
}

function mode(one) {
  const told = [...new Set(Object.values(one.about.models ?? {}).map((model) => model.compute).filter(Boolean))];
  return told.join(", ") || unknown("the server doesn't say where it computes");
}

function machine(one) {
  if (!one.machine) return unknown("the run doesn't say");
  return [one.machine.cpu, ...(one.machine.gpus ?? [])].filter(Boolean).join(", ");
}

function doubts(found) {
  const flagged = Object.entries(found.flagged).map(([name, flags]) => notice("warn", `The numbers of ${name} may not be trusted: ${flags.join(", ")}.`));
  const differ = found.specs.filter(Boolean).length > 1 && notice("info", "These runs aren't repeats of one spec: rows are compared where traffic, load and cache are alike, but the rest of the specs may differ.");
  return [flagged, differ];
}

function curves(found) {
  if (!found.figures.curves.length) return null;
  const draw = (style) => ({ ...curve(found.figures, style), text: found.figures.texts.curve });
  return card("Latency and throughput", figure(draw, { label: "Latency and throughput" }));
}

function alone(found) {
  if (!found.alone.length) return null;
  return card("Alone", [h("p", { class: "muted small" }, "Nothing was measured like these, so they are compared with nothing."), h("ul", {}, found.alone.map((one) => h("li", {}, one)))]);
}

// ---- lines ----------------------------------------------------------------------------------------------------------

/** A card for each number, and in it a table with a group for each way of measuring. */
function lines(found) {
  const byName = Map.groupBy(found.lines, (line) => line.quantity);
  if (!byName.size) return notice("info", "No two of these were measured alike: the same traffic, load, level and cache.");
  const runs = new Map(found.systems.map((one) => [one.run, one.name]));
  const [axes, alike] = conditions(found.lines);
  return [...byName].map(([name, all]) => {
    const { title, formula, better, note } = told(name, found.meanings);
    const head = hint(h("span", { class: "muted small" }, better === "lower" ? "lower is better" : "higher is better"), { formula, note });
    const heads = ["Rank", "", "Value", "95 % interval", "From the best"].map((text, at) => h("th", { role: "columnheader", scope: "col", class: at === 2 || at === 4 ? "end" : null }, text));
    // The roles stay where a narrow page shows its rows as blocks.
    const made = h("table", { role: "table", class: "table compared-sides" }, h("caption", { class: "visually-hidden" }, `${title}, by what was measured alike`), h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), all.map((line) => group(line, found.meanings, axes, runs)));
    const same = alike.length > 0 && h("p", { class: "muted small" }, `All with ${alike.join(" · ")}.`);
    return card(title, [same, scrolling(title, made)], { actions: [head] });
  });
}

function group(line, meanings, axes, runs) {
  const bounds = scale(line.sides);
  const rows = inOrder(line).map((side) => sideRow(line, side, bounds, meanings, runs));
  const name = axes.map((axis) => AXES[axis](line)).join(" · ") || "All";
  return h("tbody", { role: "rowgroup", class: "compared-group" }, h("tr", { role: "row" }, h("th", { role: "rowheader", scope: "rowgroup", colspan: 5 }, h("div", { class: "compared-head" }, h("b", {}, name), verdict(line)))), rows);
}

/** What a line was measured with, in words. */
const AXES = {
  scenario: (line) => line.scenario,
  load: (line) => (line.load === "closed" ? `${line.level} ${line.level === 1 ? "client" : "clients"}` : line.load === "max" ? "all at once" : `${line.load} ${line.level}/s`),
  cache: (line) => `cache ${line.cache}`,
  task: (line) => line.task,
};

/** The axes by which lines differ, and the words of those that all have alike. */
function conditions(all) {
  const differs = (axis) => new Set(all.map(AXES[axis])).size > 1;
  const names = Object.keys(AXES);
  return [names.filter(differs), names.filter((axis) => !differs(axis)).map((axis) => AXES[axis](all[0]))];
}

/** The best value first, what is unknown last. */
function inOrder(line) {
  const sign = line.better === "lower" ? 1 : -1;
  const value = (side) => (side.found.value === null ? Infinity : sign * side.found.value);
  return [...line.sides].sort((one, other) => (value(one) === value(other) ? 0 : value(one) - value(other)));
}

function verdict(line) {
  const isOpen = line.words.startsWith(NOT_SHOWN) || line.words === "–";
  return h("p", { class: isOpen ? "muted small" : "small" }, line.words === "–" ? "not known of two" : line.words);
}

function sideRow(line, side, bounds, meanings, runs) {
  const { unit } = told(line.quantity, meanings);
  const n = side.found.n;
  const rank = side.rank === null ? hint(h("span", { class: "unknown" }, "–"), { note: side.why ?? `${NOT_SHOWN}: the intervals overlap, so more requests are needed for a rank` }) : badge(String(side.rank), side.rank === 1 ? "good" : "");
  return h(
    "tr",
    { role: "row" },
    h("td", { role: "cell" }, rank),
    h("td", { role: "cell", class: "side-name" }, sideName(line, side, runs)),
    h("td", { role: "cell", class: "end" }, measured({ ...side.found, why: side.why }, told(line.quantity, meanings))),
    h("td", { role: "cell", class: "side-drawn" }, side.found.value === null ? null : whisker(side.found, bounds, `${shown(side.found.value, unit)}; ${interval(side.found.interval, unit) ?? "no interval is known"}; n ${n}`)),
    h("td", { role: "cell", class: "end" }, distance(side, unit)),
  );
}

/** What tells a side from the others: its model first, if they differ by it, then its server and its run. */
function sideName(line, side, runs) {
  const parts = [(one) => one.model, (one) => one.target, (one) => runs.get(one.run) ?? ""];
  const apart = parts.filter((part) => new Set(line.sides.map(part)).size > 1);
  const [first, ...rest] = (apart.length ? apart : parts.slice(0, 1)).map((part) => part(side));
  return [h("span", { class: "side-first" }, first), rest.length > 0 && h("span", { class: "faint small" }, rest.join(" · "))];
}

/** How far a side is from the best one, with its interval. */
function distance(side, unit) {
  const far = side.apart;
  if (side.found.value === null) return null;
  if (!far) return h("span", { class: "faint" }, "best value");
  const written = (value) => (far.relative ? signed(value * 100, " %") : `${value > 0 ? "+" : ""}${shown(value, unit)}`);
  const [low, high] = far.interval.map((bound) => (bound === null ? "…" : written(bound)));
  const how =
    far.by === "rounds"
      ? "95 %, of the ratios of rounds that were measured in turn"
      : "at least 90 %: both true values lie in their 95 % intervals";
  const text = h("span", { class: far.shown === "not shown" ? "faint" : "" }, written(far.value), " ", h("span", { class: "side-interval" }, `[${low}, ${high}]`));
  const note = far.shown === "not shown" ? `${NOT_SHOWN}: the interval holds none at all` : null;
  return hint(text, { formula: "this value / the best value - 1", interval: how, note });
}

function signed(value, unit) {
  const digits = Math.abs(value) < 10 ? 1 : 0;
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}${unit}`;
}

/** From where to where a group's intervals are drawn. */
function scale(sides) {
  const all = sides.flatMap((side) => [side.found.value, ...side.found.interval]).filter((value) => value !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

/** A value with its interval; where the samples bound it on one side only, the line runs out of the drawing. */
function whisker({ value, interval: [low, high] }, [from, to], words) {
  const at = (one) => `${(100 * (one - from)) / (to - from)}%`;
  const isKnown = low !== null || high !== null;
  return s(
    "svg",
    { class: "whisker", width: "100%", height: 20, role: "img", "aria-label": words },
    isKnown && s("line", { x1: low === null ? "0%" : at(low), x2: high === null ? "100%" : at(high), y1: 10, y2: 10, class: "range-line" }),
    [low, high].map((end) => end !== null && s("line", { x1: at(end), x2: at(end), y1: 6, y2: 14, class: "range-line" })),
    s("circle", { cx: at(value), cy: 10, r: 4, class: "range-dot" }),
  );
}

// ---- dropping -------------------------------------------------------------------------------------------------------

/** Let files be dropped anywhere while the page is open; returns what ends it. */
function droppable(main, drop) {
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    main.classList.add("dropping");
  };
  const leave = (event) => {
    if (event.relatedTarget === null) main.classList.remove("dropping");
  };
  const take = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    main.classList.remove("dropping");
    drop([...event.dataTransfer.files]);
  };
  const listeners = { dragover: over, dragleave: leave, drop: take };
  for (const [type, listener] of Object.entries(listeners)) document.addEventListener(type, listener);
  return () => {
    main.classList.remove("dropping");
    for (const [type, listener] of Object.entries(listeners)) document.removeEventListener(type, listener);
  };
}
