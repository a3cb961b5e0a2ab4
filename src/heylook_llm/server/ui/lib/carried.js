// A POST over a WebSocket: browsers open six connections to an origin, and as many streams would starve the other tabs.

import { keyProtocols } from "./key.js";
import { address } from "./live.js";

/** Bytes of a message: the server takes at most four times as many. */
const PIECE = 1 << 18;

/**
 * The answer to a body: `{status, headers, text}`, text being a stream. Null where no WebSocket opens: nothing was asked
 * then. Throws where the server leaves before it answers, and an AbortError once `signal` says so.
 */
export function carried(path, body, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const socket = new WebSocket(address(path), keyProtocols());
    let isOpen = false;
    let pieces = null;
    let ended = false;
    const text = new ReadableStream({ start: (it) => (pieces = it), cancel: end });

    function end() {
      ended = true;
      signal?.removeEventListener("abort", abort);
      socket.close();
    }

    function abort() {
      end();
      reject(signal.reason);
      pieces.error(signal.reason);
    }

    function begin(event) {
      const { status, headers } = JSON.parse(event.data);
      resolve({ status, headers: new Headers(headers), text });
      socket.onmessage = ({ data }) => ended || pieces.enqueue(data);
    }

    signal?.addEventListener("abort", abort);
    socket.onopen = () => {
      isOpen = true;
      const whole = new TextEncoder().encode(JSON.stringify(body));
      for (let at = 0; at < whole.length; at += PIECE) socket.send(whole.subarray(at, at + PIECE));
      socket.send("");
    };
    socket.onmessage = begin;
    socket.onclose = ({ wasClean }) => {
      if (ended) return;
      end();
      if (!isOpen) resolve(null);
      else reject(new Error("The connection broke."));
      if (wasClean) pieces.close();
      else pieces.error(new Error("The connection to the server broke."));
    };
  });
}
