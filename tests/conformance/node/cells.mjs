// What a cell is, for clients that run on Node: the same as in cells.py.
//
// node CLIENT.mjs URL LOCKED_URL [FEATURE]   prints a line of JSON for each cell

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const CELL_MILLISECONDS = 120_000;
const { subjects, key, tool, picture } = JSON.parse(process.env.CONFORMANCE_SUBJECTS);
export { assert, key, tool, picture };

/** A package of the matrix's own node_modules. */
export const load = createRequire(path.join(process.env.CONFORMANCE_NODE, "package.json"));
const cells = new Map();

/** Register a cell of a feature: a function of {url, locked, v1, model, subject}. */
export const cell = (feature, run) => cells.set(feature, run);

/** The refusal that a cell asserted; its message is the reason. */
export class RefusedByDesign extends Error {}

/** The error that a promise must end in. */
export async function raises(promise, kind, words = /./) {
  try {
    await promise;
  } catch (error) {
    assert(error instanceof kind, `${error} is no ${kind.name}`);
    assert.match(String(error.message), words);
    return error;
  }
  assert.fail("no error was raised");
}

/** Return once no request is in flight; the cell's time limit bounds it. */
export async function untilIdle({ url }) {
  while ((await (await fetch(`${url}/v1/requests`)).json()).data.length);
}

async function outcome(run, at) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${CELL_MILLISECONDS} ms`)), CELL_MILLISECONDS);
  });
  try {
    await Promise.race([run(at), late]);
    return ["pass", ""];
  } catch (error) {
    return error instanceof RefusedByDesign ? ["refused", error.message] : ["fail", String(error.stack ?? error)];
  } finally {
    clearTimeout(timer);
  }
}

/** Run every cell at every subject. */
export async function main(name) {
  const [url, locked, only] = process.argv.slice(2);
  const { readFileSync } = await import("node:fs");
  const manifest = path.join(process.env.CONFORMANCE_NODE, "node_modules", name, "package.json");
  const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
  say({ version: JSON.parse(readFileSync(manifest)).version });
  for (const subject of subjects) {
    const at = { url, locked, v1: `${url}/v1`, model: subject.model, subject };
    for (const [feature, run] of cells) {
      if (!only || only === feature) say([subject.provider, feature, ...(await outcome(run, at))]);
    }
  }
  process.exit(0);
}
