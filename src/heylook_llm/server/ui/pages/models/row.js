// One model of the list: what it is, its state and memory, and what can be done with it.

import { h } from "../../lib/dom.js";
import { bytes, count, number, percent, unknown } from "../../lib/format.js";
import { badge, button, dotted, menu } from "../../lib/parts.js";
import { go } from "../../lib/route.js";
import { actionsOf } from "./actions.js";

const KINDS = { ready: "good", loading: "accent", draining: "warn", stalled: "bad", crashed: "bad", unloaded: "" };
const WORDS = { ready: "loaded", unloaded: "not loaded" };

/** The address of a model's page. */
function modelPath(id) {
  return `/ui/models/${encodeURIComponent(id)}`;
}

/** A model's state as a word; of one that loads, how far it is. */
export function stateBadge({ state, load_fraction: fraction }) {
  const word = WORDS[state] ?? state;
  return badge(state === "loading" && fraction !== null ? `loading ${Math.round(fraction * 100)} %` : word, KINDS[state] ?? "");
}

/** "1.2B", as its name would say. */
export function parameters(value) {
  if (value === null) return null;
  const [size, unit] = value >= 1e9 ? [value / 1e9, "B"] : value >= 1e6 ? [value / 1e6, "M"] : [value / 1e3, "K"];
  return `${number(size)}${unit}`;
}

export function modelRow(model, reload) {
  const act = actionsOf(model, reload);
  const isIn = model.state !== "unloaded" && model.state !== "crashed";
  const main = isIn
    ? button("Unload", act.unload, { disabled: model.state === "draining" })
    : button("Load", act.load);
  main.dataset.focus = `main ${model.id}`;
  const items = [
    { label: model.pinned ? "Unpin" : "Pin", icon: "pin", action: act.pin },
    { label: "Settings", icon: "settings", action: () => go(modelPath(model.id)) },
    { label: "Drop kept prefixes", icon: "close", action: act.flush },
    { label: "Delete", icon: "trash", kind: "danger", action: act.remove },
  ];
  return h(
    "li",
    { class: "model", data: { model: model.id } },
    h(
      "div",
      { class: "model-what" },
      h("div", { class: "row" }, h("a", { class: "model-name", href: modelPath(model.id), title: model.id }, model.id), isIn || model.state === "crashed" ? stateBadge(model) : null, model.pinned ? badge("pinned", "accent") : null),
      h("p", { class: "small muted facts-line" }, dotted(facts(model))),
      model.aliases.length ? h("p", { class: "small faint ellipsis", title: model.aliases.join(", ") }, `also ${model.aliases.join(", ")}`) : null,
      model.last_error ? h("p", { class: "small bad" }, model.last_error) : null,
    ),
    h("div", { class: "model-memory small" }, isIn ? memory(model) : h("span", { class: "faint" }, model.size_bytes ? [bytes(model.size_bytes), " on disk"] : null)),
    h("div", { class: "model-do" }, main, menu(`More for ${model.id}`, items)),
  );
}

function facts(model) {
  return [model.provider, model.architecture === model.provider ? null : model.architecture, parameters(model.parameters), model.quantization, model.context_length ? `${count(model.context_length)} tokens` : null, abilities(model)];
}

/** What it can beyond answering. */
export function abilities({ capabilities }) {
  const plain = ["completion", "chat"];
  const found = (capabilities ?? []).filter((one) => !plain.includes(one));
  return found.length ? found.join(", ") : null;
}

function memory(model) {
  const lines = [h("span", {}, bytes(model.resident_bytes, "its process hasn't told yet"), " in memory")];
  if (model.compute) lines.push(h("span", { class: "faint" }, placement(model)));
  if (model.in_flight || model.queued) lines.push(h("span", { class: "accent" }, `${count(model.in_flight)} in flight${model.queued ? `, ${count(model.queued)} waiting` : ""}`));
  return lines;
}

/** Where its layers are. */
export function placement({ compute, layers, layers_gpu: onGpu }) {
  if (compute === null) return unknown("the engine doesn't tell");
  if (compute === "cpu") return "on the processor";
  return compute === "gpu" ? "on the GPU" : `${onGpu} of ${layers} layers on the GPU (${percent(onGpu / layers)})`;
}
