// Styles of parts that several pages have, added where they are first used.

import { h } from "./dom.js";

/** Add style/NAME.css, once. */
export function useStyle(name) {
  const href = `/ui/style/${name}.css`;
  if (!document.querySelector(`link[href="${href}"]`)) document.head.append(h("link", { rel: "stylesheet", href }));
}
