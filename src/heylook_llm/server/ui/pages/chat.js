// The chat: conversations with the models, kept in this browser.

import { get } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { download, pickFiles } from "../lib/files.js";
import { count, when } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { badge, button, confirm, empty, iconButton, menu, notice, prompt, toast } from "../lib/parts.js";
import { setQuery } from "../lib/route.js";
import { Composer } from "./chat/composer.js";
import { Conversations, asMarkdown, exported, fresh, imported, onChange, titleOf } from "./chat/conversations.js";
import { Panel } from "./chat/panel.js";
import { runOf } from "./chat/running.js";
import { Thread } from "./chat/thread.js";

export const title = "Chat";

const NOT_CHATTING = ["embedding", "rerank"];
const SHOWN = { vision: "sees", tools: "tools", thinking: "thinks" };
const STARTERS = ["What is the capital of France?", "Count from 1 to 20.", "Tell me a joke.", "What is 7 plus 5?"];
const LAST_MODEL = "heylook.model";
const AGING = 60_000; // the list's ages are told anew

export async function open(main, route) {
  const kept = await new Conversations().open();
  const page = new Chat(main, kept, route.query.get("model"));
  await page.start(route.query.get("c"));
  return () => page.close();
}

class Chat {
  #kept;
  #models = [];
  #wanted;
  #problem = "";
  #conversation = null;
  #models_menu = h("select", { "aria-label": "Model" });
  #facts = h("span", { class: "row facts-of-model" });
  #name = h("h1", { class: "ellipsis" });
  #heads = h("ul", { class: "heads" });
  #frame;
  #thread;
  #composer;
  #panel;
  #shown = "";
  #shownAt = 0;
  #aging = setInterval(() => this.#list(), AGING);
  #isClosed = false;
  #unfollow = onChange(() => this.#list());

  constructor(main, kept, model) {
    this.#kept = kept;
    this.#wanted = model;
    this.#composer = new Composer({ send: (text, images) => this.#send(text, images), stop: () => this.#thread.stop(), editLast: () => this.#thread.editLast() });
    this.#thread = new Thread({
      save: (conversation) => this.#save(conversation),
      answering: (isAnswering) => this.#composer.answering(isAnswering),
      blank: () => this.#blank(),
    });
    this.#panel = new Panel({ change: () => this.#save(this.#conversation), close: () => this.#toggle("panel") });
    this.#models_menu.addEventListener("change", () => this.#chooseModel(this.#models_menu.value));
    this.#frame = h("div", { class: "chat" }, this.#side(), this.#middle(), this.#panel.element);
    this.#composer.takeDrops(this.#frame);
    this.#frame.addEventListener("keydown", (event) => this.#press(event));
    replace(main, this.#frame);
  }

  async start(id) {
    const [models, found] = await Promise.all([this.#readModels(), id ? (runOf(id)?.conversation ?? this.#kept.read(id)) : null]);
    this.#models = models;
    await this.#open(found ?? this.#fresh());
    await this.#list();
  }

  close() {
    this.#isClosed = true;
    clearInterval(this.#aging);
    this.#thread.leave();
    this.#unfollow();
  }

  // ---- the parts of the page ----

  #side() {
    const more = menu("More of conversations", [
      { label: "Import…", icon: "upload", action: () => this.#import() },
      { label: "Export all", icon: "download", action: () => this.#exportAll() },
    ]);
    return h(
      "aside",
      { class: "side", "aria-label": "Conversations" },
      h("div", { class: "row apart" }, button("New chat", () => this.#new(), { icon: "plus" }), more, iconButton("close", "Close the list", () => this.#toggle("list"))),
      !this.#kept.isKept && notice("warn", "This browser keeps nothing here: conversations are gone when the page is closed."),
      this.#heads,
    );
  }

  #middle() {
    const top = h(
      "header",
      { class: "top" },
      iconButton("list", "Conversations", () => this.#toggle("list")),
      this.#name,
      h("div", { class: "chooser" }, this.#facts, this.#models_menu),
      iconButton("panel", "Settings of this conversation", () => this.#toggle("panel")),
    );
    return h("section", { class: "middle", "aria-label": "Chat" }, top, this.#thread.element, h("div", { class: "foot" }, this.#composer.element));
  }

  #blank() {
    if (this.#problem) return empty("The models can't be listed", this.#problem, button("Try again", () => this.#again(), { icon: "again" }));
    if (!this.#models.length) return empty("No model chats yet", "Add one to models.yaml, pull one, or import those of this machine.", h("a", { class: "button", href: "/docs" }, "How"));
    const starters = STARTERS.map((text) => h("button", { class: "chip", type: "button", on: { click: () => this.#composer.fill(text) } }, text));
    return h("div", { class: "empty" }, icon("chat", 32), h("h2", {}, "What would you like to know?"), h("p", {}, "Everything stays on this machine: answers come from this server, conversations are kept in this browser."), h("div", { class: "chips" }, starters));
  }

  #toggle(what) {
    const isOpen = this.#frame.classList.toggle(`with-${what}`);
    if (isOpen && what === "panel") this.#panel.focus();
    if (!isOpen) this.#composer.focus();
  }

  #press(event) {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (this.#thread.isAnswering) this.#thread.stop();
    else for (const what of ["panel", "list"]) if (this.#frame.classList.contains(`with-${what}`)) return this.#toggle(what);
  }

  // ---- models ----

  async #readModels() {
    try {
      const { data } = await get("/v1/models");
      this.#problem = "";
      return data.filter((model) => !NOT_CHATTING.some((name) => model.capabilities.includes(name)) || model.capabilities.includes("completion"));
    } catch (error) {
      this.#problem = error.message;
      return [];
    }
  }

  async #again() {
    this.#models = await this.#readModels();
    await this.#open(this.#conversation.turns.length ? this.#conversation : this.#fresh());
  }

  #fillModels() {
    const { model } = this.#conversation;
    const groups = [
      ["See images", (one) => one.capabilities.includes("vision")],
      ["Text", (one) => one.capabilities.length > 0 && !one.capabilities.includes("vision")],
      ["Not loaded yet, so unknown", (one) => one.capabilities.length === 0],
    ];
    const option = (one) => h("option", { value: one.id, selected: one.id === model, title: one.display_name }, one.id);
    const filled = groups.map(([label, fits]) => [label, this.#models.filter(fits)]).filter(([, found]) => found.length);
    const lost = this.#models.some((one) => one.id === model) ? null : h("option", { value: model, selected: true }, model ? `${model} (gone)` : "No model");
    replace(this.#models_menu, lost, filled.map(([label, found]) => h("optgroup", { label }, found.map(option))));
    this.#describe();
  }

  #describe() {
    const model = this.#models.find((one) => one.id === this.#conversation.model);
    const known = model?.capabilities ?? [];
    const words = Object.entries(SHOWN).filter(([name]) => known.includes(name)).map(([, word]) => badge(word));
    replace(this.#facts, words, model?.max_model_len ? badge(`${count(model.max_model_len)} context`) : null);
    this.#composer.see(known.length ? known.includes("vision") : null);
    this.#models_menu.title = model ? `${model.id}: ${model.display_name}` : "";
  }

  #chooseModel(id) {
    this.#conversation.model = id;
    remember(id);
    this.#describe();
    this.#save(this.#conversation);
    this.#composer.focus();
  }

  // ---- conversations ----

  #fresh() {
    const known = (id) => this.#models.some((model) => model.id === id);
    const first = [this.#wanted, this.#conversation?.model, remembered(), this.#models[0]?.id].find(known) ?? "";
    return fresh(first);
  }

  async #new() {
    await this.#open(this.#fresh());
    this.#frame.classList.remove("with-list");
  }

  async #open(conversation) {
    this.#conversation = conversation;
    this.#fillModels();
    this.#panel.show(conversation.settings);
    this.#thread.show(conversation);
    this.#title();
    setQuery({ c: conversation.turns.length ? conversation.id : null, model: null });
    this.#composer.focus();
  }

  async #openKept(id) {
    const found = runOf(id)?.conversation ?? (await this.#kept.read(id));
    if (!found) return this.#list();
    await this.#open(found);
    this.#frame.classList.remove("with-list");
    this.#list();
  }

  #send(text, images) {
    if (!this.#conversation.model) {
      toast("Choose a model first", "bad");
      return false;
    }
    this.#thread.say(text, images);
    return true;
  }

  async #save(conversation) {
    if (!conversation.turns.length) return;
    if (conversation === this.#conversation && !this.#isClosed) {
      setQuery({ c: conversation.id });
      this.#title();
    }
    try {
      await this.#kept.write(conversation);
    } catch (error) {
      toast(`This conversation couldn't be kept: ${error.message}`, "bad");
    }
  }

  #title() {
    const name = titleOf(this.#conversation);
    this.#name.textContent = name;
    this.#name.title = name;
    document.title = `${this.#conversation.turns.length ? name : title} · heylookllm`;
  }

  /** Show the list, where it is another than before: whoever is using it isn't disturbed. */
  async #list() {
    const heads = await this.#kept.heads();
    const mine = this.#conversation?.id;
    const shown = JSON.stringify([mine, heads.map(({ id, title: name }) => [id, name])]);
    const isUsed = this.#heads.matches(":focus-within, :hover");
    if (shown === this.#shown && (isUsed || Date.now() - this.#shownAt < AGING)) return;
    [this.#shown, this.#shownAt] = [shown, Date.now()];
    replace(this.#heads, heads.length ? heads.map((head) => this.#head(head, head.id === mine)) : h("li", { class: "faint small none" }, "Conversations appear here."));
  }

  #head(head, isOpen) {
    const open = h(
      "button",
      { class: "open", type: "button", title: head.title, "aria-current": isOpen ? "true" : null, on: { click: () => this.#openKept(head.id) } },
      h("span", { class: "ellipsis" }, head.title),
      h("span", { class: "faint small" }, when(head.updated / 1000)),
    );
    const more = menu(`More of ${head.title}`, [
      { label: "Rename…", icon: "edit", action: () => this.#rename(head) },
      { label: "Export as JSON", icon: "download", action: () => this.#export([head.id], head.title) },
      { label: "Export as Markdown", icon: "download", action: () => this.#exportMarkdown(head) },
      { label: "Delete…", icon: "trash", kind: "danger", action: () => this.#remove(head) },
    ]);
    return h("li", { class: "head" }, open, more);
  }

  async #rename(head) {
    const name = await prompt("Rename the conversation", "Name", head.title);
    if (!name) return;
    const conversation = head.id === this.#conversation.id ? this.#conversation : await this.#kept.read(head.id);
    conversation.title = name;
    await this.#save(conversation);
  }

  async #remove(head) {
    if (!(await confirm("Delete the conversation?", `“${head.title}” is kept in this browser only, so it can't be brought back.`, "Delete"))) return;
    runOf(head.id)?.stop();
    await this.#kept.remove(head.id);
    if (head.id === this.#conversation.id) await this.#new();
    await this.#list();
  }

  async #exportAll() {
    const heads = await this.#kept.heads();
    if (!heads.length) return toast("There are no conversations yet");
    await this.#export(heads.map((head) => head.id), "conversations");
  }

  async #export(ids, name) {
    const found = await Promise.all(ids.map((id) => this.#kept.read(id)));
    download(`${fileName(name)}.json`, exported(found.filter(Boolean)));
  }

  async #exportMarkdown(head) {
    const conversation = await this.#kept.read(head.id);
    if (conversation) download(`${fileName(head.title)}.md`, asMarkdown(conversation), "text/markdown");
  }

  async #import() {
    const files = await pickFiles({ accept: "application/json,.json", multiple: true });
    let taken = 0;
    for (const file of files) {
      try {
        for (const conversation of imported(await file.text())) {
          await this.#kept.write(conversation);
          taken += 1;
        }
      } catch (error) {
        toast(`${file.name}: ${error.message}`, "bad");
      }
    }
    if (taken) toast(`${taken} ${taken === 1 ? "conversation" : "conversations"} imported`, "good");
    await this.#list();
  }
}

function fileName(title) {
  const words = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  return `heylook-${words || "conversation"}`;
}

function remember(model) {
  try {
    localStorage.setItem(LAST_MODEL, model);
  } catch {
    // Storage is switched off: the first model it is next time.
  }
}

function remembered() {
  try {
    return localStorage.getItem(LAST_MODEL);
  } catch {
    return null;
  }
}
