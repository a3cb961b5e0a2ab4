// The builder's right column: how requests are sent, how many, and what a good one keeps.

import { h, replace } from "../../lib/dom.js";
import { button, field, iconButton, select } from "../../lib/parts.js";
import { LOAD_KINDS, load } from "./draft.js";

const LIMITS = [
  ["ttft", "First token"],
  ["tpot", "Per token"],
  ["itl", "Between tokens"],
  ["e2e", "Whole answer"],
];

const PARALLEL = [
  ["host", "servers on different hosts"],
  ["none", "nothing: all in turn"],
  ["all", "all servers"],
];

export function loadColumn(draft, changed) {
  const rows = h("div", { class: "stack tight" });

  function draw() {
    replace(rows, draft.loads.map((one, at) => row(one, at)));
  }
  function row(one, at) {
    const kind = select(LOAD_KINDS, one.kind, (value) => {
      if ((value === "sweep") !== (one.kind === "sweep")) one.levels = value === "sweep" ? "5" : "1, 4";
      one.kind = value;
      draw();
      changed();
    });
    kind.setAttribute("aria-label", "How requests come");
    const typed = (name, label, attributes = {}) =>
      h("input", { value: one[name], "aria-label": label, title: label, ...attributes, on: { input: (event) => ((one[name] = event.target.value), changed()) } });
    const what = { closed: "Clients, as 1, 4, 16", sweep: "Loads in all, 3 to 20" }[one.kind] ?? "Requests per second, as 2, 5";
    const short = { closed: "clients", sweep: "loads" }[one.kind] ?? "per s";
    const extra = {
      gamma: [labelled("burstiness", typed("burstiness", "Burstiness: below 1, requests come in bursts", { inputmode: "decimal" }))],
      ramp: [labelled("from", typed("from", "Requests per second at the beginning", { inputmode: "decimal" })), labelled("in s", typed("seconds", "Seconds until the rate is reached", { inputmode: "decimal" }))],
    };
    return h(
      "div",
      { class: "bench-load" },
      h("div", { class: "row" }, kind, draft.loads.length > 1 ? iconButton("close", "Remove this load", () => (draft.loads.splice(at, 1), draw(), changed())) : null),
      one.kind === "max" ? null : h("div", { class: "row bench-numbers" }, labelled(short, typed("levels", what)), extra[one.kind] ?? null),
    );
  }
  draw();

  const typed = (name, attributes = {}) => h("input", { value: draft[name], inputmode: "decimal", ...attributes, on: { input: (event) => ((draft[name] = event.target.value), changed()) } });
  const limits = LIMITS.map(([name, label]) => {
    const control = h("input", { value: draft.slo[name], inputmode: "decimal", placeholder: "ms", on: { input: (event) => ((draft.slo[name] = event.target.value), changed()) } });
    return field(label, control);
  });
  const calibrate = h("input", { type: "checkbox", checked: draft.calibrate, on: { change: (event) => ((draft.calibrate = event.target.checked), changed()) } });
  const parallel = select(PARALLEL, draft.parallel, (value) => {
    draft.parallel = value;
    changed();
  });
  return h(
    "section",
    { class: "bench-column", "aria-label": "Load" },
    h("header", { class: "row apart" }, h("h2", {}, "Load"), button("Add a load", () => (draft.loads.push(load("poisson", "2")), draw(), changed()), { icon: "plus" })),
    rows,
    h(
      "div",
      { class: "bench-pair" },
      field("Requests", typed("requests"), "Measured, in each cell."),
      field("Seconds", typed("duration"), "Whichever ends a cell first."),
      field("Runs", typed("repeats", { inputmode: "numeric" }), "How often every cell is run."),
      field("Warm-up", typed("warmup", { placeholder: "1 a client", inputmode: "numeric" }), "Requests before those."),
    ),
    h("div", { class: "field" }, h("span", { class: "bench-label" }, "A good request keeps, in ms"), h("div", { class: "bench-pair" }, limits)),
    h(
      "details",
      { class: "bench-more" },
      h("summary", {}, "More about the run"),
      h(
        "div",
        { class: "stack" },
        field("Name", h("input", { value: draft.name, maxlength: 100, on: { input: (event) => ((draft.name = event.target.value), changed()) } })),
        field("Side by side", parallel),
        h(
          "div",
          { class: "bench-pair" },
          field("Give up after, s", typed("timeout")),
          field("Silent for at most, s", typed("stall"), "Within an answer."),
          field("Drain, s", typed("drain"), "How long what is in flight may end."),
          field("Cool-down", typed("cooldown", { inputmode: "numeric" }), "Requests behind those measured."),
        ),
        field("Measure the bench itself first", calibrate, "Once a day, some seconds: what its own stamps are worth here."),
      ),
    ),
  );
}

function labelled(label, control) {
  return h("span", { class: "bench-number" }, h("span", { class: "faint small", "aria-hidden": "true" }, label), control);
}
