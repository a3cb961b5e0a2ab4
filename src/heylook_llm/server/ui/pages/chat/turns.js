// The turns of a conversation as elements, each with what can be done to it.

import { append, h, replace } from "../../lib/dom.js";
import { icon } from "../../lib/icons.js";
import { Growing } from "../../lib/markdown.js";
import { badge, button, copyButton, field, iconButton, notice } from "../../lib/parts.js";
import { timing } from "./timing.js";

const ENDINGS = {
  "": "Broken off when the page was left",
  stopped: "Stopped",
  length: "Cut off at the most tokens that it may have",
  content_filter: "Held back",
};

/** A message of the reader's. `acts`: `edit()`. */
export function userTurn(turn, acts) {
  const pictures = turn.images.map((image) => h("img", { src: image.url, alt: image.name || "An image", title: image.name }));
  return h(
    "article",
    { class: "turn user", "aria-label": "You" },
    h(
      "div",
      { class: "said" },
      pictures.length > 0 && h("div", { class: "pictures" }, pictures),
      turn.text && h("p", { class: "plain" }, turn.text),
    ),
    h("div", { class: "acts" }, copyButton(() => turn.text, "Copy the message"), iconButton("edit", "Edit the message", acts.edit)),
  );
}

/** A message of the reader's, being edited. Enter sends it, Escape leaves it. */
export function editedTurn(turn, { send, cancel }) {
  const control = h("textarea", { "aria-label": "The message, edited", rows: 3, value: turn.text });
  const submit = () => (control.value.trim() || turn.images.length) && send(control.value.trim());
  control.addEventListener("keydown", (event) => {
    if (event.key === "Escape") cancel();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  const made = h(
    "article",
    { class: "turn user editing", "aria-label": "You" },
    control,
    h("div", { class: "row end" }, button("Cancel", cancel), button("Send", submit, { kind: "primary" })),
  );
  queueMicrotask(() => (control.focus(), control.setSelectionRange(control.value.length, control.value.length)));
  return made;
}

/** What a tool answered. */
export function toolTurn(turn) {
  return h(
    "article",
    { class: "turn tool", "aria-label": `Result of ${turn.name}` },
    h("div", { class: "call" }, h("header", {}, icon("tool"), h("span", {}, "Result of "), h("code", {}, turn.name)), h("pre", { tabindex: 0 }, turn.text)),
  );
}

/** An answer, which may still grow: `update()` shows what came, `end()` that it is whole. */
export class AnswerTurn {
  #turn;
  #acts;
  #thought = new Thought();
  #text = h("div", { class: "md" });
  #growing = new Growing(this.#text);
  #calls = h("div", { class: "calls" });
  #note = h("p", { class: "waiting", role: "status" }, h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), h("span"));
  #foot = h("footer");

  /** `acts`: `regenerate()`, `choose(at)`, `answerCalls(results)`; those that are null aren't offered. */
  constructor(turn, acts) {
    this.#turn = turn;
    this.#acts = acts;
    const label = `Answer of ${this.#answer.model}`;
    this.element = h("article", { class: "turn assistant", "aria-label": label }, this.#thought.element, this.#text, this.#calls, this.#note, this.#foot);
  }

  get #answer() {
    return this.#turn.answers[this.#turn.chosen];
  }

  /** Say what is being waited for. */
  wait(text) {
    this.#note.lastChild.textContent = text;
  }

  update() {
    const { text, reasoning, calls } = this.#answer;
    this.#thought.update(reasoning, !text && !calls.length);
    this.#growing.update(text);
    replace(this.#calls, calls.map(callCard));
    if (text || reasoning || calls.length) this.#note.hidden = true;
  }

  end() {
    const answer = this.#answer;
    this.#note.hidden = true;
    this.update();
    this.#thought.end(!answer.text && !answer.calls.length);
    this.element.classList.add("whole");
    if (this.#acts.answerCalls) append(this.#calls, results(answer.calls, this.#acts.answerCalls));
    replace(this.#foot, answer.error && notice("bad", h("div", {}, h("b", {}, `${answer.model} gave no whole answer`), h("p", {}, answer.error))), timing(answer), this.#row(answer));
  }

  #row(answer) {
    const { regenerate, choose } = this.#acts;
    const { answers, chosen } = this.#turn;
    const ending = answer.error ? null : ENDINGS[answer.finish];
    return h(
      "div",
      { class: "acts" },
      answers.length > 1 && choose && pager(chosen, answers.length, choose),
      answer.text && copyButton(() => answer.text, "Copy the answer"),
      regenerate && iconButton("again", "Answer again", regenerate),
      ending && badge(ending, answer.finish === "stopped" ? "" : "warn"),
      h("span", { class: "faint small ellipsis", title: answer.model }, answer.model),
    );
  }
}

/** The reasoning, folded once the answer begins, unless the reader opened it. */
class Thought {
  #text = h("div", { class: "md" });
  #growing = new Growing(this.#text);
  #label = h("span", {}, "Thinking…");
  #isTouched = false;

  constructor() {
    const summary = h("summary", { on: { click: () => (this.#isTouched = true) } }, icon("right"), this.#label);
    this.element = h("details", { class: "thought", hidden: true }, summary, this.#text);
  }

  update(text, isThinking) {
    this.element.hidden = !text;
    this.#growing.update(text);
    if (!this.#isTouched) this.element.open = isThinking;
    this.#label.textContent = isThinking ? "Thinking…" : "Thought";
  }

  end(isAlone) {
    if (!this.#isTouched) this.element.open = isAlone;
    this.#label.textContent = "Thought";
  }
}

function pager(chosen, count, choose) {
  return h(
    "span",
    { class: "pager", role: "group", "aria-label": "Versions of the answer" },
    iconButton("left", "Earlier version", () => choose(chosen - 1), { disabled: chosen === 0 }),
    h("span", {}, `${chosen + 1} / ${count}`),
    iconButton("right", "Later version", () => choose(chosen + 1), { disabled: chosen === count - 1 }),
  );
}

function callCard(call) {
  return h("div", { class: "call" }, h("header", {}, icon("tool"), h("span", {}, "Calls "), h("code", {}, call.name)), h("pre", { tabindex: 0, "aria-label": `Arguments of ${call.name}` }, pretty(call.arguments)));
}

/** A field for each call's result. */
function results(calls, send) {
  const controls = calls.map((call) => h("textarea", { rows: 2, class: "mono", placeholder: "What the tool answers: any text, often JSON", "aria-label": `Result of ${call.name}` }));
  const submit = (event) => {
    event.preventDefault();
    send(calls.map((call, at) => ({ call: call.id, name: call.name, text: controls[at].value })));
  };
  return h(
    "form",
    { class: "stack results", on: { submit } },
    calls.map((call, at) => field(`Result of ${call.name}`, controls[at])),
    h("div", { class: "row end" }, button(calls.length > 1 ? "Send the results" : "Send the result", null, { kind: "primary", type: "submit" })),
  );
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
