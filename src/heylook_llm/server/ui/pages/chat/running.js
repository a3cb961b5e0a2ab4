// The answers that are being given. They go on while the reader is in another conversation or on another page.

import { ask } from "./asking.js";

const SAVE_PAUSE = 1000;
const runs = new Map();

/** The answer that a conversation is getting, or null. */
export function runOf(id) {
  return runs.get(id) ?? null;
}

/** One answer on its way. */
export class Run {
  #stopping = new AbortController();
  #followers = new Set();
  #saving = null;
  #save;

  /** Begin: `answer` is filled behind `turns`; `save(conversation)` keeps what came, now and then and at the end. */
  constructor(conversation, turns, answer, save) {
    this.conversation = conversation;
    this.answer = answer;
    this.#save = save;
    runs.set(conversation.id, this);
    this.#go(turns);
  }

  /** Tell `{change(), wait(text), end()}` what happens; returns a function that ends it. */
  follow(follower) {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  /** End it; what came stays. */
  stop() {
    this.#stopping.abort();
  }

  async #go(turns) {
    await this.#save(this.conversation);
    await ask(this.conversation, turns, this.answer, {
      change: () => this.#changed(),
      wait: (text) => this.#tell("wait", text),
      signal: this.#stopping.signal,
    });
    clearTimeout(this.#saving);
    this.answer.calls = this.answer.calls.filter(Boolean);
    runs.delete(this.conversation.id);
    this.#tell("end");
    await this.#save(this.conversation);
  }

  #changed() {
    this.#tell("change");
    this.#saving ??= setTimeout(() => {
      this.#saving = null;
      this.#save(this.conversation);
    }, SAVE_PAUSE);
  }

  #tell(what, ...told) {
    for (const follower of [...this.#followers]) follower[what](...told);
  }
}
