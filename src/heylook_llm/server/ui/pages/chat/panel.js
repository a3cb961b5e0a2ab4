// How a conversation is answered: its system prompt, samplers and tools.

import { h, replace } from "../../lib/dom.js";
import { button, field, iconButton, select } from "../../lib/parts.js";
import { toolsOf } from "./asking.js";

const EXAMPLE = `[{
  "name": "get_weather",
  "description": "The weather of a city",
  "parameters": {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"]
  }
}]`;
const NUMBERS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.05 }, "0 always takes the likeliest token."],
  ["top_p", "Top p", { min: 0, max: 1, step: 0.01 }, "Only the likeliest tokens that together have this share."],
  ["top_k", "Top k", { min: 0, max: 1000, step: 1 }, "Only the so many likeliest; 0: all."],
  ["min_p", "Min p", { min: 0, max: 1, step: 0.01 }, "Only tokens with this share of the likeliest one's."],
  ["repeat_penalty", "Repeat penalty", { min: 0.1, max: 10, step: 0.05 }, "Above 1, what was said becomes less likely."],
  ["max_tokens", "Most tokens", { min: 1, max: 1_000_000, step: 1 }, "Of an answer, with its reasoning."],
  ["seed", "Seed", { min: 0, max: 2_147_483_647, step: 1 }, "The same seed says the same again."],
  ["reasoning_budget", "Reasoning budget", { min: -1, max: 1_000_000, step: 1 }, "Tokens of reasoning, then the answer begins; -1: any number."],
];

/** The panel of settings; `change()` is called when one of them was changed. */
export class Panel {
  #settings = {};
  #change;
  #body = h("div", { class: "stack" });

  constructor({ change, close }) {
    this.#change = change;
    const head = h("header", { class: "row apart" }, h("h2", {}, "Settings of this conversation"), iconButton("close", "Close the settings", close));
    this.element = h("aside", { class: "panel", "aria-label": "Settings of this conversation" }, head, this.#body);
  }

  /** Show a conversation's settings, which are changed in place. */
  show(settings) {
    this.#settings = settings;
    replace(
      this.#body,
      field("System prompt", this.#area("system", 4, "None"), "Stands before the conversation."),
      h("div", { class: "numbers" }, NUMBERS.map(([name, label, bounds, help]) => field(label, this.#number(name, bounds), help))),
      field("Stop at", this.#area("stop", 2, "None"), "One text a line; an answer ends before it."),
      field("Thinking", this.#choice("thinking", [["", "As the model does"], ["on", "On"], ["off", "Off"]]), "For models that reason before they answer."),
      this.#tools(),
      h("div", { class: "row end" }, button("Back to the defaults", () => this.#reset())),
    );
  }

  focus() {
    this.#body.querySelector("textarea")?.focus();
  }

  #set(name, value) {
    if (value === "" || value === null) delete this.#settings[name];
    else this.#settings[name] = value;
    this.#change();
  }

  #area(name, rows, placeholder) {
    const control = h("textarea", { name, rows, placeholder, value: this.#settings[name] ?? "" });
    control.addEventListener("input", () => this.#set(name, control.value));
    return control;
  }

  #number(name, bounds) {
    const control = h("input", { name, type: "number", inputmode: "decimal", placeholder: "default", ...bounds, step: "any", value: this.#settings[name] ?? "" });
    control.addEventListener("input", () => {
      const isGood = control.value !== "" && control.validity.valid;
      control.setAttribute("aria-invalid", String(!control.validity.valid));
      this.#set(name, isGood ? (bounds.step === 1 ? Math.trunc(control.valueAsNumber) : control.valueAsNumber) : null);
    });
    return control;
  }

  #choice(name, options) {
    const control = select(options, this.#settings[name] ?? "", (value) => this.#set(name, value));
    control.name = name;
    return control;
  }

  #tools() {
    const problem = h("p", { class: "small bad", role: "alert" });
    const control = this.#area("tools", 6, "None");
    control.classList.add("mono");
    control.spellcheck = false;
    const check = () => {
      const wrong = problemOf(control.value);
      problem.textContent = wrong;
      control.setAttribute("aria-invalid", String(Boolean(wrong)));
    };
    control.addEventListener("input", check);
    const fill = () => {
      control.value = EXAMPLE;
      this.#set("tools", EXAMPLE);
      check();
    };
    check();
    return h(
      "div",
      { class: "stack tight" },
      field("Tools", control, "A JSON list of functions. The model's calls are shown, and you answer them."),
      problem,
      h("div", { class: "row" }, button("Insert an example", fill)),
      field("Calls", this.#choice("tool_choice", [["", "When the model wants to"], ["required", "Always"], ["none", "Never"]])),
    );
  }

  #reset() {
    for (const name of Object.keys(this.#settings)) delete this.#settings[name];
    this.show(this.#settings);
    this.#change();
    this.focus();
  }
}

/** What is wrong with a text of tools; empty: nothing. */
function problemOf(text) {
  try {
    toolsOf(text ?? "");
    return "";
  } catch (error) {
    return error.message;
  }
}
