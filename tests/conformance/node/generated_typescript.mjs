// A TypeScript client that openapi-typescript makes of /openapi.json: it compiles, chats, lists and tells errors.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { assert, cell, main } from "./cells.mjs";

const home = process.env.CONFORMANCE_NODE;
const folder = path.join(home, "generated");
const bin = (name) => path.join(home, "node_modules", ".bin", name);

/** The compiled client, of the server's own document. */
async function generated(url) {
  mkdirSync(folder, { recursive: true });
  copyFileSync(fileURLToPath(new URL("generated_client.ts", import.meta.url)), path.join(folder, "client.ts"));
  const document = await (await fetch(`${url}/openapi.json`)).text();
  writeFileSync(path.join(folder, "openapi.json"), document);
  const quiet = { cwd: folder, stdio: ["ignore", "pipe", "pipe"] };
  // Without the option a field with a default counts as one that must be sent.
  const generating = ["openapi.json", "-o", "schema.d.ts", "--default-non-nullable=false"];
  execFileSync(bin("openapi-typescript"), generating, quiet);
  const options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
  try {
    execFileSync(bin("tsc"), [...options, "client.ts", "schema.d.ts"], quiet);
  } catch (error) {
    throw new Error(String(error.stdout));
  }
  return import(path.join(folder, "client.js"));
}

let made;
const client = async (at) => {
  made ??= generated(at.url);
  const its = await made;
  return [its, its.clientOf(at.url)];
};

cell("it compiles under tsc --strict", async (at) => {
  assert((await client(at))[0].chat);
});

cell("chat", async (at) => {
  const [its, made] = await client(at);
  assert((await its.chat(made, at.model, at.subject.ask)).includes(at.subject.answer));
});

cell("chat by Ollama's and Anthropic's API", async (at) => {
  const [its, made] = await client(at);
  assert((await its.ollamaChat(made, at.model, at.subject.ask)).includes(at.subject.answer));
  assert((await its.message(made, at.model, at.subject.ask)).includes(at.subject.answer));
});

cell("list models", async (at) => {
  const [its, made] = await client(at);
  assert((await its.models(made)).includes(at.model));
});

cell("errors in the client's classes", async (at) => {
  const [its, made] = await client(at);
  assert.equal(await its.statusOf(made, "nope"), 404);
  await assert.rejects(its.chat(made, "nope", "x"), /model_not_found/);
});

await main("openapi-typescript");
