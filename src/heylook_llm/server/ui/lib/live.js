// One WebSocket that stays: it reconnects with growing pauses and goes on behind the last message that was read.

import { get } from "./api.js";
import { keyProtocols } from "./key.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

/**
 * Follow a path of ours; returns a function that ends it. `onMessage(value)` for each message; one with an `id` is
 * where the next connection goes on, by `?after=`. `onState("connecting" | "open" | "waiting" | "closed")`.
 */
export function live(path, onMessage, onState = () => {}) {
  let socket = null;
  let timer = null;
  let pause = FIRST_PAUSE;
  let last = null;
  let ended = false;

  function connect() {
    onState("connecting");
    let opened = false;
    socket = new WebSocket(address(path, last), keyProtocols());
    socket.onopen = () => {
      opened = true;
      pause = FIRST_PAUSE;
      onState("open");
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      last = message.id ?? last;
      onMessage(message);
    };
    socket.onclose = () => {
      if (!ended) again(opened);
    };
  }

  async function again(opened) {
    onState("waiting");
    if (!opened) await allowed();
    if (ended) return;
    timer = setTimeout(connect, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }

  function wake() {
    if (ended || document.hidden || timer === null || socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(timer);
    timer = null;
    connect();
  }

  document.addEventListener("visibilitychange", wake);
  addEventListener("online", wake);
  connect();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", wake);
    removeEventListener("online", wake);
    socket.close();
    onState("closed");
  };
}

/** A browser doesn't say why a socket failed; a request does, and asks for the key where that is the reason. */
async function allowed() {
  try {
    await get("/v1/requests");
  } catch {
    // The server is away or won't have us: the next try comes anyway.
  }
}

/** The address of a path's WebSocket. */
export function address(path, after = null) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (after !== null) url.searchParams.set("after", after);
  return url;
}
