// Runs before the first paint, so that a chosen theme doesn't flash; lib/theme.js is the rest of it.
(() => {
  try {
    const theme = localStorage.getItem("heylook.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is switched off: the system's theme it is.
  }
})();
