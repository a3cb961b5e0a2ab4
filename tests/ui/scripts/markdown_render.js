// The elements of a text, in brackets.
async (text) => {
  const {fill} = await import("/ui/lib/markdown.js");
  const made = fill(document.createElement("div"), text);
  made.querySelectorAll(".code-head").forEach((head) => { head.replaceWith(head.firstChild.textContent + ":"); });
  const shape = (node) => node.nodeType === Node.TEXT_NODE ? node.data
    : `(${node.tagName.toLowerCase()}${node.href ? " " + node.getAttribute("href") : ""}${node.start > 1 ? " " + node.start : ""} ${[...node.childNodes].map(shape).join("")})`;
  return [...made.childNodes].map(shape).join("");
}
