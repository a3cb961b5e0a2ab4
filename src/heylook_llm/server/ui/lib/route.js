// Where the reader is: paths to pages, and the way from one to another without loading the shell anew.

let follow = () => {};

/** The path's page of a table: `{page, route: {path, params, query}}`, or null. `:name` in a path stands for a part. */
export function matched(pages, location) {
  const path = location.pathname.replace(/\/+$/, "");
  for (const page of pages) {
    const params = parameters(page.path, path);
    if (params) return { page, route: { path, params, query: new URLSearchParams(location.search) } };
  }
  return null;
}

/** Go to a path of ours; `{replace: true}` leaves no entry in the history. */
export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", path);
  return follow();
}

/** Change the path's query without opening the page anew: null removes a name. */
export function setQuery(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
}

/** Call `arrive()` whenever the path is another: by `go`, by a link, or by the browser's buttons. */
export function onArrival(arrive) {
  follow = arrive;
  addEventListener("popstate", () => arrive());
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || !isPlain(event) || !isOurs(link)) return;
    event.preventDefault();
    if (link.href !== location.href) go(link.pathname + link.search);
  });
}

function parameters(pattern, path) {
  const names = pattern.split("/");
  const parts = path.split("/");
  if (names.length !== parts.length) return null;
  const found = {};
  for (let at = 0; at < names.length; at++) {
    if (names[at].startsWith(":") && parts[at]) found[names[at].slice(1)] = decoded(parts[at]);
    else if (names[at] !== parts[at]) return null;
  }
  return found;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function isPlain(event) {
  return event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
}

function isOurs(link) {
  const isPage = link.pathname === "/ui" || link.pathname.startsWith("/ui/");
  return link.origin === location.origin && isPage && !link.target && !link.hasAttribute("download") && !link.hash;
}
