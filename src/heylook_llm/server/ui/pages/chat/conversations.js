// Conversations as this browser keeps them: IndexedDB, or as long as the page where it has none.

import { SAMPLERS } from "./asking.js";

const NAME = "heylook";
const FORMAT = "heylook.conversations";
const ROLES = ["user", "assistant", "tool"];
const IMAGE = /^data:image\/(png|jpeg|webp|gif|bmp);base64,[A-Za-z0-9+/=]+$/;

const news = "BroadcastChannel" in globalThis ? new BroadcastChannel(FORMAT) : null;

/** Call `changed()` whenever a conversation was written or removed, here or in another tab; returns what ends it. */
export function onChange(changed) {
  const channel = news && new BroadcastChannel(FORMAT);
  if (channel) channel.onmessage = changed;
  return () => channel?.close();
}

/** What the browser keeps. `heads` are `{id, title, updated, turns}`, newest first. */
export class Conversations {
  #database = null;
  #memory = new Map();

  /** Open it; `isKept` says afterwards whether it outlives the page. */
  async open() {
    try {
      this.#database = await opened();
    } catch {
      this.#database = null;
    }
    return this;
  }

  get isKept() {
    return this.#database !== null;
  }

  async heads() {
    const all = this.#database ? await this.#ask("heads", (store) => store.getAll()) : [...this.#memory.values()].map(head);
    return all.sort((one, other) => other.updated - one.updated);
  }

  async read(id) {
    const found = this.#database ? await this.#ask("bodies", (store) => store.get(id)) : this.#memory.get(id);
    return found ? structuredClone(found) : null;
  }

  async write(conversation) {
    const kept = structuredClone(conversation);
    if (!this.#database) this.#memory.set(kept.id, kept);
    else {
      await this.#change((heads, bodies) => {
        heads.put(head(kept));
        bodies.put(kept);
      });
    }
    news?.postMessage(null);
  }

  async remove(id) {
    this.#memory.delete(id);
    if (this.#database) {
      await this.#change((heads, bodies) => {
        heads.delete(id);
        bodies.delete(id);
      });
    }
    news?.postMessage(null);
  }

  #ask(name, asking) {
    return done(asking(this.#database.transaction(name).objectStore(name)));
  }

  #change(changing) {
    const transaction = this.#database.transaction(["heads", "bodies"], "readwrite");
    changing(transaction.objectStore("heads"), transaction.objectStore("bodies"));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? new Error("The browser has no room for it."));
    });
  }
}

/** A new conversation. */
export function fresh(model = "", settings = {}) {
  return { id: newId(), title: "", created: Date.now(), updated: Date.now(), model, settings, turns: [] };
}

/** An id that nothing else has. `crypto.randomUUID` isn't there where a page comes without TLS from another machine. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What a conversation is called where nobody named it: the beginning of its first message. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const text = conversation.turns.find((turn) => turn.role === "user")?.text.trim().replace(/\s+/g, " ") ?? "";
  return text.length > 60 ? `${text.slice(0, 59)}…` : text || "New conversation";
}

/** Conversations as a file's text. */
export function exported(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, exported: new Date().toISOString(), conversations }, null, 2);
}

/** A conversation as Markdown, to be read by people: it can't be imported again. */
export function asMarkdown(conversation) {
  const turns = conversation.turns.map((turn) => {
    if (turn.role === "user") return `## You\n\n${turn.text}${turn.images.map((image) => `\n\n*(image: ${image.name || "pasted"})*`).join("")}`;
    if (turn.role === "tool") return `## Result of ${turn.name}\n\n${fenced(turn.text)}`;
    const answer = turn.answers[turn.chosen];
    const calls = answer.calls.map((call) => `\n\nCalls \`${call.name}\`:\n\n${fenced(call.arguments)}`).join("");
    return `## ${answer.model}\n\n${answer.text}${calls}${answer.error ? `\n\n*(${answer.error})*` : ""}`;
  });
  const system = conversation.settings.system?.trim();
  return [`# ${titleOf(conversation)}`, system && `> ${system.replaceAll("\n", "\n> ")}`, ...turns].filter(Boolean).join("\n\n") + "\n";
}

/** A text as a block of code, whatever fences it holds itself. */
function fenced(content) {
  const longest = Math.max(2, ...(content.match(/`+/g) ?? []).map((one) => one.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${content}\n${fence}`;
}

/** The conversations of such a text, with only what is known, and ids of their own. Throws what is wrong with it. */
export function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file isn't JSON.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) throw new Error("This file holds no conversations of these pages.");
  return file.conversations.filter(isObject).map(cleanConversation);
}

// ---- what comes from a file is a stranger's ------------------------------------------------------------------------------

function cleanConversation(given) {
  const now = Date.now();
  return {
    id: newId(),
    title: text(given.title).slice(0, 200),
    created: number(given.created) ?? now,
    updated: number(given.updated) ?? now,
    model: text(given.model),
    settings: cleanSettings(isObject(given.settings) ? given.settings : {}),
    turns: list(given.turns).filter((turn) => isObject(turn) && ROLES.includes(turn.role)).map(cleanTurn),
  };
}

function cleanSettings(given) {
  const kept = { system: text(given.system), tools: text(given.tools), stop: text(given.stop) };
  if (["on", "off"].includes(given.thinking)) kept.thinking = given.thinking;
  if (["required", "none"].includes(given.tool_choice)) kept.tool_choice = given.tool_choice;
  for (const name of SAMPLERS) if (number(given[name]) !== null) kept[name] = number(given[name]);
  return Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== ""));
}

function cleanTurn(given) {
  const own = { id: newId(), role: given.role };
  if (given.role === "user") return { ...own, text: text(given.text), images: list(given.images).filter(isImage).map((image) => ({ name: text(image.name).slice(0, 200), url: image.url })) };
  if (given.role === "tool") return { ...own, call: text(given.call), name: text(given.name), text: text(given.text) };
  const answers = list(given.answers).filter(isObject).map(cleanAnswer);
  const chosen = number(given.chosen) ?? 0;
  return { ...own, answers: answers.length ? answers : [cleanAnswer({})], chosen: Math.min(Math.max(0, Math.trunc(chosen)), Math.max(0, answers.length - 1)) };
}

function cleanAnswer(given) {
  const calls = list(given.calls).filter(isObject).map((call) => ({ id: text(call.id), name: text(call.name), arguments: text(call.arguments) }));
  const measured = isObject(given.measured) ? cleanNumbers(given.measured) : null;
  return { model: text(given.model), text: text(given.text), reasoning: text(given.reasoning), calls, finish: text(given.finish), error: text(given.error), request: text(given.request), measured };
}

function cleanNumbers(given) {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value === null || number(value) !== null));
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isImage = (value) => isObject(value) && typeof value.url === "string" && IMAGE.test(value.url);
const text = (value) => (typeof value === "string" ? value : "");
const list = (value) => (Array.isArray(value) ? value : []);
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

// ---- IndexedDB ----------------------------------------------------------------------------------------------------------

function head(conversation) {
  return { id: conversation.id, title: titleOf(conversation), updated: conversation.updated, turns: conversation.turns.length };
}

function opened() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("heads", { keyPath: "id" });
    request.result.createObjectStore("bodies", { keyPath: "id" });
  };
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("Another tab holds the storage."));
  });
}
