// The server's routes. What fails throws ApiError with the server's own words; a missing key is asked for once.

import { carried } from "./carried.js";
import { askKey, key, keyHeaders } from "./key.js";

/** A request that failed: `status` is 0 where no answer came. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

export const get = (path, signal) => whole("GET", path, undefined, signal);
export const post = (path, body, signal) => whole("POST", path, body, signal);
export const put = (path, body, signal) => whole("PUT", path, body, signal);
export const patch = (path, body, signal) => whole("PATCH", path, body, signal);
export const remove = (path, signal) => whole("DELETE", path, undefined, signal);

/** A request whose answer is NDJSON: `onLine(value)` for each line. */
export async function lines(path, body, onLine, signal) {
  const { text } = await streamed(path, body, signal);
  for await (const line of textLines(text)) if (line.trim()) onLine(JSON.parse(line));
}

/**
 * A request whose answer is an event stream: `onEvent(data)`, data being the JSON's value, or the text where it isn't
 * JSON. `onOpen(headers)` is called before the first event.
 */
export async function events(path, body, onEvent, signal, onOpen = () => {}) {
  const { headers, text } = await streamed(path, body, signal);
  onOpen(headers);
  let data = [];
  for await (const line of textLines(text)) {
    if (line === "") {
      if (data.length) onEvent(parsed(data.join("\n")));
      data = [];
    } else {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") data.push(value);
    }
  }
}

/** The answer as it came: for downloads. */
export function fetched(path) {
  return asked("GET", path);
}

async function whole(method, path, body, signal) {
  const response = await asked(method, path, body, signal);
  const text = await response.text();
  return text === "" ? null : parsed(text);
}

/** An answer that comes piece by piece: `{headers, text}`. Where no WebSocket opens, a request says why, or does it. */
async function streamed(path, body, signal) {
  const answer = await carried(path, body, signal).catch(unanswered);
  if (answer === null) {
    const response = await asked("POST", path, body, signal);
    return { headers: response.headers, text: response.body.pipeThrough(new TextDecoderStream()) };
  }
  if (answer.status < 400) return answer;
  let told = "";
  for await (const line of textLines(answer.text)) told += `${line}\n`;
  throw failure(answer.status, told);
}

async function asked(method, path, body, signal) {
  for (;;) {
    const used = key();
    const response = await sent(method, path, body, signal);
    if (response.ok) return response;
    const failed = failure(response.status, await response.text().catch(() => ""));
    if (failed.status !== 401) throw failed;
    if (key() === used && !(await askKey(failed.message))) throw failed;
  }
}

async function sent(method, path, body, signal) {
  const headers = { accept: "application/json, */*;q=0.5", ...keyHeaders() };
  if (body !== undefined) headers["content-type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body: JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    return unanswered(error);
  }
}

function unanswered(error) {
  if (error.name === "AbortError") throw error;
  throw new ApiError(0, "The server doesn't answer. Is it still running?");
}

/** What an answer that is no success says. */
function failure(status, text) {
  const body = parsed(text);
  const told = body?.error ?? body;
  const message = typeof told === "string" ? told : (told?.message ?? `The server answered ${status}.`);
  return new ApiError(status, message.slice(0, 4000));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function* textLines(text) {
  const reader = text.getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      const parts = (rest + (value ?? "")).split(/\r?\n/);
      rest = parts.pop();
      yield* parts;
      if (done) break;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}
