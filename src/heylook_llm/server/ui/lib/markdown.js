// Markdown of answers as elements. The text is a stranger's: all of it goes through text nodes, no HTML is read, links
// lead to http, https and mailto only, and images stay links, since nothing is fetched from elsewhere.

import { h, replace } from "./dom.js";
import { copyButton, scrolling } from "./parts.js";

// No pattern may take longer than a text is long, however it is made: so every repetition is bounded, or ends at a sign
// that it can't match itself.
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]{0,9}([^\s`]{0,40})[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;
const DIVIDER = /^\|?(?: *:?-+:? *\|)+(?: *:?-+:?)?$/;
const DEEPEST = 12;
const LINKS = /^(https?:\/\/|mailto:)/i;
const INLINE = new RegExp(
  [
    /\\(?<escaped>[!-/:-@[-`{-~])/,
    /(?<!`)(?<ticks>`{1,9})(?!`)(?<code>[^]{0,1000}?[^`])\k<ticks>(?!`)/,
    /!?\[(?<label>(?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\([ \n]{0,9}<?(?<target>[^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:[ \n]{1,9}["'][^"']*["'])?[ \n]{0,9}\)/,
    /<(?<angled>(?:https?:\/\/|mailto:)[^\s<>]+)>/,
    /(?<bare>https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]])/,
    /(?<mark>\*\*|__)(?=\S)(?<bold>[^]{0,1000}?\S)\k<mark>(?![\w*])/,
    /~~(?=\S)(?<struck>[^]{0,1000}?\S)~~/,
    /\*(?=[^\s*])(?<italic>[^]{0,1000}?[^\s*])\*(?!\*)/,
    /(?<!\w)_(?=[^\s_])(?<slanted>[^]{0,1000}?[^\s_])_(?!\w)/,
    /(?<break>(?<! ) {2,}|\\)?\n/,
  ]
    .map((pattern) => pattern.source)
    .join("|"),
  "g",
);

/** The elements of a markdown text. */
export function markdown(text) {
  return split(text.split("\n")).flatMap((lines) => block(lines, 0));
}

/** A markdown text that grows: only the blocks that changed are made anew. */
export class Growing {
  #element;
  #text = "";
  #shown = [];

  constructor(element) {
    this.#element = element;
  }

  update(text) {
    if (text === this.#text) return;
    this.#text = text;
    const sources = split(text.split("\n")).map((lines) => lines.join("\n"));
    const same = this.#shown.findIndex(({ source }, at) => source !== sources[at]);
    const keep = same < 0 ? this.#shown.length : same;
    for (const { nodes } of this.#shown.splice(keep)) nodes.forEach((node) => node.remove());
    for (const source of sources.slice(keep)) {
      const nodes = block(source.split("\n"), 0);
      this.#element.append(...nodes);
      this.#shown.push({ source, nodes });
    }
  }
}

// ---- blocks ----------------------------------------------------------------------------------------------------------

/** Lines as blocks, each a list of lines: a fence to its end, a list with what belongs to it, else up to a blank line. */
function split(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const end = endOf(lines, at);
    blocks.push(lines.slice(at, end));
    at = end;
  }
  return blocks;
}

function endOf(lines, start) {
  const fence = FENCE.exec(lines[start]);
  if (fence) return endOfFence(lines, start, fence[2]);
  if (HEADING.test(lines[start]) || RULE.test(lines[start])) return start + 1;
  const isList = ITEM.test(lines[start]);
  let at = start + 1;
  for (; at < lines.length; at++) {
    const line = lines[at];
    if (!line.trim()) {
      const next = nextFilled(lines, at);
      if (!isList || !(ITEM.test(lines[next] ?? "") || /^ {2,}/.test(lines[next] ?? ""))) return at;
      at = next - 1;
    } else if (!isList && (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line))) {
      return at;
    } else if (isList && (HEADING.test(line) || /^(`{3,}|~{3,})/.test(line))) {
      return at;
    }
  }
  return at;
}

function nextFilled(lines, from) {
  let at = from;
  while (at < lines.length && !lines[at].trim()) at += 1;
  return at;
}

function endOfFence(lines, start, mark) {
  const closing = closingOf(mark);
  const end = lines.findIndex((line, at) => at > start && closing.test(line));
  return end < 0 ? lines.length : end + 1;
}

function closingOf(mark) {
  return new RegExp(`^ {0,3}\\${mark[0]}{${Math.min(mark.length, 99)},} *$`);
}

function block(lines, depth) {
  const [first] = lines;
  const fence = FENCE.exec(first);
  if (fence) return [code(lines, fence)];
  const heading = HEADING.exec(first);
  if (heading) return [h(`h${Math.min(6, heading[1].length + 2)}`, { class: `md-h${heading[1].length}` }, inline(heading[2].trim().replace(/\s#+$/, ""))), ...rest(lines, 1, depth)];
  if (RULE.test(first)) return [h("hr"), ...rest(lines, 1, depth)];
  if (depth < DEEPEST && QUOTE.test(first)) return [h("blockquote", {}, blocks(lines.map((line) => line.replace(QUOTE, "")), depth + 1))];
  if (depth < DEEPEST && ITEM.test(first)) return list(lines, depth);
  if (lines.length > 1 && first.includes("|") && DIVIDER.test(lines[1].trim())) return [table(lines)];
  return [h("p", {}, inline(lines.map((line) => line.replace(/^ +/, "")).join("\n")))];
}

function blocks(lines, depth) {
  return split(lines).flatMap((one) => block(one, depth));
}

function rest(lines, from, depth) {
  return lines.length > from ? blocks(lines.slice(from), depth) : [];
}

function code(lines, [, indent, mark, language]) {
  const closed = lines.length > 1 && closingOf(mark).test(lines.at(-1));
  const text = lines
    .slice(1, closed ? -1 : undefined)
    .map((line) => line.replace(new RegExp(`^ {0,${indent.length}}`), ""))
    .join("\n");
  const head = h("div", { class: "code-head" }, h("span", {}, language || "text"), copyButton(() => text, "Copy the code"));
  return h("div", { class: "code" }, head, h("pre", { tabindex: 0, "aria-label": `Code${language ? `, ${language}` : ""}` }, h("code", {}, text)));
}

/** Items of a list: each with the lines that are indented below it. A list of another kind begins anew. */
function list(lines, depth) {
  const made = [];
  let items = [];
  let kind = null;
  const base = ITEM.exec(lines[0])[1].length;
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= base + 1) {
      const isOrdered = /\d/.test(item[2]);
      if (kind === null || kind.isOrdered !== isOrdered) {
        kind = { isOrdered, start: isOrdered ? parseInt(item[2], 10) : 1 };
        items = [];
        made.push({ kind, items });
      }
      items.push({ width: item[0].length, lines: [line.slice(item[0].length)] });
    } else {
      const { width, lines: own } = items.at(-1);
      own.push(line.replace(new RegExp(`^ {0,${width}}`), ""));
    }
  }
  return made.map((one) =>
    h(one.kind.isOrdered ? "ol" : "ul", { start: one.kind.isOrdered && one.kind.start !== 1 ? one.kind.start : null }, one.items.map((item) => listItem(item, depth))),
  );
}

function listItem({ lines }, depth) {
  const task = /^\[([ xX])\] /.exec(lines[0]);
  const text = task ? [lines[0].slice(4), ...lines.slice(1)] : lines;
  const content = blocks(text, depth + 1);
  const isTight = content[0]?.tagName === "P";
  const shown = isTight ? [...content[0].childNodes, ...content.slice(1)] : content;
  const box = task && h("input", { type: "checkbox", checked: task[1] !== " ", disabled: true, "aria-label": task[1] === " " ? "open" : "done" });
  return h("li", { class: task ? "task" : null }, box, shown);
}

function table(lines) {
  const heads = cells(lines[0]);
  const sides = cells(lines[1]).map((cell) => (/^:-+:$/.test(cell) ? "center" : /-:$/.test(cell) ? "end" : null));
  const row = (tag, line) => {
    const found = cells(line).slice(0, heads.length); // what a line lacks isn't filled: a text would grow by its square
    return h("tr", {}, found.map((cell, at) => h(tag, { class: sides[at] }, inline(cell))));
  };
  const body = h("tbody", {}, lines.slice(2).map((line) => row("td", line)));
  return scrolling("Table", h("table", {}, h("thead", {}, row("th", lines[0])), body));
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

// ---- within a line ----------------------------------------------------------------------------------------------------

function inline(text, depth = 0) {
  if (depth > DEEPEST) return [text];
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > from) nodes.push(text.slice(from, match.index));
    nodes.push(...piece(match, depth + 1));
    from = match.index + match[0].length;
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}

function piece({ 0: whole, groups }, depth) {
  const { escaped, code: coded, label, target, bold, struck } = groups;
  const address = groups.angled ?? groups.bare;
  const italic = groups.italic ?? groups.slanted;
  if (escaped !== undefined) return [escaped];
  if (coded !== undefined) return [h("code", {}, coded.replaceAll("\n", " ").replace(/^ (.*\S.*) $/, "$1"))];
  if (label !== undefined) return link(target, label ? inline(label, depth) : [target], whole);
  if (address !== undefined) return link(address, [address], whole);
  if (bold !== undefined) return [h("strong", {}, inline(bold, depth))];
  if (struck !== undefined) return [h("s", {}, inline(struck, depth))];
  if (italic !== undefined) return [h("em", {}, inline(italic, depth))];
  return groups.break === undefined ? ["\n"] : [h("br")];
}

function link(target, content, whole) {
  if (!LINKS.test(target)) return [whole];
  return [h("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, content)];
}

/** Fill an element with a markdown text. */
export function fill(element, text) {
  return replace(element, markdown(text));
}
