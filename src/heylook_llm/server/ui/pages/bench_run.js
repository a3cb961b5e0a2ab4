// One run: while it goes on, as it happens; then its result. A reload catches up from the run's log.

import { get } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { copyText } from "../lib/files.js";
import { live } from "../lib/live.js";
import { button, card, empty, heading, menu, notice, toast } from "../lib/parts.js";
import { go } from "../lib/route.js";
import { cellsTable, together } from "./bench/cells.js";
import { liveView } from "./bench/live.js";
import { canResume, cancelRun, deleteRun, isGoing, nameOf, pathOf, resumeRun, stateBadge } from "./bench/run_actions.js";
import { downloads } from "./bench_files.js";

export const title = "Benchmark";

export async function open(main, route) {
  let run = await get(pathOf(route.params));
  const page = h("div", { class: "page" });
  const top = h("div", {});
  const body = h("div", { class: "stack" });
  let view = null;
  let isEnded = false;

  function drawTop() {
    document.title = `${nameOf(run)} · Benchmark · heylookllm`;
    const what = [stateBadge(run), h("span", { class: "muted" }, spoken(run))];
    replace(top, heading(nameOf(run), h("span", { class: "row" }, what), ...actions()));
  }

  function actions() {
    const copy = (what, said) => async () => toast((await copyText(run[what])) ? said : "The browser lets nothing be copied here");
    return [
      isGoing(run) && button("Cancel", () => cancelRun(run), { icon: "stop" }),
      canResume(run) && button("Resume", () => resumeRun(run), { kind: "primary", icon: "play" }),
      menu("More about this run", [
        { label: "Run again…", icon: "again", action: () => go(`/ui/bench?from=${encodeURIComponent(run.id)}`) },
        { label: "Copy as a command", icon: "copy", action: copy("command", "The command is copied") },
        { label: "Copy as YAML", icon: "copy", action: copy("yaml", "The YAML is copied") },
        { label: "Copy the link", icon: "link", action: async () => toast((await copyText(location.origin + location.pathname)) ? "The link is copied" : "The browser lets nothing be copied here") },
        { label: "Delete…", icon: "trash", kind: "danger", disabled: isGoing(run), action: async () => (await deleteRun(run)) && go("/ui/bench") },
      ]),
    ].filter(Boolean);
  }

  /** The run's state is another: read it anew, and show what belongs to it. */
  async function refresh() {
    try {
      run = await get(pathOf(run));
    } catch (error) {
      if (!isEnded) replace(body, notice("bad", error.message));
      return;
    }
    if (!isEnded) await draw();
  }

  async function draw() {
    drawTop();
    if (isGoing(run)) {
      if (view === null) {
        view = liveView(run);
        replace(body, view.element);
      }
      view.changed(run);
      return;
    }
    view?.close();
    view = null;
    await result();
  }

  async function result() {
    const before = [run.state === "done" ? null : ending(run), run.warnings.length ? warnings(run) : null];
    const cells = run.state === "done" ? null : card("Cells", cellsTable(run));
    if (!run.samples) return replace(body, before, h("section", { class: "card" }, empty("Nothing was measured", "No request of this run was sent.", again())), cells);
    let shown;
    try {
      const { result: made } = await import("./bench_result.js");
      shown = await made(run);
    } catch (error) {
      shown = [notice("bad", `The result can't be shown here: ${error.message}`), downloads(run)];
    }
    if (!isEnded) replace(body, before, cells, shown);
  }

  const again = () => h("a", { class: "button", href: `/ui/bench?from=${encodeURIComponent(run.id)}` }, "Run again with changes");

  replace(page, h("p", { class: "small" }, h("a", { href: "/ui/bench" }, "← Benchmarks")), top, body);
  main.append(page);
  await draw();
  const close = live(
    `/v1/bench/ws?run=${encodeURIComponent(run.id)}`,
    (message) => {
      view?.heard(message);
      const isNews = Number(message.id) > run.last_event; // the log is told from its beginning
      if (isNews && (message.type === "run.state" || message.type === "cell.state")) refresh();
    },
    (state) => view?.connection(state),
  );
  return () => {
    isEnded = true;
    close();
    view?.close();
  };
}

function warnings(run) {
  return h("div", { class: "stack tight" }, together(run.warnings).map((text) => notice("warn", text)));
}

function ending(run) {
  const words = {
    failed: "A cell of this run failed, or one of its servers didn't answer. Resume sends what is missing.",
    cancelled: "This run was cancelled. What it had measured is kept; Resume sends the rest, with the same prompts.",
    interrupted: "This run's process ended before the run did. What it had measured is kept; Resume sends the rest, with the same prompts.",
    pending: "This run was kept, and never begun.",
  };
  return notice(run.state === "failed" ? "bad" : "warn", words[run.state] ?? run.state);
}

function spoken(run) {
  const spec = run.spec;
  const cells = `${run.cells.length} ${run.cells.length === 1 ? "cell" : "cells"}`;
  return [run.targets.join(", "), run.models.join(", "), spec.scenarios.join(", "), cells].filter(Boolean).join(" · ");
}
