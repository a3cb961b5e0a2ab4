// The conversation that is open: its turns on the screen, and the answer that is being given.

import { h, replace } from "../../lib/dom.js";
import { icon } from "../../lib/icons.js";
import { confirm } from "../../lib/parts.js";
import { begun } from "./asking.js";
import { newId } from "./conversations.js";
import { Run, runOf } from "./running.js";
import { AnswerTurn, editedTurn, toolTurn, userTurn } from "./turns.js";

const NEAR = 48;

/** A thread. `acts`: `save(conversation)`, `answering(isAnswering)`, `blank()`, which makes what stands in an empty one. */
export class Thread {
  #acts;
  #conversation = null;
  #list = h("div", { class: "turns" });
  #down = h("button", { class: "button to-end", type: "button", hidden: true, on: { click: () => this.#toEnd() } }, icon("down"), "Newest");
  #said = h("p", { class: "visually-hidden", role: "status" });
  #sticks = true;
  #run = null;
  #unfollow = () => {};
  #editing = null;
  #drawn = new WeakMap();

  constructor(acts) {
    this.#acts = acts;
    this.scroller = h("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Conversation" }, this.#list);
    this.scroller.addEventListener("scroll", () => this.#noticeScroll());
    this.element = h("div", { class: "thread" }, this.scroller, this.#down, this.#said);
  }

  get isAnswering() {
    return this.#run !== null;
  }

  /** Show another conversation. */
  show(conversation) {
    this.leave();
    this.#conversation = conversation;
    this.#editing = null;
    this.#drawn = new WeakMap();
    this.#follow(runOf(conversation.id));
    this.#draw();
    this.#toEnd();
  }

  /** Show nothing any more; an answer that is being given goes on. */
  leave() {
    this.#unfollow();
    this.#unfollow = () => {};
    this.#run = null;
  }

  /** Say something, and get the answer to it. */
  say(text, images) {
    this.#conversation.turns.push({ id: newId(), role: "user", text, images });
    this.#sticks = true;
    this.#answer();
  }

  /** End the answer that is being given; what came of it stays. */
  stop() {
    this.#run?.stop();
  }

  /** Edit the reader's last message. */
  editLast() {
    const at = this.#conversation.turns.findLastIndex((turn) => turn.role === "user");
    if (at >= 0 && !this.isAnswering) this.#edit(at);
  }

  // ---- what can be done to a turn ----

  #edit(at) {
    this.#editing = at;
    this.#draw();
  }

  async #sendEdited(at, text) {
    const { turns } = this.#conversation;
    const lost = turns.length - at - 2;
    const sure = lost <= 0 || (await confirm("Send it anew?", "What was said after this message is left out of the conversation.", "Send"));
    if (!sure) return;
    this.#editing = null;
    turns.splice(at, turns.length, { ...turns[at], text });
    this.#answer();
  }

  #answerCalls(results) {
    for (const result of results) this.#conversation.turns.push({ id: newId(), role: "tool", ...result });
    this.#answer();
  }

  #regenerate() {
    const turn = this.#conversation.turns.at(-1);
    const { text, error } = turn.answers[turn.chosen];
    if (error && !text) turn.answers.splice(turn.chosen, 1); // one that failed isn't worth a version
    this.#answer(turn);
  }

  #choose(turn, at) {
    turn.chosen = at;
    this.#acts.save(this.#conversation);
    this.#draw();
  }

  // ---- the answer ----

  /** Get an answer to what was said: a turn of its own, or another version of `again`. */
  #answer(again = null) {
    const conversation = this.#conversation;
    const answer = begun(conversation.model);
    const turn = again ?? { id: newId(), role: "assistant", answers: [], chosen: 0 };
    const before = conversation.turns.filter((other) => other !== turn);
    turn.chosen = turn.answers.push(answer) - 1;
    if (!again) conversation.turns.push(turn);
    conversation.updated = Date.now();
    this.#follow(new Run(conversation, before, answer, this.#acts.save));
    this.#said.textContent = "Answering";
    this.#draw();
  }

  #follow(run) {
    this.#run = run;
    this.#acts.answering(run !== null);
    if (!run) return;
    const draw = eachFrame(() => this.#grow());
    const unfollow = run.follow({
      change: draw,
      wait: (text) => this.#list.lastChild.answer.wait(text),
      end: () => this.#ended(run.answer),
    });
    this.#unfollow = () => {
      draw.cancel();
      unfollow();
    };
  }

  #ended(answer) {
    this.leave();
    this.#acts.answering(false);
    this.#said.textContent = answer.error ? `The answer failed: ${answer.error}` : answer.finish === "stopped" ? "Stopped" : "Answered";
    this.#draw();
    if (answer.calls.length && !answer.error) this.#list.querySelector(".results textarea")?.focus();
  }

  #grow() {
    this.#list.lastChild.answer.update();
    if (this.#sticks) this.#toEnd();
  }

  // ---- on the screen ----

  #draw() {
    const { turns } = this.#conversation;
    replace(this.#list, turns.length ? turns.map((turn, at) => this.#element(turn, at)) : this.#acts.blank());
    this.#list.classList.toggle("blank", !turns.length);
    if (this.#sticks) this.#toEnd();
  }

  /** A turn's element: the one that is there, unless something about it changed. */
  #element(turn, at) {
    const isLast = at === this.#conversation.turns.length - 1;
    const state = JSON.stringify([at, turn.chosen, turn.answers?.length, turn.role !== "user" && isLast, isLast && this.isAnswering, this.#editing === at]);
    const known = this.#drawn.get(turn);
    if (known?.state === state) return known.element;
    const element = this.#made(turn, at, isLast);
    this.#drawn.set(turn, { state, element });
    return element;
  }

  #made(turn, at, isLast) {
    if (turn.role === "tool") return toolTurn(turn);
    if (turn.role === "assistant") return this.#answerElement(turn, isLast);
    if (this.#editing === at) return editedTurn(turn, { send: (text) => this.#sendEdited(at, text), cancel: () => this.#edit(null) });
    return userTurn(turn, { edit: () => this.isAnswering || this.#edit(at) });
  }

  #answerElement(turn, isLast) {
    const isFree = isLast && !this.isAnswering;
    const shown = new AnswerTurn(turn, {
      regenerate: isFree ? () => this.#regenerate() : null,
      choose: isFree ? (version) => this.#choose(turn, version) : null,
      answerCalls: isFree && turn.answers[turn.chosen].calls.length ? (results) => this.#answerCalls(results) : null,
    });
    shown.update();
    if (!isLast || isFree) shown.end();
    shown.element.answer = shown;
    return shown.element;
  }

  #noticeScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.#sticks = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#down.hidden = this.#sticks;
  }

  #toEnd() {
    this.#sticks = true;
    this.#down.hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

/** The same, at most once in each frame. */
function eachFrame(act) {
  let frame = null;
  const run = () => {
    frame = null;
    act();
  };
  const asked = () => (frame ??= requestAnimationFrame(run));
  asked.cancel = () => {
    cancelAnimationFrame(frame);
    frame = null;
  };
  return asked;
}
