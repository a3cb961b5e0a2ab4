// The builder's presets: the server's, the reader's own traffic, and what they keep under names in this browser.

import { h, replace } from "../../lib/dom.js";
import { named } from "../../lib/named.js";
import { button, chips, iconButton, prompt, toast } from "../../lib/parts.js";

const TRAFFIC = { name: "own-traffic", title: "My traffic", what: "Lengths like those of the requests that this server answered lately." };
const OWN = "own:";

/**
 * The row of presets: `{element, show(presets), clear()}`. `choose(spec)` gets the part of a spec that a preset says,
 * `traffic()` makes that of the reader's own requests, `current()` tells what is to be kept, or null where it is wrong.
 */
export function presetRow({ choose, traffic, current }) {
  const kept = named("heylook.bench.presets");
  const element = h("div", { class: "row bench-presets" });
  let shipped = [];
  let chosen = null;

  function draw() {
    const own = Object.keys(kept.all()).sort();
    const items = [
      ...[...shipped, TRAFFIC].map((one) => ({ value: one.name, label: one.title, note: one.what })),
      ...own.map((name) => ({ value: OWN + name, label: h("span", { class: "ellipsis" }, name), note: `${name}: ${spoken(kept.all()[name])}. Kept in this browser.` })),
    ].map((one) => ({ ...one, selected: one.value === chosen }));
    const name = chosen?.startsWith(OWN) ? chosen.slice(OWN.length) : null;
    replace(
      element,
      chips("Presets", items, ([value]) => press(value), { single: true }),
      name !== null && iconButton("trash", `Forget the preset ${name}`, () => forget(name)),
      button("Keep as a preset…", keep, { kind: "quiet", icon: "plus" }),
    );
  }

  async function press(value) {
    chosen = value ?? null;
    const at = [...element.querySelectorAll(".chip")].indexOf(document.activeElement);
    draw();
    element.querySelectorAll(".chip")[at]?.focus();
    if (value === undefined) return;
    const spec = await specOf(value);
    if (spec) choose(spec);
  }

  function specOf(value) {
    if (value === TRAFFIC.name) return traffic();
    if (value.startsWith(OWN)) return kept.all()[value.slice(OWN.length)];
    return shipped.find((one) => one.name === value).spec;
  }

  async function keep() {
    const spec = current();
    if (spec === null) return toast("What is wrong with it stands beside Run.", "bad");
    const name = await prompt("Keep as a preset", "Name", chosen?.startsWith(OWN) ? chosen.slice(OWN.length) : "", "Keep");
    if (!name) return null;
    try {
      kept.keep(name, spec);
    } catch (error) {
      return toast(error.message, "bad");
    }
    chosen = OWN + name;
    toast("Workload and load are kept in this browser", "good");
    return draw();
  }

  function forget(name) {
    kept.forget(name);
    clear();
  }

  function clear() {
    chosen = null;
    draw();
  }
  return { element, clear, show: (presets) => ((shipped = presets), draw()) };
}

/** What a kept preset sends, in a few words. */
function spoken(spec) {
  const loads = (spec.loads ?? []).map((one) => `${one.kind ?? "closed"} ${(one.levels ?? []).join(", ")}`);
  return [spec.task, (spec.scenarios ?? []).join(", "), ...loads].filter(Boolean).join("; ");
}
