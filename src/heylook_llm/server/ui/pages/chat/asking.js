// One answer: the request that a conversation makes, and its stream folded into text, reasoning, calls and measures.

import { events, get } from "../../lib/api.js";

/** The settings of a conversation that are numbers, as a request names them. */
export const SAMPLERS = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "max_tokens", "seed", "reasoning_budget"];
const WAITING_PAUSE = 700;

/** An answer to which nothing has come yet. */
export function begun(model) {
  return { model, text: "", reasoning: "", calls: [], finish: "", error: "", request: "", measured: null };
}

/**
 * Ask for the answer that comes behind `turns`, and fill `answer` with it; `change()` is called at each piece, and
 * `wait(text)` with what is being waited for. Ends normally when `signal` stops it.
 */
export async function ask(conversation, turns, answer, { change, wait, signal }) {
  const waiting = watch(conversation.model, wait, signal);
  const begin = performance.now();
  try {
    await events(
      "/v1/chat/completions",
      bodyOf(conversation, turns),
      (chunk) => {
        waiting.end();
        fold(answer, chunk, performance.now() - begin);
        change();
      },
      signal,
      (headers) => {
        answer.request = headers.get("x-request-id") ?? "";
      },
    );
    if (!answer.finish) answer.error = "The answer broke off: the server ended it without a reason.";
  } catch (error) {
    if (!signal.aborted) answer.error = error.message;
    else stopped(answer, performance.now() - begin);
  } finally {
    waiting.end();
    change();
  }
}

/** The tools of the settings' text: a list as OpenAI's, or of bare functions. Throws what is wrong with it. */
export function toolsOf(text) {
  if (!text.trim()) return [];
  let given;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new Error(`This isn't JSON: ${error.message}`);
  }
  const tools = Array.isArray(given) ? given : [given];
  return tools.map((tool) => {
    const spec = tool?.type === "function" && tool.function ? tool.function : tool;
    if (typeof spec?.name !== "string" || !/^[A-Za-z0-9_.-]{1,64}$/.test(spec.name)) {
      throw new Error("Each tool needs a name of letters, digits, '_', '.' and '-'.");
    }
    return { type: "function", function: spec };
  });
}

/** The request's body. */
function bodyOf({ model, settings }, turns) {
  const body = { model, messages: messagesOf(settings, turns), stream: true, stream_options: { include_usage: true }, include_performance: true, timings_per_token: true };
  for (const name of SAMPLERS) if (typeof settings[name] === "number") body[name] = settings[name];
  const stop = (settings.stop ?? "").split("\n").filter(Boolean);
  if (stop.length) body.stop = stop;
  if (settings.thinking) body.think = settings.thinking === "on";
  const tools = toolsOf(settings.tools ?? "");
  if (tools.length) body.tools = tools;
  if (tools.length && settings.tool_choice) body.tool_choice = settings.tool_choice;
  return body;
}

function messagesOf(settings, turns) {
  const system = settings.system?.trim() ? [{ role: "system", content: settings.system }] : [];
  return [...system, ...turns.map(messageOf)];
}

function messageOf(turn) {
  if (turn.role === "tool") return { role: "tool", tool_call_id: turn.call, content: turn.text };
  if (turn.role === "assistant") return spoken(turn.answers[turn.chosen]);
  if (!turn.images.length) return { role: "user", content: turn.text };
  const pictures = turn.images.map((image) => ({ type: "image_url", image_url: { url: image.url } }));
  return { role: "user", content: turn.text ? [...pictures, { type: "text", text: turn.text }] : pictures };
}

function spoken(answer) {
  if (!answer.calls.length) return { role: "assistant", content: answer.text };
  const calls = answer.calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments || "{}" } }));
  // What a model thought belongs to the calls that it made of it.
  const thought = answer.reasoning ? { reasoning_content: answer.reasoning } : {};
  return { role: "assistant", content: answer.text, ...thought, tool_calls: calls };
}

// ---- the stream -----------------------------------------------------------------------------------------------------

function fold(answer, chunk, elapsed) {
  if (chunk.error) throw new Error(chunk.error.message ?? "The answer failed.");
  const choice = chunk.choices?.[0];
  if (choice?.delta) foldDelta(answer, choice.delta);
  if (choice?.finish_reason) {
    answer.finish = choice.finish_reason;
    answer.measured = measures(chunk);
  } else if (chunk.timings) {
    answer.measured = soFar(chunk.timings, elapsed, answer.measured);
  }
}

function foldDelta(answer, delta) {
  answer.text += delta.content ?? "";
  answer.reasoning += delta.reasoning_content ?? "";
  for (const piece of delta.tool_calls ?? []) {
    const call = (answer.calls[piece.index] ??= { id: "", name: "", arguments: "" });
    call.id ||= piece.id ?? "";
    call.name ||= piece.function?.name ?? "";
    call.arguments += piece.function?.arguments ?? "";
  }
}

/** What is kept of the server's measures, in milliseconds and tokens; null is what did not happen. */
function measures({ performance: told = {}, timings = {} }) {
  return {
    load_ms: told.load_ms ?? null,
    queued_ms: told.queued_ms ?? null,
    admitted_ms: told.admitted_ms ?? null,
    first_token_ms: told.first_token_ms ?? null,
    last_token_ms: told.last_token_ms ?? null,
    ...engine(timings),
  };
}

function engine(timings) {
  return {
    prompt_tokens: (timings.prompt_n ?? 0) + (timings.cache_n ?? 0),
    cached_tokens: timings.cache_n ?? null,
    output_tokens: timings.predicted_n ?? null,
    prompt_per_second: timings.prompt_per_second ?? null,
    output_per_second: timings.predicted_per_second ?? null,
  };
}

/**
 * The same while it goes on, for an answer that ends before the server's account of it comes: the engine's times of prompt
 * and tokens, laid behind the first of them as this browser saw it come. `until_ms` marks it: how far that account goes.
 */
function soFar(timings, elapsed, before) {
  const first = before?.first_token_ms ?? elapsed;
  const last = first + (timings.predicted_ms ?? 0);
  const admitted = Math.max(0, first - (timings.prompt_ms ?? 0));
  return { ...unmeasured(), admitted_ms: admitted, first_token_ms: first, last_token_ms: last, ...engine(timings), until_ms: elapsed };
}

function stopped(answer, elapsed) {
  answer.finish = "stopped";
  answer.measured = { ...(answer.measured ?? unmeasured()), until_ms: elapsed };
}

/** Of an answer of which nothing came. */
function unmeasured() {
  return { load_ms: null, queued_ms: null, admitted_ms: null, first_token_ms: null, last_token_ms: null, ...engine({}), until_ms: 0 };
}

// ---- what it waits for -------------------------------------------------------------------------------------------------

/** Tell what a request waits for, as /health says, until its first piece comes. */
function watch(model, wait, signal) {
  let timer = null;
  let ended = false;
  async function look() {
    const told = await get("/health", signal).catch(() => null);
    if (ended) return;
    const state = told?.models?.[model];
    if (state) wait(words(model, state));
    timer = setTimeout(look, WAITING_PAUSE);
  }
  timer = setTimeout(look, WAITING_PAUSE);
  return {
    end() {
      ended = true;
      clearTimeout(timer);
    },
  };
}

function words(model, { state, load_fraction: part, queued }) {
  if (state === "loading") return `Loading ${model}${part === undefined ? "" : `, ${Math.round(part * 100)} %`}`;
  if (queued > 1) return `Waiting behind ${queued - 1} ${queued === 2 ? "request" : "requests"}`;
  if (state === "unloaded") return `Waiting for a place for ${model}`;
  return "Reading the conversation";
}
