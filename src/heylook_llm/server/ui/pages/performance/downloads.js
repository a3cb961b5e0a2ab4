// What was measured, as files: the requests that the list is filtered to.

import { fetched } from "../../lib/api.js";
import { download } from "../../lib/files.js";
import { menu, toast } from "../../lib/parts.js";

const FILES = [
  ["Requests as CSV", "export", { format: "csv" }, "performance.csv"],
  ["Requests as JSON, with timelines", "export", { format: "json" }, "performance.json"],
  ["Requests as JSON lines, with timelines", "export", { format: "ndjson" }, "performance.ndjson"],
  ["A trace that a benchmark can replay", "trace", {}, "trace.jsonl"],
];

/** A menu of the files; `filters()`: the query that chooses requests. */
export function downloads(filters) {
  const items = FILES.map(([label, route, query, name]) => ({
    label,
    icon: "download",
    action: () => save(`/v1/performance/${route}?${new URLSearchParams({ ...filters(), ...query })}`, name),
  }));
  return menu("Export", items, { face: "Export" });
}

/** By a request of ours and not a link, since a link carries no key. */
async function save(path, name) {
  try {
    download(name, await (await fetched(path)).blob());
  } catch (error) {
    toast(error.message, "bad");
  }
}
