// What can be done with a model. Each says what came of it, and has the list told anew.

import { post, remove } from "../../lib/api.js";
import { bytes, count } from "../../lib/format.js";
import { confirm, prompt, toast } from "../../lib/parts.js";

/** A model's id in the path of a route, where its slashes stand for themselves. */
export function inPath(id) {
  return id.split("/").map(encodeURIComponent).join("/");
}

export function actionsOf(model, reload) {
  const path = `/v1/models/${inPath(model.id)}`;
  const done = (act) => async () => {
    try {
      await act();
    } catch (error) {
      toast(error.message, "bad");
    }
    await reload();
  };
  return {
    load: done(() => {
      setTimeout(reload, 50); // its progress is shown meanwhile
      return post(`${path}/load`, {});
    }),
    loadWith: done(() => loadWith(model, path)),
    unload: done(() => unload(model, path)),
    pin: done(() => post(`${path}/pin`, { pinned: !model.pinned })),
    flush: done(() => flush(path)),
    remove: done(() => removed(model, path)),
  };
}

async function loadWith(model, path) {
  const text = await prompt("Load with another context", "Tokens that one request may use", String(model.n_ctx ?? model.context_length ?? ""), "Load");
  if (text !== null) await post(`${path}/load`, { n_ctx: Number(text) });
}

async function unload(model, path) {
  const busy = model.in_flight + model.queued;
  if (!busy) return post(`${path}/unload`, {});
  const text = `${busy === 1 ? "1 request is" : `${count(busy)} requests are`} being answered. Ended now, they get an error; else it is unloaded once they are done.`;
  const now = await confirm(`Unload ${model.id} now?`, text, "End them");
  return post(`${path}/unload`, { force: now });
}

async function flush(path) {
  const { flushed_tokens: tokens, flushed_saved_bytes: saved } = await remove(`${path}/cache`);
  toast(tokens || saved ? `Dropped ${count(tokens)} tokens of prefixes${saved ? `, and ${bytes(saved)} that were saved` : ""}` : "It kept no prefixes");
}

async function removed(model, path) {
  const text = "It is taken out of the registry. Files that a pull brought are deleted; those that you put somewhere stay.";
  if (!(await confirm(`Delete ${model.id}?`, text, "Delete"))) return;
  await remove(path);
  toast(`${model.id} was deleted`, "good");
}
