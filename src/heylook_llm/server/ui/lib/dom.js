// Elements from data. Every string becomes a text node: nothing that comes from outside is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "selected", "disabled", "open"]);

/**
 * An element: `h("p", {class: "note"}, "Hello ", h("b", {}, name))`.
 * `on: {click: handler}` adds handlers; `data: {id: 1}` sets data-id; null, undefined and false attributes and children
 * are left out; lists of children are flattened.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Give a node these children instead of those it has. */
export function replace(node, ...children) {
  node.replaceChildren(...nodes(children));
  return node;
}

/** Add children behind those that a node has. */
export function append(node, ...children) {
  node.append(...nodes(children));
  return node;
}

/** An id that no other element has, for labels and descriptions. */
export function uniqueId(prefix = "id") {
  uniqueId.last = (uniqueId.last ?? 0) + 1;
  return `${prefix}-${uniqueId.last}`;
}

function filled(element, attributes, children) {
  element.append(...nodes(children));
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  return element;
}

function set(element, name, value) {
  if (name === "on") {
    for (const [type, handler] of Object.entries(value)) if (handler) element.addEventListener(type, handler);
  } else if (name === "data") {
    for (const [key, one] of Object.entries(value)) if (one !== null && one !== undefined) element.dataset[key] = one;
  } else if (value === null || value === undefined) {
    return;
  } else if (PROPERTIES.has(name) && name in element) {
    element[name] = value;
  } else if (value !== false) {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}
