// The parts that pages are made of. Each works with the keyboard and says what it is to a screen reader.

import { h, replace, uniqueId } from "./dom.js";
import { copyText } from "./files.js";
import { hint, onHover } from "./format.js";
import { icon } from "./icons.js";

// ---- buttons and what opens from them -------------------------------------------------------------------------------

/** A button. `kind`: "primary", "danger", "quiet" or plain; `press` may be null for one that submits its form. */
export function button(label, press, { kind = "", icon: name = null, type = "button", disabled = false, title = null } = {}) {
  const classes = `button ${kind}`.trim();
  return h("button", { class: classes, type, disabled, title, on: { click: press } }, name && icon(name), h("span", {}, label));
}

/** A button that shows an icon alone; its label is what it is called. */
export function iconButton(name, label, press, { kind = "quiet", disabled = false } = {}) {
  const attributes = { class: `button icon-only ${kind}`, type: "button", disabled, title: label, "aria-label": label };
  return h("button", { ...attributes, on: { click: press } }, icon(name, 18));
}

/** A button that copies `text()` and says so. */
export function copyButton(text, label = "Copy") {
  const made = iconButton("copy", label, async () => {
    const done = await copyText(text());
    replace(made, icon(done ? "check" : "warning", 18));
    toast(done ? "Copied" : "The browser lets nothing be copied here", done ? "good" : "bad");
    setTimeout(() => replace(made, icon("copy", 18)), 1500);
  });
  return made;
}

/** A button that opens a menu of `{label, icon, action, kind, disabled}`. `face`: what it shows, else three dots. */
export function menu(label, items, { face = null } = {}) {
  const id = uniqueId("menu");
  const list = h("div", { class: "menu", id, role: "menu", popover: "auto", "aria-label": label });
  replace(list, items.map((item) => menuItem(item, list)));
  const opener = h(
    "button",
    { class: face ? "button" : "button icon-only quiet", type: "button", title: face ? null : label, "aria-label": label, "aria-haspopup": "menu", "aria-expanded": "false", popovertarget: id },
    face ?? icon("more", 18),
  );
  list.addEventListener("toggle", (event) => {
    opener.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState === "open") placeMenu(list, opener);
  });
  list.addEventListener("keydown", (event) => moveFocus(event, [...list.children], { vertical: true }));
  return h("span", { class: "menu-place" }, opener, list);
}

function menuItem({ label, icon: name = null, action, kind = "", disabled = false }, list) {
  const press = () => {
    list.hidePopover();
    action();
  };
  return h("button", { class: `menu-item ${kind}`, type: "button", role: "menuitem", disabled, tabindex: -1, on: { click: press } }, name && icon(name), label);
}

function placeMenu(list, opener) {
  const at = opener.getBoundingClientRect();
  const box = list.getBoundingClientRect();
  const below = at.bottom + box.height + 8 < innerHeight;
  list.style.left = `${Math.max(8, Math.min(at.right - box.width, innerWidth - box.width - 8))}px`;
  list.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - box.height - 4)}px`;
  list.querySelector("button:not(:disabled)")?.focus();
}

/** Arrow keys, Home and End among elements. */
function moveFocus(event, elements, { vertical = false } = {}) {
  const usable = elements.filter((element) => !element.disabled);
  const at = usable.indexOf(document.activeElement);
  const [back, forth] = vertical ? ["ArrowUp", "ArrowDown"] : ["ArrowLeft", "ArrowRight"];
  const to = { [back]: at - 1, [forth]: at + 1, Home: 0, End: usable.length - 1 }[event.key];
  if (to === undefined) return null;
  event.preventDefault();
  const next = usable[(to + usable.length) % usable.length];
  next?.focus();
  return next;
}

// ---- what holds things ----------------------------------------------------------------------------------------------

/** The top of a page: its name, a sentence, and what can be done there. */
export function heading(title, text = null, ...actions) {
  return h("header", { class: "heading" }, h("div", {}, h("h1", {}, title), text && h("p", {}, text)), h("div", { class: "row" }, actions));
}

/** A card with a title; `card(null, …)` has none, `{actions: […]}` stand beside it. */
export function card(title, children, { actions = [], kind = "" } = {}) {
  const head = title && h("header", {}, h("h2", {}, title), h("div", { class: "row" }, actions));
  return h("section", { class: `card ${kind}`.trim() }, head, children);
}

/** Said where there is nothing: what would be here, and what to do about it. */
export function empty(title, text, action = null) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), action);
}

/** A message that stays. `kind`: "info", "good", "warn" or "bad". */
export function notice(kind, text, action = null) {
  const role = kind === "bad" ? "alert" : "note";
  return h("div", { class: `notice ${kind}`, role }, icon(kind === "good" ? "check" : kind === "info" ? "info" : "warning", 18), h("div", {}, text), action);
}

/** What is being waited for. */
export function busy(text = "Loading…") {
  return h("p", { class: "busy", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), text);
}

/** A message that goes by itself. */
export function toast(text, kind = "") {
  let place = document.querySelector(".toasts");
  if (!place) document.body.append((place = h("div", { class: "toasts", role: "status", "aria-live": "polite" })));
  const made = h("div", { class: `toast ${kind}` }, text);
  place.append(made);
  setTimeout(() => made.remove(), 4000);
}

/** A dialog of what `build(close)` makes; resolves to what it is closed with, null where it is left. */
export function dialog(title, build, { wide = false } = {}) {
  return new Promise((resolve) => {
    let result = null;
    const close = (value = null) => {
      result = value;
      made.close();
    };
    const id = uniqueId("dialog");
    const head = h("header", {}, h("h2", { id }, title), iconButton("close", "Close", () => close()));
    const made = h("dialog", { class: wide ? "wide" : null, "aria-labelledby": id }, head, build(close));
    made.addEventListener("close", () => {
      made.remove();
      resolve(result);
    });
    made.addEventListener("pointerdown", (event) => event.target === made && close());
    document.body.append(made);
    made.showModal();
    made.querySelector("[autofocus], input, textarea, select")?.focus();
  });
}

/** Ask whether to do what can't be undone; resolves to true or false. */
export async function confirm(title, text, action = "Continue", kind = "danger") {
  const answer = await dialog(title, (close) =>
    h("div", { class: "stack" }, h("p", {}, text), h("div", { class: "row end" }, button("Cancel", () => close()), button(action, () => close(true), { kind }))),
  );
  return answer === true;
}

/** Ask for a line of text; resolves to it, or null. */
export function prompt(title, label, value = "", action = "Save") {
  const control = h("input", { value, required: true, maxlength: 200 });
  const submit = (close) => (event) => {
    event.preventDefault();
    close(control.value.trim() || null);
  };
  return dialog(title, (close) =>
    h(
      "form",
      { class: "stack", on: { submit: submit(close) } },
      field(label, control),
      h("div", { class: "row end" }, button("Cancel", () => close()), button(action, null, { kind: "primary", type: "submit" })),
    ),
  );
}

// ---- controls -------------------------------------------------------------------------------------------------------

/** A control with its label and, below it, what it does. */
export function field(label, control, help = null) {
  control.id ||= uniqueId("field");
  const helpId = help && `${control.id}-help`;
  if (help) control.setAttribute("aria-describedby", helpId);
  const isSwitch = control.type === "checkbox" || control.type === "radio";
  const name = h("label", { for: control.id }, label);
  const parts = isSwitch ? h("div", { class: "row" }, control, name) : [name, control];
  return h("div", { class: "field" }, parts, help && h("p", { class: "help", id: helpId }, help));
}

/** A select over `[value, label]` or `value`. */
export function select(options, selected, change) {
  const made = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  return h(
    "select",
    { on: { change: (event) => change?.(event.target.value) } },
    made.map(([value, label]) => h("option", { value, selected: value === selected }, label)),
  );
}

/** Toggles `{value, label, selected, disabled, note}`; `change(values)` gets all that are on. `single`: one at most. */
export function chips(label, items, change, { single = false } = {}) {
  const on = new Set(items.filter((item) => item.selected).map((item) => item.value));
  const made = items.map((item) => {
    const press = () => {
      const was = on.has(item.value);
      if (single) on.clear();
      if (was) on.delete(item.value);
      else on.add(item.value);
      made.forEach((chip, at) => chip.setAttribute("aria-pressed", String(on.has(items[at].value))));
      change([...on]);
    };
    const chip = h("button", { class: "chip", type: "button", disabled: item.disabled, "aria-pressed": String(on.has(item.value)), on: { click: press } }, item.label);
    return item.note ? hint(chip, { note: item.note }) : chip;
  });
  return h("div", { class: "chips", role: "group", "aria-label": label }, made);
}

/** Tabs of `{name, label, build}`; a panel is built when it is first shown. */
export function tabs(label, items, { selected = items[0]?.name, change = () => {} } = {}) {
  const id = uniqueId("tabs");
  const panel = h("div", { role: "tabpanel", id: `${id}-panel`, tabindex: 0 });
  const built = new Map();
  const heads = items.map((item) =>
    h("button", { class: "tab", type: "button", role: "tab", id: `${id}-${item.name}`, "aria-controls": panel.id, on: { click: () => show(item, true) } }, item.label),
  );
  function show(item, isChosen) {
    heads.forEach((head, at) => {
      head.setAttribute("aria-selected", String(items[at] === item));
      head.tabIndex = items[at] === item ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `${id}-${item.name}`);
    if (!built.has(item.name)) built.set(item.name, item.build());
    replace(panel, built.get(item.name));
    if (isChosen) change(item.name);
  }
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": label }, heads);
  list.addEventListener("keydown", (event) => moveFocus(event, heads)?.click());
  show(items.find((item) => item.name === selected) ?? items[0], false);
  return h("div", { class: "tabbed" }, list, panel);
}

// ---- data -----------------------------------------------------------------------------------------------------------

/**
 * A table. Columns are `{label, cell(row), align, sort(row), formula, note}`: `cell` gives text or an element, `align: "end"`
 * is for numbers, a column with `sort` can be sorted by. `formula` and `note` tell what its numbers are, at its head and at
 * each of them that has no hint of its own. `press(row)` makes rows buttons; `caption` is read to those who don't see.
 */
export function table(columns, rows, { caption = "", press = null, sorted = null } = {}) {
  let order = sorted;
  const body = h("tbody");
  const heads = columns.map((column, at) => headCell(column, () => sortBy(at)));
  function sortBy(at) {
    order = { column: at, descending: order?.column === at ? !order.descending : columns[at].align === "end" };
    fill();
  }
  function fill() {
    heads.forEach((head, at) => {
      if (columns[at].sort) head.setAttribute("aria-sort", order?.column !== at ? "none" : order.descending ? "descending" : "ascending");
    });
    replace(body, inOrder(columns, rows, order).map((row) => bodyRow(columns, row, press)));
  }
  fill();
  const made = h("table", { class: "table" }, caption && h("caption", { class: "visually-hidden" }, caption), h("thead", {}, h("tr", {}, heads)), body);
  return scrolling(caption || "Table", made);
}

/** A place in which a wide table can be scrolled, by the keyboard too. */
export function scrolling(label, wide) {
  return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": label }, wide);
}

function headCell(column, sort) {
  const content = column.sort ? h("button", { class: "sort", type: "button", on: { click: sort } }, column.label) : h("span", {}, column.label);
  return h("th", { scope: "col", class: column.align }, hint(content, { formula: column.formula, note: column.note }));
}

function bodyRow(columns, row, press) {
  const cells = columns.map((column) => {
    const made = h("td", { class: column.align }, column.cell(row));
    return made.querySelector(".hinted") ? made : onHover(made, { formula: column.formula, note: column.note });
  });
  if (!press) return h("tr", {}, cells);
  const act = (event) => event.target.closest("a, button, input, select, label") || press(row);
  return h("tr", { class: "pressable", on: { click: act } }, cells);
}

function inOrder(columns, rows, order) {
  if (!order) return rows;
  const { sort } = columns[order.column];
  const sign = order.descending ? -1 : 1;
  const missing = (value) => value === null || value === undefined;
  return [...rows].sort((one, other) => {
    const [a, b] = [sort(one), sort(other)];
    if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  });
}

/** Names and values, one below the other: `facts([["Model", "a"], …])`; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return h("dl", { class: "facts" }, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Parts of a line with dots between them; those that are empty are left out. */
export function dotted(parts) {
  return parts.filter(Boolean).flatMap((part, at) => (at ? [h("span", { class: "faint", "aria-hidden": "true" }, " · "), part] : [part]));
}

/** One number with what it is called. */
export function figure(label, value, note = null) {
  return h("div", { class: "figure" }, h("span", { class: "figure-label" }, label), h("span", { class: "figure-value" }, value), note && h("span", { class: "figure-note" }, note));
}

/** A small bar of segments `{label, value, kind, text}`; `kind` is a phase of base.css (queue, load, prefill, decode, …). */
export function bar(segments, { label = "Where the time went" } = {}) {
  const shown = segments.filter((segment) => segment.value > 0);
  const told = shown.map((segment) => `${segment.label} ${segment.text}`).join(", ");
  return h(
    "span",
    { class: "bar", role: "img", "aria-label": `${label}: ${told || "nothing measured"}` },
    shown.map((segment) => h("span", { class: `bar-part ${segment.kind}`, style: `flex-grow: ${segment.value}`, title: `${segment.label}: ${segment.text}` })),
  );
}

/** A short word with a colour: "good", "warn", "bad", "accent" or plain. */
export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}`.trim() }, text);
}
