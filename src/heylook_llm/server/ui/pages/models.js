// The models: which there are, which are loaded, in how much memory; loading, pulling, importing, deleting them.

import { get } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { bytes, hint } from "../lib/format.js";
import { live } from "../lib/live.js";
import { bar, button, card, empty, heading, notice } from "../lib/parts.js";
import { whenSettled } from "../lib/settled.js";
import { importModels } from "./models/importing.js";
import { modelRow } from "./models/row.js";
import { askPull, followPulls, pullRow } from "./models/pulls.js";

export const title = "Models";

const LOADING_MS = 400;

export async function open(main) {
  const { apis } = await get("/v1/capabilities");
  const canPull = apis.includes("ollama");
  const memory = h("div");
  const pulls = h("div", { class: "stack tight pulls" });
  const list = h("div", { class: "stack" });
  let models = [];
  let timer = null;
  let asked = 0;
  async function load() {
    clearTimeout(timer);
    const mine = ++asked;
    try {
      const told = (await get("/v1/settings/models")).data;
      if (mine !== asked) return;
      models = told;
      whenSettled(list, show);
    } catch (error) {
      if (mine === asked) replace(list, notice("bad", error.message, button("Try again", load)));
    }
    if (mine === asked && models.some((model) => ["loading", "draining"].includes(model.state))) timer = setTimeout(load, LOADING_MS);
  }
  function show() {
    const focus = document.activeElement?.dataset?.focus;
    const loaded = models.filter((model) => model.state !== "unloaded");
    const others = models.filter((model) => model.state === "unloaded");
    replace(list, models.length ? [group("Loaded", loaded, load, NONE_LOADED), group("Not loaded", others, load)] : none(canPull, load));
    if (focus) list.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
  }
  const endPulls = followPulls((running, isDone) => {
    replace(pulls, running.map(pullRow));
    if (isDone) load();
  });
  const endLive = live("/v1/performance/ws", (message) => {
    if (message.type.startsWith("model.")) load();
    else if (message.type === "sample") replace(memory, memoryOf(message.sample));
  });
  const actions = [
    button("Import", async () => (await importModels()) && load(), { icon: "search" }),
    canPull ? button("Pull", askPull, { kind: "primary", icon: "download" }) : null,
  ];
  main.append(h("div", { class: "page" }, heading("Models", "What this server can load, and what it holds in memory now.", actions), memory, pulls, list));
  await load();
  return () => {
    asked += 1;
    clearTimeout(timer);
    endPulls();
    endLive();
  };
}

const NONE_LOADED = "None is loaded. The first request to a model loads it; so does its button.";

function group(name, models, reload, otherwise = null) {
  if (!models.length && !otherwise) return null;
  const rows = models.length ? h("ul", { class: "models" }, models.map((model) => modelRow(model, reload))) : h("p", { class: "muted" }, otherwise);
  return card(`${name}${models.length ? ` (${models.length})` : ""}`, rows);
}

function none(canPull, reload) {
  const pull = canPull ? button("Pull a model", askPull, { kind: "primary", icon: "download" }) : button("Import", async () => (await importModels()) && reload(), { kind: "primary", icon: "search" });
  return empty("No model yet", "Pull one by its name, import those that are on this machine, or list some in models.yaml.", pull);
}

/** What main memory holds: the models, other programs, and what is free. */
function memoryOf({ models, memory_used_bytes: used, memory_total_bytes: total }) {
  const held = Object.entries(models)
    .map(([id, model]) => ({ label: id, value: model.resident_bytes ?? 0 }))
    .filter((one) => one.value > 0);
  const sum = held.reduce((all, one) => all + one.value, 0);
  const others = Math.max(0, used - sum);
  const segments = [
    ...held.map((one, at) => ({ ...one, kind: `series-${(at % 8) + 1}`, text: bytes(one.value) })),
    { label: "other programs", value: others, kind: "other", text: bytes(others) },
    { label: "free", value: Math.max(0, total - used), kind: "free", text: bytes(total - used) },
  ];
  const note = "What a process holds counts the pages of a mapped file too, so models and other programs may overlap.";
  return card(
    null,
    h(
      "div",
      { class: "memory" },
      h("div", { class: "row apart" }, hint(h("span", { class: "small muted" }, "Main memory"), { note }), h("span", { class: "small" }, bytes(total - used), " free of ", bytes(total))),
      bar(segments, { label: "Main memory" }),
      h("ul", { class: "inline-facts small" }, segments.map((one) => h("li", {}, h("span", { class: `dot ${one.kind}`, "aria-hidden": "true" }), h("span", { class: "ellipsis tag", title: one.label }, one.label), h("b", {}, one.text)))),
    ),
  );
}
