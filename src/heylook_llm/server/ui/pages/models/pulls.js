// Pulls: each goes on while the reader looks at other pages of this tab, until it ends or is cancelled.

import { lines } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { bytes, percent, rate } from "../../lib/format.js";
import { button, card, dialog, field, iconButton, notice } from "../../lib/parts.js";

const running = new Map();
const followers = new Set();

/** Ask for a name, and pull it. */
export async function askPull() {
  const control = h("input", { required: true, maxlength: 350, spellcheck: "false", autocapitalize: "off", placeholder: "qwen3:0.6b" });
  const help = "A short name such as qwen3:0.6b, a repository (org/repo, org/repo:Q8_0), or the address of its page on Hugging Face.";
  const name = await dialog("Pull a model", (close) =>
    h(
      "form",
      { class: "stack", on: { submit: (event) => (event.preventDefault(), close(control.value.trim() || null)) } },
      field("Name", control, help),
      h("div", { class: "row end" }, button("Cancel", () => close()), button("Pull", null, { kind: "primary", type: "submit" })),
    ),
  );
  if (name) pull(name);
}

/** Call `follow(pulls, isDone)` now and at each change; returns a function that ends it. */
export function followPulls(follow) {
  followers.add(follow);
  follow([...running.values()], false);
  return () => followers.delete(follow);
}

export function pullRow(one) {
  const { name, status, total, completed, speed, error, isDone } = one;
  const share = total ? completed / total : null;
  const bar = h("progress", { class: "progress", max: 1, value: isDone ? 1 : share, "aria-label": `Pulling ${name}` });
  const told = share === null ? null : [bytes(completed), " of ", bytes(total), " (", percent(share), ")", speed ? [", ", rate(speed / 2 ** 20, "MiB/s")] : null];
  const end = isDone || error ? iconButton("close", `Dismiss ${name}`, () => forget(one)) : button("Cancel", () => one.stop.abort());
  return card(
    null,
    h(
      "div",
      { class: "pull", data: { pull: name } },
      h("div", { class: "row apart" }, h("strong", { class: "ellipsis", title: name }, name), end),
      error ? notice("bad", error, button("Try again", () => (forget(one), pull(name)))) : isDone ? notice("good", "It is here, and served.") : [bar, h("p", { class: "small muted" }, status, told && [" · ", told])],
    ),
  );
}

async function pull(name) {
  if (running.has(name) && !running.get(name).error && !running.get(name).isDone) return;
  const one = { name, status: "asking", total: null, completed: null, speed: null, error: null, isDone: false, stop: new AbortController() };
  running.set(name, one);
  tell();
  try {
    await lines("/api/pull", { model: name, stream: true }, (line) => took(one, line), one.stop.signal);
    if (!one.isDone && !one.error) one.error = "The server ended before the pull did; what came is kept, and another try goes on from there.";
  } catch (error) {
    if (one.stop.signal.aborted) return forget(one);
    one.error = error.message;
  }
  tell(one.isDone);
}

function took(one, line) {
  if (line.error) one.error = line.error;
  else if (line.status === "success") one.isDone = true;
  else progress(one, line);
  tell();
}

function progress(one, { status, total = null, completed = null }) {
  const now = performance.now();
  if (status !== one.status || completed === null) one.from = { at: now, completed: completed ?? 0 };
  else if (now - one.from.at > 1000) {
    one.speed = ((completed - one.from.completed) / (now - one.from.at)) * 1000;
    one.from = { at: now, completed };
  }
  Object.assign(one, { status, total, completed });
}

function forget(one) {
  if (running.get(one.name) === one) running.delete(one.name);
  tell();
}

function tell(isDone = false) {
  for (const follow of followers) follow([...running.values()], isDone);
}

/** A tab that is closed ends its pulls: the browser asks first. */
addEventListener("beforeunload", (event) => {
  if ([...running.values()].some((one) => !one.isDone && !one.error)) event.preventDefault();
});
