// One of a few, side by side: radio buttons that look like one control.

import { h, uniqueId } from "./dom.js";

/** `options`: `[value, label]` or `value`; `change(value)` when another is chosen. */
export function choice(label, options, selected, change) {
  const name = uniqueId("choice");
  const made = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  return h(
    "fieldset",
    { class: "choice" },
    h("legend", { class: "visually-hidden" }, label),
    made.map(([value, text]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, value, checked: value === selected, on: { change: () => change(value) } }),
        h("span", {}, text),
      ),
    ),
  );
}
