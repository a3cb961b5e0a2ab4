// The models of this machine: look for them, see what would be written, and write exactly that.

import { get, post } from "../../lib/api.js";
import { difference } from "../../lib/diff.js";
import { h, replace } from "../../lib/dom.js";
import { bytes, count } from "../../lib/format.js";
import { busy, button, dialog, empty, field, notice, select, table, toast } from "../../lib/parts.js";
import { parameters } from "./row.js";

const PATH = "/v1/models/import";
const FOLDERS = "folders";
const PLACES = [
  ["", "everywhere that is allowed"],
  ["hf_cache", "Hugging Face's cache"],
  ["ollama_store", "Ollama's models"],
  ["lmstudio", "LM Studio's models"],
  [FOLDERS, "folders that I name"],
];
const PROFILES = [["", "as each model suggests"], "fast", "balanced", "quality", "memory", "interactive"];

/** The dialog; resolves to whether something was imported. */
export async function importModels() {
  const roots = (await get("/v1/settings")).import_roots ?? [];
  return (await dialog("Import models of this machine", (close) => form(roots, close), { wide: true })) === true;
}

function form(roots, close) {
  const folders = h("textarea", { rows: 2, spellcheck: "false", placeholder: roots[0] ?? "/models" });
  const named = field("Folders", folders, `Whole paths, one a line, below ${roots.join(" or ") || "none"}; --import-root allows others.`);
  named.hidden = true;
  let place = "";
  let profile = "";
  const found = h("div", { class: "stack", "aria-live": "polite" });
  const choosePlace = (value) => {
    place = value;
    named.hidden = value !== FOLDERS;
  };
  const look = async (event) => {
    event?.preventDefault();
    const body = { ...(profile && { profile }), ...wanted(place, folders.value) };
    if (place === FOLDERS && !body.folders.length) return replace(found, notice("warn", "Name a folder."));
    replace(found, busy("Looking…"));
    await shown(found, body, close, look);
  };
  return h(
    "form",
    { class: "stack", on: { submit: look } },
    h("p", { class: "muted" }, "Models are used where they lie; nothing is copied. What would be added is shown before anything is written."),
    h(
      "div",
      { class: "grid fields" },
      field("Where to look", select(PLACES, place, choosePlace)),
      field("Settings for", select(PROFILES, "", (value) => (profile = value)), "A purpose sets sampling and the precision of the context memory."),
    ),
    named,
    h("div", { class: "row end" }, button("Look", null, { kind: "primary", type: "submit", icon: "search" })),
    found,
  );
}

function wanted(place, folders) {
  if (place === FOLDERS) return { folders: folders.split("\n").map((line) => line.trim()).filter(Boolean) };
  return place ? { [place]: true } : {};
}

async function shown(place, body, close, again) {
  try {
    const preview = await post(PATH, { ...body, dry_run: true });
    replace(place, previewed(preview, () => write(place, body, preview, close, again)));
  } catch (error) {
    replace(place, notice("bad", error.message));
  }
}

async function write(place, body, preview, close, again) {
  try {
    const told = await post(PATH, { ...body, plan: preview.plan });
    toast(told.models.length === 1 ? "1 model was imported" : `${count(told.models.length)} models were imported`, "good");
    close(true);
  } catch (error) {
    const look = error.status === 409 ? button("Look again", again) : null;
    place.prepend(notice("bad", error.message, look));
  }
}

function previewed(preview, save) {
  const { models, skipped, served, skipped_count: left } = preview;
  const parts = [];
  if (models.length) {
    parts.push(list(models), h("details", {}, h("summary", {}, `What changes in ${preview.file}`), difference(preview.difference)));
  } else {
    const known = served.length ? `${served.length === 1 ? "The one model" : `All ${count(served.length)} models`} found there ${served.length === 1 ? "is" : "are"} served already.` : "No model lies there.";
    parts.push(empty("Nothing new", known));
  }
  if (left) parts.push(skippedList(skipped, left));
  if (models.length) parts.push(h("div", { class: "row end" }, button(models.length === 1 ? "Import 1 model" : `Import ${count(models.length)} models`, save, { kind: "primary" })));
  return parts;
}

function list(models) {
  return table(
    [
      { label: "Model", cell: (model) => h("span", { class: "ellipsis name", title: model.path }, model.id) },
      { label: "Kind", cell: (model) => [model.kind, ...model.abilities.filter((one) => one !== model.kind)].join(", ") },
      { label: "Engine", cell: (model) => model.provider },
      { label: "Size", align: "end", cell: (model) => parameters(model.parameters) ?? "–" },
      { label: "Precision", cell: (model) => model.quantization ?? "–" },
      { label: "Context", align: "end", cell: (model) => count(model.context_length, "its file doesn't say") },
      { label: "On disk", align: "end", cell: (model) => bytes(model.size_bytes) },
    ],
    models,
    { caption: "Models that would be added" },
  );
}

function skippedList(skipped, left) {
  return h(
    "details",
    {},
    h("summary", {}, left === 1 ? "1 file can't be served" : `${count(left)} files can't be served`),
    h("ul", { class: "skipped small" }, skipped.map((one) => h("li", {}, h("code", {}, one.path), h("span", { class: "muted" }, one.reason)))),
  );
}
