// Anthropic's client for Node.

import { assert, cell, key, load, main, picture, raises, tool, untilIdle } from "./cells.mjs";

const Anthropic = load("@anthropic-ai/sdk").default;
const client = ({ url }) => new Anthropic({ baseURL: url, apiKey: "x", maxRetries: 0, timeout: 60_000 });
const user = (content) => [{ role: "user", content }];
const greedy = { max_tokens: 300, temperature: 0 };
const weather = { name: "get_weather", description: tool.function.description, input_schema: tool.function.parameters };
const textOf = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");

cell("chat", async (at) => {
  const message = await client(at).messages.create({ model: at.model, messages: user(at.subject.ask), ...greedy });
  assert.deepEqual([textOf(message), message.stop_reason], [at.subject.answer, "end_turn"]);
});

cell("chat, streamed", async (at) => {
  const kinds = [];
  const events = await client(at).messages.create({
    model: at.model, messages: user(at.subject.ask), stream: true, ...greedy,
  });
  for await (const event of events) kinds.push(event.type);
  assert.deepEqual([kinds[0], kinds.at(-1)], ["message_start", "message_stop"]);
});

cell("the stream helper", async (at) => {
  const stream = client(at).messages.stream({ model: at.model, messages: user(at.subject.weather), tools: [weather], ...greedy });
  const final = await stream.finalMessage();
  const use = final.content.find((block) => block.type === "tool_use");
  assert.deepEqual([use.name, use.input, final.stop_reason], ["get_weather", { city: "Paris" }, "tool_use"]);
});

cell("tools: auto, and their results", async (at) => {
  const asked = { model: at.model, tools: [weather], ...greedy };
  const first = await client(at).messages.create({ messages: user(at.subject.weather), ...asked });
  const use = first.content.find((block) => block.type === "tool_use");
  const result = { type: "tool_result", tool_use_id: use.id, content: at.subject.observed };
  const messages = [...user(at.subject.weather), { role: "assistant", content: first.content }, ...user([result])];
  assert(textOf(await client(at).messages.create({ messages, ...asked })).includes(at.subject.told));
});

cell("tools: required and named", async (at) => {
  for (const tool_choice of [{ type: "any" }, { type: "tool", name: "get_weather" }]) {
    const message = await client(at).messages.create({
      model: at.model, messages: user("Hello"), tools: [weather], tool_choice, ...greedy,
    });
    assert.equal(message.content.find((block) => block.type === "tool_use").name, "get_weather");
  }
});

cell("structured output", async (at) => {
  const schema = { ...tool.function.parameters };
  const message = await client(at).messages.create({
    model: at.model, messages: user(at.subject.person), output_config: { format: { type: "json_schema", schema } }, ...greedy,
  });
  assert.equal(typeof JSON.parse(textOf(message)).city, "string");
});

cell("images", async (at) => {
  const source = { type: "base64", media_type: "image/png", data: picture };
  const content = [{ type: "image", source }, { type: "text", text: at.subject.see }];
  const message = await client(at).messages.create({ model: at.subject.seeing, messages: user(content), ...greedy });
  assert(textOf(message).includes(at.subject.seen));
});

cell("stop and max_tokens", async (at) => {
  const [stop, before] = at.subject.stopped;
  const message = await client(at).messages.create({
    model: at.model, messages: user(at.subject.ask), stop_sequences: [stop], ...greedy,
  });
  assert.deepEqual([textOf(message), message.stop_sequence], [before, stop]);
});

cell("thinking", async (at) => {
  const message = await client(at).messages.create({
    model: at.model, messages: user(at.subject.think), max_tokens: 2000, thinking: { type: "enabled", budget_tokens: 1024 },
  });
  assert.equal(message.content[0].type, "thinking");
  assert.equal(textOf(message).trim(), at.subject.thought);
});

cell("token counts", async (at) => {
  const asked = { model: at.model, messages: user(at.subject.ask), tools: [weather] };
  const { input_tokens } = await client(at).messages.countTokens(asked);
  const { usage } = await client(at).messages.create({ ...asked, ...greedy });
  assert.equal(input_tokens, usage.input_tokens + (usage.cache_read_input_tokens ?? 0));
});

cell("list models", async (at) => {
  const names = [];
  for await (const model of client(at).models.list({ limit: 2 })) names.push(model.id);
  assert(names.includes(at.model));
});

cell("errors in the client's classes", async (at) => {
  const create = (fields) => client(at).messages.create({ model: at.model, max_tokens: 9, messages: user("x"), ...fields });
  await raises(create({ model: "nope" }), Anthropic.NotFoundError, /nope/);
  await raises(create({ messages: [] }), Anthropic.BadRequestError);
  await raises(create({ messages: user("word ".repeat(9000)) }), Anthropic.BadRequestError, /prompt is too long/);
});

cell("a key where one is wanted", async (at) => {
  const list = (apiKey) => new Anthropic({ baseURL: at.locked, apiKey, maxRetries: 0 }).models.list();
  await raises(list("wrong"), Anthropic.AuthenticationError);
  assert((await list(key)).data.length);
});

cell("leaving in mid-stream", async (at) => {
  const stream = client(at).messages.stream({ model: at.subject.long, max_tokens: 2000, messages: user(at.subject.count) });
  for await (const event of stream) if (event.type === "content_block_delta") break;
  stream.abort();
  await untilIdle(at);
});

await main("@anthropic-ai/sdk");
