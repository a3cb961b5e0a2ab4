// A server that benchmarks know by name: the one dialog in which it is added and changed, from wherever it is opened.

import { put } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { button, dialog, field, notice, select, toast } from "../lib/parts.js";

export const KEPT = "/v1/bench/targets";
export const API_KINDS = [["", "found out by asking"], ["openai", "OpenAI"], ["ollama", "Ollama"], ["anthropic", "Anthropic"]];

/** A kept server's route, or one below it. Names may hold anything, slashes too. */
export const keptPath = ({ name }, rest = "") => `${KEPT}/${encodeURIComponent(name)}${rest}`;

/** Ask for a server, `target` being the one that is changed, and keep it; resolves to it, or null. Says whether its key went. */
export async function askServer(target = null) {
  const kept = await dialog(target ? `Change ${target.name}` : "Add a server", (close) => form(target, close));
  if (kept) told(target, kept);
  return kept;
}

function told(target, kept) {
  if (target?.key && !kept.key) toast("It is kept. Its address is another, so its key was dropped.", "warn");
  else toast("It is kept", "good");
}

function form(target, close) {
  const name = h("input", { value: target?.name ?? "", required: true, maxlength: 100 });
  const url = h("input", { value: target?.url ?? "http://127.0.0.1:", required: true, inputmode: "url", spellcheck: "false" });
  const kind = select(API_KINDS, target?.kind ?? "");
  const key = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: target?.key ?? "" });
  const [into, out] = ["price_in", "price_out"].map((price) => h("input", { type: "number", min: 0, step: "any", value: target?.[price] ?? "" }));
  const problem = h("div", { class: "problem" });
  async function submit(event) {
    event.preventDefault();
    const given = { url: url.value.trim(), kind: kind.value || null, key: key.value.trim() || null, price_in: price(into), price_out: price(out) };
    try {
      close(await put(keptPath({ name: name.value.trim() }), given));
    } catch (error) {
      replace(problem, notice("bad", error.message));
    }
  }
  return h(
    "form",
    { class: "stack", on: { submit } },
    problem,
    target ? null : field("Name", name),
    field("Address", url, "With http:// or https:// and the port; a path before /v1 may follow."),
    field("API", kind),
    field("Key", key, `${target?.key ? "Left empty, it keeps the one it has. " : ""}Stored on this server's machine, sent to this scheme, host and port alone, never shown again. Another address drops it.`),
    h("div", { class: "grid", style: "--least: 140px" }, field("Price in", into, "Of a million tokens."), field("Price out", out, "Of a million tokens.")),
    h("div", { class: "row end" }, button("Cancel", () => close()), button("Keep", null, { kind: "primary", type: "submit" })),
  );
}

const price = (control) => (control.value === "" ? null : Number(control.value));
