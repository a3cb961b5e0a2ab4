// One's own prompts, sent as they stand; sets of them are kept under names in this browser.

import { h, replace } from "../../lib/dom.js";
import { pickFiles } from "../../lib/files.js";
import { button, field, iconButton, prompt, select, toast } from "../../lib/parts.js";

const STORED = "heylook.bench.prompts";

/** The part of the builder where they are written. */
export function ownPrompts(draft, changed) {
  const text = h("textarea", { rows: 3, spellcheck: "false", placeholder: "One prompt a line", value: draft.prompts.join("\n"), on: { input: () => written(text.value) } });
  const tokens = h("input", { inputmode: "numeric", value: draft.promptTokens, on: { input: () => ((draft.promptTokens = tokens.value), changed()) } });
  const sets = h("div", { class: "row" });
  let chosen = "";

  function written(value) {
    draft.prompts = value.split("\n").map((line) => line.trim()).filter(Boolean);
    changed();
  }
  function put(prompts) {
    text.value = prompts.join("\n");
    written(text.value);
  }
  function drawSets() {
    const kept = stored();
    const names = Object.keys(kept).sort();
    const choice = select([["", names.length ? "A kept set…" : "No sets are kept yet"], ...names], chosen, (name) => {
      chosen = name;
      if (name) put(kept[name]);
      drawSets();
    });
    choice.setAttribute("aria-label", "Kept sets of prompts");
    const drop = iconButton("trash", `Forget the set ${chosen}`, () => (keep(chosen, null), (chosen = ""), drawSets()));
    replace(sets, choice, chosen ? drop : null, button("Keep as…", name), button("From a file", pick));
  }
  async function name() {
    if (!draft.prompts.length) return toast("There is nothing to keep yet.", "bad");
    const given = await prompt("Keep these prompts", "Name", chosen);
    if (!given) return;
    keep(given, draft.prompts);
    chosen = given;
    drawSets();
  }
  async function pick() {
    const [file] = await pickFiles({ accept: ".txt,text/plain" });
    if (file) put((await file.text()).split(/\r?\n/));
  }
  drawSets();
  return h(
    "details",
    { class: "bench-more", open: draft.prompts.length > 0 },
    h("summary", {}, "Your own prompts"),
    h("div", { class: "stack" }, field("Prompts", text, "Sent as they stand, one a line, each in turn."), h("div", { class: "bench-sets" }, sets), field("Tokens of an answer", tokens, "At most; left empty, as the model likes.")),
  );
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

function keep(name, prompts) {
  const all = stored();
  if (prompts === null) delete all[name];
  else all[name] = prompts;
  try {
    localStorage.setItem(STORED, JSON.stringify(all));
  } catch {
    toast("This browser keeps nothing.", "bad");
  }
}
