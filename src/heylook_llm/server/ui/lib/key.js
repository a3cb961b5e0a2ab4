// The server's key, where it asks for one: kept for this tab, sent with every request.

import { h } from "./dom.js";
import { button, dialog, field } from "./parts.js";

const STORED = "heylook.key";
let asking = null;
let current = stored();

/** The key, or null. */
export function key() {
  return current;
}

/** The headers of a request that carries it. */
export function keyHeaders() {
  return current === null ? {} : { authorization: `Bearer ${current}` };
}

/** The subprotocols of a WebSocket that carries it: a page may add no header there. */
export function keyProtocols() {
  if (current === null) return ["heylook"];
  const text = Array.from(new TextEncoder().encode(current), (byte) => String.fromCharCode(byte)).join("");
  return ["heylook", "heylook.key." + btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")];
}

/** Ask the reader for the key; one dialog serves all who ask. Resolves to whether one was given. */
export function askKey(words = "This server asks for its key.") {
  asking ??= asked(words).finally(() => {
    asking = null;
  });
  return asking;
}

/** Forget it. */
export function forgetKey() {
  keep(null);
}

async function asked(words) {
  const control = h("input", { type: "password", autocomplete: "off", required: true, spellcheck: "false", pattern: "[ -ÿ]+" });
  const given = await dialog("Key", (close) =>
    h(
      "form",
      { class: "stack", on: { submit: (event) => (event.preventDefault(), close(control.value.trim())) } },
      h("p", {}, words),
      field("API key", control, "What --api-key was given when the server was started. It is kept until this tab closes."),
      h("div", { class: "row end" }, button("Cancel", () => close(null)), button("Continue", null, { kind: "primary", type: "submit" })),
    ),
  );
  if (given) keep(given);
  return Boolean(given);
}

function keep(value) {
  current = value;
  try {
    if (value === null) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, value);
  } catch {
    // Storage is switched off: it is kept as long as the page.
  }
}

function stored() {
  try {
    return sessionStorage.getItem(STORED);
  } catch {
    return null;
  }
}
