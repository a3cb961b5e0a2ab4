// Whether a text that came letter by letter looks as the whole one.
async (text) => {
  const {fill, Growing} = await import("/ui/lib/markdown.js");
  const [grown, whole] = [document.createElement("div"), document.createElement("div")];
  const growing = new Growing(grown);
  for (let end = 1; end <= text.length; end++) growing.update(text.slice(0, end));
  fill(whole, text);
  return grown.isEqualNode(whole);
}
