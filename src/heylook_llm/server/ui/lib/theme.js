// Light, dark, or as the system says; and what a colour of base.css is right now, for those who draw on canvases.

const STORED = "heylook.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const followers = new Set();

dark.addEventListener("change", () => tell());

/** What is chosen: "system", "light" or "dark". */
export function chosenTheme() {
  return document.documentElement.dataset.theme ?? "system";
}

/** What is shown: "light" or "dark". */
export function theme() {
  const chosen = chosenTheme();
  return chosen === "system" ? (dark.matches ? "dark" : "light") : chosen;
}

/** Choose, and remember it. */
export function chooseTheme(chosen) {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  try {
    if (chosen === "system") localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, chosen);
  } catch {
    // Storage is switched off: it holds as long as the page.
  }
  tell();
}

/** Call `follow(theme)` at each change; returns a function that ends it. */
export function onTheme(follow) {
  followers.add(follow);
  return () => followers.delete(follow);
}

/** A colour of base.css as it is now: `colour("--accent")` is "rgb(…)". */
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  probe.hidden = true;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function tell() {
  for (const follow of followers) follow(theme());
}
