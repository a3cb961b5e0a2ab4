// The engines: which are installed, which models each computes, and what each can do, with the reason for what it can't.

import { h } from "../../lib/dom.js";
import { hint } from "../../lib/format.js";
import { icon } from "../../lib/icons.js";
import { badge, card, table } from "../../lib/parts.js";
import { coded, plain } from "../../lib/words.js";

const NAMES = { llama_cpp: "llama.cpp", mlx: "MLX", fake: "fake (for tests)" };

/** `installed`: of /v1/settings; `support`: of /v1/capabilities; `models`: of /v1/settings/models. */
export function enginesCard(installed, support, models) {
  const names = Object.keys(support);
  const features = Object.keys(support[names[0]]).map((name) => ({ name, what: support[names[0]][name].what }));
  const columns = [
    { label: "Feature", cell: (row) => h("span", { class: "wrap" }, coded(row.what)) },
    ...names.map((name) => ({ label: NAMES[name] ?? name, cell: (row) => cell(support[name][row.name]) })),
  ];
  return card(
    "Engines and their models",
    h(
      "div",
      { class: "stack" },
      h("ul", { class: "engines" }, Object.entries(installed).map(([name, one]) => engine(name, one, models.filter((model) => model.provider === name)))),
      h("details", {}, h("summary", {}, "What each can do"), table(columns, features, { caption: "Features of the engines" })),
    ),
  );
}

function engine(name, { installed, version, missing }, models) {
  const state = installed ? badge("installed", "good") : badge("not installed", "");
  const note = installed ? version : `its package ${missing ?? ""} is missing; make install brings it`;
  const links = models.map((model) => h("a", { class: "chip ellipsis", href: `/ui/models/${encodeURIComponent(model.id)}`, title: model.id }, model.id));
  return h(
    "li",
    {},
    h("div", { class: "row" }, h("strong", {}, NAMES[name] ?? name), state, h("span", { class: "muted small" }, note)),
    links.length ? h("div", { class: "chips", role: "group", "aria-label": `Models of ${NAMES[name] ?? name}` }, links) : h("p", { class: "faint small" }, "No model is computed by it."),
  );
}

function cell({ supported, reason, note }) {
  const mark = h("span", { class: supported ? "good" : "faint" }, icon(supported ? "check" : "close", 16), h("span", { class: "visually-hidden" }, supported ? "yes" : "no"));
  const why = reason ?? note;
  return why ? hint(h("span", { class: "mark" }, mark, supported ? "*" : null), { note: plain(why) }) : h("span", { class: "mark" }, mark);
}
