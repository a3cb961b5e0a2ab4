// The runs of this machine, newest first, as they are now; some can be picked and compared.

import { get } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { count, seconds, unknown, when } from "../../lib/format.js";
import { live } from "../../lib/live.js";
import { busy, button, card, empty, menu, notice, table } from "../../lib/parts.js";
import { go } from "../../lib/route.js";
import { coded } from "../../lib/words.js";
import { canResume, cancelRun, deleteRun, isGoing, nameOf, pageOf, pathOf, resumeRun, stateBadge } from "./run_actions.js";

const MOST = 200;

/** The history: `{element, close}`. */
export function history() {
  const place = h("div", {}, busy("Reading the runs…"));
  const compare = button("Compare", () => go(`/ui/bench/compare?runs=${[...picked].join(",")}`), { icon: "bench", disabled: true });
  const picked = new Set();
  const going = new Map();
  let runs = [];
  let isEnded = false;

  async function load() {
    try {
      runs = (await get(`/v1/bench/runs?limit=${MOST}`)).data;
      if (isEnded) return;
      for (const id of picked) if (!runs.some((run) => run.id === id)) picked.delete(id);
      draw();
      await judge();
    } catch (error) {
      if (!isEnded) replace(place, notice("bad", error.message));
    }
  }

  /** The verdicts that the list hasn't yet: each is made of a run's samples, so one after the other. */
  async function judge() {
    for (const run of runs) {
      if (isEnded) return;
      if (run.verdict !== null || isGoing(run) || !run.samples) continue;
      run.verdict = (await get(pathOf(run))).verdict;
      draw();
    }
  }

  function draw() {
    pick();
    const nothing = empty("No runs yet", coded("Choose a server above and press Run, or say `heylookllm bench` on the command line: both keep their runs here."));
    if (!runs.length) return replace(place, nothing);
    replace(place, table(COLUMNS, runs, { caption: "Runs, newest first" }));
  }

  function pick() {
    compare.disabled = picked.size < 1;
    replace(compare.querySelector("span"), picked.size ? `Compare ${picked.size}` : "Compare");
  }

  function picking(run) {
    const change = (event) => {
      if (event.target.checked) picked.add(run.id);
      else picked.delete(run.id);
      pick();
    };
    return h("input", { type: "checkbox", "aria-label": `Pick ${nameOf(run)} to compare`, checked: picked.has(run.id), disabled: !run.samples, on: { change } });
  }

  function actions(run) {
    const then = (what) => async () => (await what(run)) && load();
    return menu(`What to do with ${nameOf(run)}`, [
      { label: "Open", icon: "right", action: () => go(pageOf(run)) },
      { label: "Run again…", icon: "again", action: () => go(`/ui/bench?from=${encodeURIComponent(run.id)}`) },
      isGoing(run) && { label: "Cancel", icon: "stop", action: then(cancelRun) },
      canResume(run) && { label: "Resume", icon: "play", action: then(resumeRun) },
      !isGoing(run) && { label: "Delete…", icon: "trash", kind: "danger", action: then(deleteRun) },
    ].filter(Boolean));
  }

  function told(run) {
    if (run.state === "running") return progressOf(run, going.get(run.id));
    if (run.state === "queued") return h("span", { class: "muted" }, run.place ? `waits behind ${run.place} ${run.place === 1 ? "run" : "runs"}` : "begins");
    if (run.verdict) return h("span", { class: "bench-verdict", title: run.verdict }, run.verdict);
    return unknown(run.samples ? "it is being read" : "nothing was measured");
  }

  const COLUMNS = [
    { label: h("span", { class: "visually-hidden" }, "Pick"), cell: picking },
    { label: "Run", cell: (run) => h("a", { class: "ellipsis bench-run-name", href: pageOf(run), title: nameOf(run) }, nameOf(run)), sort: nameOf },
    { label: "State", cell: stateBadge, sort: (run) => run.state },
    { label: "Verdict", cell: told },
    { label: "Servers", cell: (run) => list(run.targets) },
    { label: "Models", cell: (run) => list(run.models) },
    { label: "Requests", cell: (run) => count(run.samples), align: "end", sort: (run) => run.samples, note: "Samples that were kept, warm-up included." },
    { label: "Took", cell: (run) => took(run), align: "end", sort: (run) => (run.ended ?? 0) - (run.started ?? 0) },
    { label: "When", cell: (run) => when(run.created), align: "end", sort: (run) => run.created },
    { label: h("span", { class: "visually-hidden" }, "Actions"), cell: actions, align: "end" },
  ];

  const close = live("/v1/bench/ws", (message) => {
    if (message.type === "run.state") return load();
    if (message.type !== "progress") return null;
    going.set(message.run_id, message);
    const bar = place.querySelector(`[data-run="${CSS.escape(message.run_id)}"]`);
    return bar && bar.replaceWith(progressOf({ id: message.run_id }, message));
  });
  load();
  return {
    element: card("Runs", place, { actions: [compare], kind: "bench-history" }),
    close: () => {
      isEnded = true;
      close();
    },
  };
}

function progressOf(run, message) {
  const share = message ? (message.cell + (message.in_cell ? (message.done + message.failed) / message.in_cell : 0.5)) / message.cells : 0;
  const text = message ? `cell ${message.cell + 1} of ${message.cells}` : "begins";
  return h("span", { class: "row bench-going", data: { run: run.id } }, h("progress", { max: 1, value: Math.min(1, share), "aria-label": text }), h("span", { class: "small muted" }, text));
}

function list(names) {
  const text = names.join(", ");
  return h("span", { class: "ellipsis bench-names", title: text }, text);
}

function took(run) {
  if (run.started === null) return unknown("it hasn't begun");
  if (run.ended === null) return unknown("it goes on");
  return seconds(run.ended - run.started);
}
