// The cells of a run: what each is made of, how it stands, and what is said of it.

import { h } from "../../lib/dom.js";
import { count, unknown } from "../../lib/format.js";
import { badge, table } from "../../lib/parts.js";

const KINDS = { done: "good", failed: "bad", running: "accent", skipped: "warn", cancelled: "warn" };
const ABOUT = /^cell (\d+): (.*)$/s;

/** A table of them. */
export function cellsTable(run) {
  const named = (text) => h("span", { class: "ellipsis bench-names", title: text }, text);
  const columns = [
    { label: "#", cell: (cell) => cell.ordinal + 1, align: "end" },
    { label: "State", cell: (cell) => badge(cell.state, KINDS[cell.state] ?? "") },
    { label: "Server", cell: (cell) => named(cell.target) },
    { label: "Model", cell: (cell) => named(cell.model) },
    { label: "Traffic", cell: (cell) => h("span", { class: "mono" }, cell.scenario) },
    { label: "Load", cell: (cell) => `${cell.load} ${cell.level ?? ""}` },
    { label: "Cache", cell: (cell) => cell.cache },
    { label: "Run", cell: (cell) => cell.repeat + 1, align: "end", note: "Which of the runs of this cell it is." },
    { label: "Requests", cell: outcomes, align: "end", note: "What became of those that were sent; before, how many are planned." },
  ];
  return table(columns, run.cells, { caption: "Cells" });
}

function outcomes(cell) {
  const told = Object.entries(cell.outcomes).map(([outcome, number]) => `${count(number)} ${outcome}`);
  if (told.length) return told.join(", ");
  return cell.planned === null ? unknown("as many as time allows") : `of ${count(cell.planned)}`;
}

/** What is said of a cell, with its number as the table has it. */
export function numbered(text) {
  const found = ABOUT.exec(text);
  return found ? `Cell ${Number(found[1]) + 1}: ${found[2]}` : text;
}

/** The same of many: what is said of several cells alike is said once. */
export function together(texts) {
  const cells = Map.groupBy(texts, (text) => ABOUT.exec(text)?.[2] ?? text);
  return [...cells].map(([words, alike]) => {
    const numbers = alike.map((text) => ABOUT.exec(text)).filter(Boolean).map((found) => Number(found[1]) + 1);
    return numbers.length ? `${numbers.length > 1 ? "Cells" : "Cell"} ${[...new Set(numbers)].join(", ")}: ${words}` : words;
  });
}
