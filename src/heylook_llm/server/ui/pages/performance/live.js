// What happens now: one sample a second of speeds, queue, batch and machine, and the requests in flight.

import { remove } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { bytes, count, hint, number, onHover, percent, rate, seconds, unknown } from "../../lib/format.js";
import { live } from "../../lib/live.js";
import { badge, card, iconButton, table, toast } from "../../lib/parts.js";
import { sparkline } from "../../lib/sparkline.js";

const MOST_SHOWN = 8;
const STATES = {
  connecting: ["Connecting", ""],
  open: ["Live", "good"],
  waiting: ["Reconnecting", "warn"],
  closed: ["Ended", ""],
};
const NO_STEP = "no model has told its speed twice yet";

/** Each tile: its name, its value in a sample, that in words, what stands below it, and the top of its line. */
const TILES = [
  { name: "Tokens out", value: (sample) => sample.tokens_per_second, told: (value) => rate(value), why: NO_STEP, formula: "tokens drawn since the sample before ÷ the time between them" },
  { name: "Tokens in", value: (sample) => sample.prompt_tokens_per_second, told: (value) => rate(value), why: NO_STEP, note: () => "of prompts, computed", formula: "prompt tokens computed since the sample before ÷ the time between them; cached ones aren't among them" },
  { name: "In flight", value: (sample) => sample.in_flight, told: count, note: (sample) => `${sample.queued} of them wait`, formula: "requests that have begun and not ended" },
  { name: "Batch", value: (sample) => sample.batch_size, told: number, why: "no model is loaded", note: () => "sequences in the last step", formula: "answers that each model's last step drew a token of, summed" },
  { name: "Processor", value: (sample) => sample.cpu_percent, told: (value) => percent(value / 100), why: "the machine doesn't tell", most: 100, note: () => "of all cores", formula: "busy time of all cores ÷ the time since the sample before" },
  { name: "Memory", value: (sample) => sample.memory_used_bytes, told: bytes, note: (sample) => ["of ", bytes(sample.memory_total_bytes)], formula: "main memory that isn't available to programs" },
  { name: "GPU", value: gpuPercent, told: (value) => percent(value / 100), why: "no GPU is found, or it doesn't tell", most: 100, note: gpuMemory, formula: "the mean of all GPUs' own readings" },
  { name: "Power", value: (sample) => sample.power_watts, told: (value) => `${number(value)} W`, formula: "joules of all counters since the sample before ÷ the time between them", why: "no energy counter can be read; GET /hardware/live says why" },
];

function gpuPercent(sample) {
  const known = sample.gpus.map((gpu) => gpu.percent).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

function gpuMemory(sample) {
  const used = sample.gpus.map((gpu) => gpu.memory_used_bytes).filter((value) => value !== null);
  return used.length ? [bytes(used.reduce((sum, value) => sum + value, 0)), " used"] : "";
}

/** The section; `finished(request)` is told of each that ends. */
export function liveSection({ finished }) {
  const tiles = TILES.map(tile);
  const state = h("span", { role: "status" });
  const models = h("div");
  const flight = flightTable();
  const close = live("/v1/performance/ws", take, (name) => replace(state, badge(...STATES[name])));
  function take(message) {
    switch (message.type) {
      case "snapshot":
        return flight.begin(message.requests);
      case "request.started":
        return flight.add(message.request);
      case "request.finished":
        flight.end(message.request.id);
        return finished(message.request);
      case "sample":
        for (const one of tiles) one.take(message.at, message.sample);
        replace(models, loaded(message.sample.models));
        return flight.show();
    }
  }
  const element = card(
    "Now",
    h("div", { class: "stack" }, h("div", { class: "tiles" }, tiles.map((one) => one.element)), models, flight.element),
    { actions: [state] },
  );
  return {
    element,
    close: () => {
      close();
      flight.close();
    },
  };
}

function tile({ name, value, told, formula, why = "not measured", note = () => "", most = null }) {
  const shown = h("span", { class: "figure-value" }, unknown("waiting for the first sample"));
  const below = h("span", { class: "figure-note" });
  const line = sparkline(`${name}, the last two minutes`, { most, told });
  let isKnown = null;
  function take(at, sample) {
    const found = value(sample);
    line.push(at, found);
    if (found !== null) replace(shown, told(found));
    else if (isKnown !== false) replace(shown, unknown(why));
    isKnown = found !== null;
    replace(below, note(sample));
  }
  const more = { formula, note: "Once a second; the line is of the last two minutes." };
  const label = hint(h("span", { class: "figure-label" }, name), more);
  return { element: h("div", { class: "tile" }, label, onHover(shown, more), below, line.element), take };
}

// ---- the loaded models ----------------------------------------------------------------------------------------------

function loaded(models) {
  const rows = Object.entries(models).map(([id, model]) => ({ id, ...model }));
  if (!rows.length) return h("p", { class: "muted small" }, "No model is loaded; the next request loads one.");
  return table(
    [
      { label: "Loaded model", cell: (row) => h("span", { class: "ellipsis name", title: row.id }, row.id) },
      { label: "Tokens out", align: "end", cell: (row) => rate(row.tokens_per_second, "tok/s", NO_STEP), formula: "tokens drawn since the sample before ÷ the time between them" },
      { label: "Tokens in", align: "end", cell: (row) => rate(row.prompt_tokens_per_second, "tok/s", NO_STEP), formula: "prompt tokens computed since the sample before ÷ the time between them" },
      { label: "Running", align: "end", cell: (row) => count(row.running), note: "Sequences that have a place in the batch." },
      { label: "Waiting", align: "end", cell: (row) => count(row.waiting), note: "Sequences that wait for a place." },
      { label: "Batch", align: "end", cell: (row) => count(row.batch_size), note: "Sequences in the last step." },
      { label: "Context memory", align: "end", cell: cells, note: "Tokens in the pool that all requests share, kept prefixes among them." },
      { label: "Process", align: "end", cell: (row) => bytes(row.resident_bytes, "its process doesn't tell"), note: "Memory that its process holds, as the system tells it." },
    ],
    rows,
    { caption: "Loaded models" },
  );
}

function cells({ kv_used_tokens: used, kv_tokens: whole }) {
  return whole ? `${count(used)} of ${count(whole)}` : count(used);
}

// ---- the requests in flight -----------------------------------------------------------------------------------------

/** The requests in flight, drawn at most once a frame and seldom anew. */
function flightTable() {
  const requests = new Map();
  const element = h("div", { class: "flight" });
  let frame = null;
  let drawn = "";
  function draw() {
    frame = null;
    const rows = [...requests.values()].sort((a, b) => a.created - b.created).slice(0, MOST_SHOWN);
    const ids = rows.map((row) => row.id).join() + requests.size;
    if (ids !== drawn) {
      drawn = ids;
      replace(element, rows.length ? [listed(rows), more(requests.size - rows.length)] : null);
    }
    for (const cell of element.querySelectorAll("[data-since]")) replace(cell, seconds(since(Number(cell.dataset.since))));
  }
  const show = () => {
    frame ??= requestAnimationFrame(draw);
  };
  return {
    element,
    show,
    begin(all) {
      requests.clear();
      for (const one of all) requests.set(one.id, one);
      show();
    },
    add(one) {
      requests.set(one.id, one);
      show();
    },
    end(id) {
      if (requests.delete(id)) show();
    },
    close: () => cancelAnimationFrame(frame),
  };
}

function since(created) {
  return Math.max(0, Math.round(Date.now() / 1000 - created));
}

function listed(rows) {
  return table(
    [
      { label: "In flight", cell: (row) => h("span", { class: "ellipsis name", title: row.model }, row.model) },
      { label: "Route", cell: (row) => h("code", {}, row.route) },
      { label: "Client", cell: (row) => row.client ?? h("span", { class: "faint" }, "–") },
      { label: "Since", align: "end", cell: (row) => h("span", { data: { since: row.created } }) },
      { label: "", align: "end", cell: (row) => iconButton("stop", `Cancel ${row.id}`, () => cancel(row.id)) },
    ],
    rows,
    { caption: "Requests in flight" },
  );
}

function more(others) {
  return others > 0 ? h("p", { class: "muted small" }, `and ${count(others)} more`) : null;
}

async function cancel(id) {
  try {
    await remove(`/v1/requests/${encodeURIComponent(id)}`);
    toast("Cancelled");
  } catch (error) {
    toast(error.message, "bad");
  }
}
