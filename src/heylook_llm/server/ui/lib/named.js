// Things that a reader keeps in this browser under names: presets of the builder, sets of prompts.

/** What is kept under a key of the browser's storage: `{all(), keep(name, value), forget(name)}`. Keeping may throw. */
export function named(key) {
  const all = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(key) ?? "{}");
      return kept && typeof kept === "object" && !Array.isArray(kept) ? kept : {};
    } catch {
      return {}; // storage is switched off, or something else wrote there
    }
  };
  const write = (kept) => {
    try {
      localStorage.setItem(key, JSON.stringify(kept));
    } catch {
      throw new Error("This browser keeps nothing here.");
    }
  };
  return {
    all,
    keep: (name, value) => write({ ...all(), [name]: value }),
    forget: (name) => write(Object.fromEntries(Object.entries(all()).filter(([other]) => other !== name))),
  };
}
