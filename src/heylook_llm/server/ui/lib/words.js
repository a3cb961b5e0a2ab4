// Sentences of the server's tables, in which `names` stand between backticks.

import { h } from "./dom.js";

/** The sentence as children of an element, its names as code. */
export function coded(text) {
  return text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

/** The sentence as text alone. */
export function plain(text) {
  return text.replaceAll("`", "");
}
