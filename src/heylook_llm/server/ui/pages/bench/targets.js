// The builder's left column: servers that were found or are kept, and which of their models are asked.

import { get, remove } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { hint } from "../../lib/format.js";
import { badge, button, confirm, iconButton, menu, notice, toast } from "../../lib/parts.js";
import { KEPT, askServer, keptPath } from "../kept_server.js";
import { targetDraft } from "./draft.js";

/** The column: `{element, load, missing}`. `changed()` is called at each change of the draft. */
export function targetsColumn(draft, changed) {
  const list = h("div", { class: "stack", data: { part: "targets" } });
  let known = [];

  async function load() {
    replace(list, h("p", { class: "faint small", role: "status" }, "Looking for servers on this machine…"));
    const [found, kept] = await Promise.all([get("/v1/bench/found"), get(KEPT)]);
    known = merged(found.data, kept.data, draft);
    if (!known.some((one) => chosen(one).on)) choose(known.find((one) => one.own && one.models.length) ?? known[0]);
    draw();
    changed();
  }

  const chosen = (one) => (draft.targets[one.url] ??= { ...targetDraft(one), on: false, models: [] });

  function choose(one) {
    if (!one) return;
    const target = chosen(one);
    target.on = true;
    const first = one.models.find((model) => model.loaded) ?? one.models[0];
    if (!target.models.length && first) target.models = [first.id];
  }

  function draw() {
    for (const one of known) if (one.keyed !== undefined) chosen(one).key = one.keyed ? `kept:${one.name}` : null;
    const none = notice("info", "No server answers on this machine's usual ports. Add one by its address.");
    replace(list, known.length ? known.map((one) => server(one)) : none);
  }

  function server(one) {
    const target = chosen(one);
    const models = h("div", { class: "chips", role: "group", "aria-label": `Models of ${named(one)}` });
    const box = h("input", { type: "checkbox", checked: target.on, on: { change: () => switched(box.checked) } });
    function switched(on) {
      target.on = on;
      if (on) choose(one);
      block.classList.toggle("off", !on);
      drawModels();
      changed();
    }
    function drawModels() {
      replace(models, allModels(one, target).map((model) => chip(one, target, model, changed)), adding(one, target, () => (drawModels(), changed())));
    }
    const block = h(
      "div",
      { class: `bench-server ${target.on ? "" : "off"}`.trim() },
      h("div", { class: "row apart" }, h("label", { class: "row bench-server-name" }, box, h("b", { class: "ellipsis", title: named(one) }, named(one))), one.kept ? keptMenu(one) : null),
      h("p", { class: "faint small" }, facts(one)),
      models,
    );
    drawModels();
    return block;
  }

  function keptMenu(one) {
    const keyless = { label: "Forget its key", icon: "key", disabled: !one.masked, action: () => act(() => remove(keptPath(one, "/key")), "The key is forgotten") };
    return menu(`More about ${named(one)}`, [
      { label: "Change…", icon: "edit", action: () => edit(one) },
      keyless,
      { label: "Remove", icon: "trash", kind: "danger", action: () => drop(one) },
    ]);
  }

  async function drop(one) {
    if (!(await confirm(`Remove ${one.name}?`, "Its address and its key are forgotten; runs stay.", "Remove"))) return;
    delete draft.targets[one.url];
    await act(() => remove(keptPath(one)), "Removed");
  }

  async function act(what, said) {
    try {
      await what();
      toast(said, "good");
    } catch (error) {
      toast(error.message, "bad");
    }
    await load();
  }

  async function edit(one = null) {
    const kept = await askServer(one && { ...one, key: one.masked });
    if (kept === null) return;
    if (one && one.url !== kept.url) delete draft.targets[one.url];
    draft.targets[kept.url] = targetDraft({ ...kept, key: kept.key ? `kept:${kept.name}` : null, models: draft.targets[kept.url]?.models ?? [] });
    await load();
  }

  const element = h(
    "section",
    { class: "bench-column", "aria-label": "Targets" },
    h("header", { class: "row apart" }, h("h2", {}, "Targets"), h("span", { class: "row" }, iconButton("again", "Look for servers again", load), button("Add a server", () => edit(), { icon: "plus" }))),
    list,
  );
  /** Chosen models that their server doesn't have: `[{server, own, model}]`. */
  function missing() {
    return known.flatMap((one) =>
      chosen(one).on ? chosen(one).models.filter((model) => !one.models.some((there) => there.id === model)).map((model) => ({ server: named(one), own: one.own, model })) : [],
    );
  }
  return { element, load, missing };
}

/** What was found, what is kept, and what a draft still holds of another time; each address once. */
function merged(found, kept, draft) {
  const all = new Map(found.map((one) => [one.url, { ...one, found: true }]));
  for (const target of kept) {
    const there = all.get(target.url) ?? { url: target.url, models: [], flavor: null, own: false };
    all.set(target.url, { ...there, ...target, kind: target.kind ?? null, kept: true, masked: target.key, keyed: Boolean(target.key) });
  }
  for (const target of Object.values(draft.targets)) {
    if (!all.has(target.url)) all.set(target.url, { url: target.url, name: target.name, models: [], flavor: null, own: false });
  }
  return [...all.values()].map((one) => ({ ...one, kind: one.kept ? one.kind : null }));
}

function named(one) {
  return one.own ? "This server" : (one.name ?? one.url.replace(/^https?:\/\//, ""));
}

function facts(one) {
  const what = one.found ? [one.flavor === "heylook" ? "heylookllm" : one.flavor, one.version].filter(Boolean).join(" ") : one.kept ? "kept" : "didn't answer";
  return [h("span", {}, `${what} · `), h("span", { class: "mono" }, one.url), one.masked ? h("span", {}, ` · key ${one.masked}`) : null];
}

function allModels(one, target) {
  const there = one.models.map((model) => model.id);
  return [...one.models, ...target.models.filter((model) => !there.includes(model)).map((id) => ({ id, loaded: false, absent: true }))];
}

function chip(one, target, model, changed) {
  const isOn = target.models.includes(model.id);
  const made = h(
    "button",
    { class: "chip model", type: "button", "aria-pressed": String(isOn), disabled: !target.on, title: model.id, on: { click: press } },
    h("span", { class: "ellipsis" }, model.id),
    model.absent ? badge(canPull(one) ? "needs a pull" : "not listed", "warn") : model.loaded ? badge("ready", "good") : null,
  );
  function press() {
    if (target.models.includes(model.id)) target.models = target.models.filter((id) => id !== model.id);
    else target.models = [...target.models, model.id];
    made.setAttribute("aria-pressed", String(target.models.includes(model.id)));
    changed();
  }
  return hint(made, { note: noteOf(one, model) });
}

const canPull = (one) => one.own;

function noteOf(one, model) {
  if (model.loaded) return "Loaded: it answers at once.";
  if (!model.absent) return "It is loaded when it is first asked; that isn't measured.";
  return canPull(one) ? "This server doesn't have it. “Pull what is missing” fetches it before the run." : "That server doesn't list it. The run asks for it all the same.";
}

function adding(one, target, added) {
  const control = h("input", { placeholder: "another model", "aria-label": `Another model of ${named(one)}`, maxlength: 300, spellcheck: "false" });
  const form = h("form", { class: "bench-adding" }, control, iconButton("plus", `Add a model of ${named(one)}`, () => form.requestSubmit()));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const model = control.value.trim();
    if (!model || target.models.includes(model)) return;
    target.models = [...target.models, model];
    added();
  });
  return target.on ? form : null;
}
