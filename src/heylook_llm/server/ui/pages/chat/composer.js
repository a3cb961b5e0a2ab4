// Where the reader writes: text, and images by paste, drop and picking.

import { h, replace } from "../../lib/dom.js";
import { dataUrl, pickFiles } from "../../lib/files.js";
import { icon } from "../../lib/icons.js";
import { iconButton, toast } from "../../lib/parts.js";

const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];
const MOST_BYTES = 20 * 1024 * 1024;
const MOST_IMAGES = 16;

/** The composer. `send(text, images)` gets what was written, `stop()` ends the answer that is being given. */
export class Composer {
  #acts;
  #images = [];
  #sees = true;
  #isAnswering = false;
  #text = h("textarea", { rows: 1, placeholder: "Write a message", "aria-label": "Message", enterkeyhint: "send" });
  #pictures = h("div", { class: "pictures" });
  #attach = iconButton("image", "Add images", () => this.#pick());
  #send = h("button", { class: "button primary icon-only", type: "submit", title: "Send (Enter)", "aria-label": "Send" }, icon("send", 18));
  #stop = h("button", { class: "button primary icon-only", type: "button", title: "Stop (Escape)", "aria-label": "Stop" }, icon("stop", 18));

  constructor(acts) {
    this.#acts = acts;
    this.element = h(
      "form",
      { class: "composer", on: { submit: (event) => (event.preventDefault(), this.#submit()) } },
      this.#pictures,
      this.#text,
      h("div", { class: "row apart" }, this.#attach, h("div", { class: "row" }, h("span", { class: "faint small keys" }, "Enter sends, Shift+Enter breaks the line"), this.#stop, this.#send)),
    );
    this.#stop.addEventListener("click", () => acts.stop());
    this.#text.addEventListener("keydown", (event) => this.#press(event));
    this.#text.addEventListener("input", () => this.#show());
    this.#text.addEventListener("paste", (event) => this.#take([...event.clipboardData.files], event));
    this.#show();
  }

  focus() {
    this.#text.focus({ preventScroll: true });
  }

  /** Put a text into it, for the reader to go on with. */
  fill(text) {
    this.#text.value = text;
    this.#show();
    this.focus();
  }

  /** Whether the model sees; `null`: nobody knows yet. */
  see(sees) {
    this.#sees = sees !== false;
    this.#show();
  }

  answering(isAnswering) {
    const hadFocus = this.element.contains(document.activeElement);
    this.#isAnswering = isAnswering;
    this.#show();
    if (hadFocus) this.focus();
  }

  /** Let images be dropped on an element. */
  takeDrops(place) {
    const over = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      place.classList.add("dropping");
    };
    place.addEventListener("dragenter", over);
    place.addEventListener("dragover", over);
    place.addEventListener("dragleave", (event) => place.contains(event.relatedTarget) || place.classList.remove("dropping"));
    place.addEventListener("drop", (event) => {
      place.classList.remove("dropping");
      this.#take([...event.dataTransfer.files], event);
    });
  }

  #press(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "ArrowUp" && !this.#text.value && !this.#isAnswering) {
      event.preventDefault();
      this.#acts.editLast();
    }
  }

  #submit() {
    const text = this.#text.value.trim();
    if (this.#isAnswering || (!text && !this.#images.length)) return;
    if (!this.#acts.send(text, this.#images)) return;
    this.#text.value = "";
    this.#images = [];
    this.#show();
  }

  async #pick() {
    await this.#take(await pickFiles({ accept: TYPES.join(","), multiple: true }));
    this.focus();
  }

  async #take(files, event = null) {
    if (!files.length) return;
    event?.preventDefault();
    if (!this.#sees) return toast("This model doesn't see images: choose one that does", "bad");
    for (const file of files) {
      const problem = this.#problem(file);
      if (problem) toast(problem, "bad");
      else this.#images.push({ name: file.name, url: await dataUrl(file) });
    }
    this.#show();
  }

  #problem(file) {
    if (!TYPES.includes(file.type)) return `${file.name}: images are PNG, JPEG, WebP, GIF or BMP`;
    if (file.size > MOST_BYTES) return `${file.name} is larger than 20 MiB`;
    return this.#images.length >= MOST_IMAGES ? `A message has at most ${MOST_IMAGES} images` : null;
  }

  #show() {
    const isEmpty = !this.#text.value.trim() && !this.#images.length;
    this.#stop.hidden = !this.#isAnswering;
    this.#send.hidden = this.#isAnswering;
    this.#send.disabled = isEmpty;
    this.#attach.disabled = !this.#sees;
    this.#attach.title = this.#sees ? "Add images (or paste, or drop them)" : "This model doesn't see images";
    this.#pictures.hidden = !this.#images.length;
    replace(this.#pictures, this.#images.map((image) => this.#thumbnail(image)));
    this.#text.style.height = "auto";
    this.#text.style.height = `${Math.min(this.#text.scrollHeight, 240)}px`;
  }

  #thumbnail(image) {
    const remove = () => {
      this.#images = this.#images.filter((other) => other !== image);
      this.#show();
      this.focus();
    };
    return h("span", { class: "thumbnail" }, h("img", { src: image.url, alt: image.name || "Pasted image", title: image.name }), iconButton("close", `Remove ${image.name || "the image"}`, remove));
  }
}
