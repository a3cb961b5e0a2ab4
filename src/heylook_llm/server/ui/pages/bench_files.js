// A run as files to keep.

import { fetched } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { download } from "../lib/files.js";
import { button, card, toast } from "../lib/parts.js";
import { pathOf } from "./bench/run_actions.js";

const FORMS = [
  ["html", "HTML", "one page with plots, which needs nothing else"],
  ["json", "JSON", "the report, every number with its n and interval"],
  ["jsonl", "JSON lines", "every sample as it was kept; can be compared here again"],
  ["csv", "CSV", "a line for each row"],
  ["xlsx", "XLSX", "a workbook with rows, percentiles and samples"],
  ["markdown", "Markdown", "for an issue or a README"],
];

/** A card with every form. */
export function downloads(run) {
  return card("Downloads", h("ul", { class: "downloads" }, FORMS.map(([form, label, text]) =>
    h("li", {}, button(label, (event) => save(run, form, event.currentTarget), { icon: "download" }), h("span", { class: "muted small" }, text)))));
}

async function save(run, form, pressed) {
  pressed.disabled = true;
  try {
    const response = await fetched(pathOf(run, `/export?format=${form}`));
    const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1];
    download(name ?? `bench-${run.id.slice(-8).toLowerCase()}.${form}`, await response.blob());
  } catch (error) {
    toast(error.message, "bad");
  } finally {
    pressed.disabled = false;
  }
}
