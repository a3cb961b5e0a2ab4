// Files of results that were dropped into the browser: read by the server, kept by the browser, named by their content.

import { post } from "../lib/api.js";

const NAME = "heylook.bench";
const STORE = "files";

/** Have a file read, and keep it; resolves to its name in the address. Throws ApiError with what it is instead. */
export async function keep(file) {
  const [text, key] = await Promise.all([file.text(), digest(file)]);
  const found = await post("/v1/bench/compare", { files: [{ name: file.name, text }], measures: ["output"] });
  await put({ key, name: file.name, text, run: found.systems[0]?.run ?? null });
  return key;
}

/** The kept files of these names: {key, name, text, run}; null where this browser holds none. */
export async function kept(keys) {
  const store = await opened("readonly");
  return Promise.all(keys.map((key) => done(store.get(key)).then((found) => found ?? null)));
}

async function put(value) {
  const store = await opened("readwrite");
  await done(store.put(value));
}

async function digest(file) {
  const content = await file.arrayBuffer();
  if (globalThis.crypto?.subtle) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    return Array.from(hash.slice(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  return sum(new Uint8Array(content)); // pages that come without TLS from another machine have no digests
}

/** FNV-1a, twice: it only has to tell a reader's own files apart. */
function sum(bytes) {
  const states = [0x811c9dc5, 0x01234567];
  for (const byte of bytes) states.forEach((state, at) => (states[at] = Math.imul(state ^ byte, 0x01000193) >>> 0));
  return states.map((state) => state.toString(16).padStart(8, "0")).join("");
}

function opened(mode) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "key" });
    opening.onsuccess = () => {
      const transaction = opening.result.transaction(STORE, mode);
      transaction.oncomplete = () => opening.result.close();
      resolve(transaction.objectStore(STORE));
    };
    opening.onerror = () => reject(opening.error);
  });
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
