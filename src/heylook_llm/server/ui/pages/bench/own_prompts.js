// Prompts that are sent as they stand: named sets that come with the page, one's own, and those kept in this browser.

import { h, replace } from "../../lib/dom.js";
import { pickFiles } from "../../lib/files.js";
import { named } from "../../lib/named.js";
import { button, field, iconButton, prompt, toast } from "../../lib/parts.js";
import { NAMED_PROMPTS } from "./named_prompts.js";

const SHIPPED = "shipped:";

/** The part of the builder where they are written. */
export function ownPrompts(draft, changed) {
  const kept = named("heylook.bench.prompts");
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
  function choose(value) {
    chosen = value;
    const found = value.startsWith(SHIPPED) ? NAMED_PROMPTS[value.slice(SHIPPED.length)] : kept.all()[value];
    if (found) put(found);
    drawSets();
  }
  function drawSets() {
    const option = (value, label) => h("option", { value, selected: value === chosen }, label);
    const own = Object.keys(kept.all()).sort();
    const choice = h(
      "select",
      { "aria-label": "Kept sets of prompts", on: { change: () => choose(choice.value) } },
      option("", "A named set…"),
      own.length > 0 && h("optgroup", { label: "Kept in this browser" }, own.map((name) => option(name, name))),
      h("optgroup", { label: "Shipped" }, Object.keys(NAMED_PROMPTS).map((name) => option(SHIPPED + name, name))),
    );
    const drop = own.includes(chosen) && iconButton("trash", `Forget the set ${chosen}`, () => (kept.forget(chosen), (chosen = ""), drawSets()));
    replace(sets, choice, drop, button("Keep as…", name), button("From a file", pick));
  }
  async function name() {
    if (!draft.prompts.length) return toast("There is nothing to keep yet.", "bad");
    const given = await prompt("Keep these prompts", "Name", chosen.startsWith(SHIPPED) ? "" : chosen);
    if (!given) return null;
    try {
      kept.keep(given, draft.prompts);
    } catch (error) {
      return toast(error.message, "bad");
    }
    chosen = given;
    return drawSets();
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
