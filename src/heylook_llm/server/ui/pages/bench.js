// Benchmarks: a builder, and the runs of this machine.

import { get } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { heading, toast } from "../lib/parts.js";
import { setQuery } from "../lib/route.js";
import { builder } from "./bench/builder.js";
import { history } from "./bench/history.js";
import { pathOf } from "./bench/run_actions.js";

export const title = "Benchmarks";

export async function open(main, route) {
  const made = builder(await earlier(route.query.get("from")));
  const runs = history();
  const top = heading("Benchmarks", "Measure this server or any other, side by side. Each combination of server, model, traffic and load is a cell; runs wait for each other.");
  main.append(h("div", { class: "page" }, top, made.element, runs.element));
  return () => {
    made.close();
    runs.close();
  };
}

/** The spec of a run that is to be run again, or null. */
async function earlier(name) {
  if (!name) return null;
  setQuery({ from: null });
  try {
    return (await get(pathOf({ id: name }))).spec;
  } catch (error) {
    toast(error.message, "bad");
    return null;
  }
}
