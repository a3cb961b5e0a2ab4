// A difference as `diff -u` shows it, its lines coloured.

import { h } from "./dom.js";

const KINDS = { "+": "added", "-": "gone", "@": "place" };

export function difference(text, label = "Difference") {
  const lines = text.replace(/\n$/, "").split("\n");
  const kind = (line) => (/^(\+\+\+|---)/.test(line) ? "place" : (KINDS[line[0]] ?? null));
  return h("pre", { class: "difference", tabindex: 0, role: "region", "aria-label": label }, lines.map((line) => h("span", { class: kind(line) }, `${line}\n`)));
}
