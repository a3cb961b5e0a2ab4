// Styles beyond base.css: those of a page, and of parts that several pages have.

import { h } from "./dom.js";

/** Add style/NAME.css, once; resolves when it is loaded. */
export function useStyle(name) {
  const href = `/ui/style/${name}.css`;
  if (document.querySelector(`link[href="${href}"]`)) return null;
  return new Promise((resolve, reject) => {
    const failed = () => reject(new Error(`The style '${name}' couldn't be loaded.`));
    document.head.append(h("link", { rel: "stylesheet", href, on: { load: resolve, error: failed } }));
  });
}
