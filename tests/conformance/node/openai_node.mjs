// OpenAI's client for Node.

import { assert, cell, key, load, main, picture, raises, tool, untilIdle } from "./cells.mjs";

const OpenAI = load("openai").default;
const client = ({ v1 }) => new OpenAI({ baseURL: v1, apiKey: "x", maxRetries: 0, timeout: 60_000 });
const user = (content) => [{ role: "user", content }];
const greedy = { temperature: 0, max_tokens: 300 };
const schema = {
  type: "object",
  properties: { name: { type: "string" }, city: { type: "string" } },
  required: ["name", "city"],
  additionalProperties: false,
};

cell("chat", async (at) => {
  const reply = await client(at).chat.completions.create({ model: at.model, messages: user(at.subject.ask), ...greedy });
  assert.equal(reply.choices[0].message.content, at.subject.answer);
  assert.equal(reply.choices[0].finish_reason, "stop");
});

cell("chat, streamed", async (at) => {
  const chunks = await client(at).chat.completions.create({
    model: at.model, messages: user(at.subject.ask), stream: true, stream_options: { include_usage: true }, ...greedy,
  });
  let said = "", last;
  for await (const chunk of chunks) {
    said += chunk.choices[0]?.delta?.content ?? "";
    last = chunk;
  }
  assert.equal(said, at.subject.answer);
  assert(last.usage.total_tokens > 0);
});

cell("the stream helper", async (at) => {
  const runner = client(at).chat.completions.stream({
    model: at.model, messages: user(at.subject.weather), tools: [tool], ...greedy,
  });
  const [call] = (await runner.finalMessage()).tool_calls;
  assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["get_weather", { city: "Paris" }]);
});

cell("tools: auto, and their results", async (at) => {
  const asked = { model: at.model, tools: [tool], ...greedy };
  const made = client(at);
  const { message } = (await made.chat.completions.create({ messages: user(at.subject.weather), ...asked })).choices[0];
  const [call] = message.tool_calls;
  const result = { role: "tool", tool_call_id: call.id, content: at.subject.observed };
  const messages = [...user(at.subject.weather), message, result];
  const again = await made.chat.completions.create({ messages, ...asked });
  assert(again.choices[0].message.content.includes(at.subject.told));
});

cell("a function that the client runs", async (at) => {
  const cities = [];
  const runs = {
    ...tool,
    function: { ...tool.function, parse: JSON.parse, function: ({ city }) => (cities.push(city), at.subject.observed) },
  };
  const runner = client(at).chat.completions.runTools({
    model: at.model, messages: user(at.subject.weather), tools: [runs], ...greedy,
  });
  assert((await runner.finalContent()).includes(at.subject.told));
  assert.deepEqual(cities, ["Paris"]);
});

cell("tools: required and named", async (at) => {
  for (const tool_choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
    const reply = await client(at).chat.completions.create({
      model: at.model, messages: user("Hello"), tools: [tool], tool_choice, parallel_tool_calls: false, ...greedy,
    });
    assert.equal(reply.choices[0].message.tool_calls[0].function.name, "get_weather");
  }
});

cell("structured output", async (at) => {
  const reply = await client(at).chat.completions.parse({
    model: at.model,
    messages: user(at.subject.person),
    response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } },
    ...greedy,
  });
  assert.equal(typeof JSON.parse(reply.choices[0].message.content).city, "string");
});

cell("images", async (at) => {
  const content = [
    { type: "image_url", image_url: { url: `data:image/png;base64,${picture}` } },
    { type: "text", text: at.subject.see },
  ];
  const reply = await client(at).chat.completions.create({
    model: at.subject.seeing, messages: user(content), ...greedy,
  });
  assert(reply.choices[0].message.content.includes(at.subject.seen));
});

cell("embeddings", async (at) => {
  const input = ["Paris is in France.", "7 is a number."];
  const packed = await client(at).embeddings.create({ model: at.model, input });
  const plain = await client(at).embeddings.create({ model: at.model, input, encoding_format: "float" });
  packed.data.forEach(({ embedding }, row) =>
    embedding.forEach((x, column) => assert(Math.abs(x - plain.data[row].embedding[column]) < 1e-6)));
});

cell("log probabilities", async (at) => {
  const reply = await client(at).chat.completions.create({
    model: at.model, messages: user(at.subject.ask), logprobs: true, top_logprobs: 2, ...greedy,
  });
  assert(reply.choices[0].logprobs.content.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));
});

cell("stop and max_tokens", async (at) => {
  const [stop, before] = at.subject.stopped;
  const reply = await client(at).chat.completions.create({
    model: at.model, messages: user(at.subject.ask), stop, ...greedy,
  });
  assert.equal(reply.choices[0].message.content, before);
});

cell("legacy completions", async (at) => {
  const reply = await client(at).completions.create({ model: at.model, prompt: "1, 2, 3,", max_tokens: 4 });
  assert.equal(reply.object, "text_completion");
});

cell("list models", async (at) => {
  const names = [];
  for await (const model of client(at).models.list()) names.push(model.id);
  assert(names.includes(at.model));
  assert.equal((await client(at).models.retrieve("org/name:tag")).id, "org/name:tag");
});

cell("errors in the client's classes", async (at) => {
  const create = (fields) => client(at).chat.completions.create({ model: at.model, messages: user("x"), ...fields });
  const unknown = await raises(create({ model: "nope" }), OpenAI.NotFoundError, /not found/);
  assert.deepEqual([unknown.code, unknown.param], ["model_not_found", "model"]);
  assert.equal((await raises(create({ temperature: "hot" }), OpenAI.BadRequestError)).param, "temperature");
  const long = await raises(create({ messages: user("word ".repeat(9000)) }), OpenAI.BadRequestError);
  assert.equal(long.code, "context_length_exceeded");
});

cell("a key where one is wanted", async (at) => {
  const list = (apiKey) => new OpenAI({ baseURL: `${at.locked}/v1`, apiKey, maxRetries: 0 }).models.list();
  await raises(list("wrong"), OpenAI.AuthenticationError);
  assert((await list(key)).data.length);
});

cell("leaving in mid-stream", async (at) => {
  const chunks = await client(at).chat.completions.create({
    model: at.subject.long, messages: user(at.subject.count), max_tokens: 2000, stream: true,
  });
  for await (const _ of chunks) break;
  chunks.controller.abort();
  await untilIdle(at);
});

const brief = { temperature: 0, max_output_tokens: 300 };

cell("responses", async (at) => {
  const asked = { model: at.model, input: at.subject.ask, ...brief };
  const made = client(at);
  const first = await made.responses.create(asked);
  assert.equal(first.output_text, at.subject.answer);
  assert.equal((await made.responses.retrieve(first.id)).output_text, first.output_text);
  const after = await made.responses.create({ ...asked, previous_response_id: first.id });
  assert(after.usage.input_tokens > first.usage.input_tokens);
});

cell("responses, streamed", async (at) => {
  const runner = client(at).responses.stream({ model: at.model, input: at.subject.ask, ...brief });
  const kinds = [];
  for await (const event of runner) kinds.push(event.type);
  assert.deepEqual([kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
  assert.equal((await runner.finalResponse()).output_text, at.subject.answer);
});

cell("responses: tools and their results", async (at) => {
  const asked = { model: at.model, tools: [{ type: "function", strict: false, ...tool.function }], ...brief };
  const first = await client(at).responses.create({ input: at.subject.weather, ...asked });
  const call = first.output.find((item) => item.type === "function_call");
  assert.deepEqual([call.name, JSON.parse(call.arguments)], ["get_weather", { city: "Paris" }]);
  const result = { type: "function_call_output", call_id: call.call_id, output: at.subject.observed };
  const input = [{ role: "user", content: at.subject.weather }, ...first.output, result];
  assert((await client(at).responses.create({ input, ...asked })).output_text.includes(at.subject.told));
});

cell("files and batches", async (at) => {
  const made = client(at);
  const body = { model: at.model, messages: user(at.subject.ask), ...greedy };
  const line = JSON.stringify({ custom_id: "one", method: "POST", url: "/v1/chat/completions", body });
  const file = await made.files.create({ file: new File([line], "in.jsonl"), purpose: "batch" });
  const asked = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
  let batch = await made.batches.create(asked);
  while (["validating", "in_progress", "finalizing"].includes(batch.status)) batch = await made.batches.retrieve(batch.id);
  assert.equal(batch.status, "completed");
  const told = JSON.parse(await (await made.files.content(batch.output_file_id)).text());
  assert.equal(told.response.body.choices[0].message.content, at.subject.answer);
  assert((await made.files.delete(file.id)).deleted);
});

await main("openai");
