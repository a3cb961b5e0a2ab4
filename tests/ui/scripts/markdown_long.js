// How many milliseconds a text takes to become elements.
async (text) => {
  const {fill} = await import("/ui/lib/markdown.js");
  const from = performance.now();
  fill(document.createElement("div"), text);
  return performance.now() - from;
}
