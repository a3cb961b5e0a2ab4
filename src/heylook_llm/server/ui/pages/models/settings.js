// A model's settings as a form, made of the JSON schema that the server gives: what each does, may be, and is.

import { get, patch } from "../../lib/api.js";
import { difference } from "../../lib/diff.js";
import { h, replace, uniqueId } from "../../lib/dom.js";
import { badge, button, card, dialog, notice, toast } from "../../lib/parts.js";
import { coded } from "../../lib/words.js";
import { inPath } from "./actions.js";
import { controlOf } from "./control.js";

const GROUPS = {
  model: "The model",
  engine: "Engine, context and batching",
  sampling: "Sampling, where a request says nothing",
  "guessing ahead": "Guessing ahead",
  prefixes: "Kept prefixes",
  files: "Files",
};
const CONFIG = "config.";

/** The form's card; `saved()` is called when something was changed. */
export async function settingsForm(id, saved) {
  const path = `/v1/settings/models/${inPath(id)}`;
  const body = h("div", { class: "stack" });
  const view = { found: "", open: new Set(["model"]) };
  try {
    fill(await get(path));
  } catch (error) {
    replace(body, notice(error.status === 400 ? "info" : "bad", error.message));
  }
  function fill(told) {
    replace(body, form(told, path, view, async (next, words) => {
      fill(next);
      toast(words, "good");
      await saved();
    }));
  }
  return card("Settings", body);
}

/** Every setting: `{name, schema, value, isChanged}`. */
function settingsOf({ schema, values, changed }) {
  const { config, ...entry } = schema.properties;
  const of = (properties, held, prefix) =>
    Object.entries(properties).map(([key, one]) => ({ name: prefix + key, schema: one, value: held[key], isChanged: changed.includes(prefix + key) }));
  return [...of(entry, values, ""), ...of(config.properties, values.config, CONFIG)];
}

/** `view`: what the reader looks at, kept from one form to the next. */
function form(told, path, view, done) {
  const settings = settingsOf(told);
  const wanted = new Map();
  const foot = h("div", { class: "settings-foot", role: "status" });
  const rows = settings.map((setting) => row(setting, (value) => note(setting.name, value), () => reset(setting.name)));
  function note(name, value) {
    if (value === undefined) wanted.delete(name);
    else wanted.set(name, value);
    const names = [...wanted.keys()];
    const words = names.length === 1 ? "1 change" : `${names.length} changes`;
    foot.classList.toggle("shown", names.length > 0);
    replace(foot, names.length ? [h("span", {}, words), button("Discard", () => done(told, "Nothing was changed")), button("Preview", preview, { kind: "primary" })] : null);
  }
  function preview() {
    const broken = [...wanted.values()].find((value) => value instanceof Error);
    if (broken) return toast(broken.message, "bad");
    return asked({ set: Object.fromEntries(wanted) });
  }
  const reset = (name) => asked({ reset: [name] });
  async function asked(change) {
    try {
      const seen = await patch(path, { ...change, dry_run: true });
      if (!seen.difference) return toast("Nothing would change");
      if (await confirmed(seen)) await done(await patch(path, change), "The settings were changed");
    } catch (error) {
      toast(error.message, "bad");
    }
  }
  const filter = h("input", { type: "search", value: view.found, placeholder: "Find a setting", "aria-label": "Find a setting", on: { input: () => find(filter.value) } });
  const groups = Object.entries(GROUPS).map(([group, label]) => section(label, rows.filter((one) => one.group === group), group, view));
  function find(text) {
    view.found = text;
    const words = text.trim().toLowerCase();
    for (const one of rows) one.element.hidden = words !== "" && !one.text.includes(words);
    for (const one of groups.filter(Boolean)) {
      const left = one.querySelectorAll(".setting:not([hidden])").length;
      one.hidden = left === 0;
      if (words && left) one.open = true;
    }
  }
  if (view.found) find(view.found);
  return [
    h("p", { class: "muted small" }, `What is changed here stands in ${told.overlay}, laid over ${told.file}, which is never changed. What a loaded model was loaded with takes effect by loading it anew once it is idle.`),
    filter,
    groups,
    foot,
  ];
}

function confirmed(seen) {
  return dialog(
    `Change ${seen.id}`,
    (close) =>
      h(
        "div",
        { class: "stack" },
        seen.reloads ? notice("info", "If it is loaded, it is loaded anew for this, once it is idle. Requests in flight end as they began.") : null,
        difference(seen.difference),
        h("div", { class: "row end" }, button("Cancel", () => close()), button("Save", () => close(true), { kind: "primary" })),
      ),
    { wide: true },
  );
}

function section(label, rows, group, view) {
  if (!rows.length) return null;
  const changed = rows.filter((one) => one.isChanged).length;
  return h(
    "details",
    { class: "settings-group", open: view.open.has(group), on: { toggle: (event) => view.open[event.target.open ? "add" : "delete"](group) } },
    h("summary", {}, h("h3", {}, label), h("span", { class: "faint small" }, String(rows.length)), changed ? badge(`${changed} changed`, "accent") : null),
    h("div", { class: "settings" }, rows.map((one) => one.element)),
  );
}

function row({ name, schema, value, isChanged }, note, reset) {
  const id = uniqueId("setting");
  const key = name.replace(CONFIG, "");
  const control = controlOf(key, schema, value, note);
  control.id = id;
  control.setAttribute("aria-describedby", `${id}-help`);
  const help = [coded(schema.description), " ", schema["x-locked"] ?? limits(schema)];
  const element = h(
    "div",
    { class: "setting", data: { setting: name } },
    h("div", { class: "row" }, h("label", { for: id }, h("code", {}, key)), isChanged ? badge("changed here", "accent") : null),
    h("div", { class: "setting-control" }, control, isChanged ? button("Reset", reset, { kind: "quiet", title: `Let models.yaml decide ${key} again` }) : null),
    h("p", { class: "help", id: `${id}-help` }, help),
  );
  return { element, group: schema["x-group"], text: `${key} ${schema.description}`.toLowerCase(), isChanged };
}

/** What it may be, and is by default. */
function limits(schema) {
  const parts = [schema, ...(schema.anyOf ?? [])];
  const bound = (name) => parts.find((part) => part[name] !== undefined)?.[name];
  const told = [
    ["minimum", "from "],
    ["exclusiveMinimum", "above "],
    ["maximum", "up to "],
    ["exclusiveMaximum", "below "],
  ].filter(([name]) => bound(name) !== undefined).map(([name, word]) => word + bound(name));
  const byDefault = schema.default;
  const isPlain = ["number", "string", "boolean"].includes(typeof byDefault) && byDefault !== "";
  if (isPlain) told.push(`by default ${byDefault}`);
  return told.length ? `${told.join(", ").replace(/^./, (first) => first.toUpperCase())}.` : "";
}
