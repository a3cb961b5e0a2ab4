// Whether the page shows its colours by the system's new scheme: a browser takes its time with the elements it has.
(scheme) => {
  const fresh = document.createElement("div");
  fresh.style.background = "var(--ground)";
  document.body.append(fresh);
  const [is, shown] = [fresh, document.body].map((element) => getComputedStyle(element).backgroundColor);
  fresh.remove();
  return is === shown && matchMedia(`(prefers-color-scheme: ${scheme})`).matches;
}
