// A control for a value that a JSON schema describes: a switch, a choice, a line, or JSON.

import { h } from "../../lib/dom.js";
import { select } from "../../lib/parts.js";

const UNSET = "\0unset";
const LONG = 60;
const TEXTS = ["system", "chat_template"];

/**
 * The control of the setting `key`, of `schema`, with `value`. `note(value)` is told what it was changed to: undefined where it is as it was, an
 * Error where it is none that could be.
 */
export function controlOf(key, schema, value, note) {
  if (schema.readOnly) return h("input", { value: told(value), readonly: true, title: told(value) });
  const kinds = kindsOf(schema);
  if (kinds.choices) return chooser(kinds, value, note);
  if (kinds.types.has("array") && schema["x-group"] === "model") return names(value, note);
  if (kinds.types.has("array") || kinds.types.has("object")) return written(kinds, value, note);
  return line(key, kinds, value, note);
}

/** The types that a schema allows, its fixed values if it has only such, and whether null is one. */
function kindsOf(schema) {
  const parts = schema.anyOf ?? [schema];
  const types = new Set(parts.flatMap((part) => part.type ?? []));
  const isNullable = types.delete("null");
  const fixed = parts.flatMap((part) => part.enum ?? (part.const === undefined ? [] : [part.const]));
  const isFixed = parts.every((part) => part.enum || part.const !== undefined || part.type === "null" || part.type === "boolean");
  const choices = isFixed ? [...fixed, ...(types.has("boolean") ? [true, false] : [])] : null;
  return { types, isNullable, choices, words: fixed };
}

function chooser({ choices, isNullable }, value, note) {
  const options = choices.map((one) => [String(one), String(one)]);
  if (isNullable) options.unshift([UNSET, "unset"]);
  const was = value === null ? UNSET : String(value);
  return select(options, was, (text) => {
    if (text === was) note(undefined);
    else note(text === UNSET ? null : choices.find((one) => String(one) === text));
  });
}

function line(key, { types, isNullable, words }, value, note) {
  const isNumber = types.has("integer") || types.has("number");
  const was = told(value);
  const read = (text) => {
    if (text === was) return undefined;
    if (text === "") return isNullable || isNumber ? null : "";
    if (words.includes(text) || !isNumber) return text;
    const number = Number(text);
    return Number.isFinite(number) && text.trim() ? number : types.has("string") ? text : new Error(`"${text.slice(0, 40)}" is no number.`);
  };
  const on = { input: (event) => checked(event.target, read(event.target.value), note) };
  const placeholder = isNullable ? "unset" : "";
  if (TEXTS.includes(key) || was.includes("\n")) return h("textarea", { rows: 2, value: was, placeholder, on });
  return h("input", { value: was, inputmode: isNumber && !types.has("string") ? "decimal" : "text", placeholder, spellcheck: "false", on });
}

/** Names, with commas between them. */
function names(value, note) {
  const was = value.join(", ");
  const read = (text) => {
    const found = text.split(",").map((one) => one.trim()).filter(Boolean);
    return found.join(", ") === was ? undefined : found;
  };
  return h("input", { value: was, placeholder: "none; separate them by commas", spellcheck: "false", on: { input: (event) => note(read(event.target.value)) } });
}

/** Lists and mappings: as JSON. */
function written({ isNullable }, value, note) {
  const was = value === null ? "" : JSON.stringify(value);
  const read = (text) => {
    if (text.trim() === was) return undefined;
    if (text.trim() === "") return isNullable ? null : Array.isArray(value) ? [] : {};
    try {
      return JSON.parse(text);
    } catch {
      return new Error(`That is no JSON: write a list as ["a", "b"], a mapping as {"a": 1}.`);
    }
  };
  return h("textarea", { rows: was.length > LONG ? 3 : 1, value: was, class: "mono", spellcheck: "false", on: { input: (event) => checked(event.target, read(event.target.value), note) } });
}

function checked(control, value, note) {
  const isWrong = value instanceof Error;
  control.setAttribute("aria-invalid", String(isWrong));
  control.title = isWrong ? value.message : "";
  note(value);
}

function told(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
