// Ollama's client for Node.

import { assert, cell, load, main, picture, raises, tool, untilIdle } from "./cells.mjs";

const { Ollama } = load("ollama");
const client = ({ url }) => new Ollama({ host: url });
const user = (content, more = {}) => [{ role: "user", content, ...more }];
const greedy = { options: { temperature: 0, num_predict: 300 }, think: false };
const schema = {
  type: "object",
  properties: { name: { type: "string" }, city: { type: "string" } },
  required: ["name", "city"],
};

cell("chat", async (at) => {
  const reply = await client(at).chat({ model: at.model, messages: user(at.subject.ask), ...greedy });
  assert.equal(reply.message.content, at.subject.answer);
  assert(reply.eval_count > 0 && reply.eval_duration > 0);
});

cell("chat, streamed", async (at) => {
  let said = "", last;
  for await (const part of await client(at).chat({
    model: at.model, messages: user(at.subject.ask), stream: true, ...greedy,
  })) {
    said += part.message.content;
    last = part;
  }
  assert.deepEqual([said, last.done, last.done_reason], [at.subject.answer, true, "stop"]);
});

cell("generate", async (at) => {
  const reply = await client(at).generate({ model: at.model, prompt: at.subject.ask, ...greedy });
  assert.equal(reply.response, at.subject.answer);
});

cell("tools: auto, and their results", async (at) => {
  const asked = { model: at.model, tools: [tool], ...greedy };
  const { message } = await client(at).chat({ messages: user(at.subject.weather), ...asked });
  assert.deepEqual(message.tool_calls[0].function.arguments, { city: "Paris" });
  const result = { role: "tool", tool_name: "get_weather", content: at.subject.observed };
  const again = await client(at).chat({ messages: [...user(at.subject.weather), message, result], ...asked });
  assert(again.message.content.includes(at.subject.told));
});

cell("structured output", async (at) => {
  const reply = await client(at).chat({ model: at.model, messages: user(at.subject.person), format: schema, ...greedy });
  assert.equal(typeof JSON.parse(reply.message.content).city, "string");
});

cell("images", async (at) => {
  const messages = user(at.subject.see, { images: [picture] });
  const reply = await client(at).chat({ model: at.subject.seeing, messages, ...greedy });
  assert(reply.message.content.includes(at.subject.seen));
});

cell("embeddings", async (at) => {
  const { embeddings } = await client(at).embed({ model: at.model, input: ["Paris is in France.", "7 is a number."] });
  assert.equal(embeddings.length, 2);
});

cell("thinking", async (at) => {
  const asked = { model: at.model, messages: user(at.subject.think), ...greedy, think: true };
  const { message } = await client(at).chat(asked);
  assert.equal(message.content.trim(), at.subject.thought);
  assert(message.thinking.trim());
});

cell("stop and max_tokens", async (at) => {
  const [stop, before] = at.subject.stopped;
  const options = { temperature: 0, stop: [stop] };
  const reply = await client(at).chat({ model: at.model, messages: user(at.subject.ask), think: false, options });
  assert.equal(reply.message.content, before);
});

cell("list models", async (at) => {
  const listed = (await client(at).list()).models.map((model) => model.model);
  assert(listed.includes(`${at.model}:latest`));
  assert((await client(at).show({ model: at.model })).capabilities.includes("tools"));
  assert((await client(at).version()).version);
  await client(at).ps();
});

cell("errors in the client's classes", async (at) => {
  const unknown = await raises(client(at).chat({ model: "nope", messages: user("x") }), Error, /'nope' not found/);
  assert.equal(unknown.status_code, 404);
  const wrong = client(at).generate({ model: at.model, prompt: "x", options: { temperature: "hot" } });
  assert.equal((await raises(wrong, Error, /must be of type float32/)).status_code, 400);
});

cell("a key where one is wanted", async (at) => {
  assert.equal((await raises(new Ollama({ host: at.locked }).list(), Error)).status_code, 401);
});

cell("leaving in mid-stream", async (at) => {
  const asked = { model: at.subject.long, messages: user(at.subject.count), stream: true, think: false };
  const parts = await client(at).chat(asked);
  for await (const _ of parts) break;
  parts.abort();
  await untilIdle(at);
});

cell("create, show, copy, delete", async (at) => {
  const [name, other] = [`made-by-node-${at.model}`, `copied-by-node-${at.model}`];
  const made = client(at);
  const steps = await made.create({ model: name, from: at.model, system: "Be brief.", stream: true });
  let last;
  for await (const step of steps) last = step.status;
  assert.equal(last, "success");
  const shown = await made.show({ model: name });
  assert.deepEqual([shown.system, shown.details.parent_model], ["Be brief.", at.model]);
  assert.equal((await made.copy({ source: name, destination: other })).status, "success");
  const reply = await made.chat({ model: other, messages: user(at.subject.ask), ...greedy });
  assert.equal(reply.message.content, at.subject.answer);
  for (const one of [name, other]) {
    await made.delete({ model: one });
    assert.equal((await raises(made.show({ model: one }), Error, /not found/)).status_code, 404);
  }
});

cell("load, ps and unload", async (at) => {
  const made = client(at);
  const running = async () => (await made.ps()).models.map((model) => model.model);
  assert.equal((await made.generate({ model: at.model, keep_alive: "5m" })).done_reason, "load");
  assert((await running()).includes(`${at.model}:latest`));
  assert.equal((await made.generate({ model: at.model, keep_alive: 0 })).done_reason, "unload");
  assert(!(await running()).includes(`${at.model}:latest`));
});

await main("ollama");
