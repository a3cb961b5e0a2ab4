// The shell: which page a path means, opening it, and leaving it.

import { h, replace } from "./lib/dom.js";
import { icon } from "./lib/icons.js";
import { busy, button, empty, iconButton } from "./lib/parts.js";
import { go, matched, onArrival } from "./lib/route.js";
import { useStyle } from "./lib/style.js";
import { chosenTheme, chooseTheme } from "./lib/theme.js";

/**
 * A page is pages/MODULE.js; those with a name stand in the navigation. `:name` in a path stands for a part of it,
 * `styles` are files of style/ that it needs: it is shown when they are there.
 */
const PAGES = [
  { path: "/ui/chat", module: "chat", name: "Chat", icon: "chat", styles: ["chat"] },
  { path: "/ui/models", module: "models", name: "Models", icon: "models", styles: ["server", "models"] },
  { path: "/ui/models/:id", module: "model", styles: ["server", "models"] },
  { path: "/ui/performance", module: "performance", name: "Performance", icon: "performance", styles: ["server", "performance"] },
  { path: "/ui/performance/requests/:id", module: "request", styles: ["server", "performance", "waterfall"] },
  { path: "/ui/bench", module: "bench", name: "Benchmarks", icon: "bench", styles: ["bench"] },
  { path: "/ui/bench/runs/:id", module: "bench_run", styles: ["bench", "bench_result", "waterfall"] },
  { path: "/ui/bench/compare", module: "bench_compare", styles: ["bench_result"] },
  { path: "/ui/settings", module: "settings", name: "Settings", icon: "settings", styles: ["server", "settings"] },
];
const HOME = PAGES[0].path;
/** Milliseconds after which a page that is still being fetched is said to be. */
const WAIT_SHOWN = 150;
const THEMES = { system: "light", light: "dark", dark: "system" };

const main = document.getElementById("main");
let leave = () => {};
let arrival = 0;

async function arrive() {
  const found = matched(PAGES, location);
  if (location.pathname.replace(/\/+$/, "") === "/ui") return go(HOME, { replace: true });
  const mine = ++arrival;
  left();
  mark(found?.page);
  if (!found) return lost();
  const waiting = setTimeout(() => mine === arrival && replace(main, busy()), WAIT_SHOWN);
  try {
    const [page] = await Promise.all([import(`./pages/${found.page.module}.js`), ...(found.page.styles ?? []).map(useStyle)]);
    if (mine !== arrival) return;
    clearTimeout(waiting);
    name(page.title);
    replace(main);
    main.className = `page-${found.page.module}`;
    const close = await page.open(main, found.route);
    if (mine !== arrival) return close?.();
    leave = close ?? (() => {});
    if (mine > 1 && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
  } catch (error) {
    if (mine === arrival) broken(error);
  } finally {
    clearTimeout(waiting);
  }
}

/** End the page that is open: its sockets, its timers and the dialogs over it. */
function left() {
  const close = leave;
  leave = () => {};
  close();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  scrollTo(0, 0);
}

function name(title) {
  document.title = `${title} · heylookllm`;
}

function lost() {
  name("Not found");
  main.className = "page-lost";
  replace(main, empty("There is no such page", location.pathname, h("a", { class: "button primary", href: HOME }, "To the chat")));
}

function broken(error) {
  console.warn(error);
  name("Problem");
  const again = button("Try again", arrive, { kind: "primary", icon: "again" });
  replace(main, empty("This page couldn't be opened", error.message || String(error), again));
}

// ---- navigation ------------------------------------------------------------------------------------------------------

const links = PAGES.filter((page) => page.name).map((page) =>
  h("a", { href: page.path, title: page.name }, icon(page.icon, 20), h("span", {}, page.name)),
);

function mark(page) {
  for (const link of links) {
    const at = link.pathname;
    const isHere = page && (page.path === at || page.path.startsWith(`${at}/`));
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function themeButton() {
  const made = iconButton("theme", "", () => {
    chooseTheme(THEMES[chosenTheme()]);
    label();
  });
  function label() {
    const text = `Theme: ${chosenTheme()}`;
    made.title = text;
    made.setAttribute("aria-label", text);
  }
  label();
  return made;
}

/** A place in the address would be another arrival, which opens the page anew and loses what is written there. */
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

replace(document.querySelector(".rail nav"), links);
replace(document.querySelector(".rail-end"), themeButton());
onArrival(arrive);
arrive();
