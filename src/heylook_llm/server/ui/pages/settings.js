// What this server was set up with, what it keeps, what its engines can, and the machine it runs on.

import { get } from "../lib/api.js";
import { choice } from "../lib/choice.js";
import { h } from "../lib/dom.js";
import { bytes, count, seconds, unknown, when } from "../lib/format.js";
import { forgetKey, key } from "../lib/key.js";
import { badge, bar, button, card, facts, heading, notice, table, toast } from "../lib/parts.js";
import { chooseTheme, chosenTheme } from "../lib/theme.js";
import { coded } from "../lib/words.js";
import { hardwareCard } from "./settings/hardware.js";
import { enginesCard } from "./settings/engines.js";
import { targetsCard } from "./settings/targets.js";

export const title = "Settings";

export async function open(main) {
  const [settings, capabilities] = await Promise.all([get("/v1/settings"), get("/v1/capabilities")]);
  const [hardware, targets, models] = await Promise.all([hardwareCard(), targetsCard(), get("/v1/settings/models")]);
  main.append(
    h(
      "div",
      { class: "page" },
      heading("Settings", "What this server was started with. Options and models.yaml say so; models have settings of their own."),
      settings.registry?.error ? notice("bad", `models.yaml as it is now isn't in force: ${settings.registry.error}`) : null,
      h("div", { class: "grid settings-grid" }, serverCard(settings), callersCard(settings), browserCard()),
      targets,
      storageCard(settings.storage),
      limitsCard(settings, capabilities.limits),
      enginesCard(settings.providers, capabilities.providers, models.data),
      hardware,
    ),
  );
}

// ---- the server -----------------------------------------------------------------------------------------------------

const APIS = { openai: "OpenAI and Anthropic", ollama: "Ollama", both: "OpenAI, Anthropic and Ollama" };

function serverCard({ server, registry, models, media, import_roots: roots }) {
  const chosen = (name) => models[name].value;
  return card(
    "Server",
    facts([
      ["Version", server.version],
      ["Address", location.origin],
      ["APIs", APIS[server.api]],
      ["Started", when(server.started_at)],
      ["Process", String(server.pid)],
      ["Registry", registry ? h("span", { class: "mono" }, registry.file) : unknown("it follows no file")],
      ["Default model", chosen("default_model") ?? unknown("none is named")],
      ["Loaded at most", chosen("max_loaded_models") === null ? unknown("it follows no file") : `${chosen("max_loaded_models")} models`],
      ["Loads at the start", chosen("prewarm") === null ? null : chosen("prewarm") ? "the default model" : "nothing"],
      ["Image URLs", { public: "any public host's", listed: "listed hosts' only", off: "none is fetched" }[media.urls]],
      ["Image hosts", media.hosts.join(", ") || null],
      ["Imports look in", roots ? (roots.length ? h("span", { class: "mono" }, roots.join(", ")) : "nothing") : unknown("it follows no file")],
      ["Texts", server.record_text ? h("span", {}, badge("kept", "warn"), " beside the measurements (--record-text)") : "not kept"],
    ]),
  );
}

function callersCard({ server, callers }) {
  const list = (values, none) => (values.length ? h("span", { class: "mono" }, values.join(", ")) : h("span", { class: "muted" }, none));
  const keyed = server.key_required ? badge("asked for", "good") : badge("none", "");
  return card(
    "Who may call",
    h(
      "div",
      { class: "stack tight" },
      facts([
        ["Key", keyed],
        ["Other machines", server.key_required ? "with the key" : server.open_admin ? h("span", {}, badge("may change it", "warn"), " (--open-admin)") : "may use the models, change nothing"],
        ["Further hosts", list(callers.hosts, "none; --allow-host adds names of this machine")],
        ["Web pages of", list(callers.origins, "this server alone; --allow-origin adds others")],
        ["Desktop shells", callers.app_origins ? "allowed" : h("span", { class: "muted" }, "not allowed; --allow-app-origins does")],
      ]),
      server.key_required ? null : h("p", { class: "muted small" }, "On loopback no key is needed. Before others reach it, start it with --api-key."),
    ),
  );
}

function browserCard() {
  const theme = choice("Theme", [["system", "System"], ["light", "Light"], ["dark", "Dark"]], chosenTheme(), chooseTheme);
  const held = h("div", { class: "row" });
  const show = () => held.replaceChildren(...(key() === null ? [h("span", { class: "muted" }, "none")] : [badge("kept until this tab closes", "accent"), button("Forget", forget)]));
  function forget() {
    forgetKey();
    show();
    toast("The key is forgotten");
  }
  show();
  return card("This browser", facts([["Theme", theme], ["Server's key", held]]));
}

// ---- storage --------------------------------------------------------------------------------------------------------

const KEPT = [
  ["performance", "Measurements", "numbers of each request"],
  ["responses", "Responses", "texts of /v1/responses that are to be stored"],
];
const FOLDERS = [
  ["models", "Pulled models"],
  ["files", "Files and batches"],
];

function storageCard(storage) {
  const keeps = KEPT.map(([name, label, what]) => kept(label, what, storage[name]));
  const folders = FOLDERS.map(([name, label]) => ({ label, ...storage[name] }));
  return card(
    "Storage",
    h(
      "div",
      { class: "stack" },
      h("div", { class: "grid" }, keeps),
      table(
        [
          { label: "Folder", cell: (row) => row.label },
          { label: "Where", cell: (row) => (row.folder ? h("span", { class: "mono wrap" }, row.folder) : h("span", { class: "muted" }, "temporary, as long as the server runs")) },
          { label: "Free there", align: "end", cell: (row) => bytes(row.free_bytes, "it isn't on a disk that lasts") },
        ],
        folders,
        { caption: "Folders" },
      ),
    ),
  );
}

function kept(label, what, { file, used_bytes: used, keep_bytes: most, keep_seconds: age }) {
  const days = age === null ? "for ever" : age % 86_400 === 0 ? (age === 86_400 ? "for a day" : `for ${count(age / 86_400)} days`) : ["for ", seconds(age)];
  return h(
    "section",
    { class: "stack tight" },
    h("div", { class: "row apart" }, h("h3", {}, label), h("span", { class: "small" }, bytes(used), " of ", bytes(most))),
    bar([{ label: "used", value: used, kind: "decode", text: bytes(used) }, { label: "free", value: Math.max(0, most - used), kind: "free", text: bytes(Math.max(0, most - used)) }], { label: `${label}: space` }),
    h("p", { class: "muted small" }, what, ", kept ", days, "; the oldest make room."),
    h("p", { class: "small" }, file ? h("span", { class: "mono wrap" }, file) : h("span", { class: "muted" }, "In memory: forgotten when the server ends.")),
  );
}

// ---- limits ---------------------------------------------------------------------------------------------------------

function limitsCard({ limits }, others) {
  const rows = Object.entries(limits).map(([name, one]) => ({ name, ...one }));
  const further = Object.entries(others).filter(([name]) => !(name in limits));
  return card(
    "Limits",
    h(
      "div",
      { class: "stack tight" },
      table(
        [
          { label: "Limit", cell: (row) => h("code", {}, row.name) },
          { label: "Value", align: "end", cell: (row) => limit(row.name, row.value) },
          { label: "What it bounds", cell: (row) => h("span", { class: "wrap" }, coded(row.what)) },
        ],
        rows,
        { caption: "Limits of models.yaml" },
      ),
      h("details", {}, h("summary", {}, "Limits that are fixed"), table([{ label: "Limit", cell: ([name]) => h("code", {}, name) }, { label: "Value", align: "end", cell: ([name, value]) => limit(name, value) }], further, { caption: "Fixed limits" })),
    ),
  );
}

function limit(name, value) {
  if (name.endsWith("_bytes")) return bytes(value);
  return name.endsWith("_seconds") ? seconds(value) : count(value);
}
