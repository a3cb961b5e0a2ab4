// What can be done with a run, and how its state looks; the same in the history and on a run's own page.

import { post, remove } from "../../lib/api.js";
import { badge, confirm, toast } from "../../lib/parts.js";

const KINDS = { done: "good", failed: "bad", running: "accent", queued: "", pending: "", cancelled: "warn", interrupted: "warn" };
const GOING = new Set(["pending", "queued", "running"]);
const RESUMED = new Set(["failed", "cancelled", "interrupted", "pending"]);

export const pathOf = (run, rest = "") => `/v1/bench/runs/${encodeURIComponent(run.id)}${rest}`;
export const pageOf = (run) => `/ui/bench/runs/${encodeURIComponent(run.id)}`;
export const isGoing = (run) => GOING.has(run.state) && !(run.state === "pending" && run.place === null);
export const canResume = (run) => RESUMED.has(run.state);

/** What a run is called: its name, else the end of its id. */
export function nameOf(run) {
  return run.name ?? run.id.slice(-8).toLowerCase();
}

/** Its state as a badge. */
export function stateBadge(run) {
  return badge(run.state, KINDS[run.state] ?? "");
}

/** Do something with a run and say so; resolves to whether it was done. */
async function act(what, said) {
  try {
    await what();
    toast(said, "good");
    return true;
  } catch (error) {
    toast(error.message, "bad");
    return false;
  }
}

export const cancelRun = (run) => act(() => post(pathOf(run, "/cancel")), `${nameOf(run)} ends; what it has is kept`);
export const resumeRun = (run) => act(() => post(pathOf(run, "/resume")), `${nameOf(run)} goes on`);

export async function deleteRun(run) {
  const text = `The run and its ${run.samples} samples can't be had back.`;
  return (await confirm(`Delete ${nameOf(run)}?`, text, "Delete")) && act(() => remove(pathOf(run)), "Deleted");
}
