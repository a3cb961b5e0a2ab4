// The servers that benchmarks know by name, each with its key: written once, never shown again.

import { get, put, remove } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { number } from "../../lib/format.js";
import { badge, button, card, confirm, dialog, field, menu, notice, select, table, toast } from "../../lib/parts.js";

const PATH = "/v1/bench/targets";
const KINDS = [["", "found out by asking"], ["openai", "OpenAI's"], ["ollama", "Ollama's"], ["anthropic", "Anthropic's"]];

/** The card; null where this server has no benchmarks. */
export async function targetsCard() {
  const body = h("div", { class: "stack tight" });
  async function load() {
    replace(body, listed((await get(PATH)).data, load));
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
    { label: "API", cell: (target) => (KINDS.find(([kind]) => kind === (target.kind ?? "")) ?? [])[1] ?? target.kind },
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
    await remove(`${PATH}/${encodeURIComponent(target.name)}${rest}`);
    await reload();
  } catch (error) {
    toast(error.message, "bad");
  }
}

async function edit(target, reload) {
  const kept = await dialog(target ? `Change ${target.name}` : "Add a server", (close) => form(target, close));
  if (!kept) return;
  const lost = target?.key && !kept.key;
  toast(lost ? "It is kept. Its address is another, so its key was dropped." : "It is kept", lost ? "warn" : "good");
  await reload();
}

function form(target, close) {
  const name = h("input", { value: target?.name ?? "", required: true, maxlength: 100 });
  const url = h("input", { value: target?.url ?? "", required: true, type: "url", spellcheck: "false" });
  const kind = select(KINDS, target?.kind ?? "");
  const asked = h("input", { value: target?.price_in ?? "", inputmode: "decimal" });
  const answered = h("input", { value: target?.price_out ?? "", inputmode: "decimal" });
  const key = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: target?.key ?? "" });
  const problem = h("div");
  const save = async (event) => {
    event.preventDefault();
    const body = { url: url.value.trim() };
    if (kind.value) body.kind = kind.value;
    for (const [name_, control] of [["price_in", asked], ["price_out", answered]]) if (control.value.trim()) body[name_] = Number(control.value);
    if (key.value.trim()) body.key = key.value.trim();
    try {
      close(await put(`${PATH}/${encodeURIComponent(name.value.trim())}`, body));
    } catch (error) {
      replace(problem, notice("bad", error.message));
    }
  };
  return h(
    "form",
    { class: "stack", on: { submit: save } },
    target ? null : field("Name", name),
    field("Address", url, `With its scheme and port.${target?.key ? " Another scheme, host or port drops its key." : ""}`),
    field("API", kind),
    h("div", { class: "grid fields prices" }, field("Price of a million tokens in", asked), field("… and out", answered)),
    field("Key", key, target?.key ? "Left empty, it keeps the one it has." : "Where the server asks for one."),
    problem,
    h("div", { class: "row end" }, button("Cancel", () => close()), button("Keep", null, { kind: "primary", type: "submit" })),
  );
}
