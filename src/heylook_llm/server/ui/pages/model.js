// One model: what it is, what it takes, how its loads went, and its settings.

import { get } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { bytes, count, hint, ms, seconds, when } from "../lib/format.js";
import { live } from "../lib/live.js";
import { badge, button, card, copyButton, empty, facts, heading, menu, table, toast } from "../lib/parts.js";
import { go } from "../lib/route.js";
import { whenSettled } from "../lib/settled.js";
import { actionsOf } from "./models/actions.js";
import { abilities, parameters, placement, stateBadge } from "./models/row.js";
import { settingsForm } from "./models/settings.js";

export const title = "Model";

const WHY = { place: "another model needed its place", memory: "memory was needed", reload: "its settings changed", idle: "nobody asked for it", asked: "an operator unloaded it" };

export async function open(main, { params }) {
  const id = params.id;
  const [model, past] = await Promise.all([found(id), history(id)]);
  if (!model) {
    main.append(empty("There is no such model", `The registry has no model "${id}".`, h("a", { class: "button primary", href: "/ui/models" }, "To the models")));
    return;
  }
  const top = h("div", { class: "stack" });
  const loads = h("div");
  async function load() {
    const [now, before] = await Promise.all([found(id), history(id)]);
    if (!now) return go("/ui/models");
    show(now, before);
  }
  function show(now, before) {
    whenSettled(top, () => draw(now, before));
  }
  function draw(now, before) {
    replace(top, head(now, load), h("div", { class: "grid" }, card("What it is", identity(now)), card("What it takes", memory(now, before))));
    replace(loads, loadsOf(before));
  }
  const form = await settingsForm(id, load);
  show(model, past);
  main.append(h("div", { class: "page" }, top, form, loads));
  return live("/v1/performance/ws", (message) => {
    if (message.type.startsWith("model.") && message.model.id === id) load().catch((error) => toast(error.message, "bad"));
  });
}

async function found(id) {
  const models = (await get("/v1/settings/models")).data;
  return models.find((model) => model.id === id || model.aliases.includes(id)) ?? null;
}

async function history(id) {
  return (await get("/v1/performance/models")).data.find((model) => model.model === id) ?? null;
}

function head(model, reload) {
  const act = actionsOf(model, reload);
  const isIn = !["unloaded", "crashed"].includes(model.state);
  const items = [
    { label: model.pinned ? "Unpin" : "Pin", icon: "pin", action: act.pin },
    { label: "Load with another context", icon: "edit", action: act.loadWith },
    { label: "Drop kept prefixes", icon: "close", action: act.flush },
    { label: "Delete", icon: "trash", kind: "danger", action: act.remove },
  ];
  const main = isIn ? button("Unload", act.unload, { disabled: model.state === "draining" }) : button("Load", act.load, { kind: "primary" });
  return h(
    "header",
    { class: "stack tight" },
    h("nav", { "aria-label": "Above" }, h("a", { href: "/ui/models" }, "Models")),
    heading(model.id, model.description || null, main, menu(`More for ${model.id}`, items)),
    h("div", { class: "row" }, stateBadge(model), model.pinned ? badge("pinned", "accent") : null, model.tags.map((tag) => badge(tag)), copyButton(() => model.id, "Copy the id")),
    model.last_error ? h("p", { class: "bad small" }, model.last_error) : null,
  );
}

function identity(model) {
  return facts([
    ["Engine", model.provider],
    ["Architecture", model.architecture],
    ["Parameters", parameters(model.parameters)],
    ["Precision", model.quantization],
    ["Abilities", abilities(model)],
    ["Context", model.context_length === null ? null : [count(model.context_length), " tokens"]],
    ["Trained for", model.n_ctx_trained === null ? null : [count(model.n_ctx_trained), " tokens"]],
    ["Aliases", model.aliases.join(", ") || null],
    ["On disk", model.size_bytes ? bytes(model.size_bytes) : null],
    ["Files changed", when(model.modified_at)],
  ]);
}

function memory(model, past) {
  const unloaded = "it isn't loaded";
  const isIn = model.loaded_at !== null;
  const why = isIn ? "the engine doesn't tell" : unloaded;
  return facts([
    ["Process", bytes(model.resident_bytes, why)],
    ["At most", bytes(past?.memory.peak_resident_bytes, "it was never loaded")],
    ["Weights", bytes(model.weights_bytes, why)],
    ["Context memory", bytes(model.kv_bytes, why)],
    ["On GPUs", bytes(model.gpu_bytes, why)],
    ["Computed", isIn ? placement(model) : null],
    ["Cells in use", isIn && model.kv_tokens ? [count(model.kv_used_tokens), " of ", count(model.kv_tokens)] : null],
    ["Kept prefixes", isIn ? [count(model.kv_retained_tokens), " tokens"] : null],
    ["Together", model.n_parallel ? [count(model.n_parallel), " requests"] : null],
    ["Loaded", isIn ? when(model.loaded_at) : null],
    ["Unloads", model.expires_at ? new Date(model.expires_at * 1000).toLocaleTimeString() : null],
  ]);
}

// ---- its loads ------------------------------------------------------------------------------------------------------

function loadsOf(past) {
  if (!past?.history.length) return card("Loads", h("p", { class: "muted" }, "It was never loaded since measuring began."));
  const evictions = Object.entries(past.evictions).map(([reason, times]) => h("li", {}, h("b", {}, count(times)), ` unloaded: ${WHY[reason] ?? reason}`));
  const list = table(
    [
      { label: "When", cell: (one) => when(one.at) },
      { label: "What", cell: (one) => badge(one.change, { loaded: "good", failed: "bad", crashed: "bad" }[one.change] ?? "") },
      { label: "Took or lasted", align: "end", cell: (one) => (one.seconds === null ? "" : seconds(one.seconds)), note: "loaded: how long loading took; evicted, crashed: how long it had been loaded" },
      { label: "Memory", align: "end", cell: (one) => (one.resident_bytes === null ? "" : bytes(one.resident_bytes)) },
      { label: "Why", cell: (one) => (one.reason ? h("span", { class: "wrap" }, WHY[one.reason] ?? one.reason) : "") },
    ],
    past.history.filter((one) => one.change !== "loading").slice(0, 20),
    { caption: "Loads and unloads" },
  );
  const took = hint(h("span", {}, ms(past.load_ms.p50)), { n: past.load_ms.n, formula: "median of how long loading took" });
  return card(
    "Loads",
    h(
      "div",
      { class: "stack tight" },
      h("ul", { class: "inline-facts" }, h("li", {}, h("b", {}, count(past.loads)), past.loads === 1 ? " load, " : " loads, ", took, past.loads === 1 ? null : " each"), past.failures ? h("li", { class: "bad" }, `${count(past.failures)} failed`) : null, past.crashes ? h("li", { class: "bad" }, `${count(past.crashes)} crashed`) : null, evictions),
      list,
    ),
  );
}
