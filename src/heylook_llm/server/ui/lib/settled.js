// Drawing anew what the reader is just using can wait until they are done.

/** Call `draw()` now, or once the menu that is open within `place` is closed; the last of several calls counts. */
export function whenSettled(place, draw) {
  const open = place.querySelector(":popover-open");
  waiting.set(place, draw);
  if (!open) return go(place);
  open.addEventListener("toggle", () => go(place), { once: true });
}

const waiting = new WeakMap();

function go(place) {
  const draw = waiting.get(place);
  waiting.delete(place);
  draw?.();
}
