// The servers that benchmarks know by name, each with its key: written once, never shown again.

import { get, remove } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { number } from "../../lib/format.js";
import { badge, button, card, confirm, menu, notice, table, toast } from "../../lib/parts.js";
import { API_KINDS, KEPT, askServer, keptPath } from "../kept_server.js";

/** The card; null where this server has no benchmarks. */
export async function targetsCard() {
  const body = h("div", { class: "stack tight" });
  async function load() {
    replace(body, listed((await get(KEPT)).data, load));
  }
  try {
    await load();
  } catch (error) {
    if (error.status === 404) return null;
    replace(body, notice("bad", error.message));
  }
  return card("Keys of other servers", body, { actions: [button("Add", () => edit(null, load), { icon: "plus" })] });
}

function listed(targets, reload) {
  const about = h("p", { class: "muted small" }, "Benchmarks call them by name, and send each its key. A key is stored in a file that only you can read; it goes when its server's address changes.");
  if (!targets.length) return [about, h("p", { class: "muted" }, "None is kept.")];
  const columns = [
    { label: "Name", cell: (target) => h("span", { class: "ellipsis name", title: target.name }, target.name) },
    { label: "Address", cell: (target) => h("span", { class: "mono wrap" }, target.url) },
    { label: "API", cell: (target) => (API_KINDS.find(([kind]) => kind === (target.kind ?? "")) ?? [])[1] ?? target.kind },
    { label: "Price in, out", align: "end", cell: prices, note: "Of a million tokens, in whatever money you think." },
    { label: "Key", cell: (target) => (target.key ? h("span", { class: "mono" }, target.key) : badge("none")) },
    { label: "", align: "end", cell: (target) => choices(target, reload) },
  ];
  return [about, table(columns, targets, { caption: "Servers that benchmarks know by name" })];
}

function prices({ price_in: asked, price_out: answered }) {
  if (asked === null && answered === null) return h("span", { class: "faint" }, "–");
  return [asked === null ? "–" : number(asked), ", ", answered === null ? "–" : number(answered)];
}

function choices(target, reload) {
  return menu(`More for ${target.name}`, [
    { label: "Change", icon: "edit", action: () => edit(target, reload) },
    { label: "Forget its key", icon: "key", disabled: !target.key, action: () => ended(target, "/key", "Its key", reload) },
    { label: "Remove", icon: "trash", kind: "danger", action: () => ended(target, "", "The server", reload) },
  ]);
}

async function ended(target, rest, what, reload) {
  if (!(await confirm(`${what} of "${target.name}" is forgotten`, "That can't be undone.".concat(rest ? "" : " Its key goes with it."), "Forget"))) return;
  try {
    await remove(keptPath(target, rest));
    await reload();
  } catch (error) {
    toast(error.message, "bad");
  }
}

async function edit(target, reload) {
  if (await askServer(target)) await reload();
}
