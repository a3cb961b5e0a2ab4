// One request's time as a drawing: its phases by the server's stamps, and by the client's clock where there is one.
import { h, replace, s } from "./dom.js";
import { ms, percent } from "./format.js";
import { scrolling } from "./parts.js";
import { useStyle } from "./style.js";

useStyle("waterfall");

const MOST_COLUMNS = 240;
const LABEL_SHARE = 0.18; // a narrower segment has no room for its name
const STRIP = { axis: 18, label: 16, row: 26, gap: 8, batch: 30 };

/** What happens in each phase, in the order in which they may come. */
const PHASES = {
  wait: "due, but its client hadn't taken it up",
  before: "the way to the model, its load, the queue: all that comes before its prompt is computed",
  connect: "its connection was opened",
  upload: "it was handed to the kernel",
  parse: "its body was read and understood",
  load: "its model was loaded",
  queue: "it waited for its model, or for a place in the batch",
  prepare: "checks, images, template, tokens",
  prefill: "its prompt was computed",
  decode: "its tokens were drawn",
  flush: "its last bytes went to the socket",
  residual: "what neither side accounts for",
  network: "the network, and all that isn't measured",
  "first-token": "until the first token",
  stream: "from the first token to the last",
  rest: "from the last token to the last byte",
};

// The stamp that ends each stretch, and what the request did in it: as the server cuts `phases_ms`.
const ENDS = [
  ["parsed_ns", "parse"],
  ["ready_ns", "prepare"],
  ["submitted_ns", "queue"],
  ["queued_ns", "prepare"],
  ["admitted_ns", "queue"],
  ["first_token_ns", "prefill"],
  ["last_token_ns", "decode"],
  ["closed_ns", "flush"],
];

/** The stretches of a request, `{phase, from, to}` in milliseconds since it was received, without gap or overlap. */
function stretches(timeline) {
  const { received_ns: received, closed_ns: closed } = timeline;
  if (received == null || closed == null) return [];
  const found = [];
  let at = received;
  let pending = null;
  for (const [name, phase] of ENDS) {
    const told = name === "last_token_ns" ? (timeline.all_tokens_ns ?? timeline.last_token_ns) : timeline[name];
    pending = pending ?? phase;
    if (told == null) continue;
    const stamp = Math.min(Math.max(told, at), Math.max(closed, at));
    const waits = pending === "queue" && (name === "submitted_ns" || timeline.submitted_ns == null);
    for (const [part, end] of waits ? leased(timeline, at, stamp) : [[pending, stamp]]) {
      if (end > at) found.push({ phase: part, from: (at - received) / 1e6, to: (end - received) / 1e6 });
      at = end;
    }
    pending = null;
  }
  return found;
}

/** The wait for a lease, cut where the model was loaded meanwhile. */
function leased({ load_start_ns: begin, load_end_ns: end }, from, to) {
  if (begin == null || end == null) return [["queue", to]];
  const start = Math.min(Math.max(begin, from), to);
  const stop = Math.min(Math.max(end, start), to);
  return [["queue", start], ["load", stop], ["queue", to]];
}

/** Phases one behind the other, of which only the durations are known: `{phase: milliseconds}`, in their order. */
function inOrder(durations, from = 0) {
  let at = from;
  return Object.entries(durations)
    .filter(([, spent]) => spent > 0)
    .map(([phase, spent]) => ({ phase, from: at, to: (at += spent) }));
}

/**
 * The drawing with its legend and its table.
 *
 * `request`: as GET /v1/performance/requests/ID tells it; without a `timeline` its `phases_ms` are drawn in their order.
 * `client`: `{phases: {name: milliseconds}, offset_ms, note}` by the client's clock, `offset_ms` after the server received
 * the request (before: negative; null: the clocks can't be compared, each row begins with its own start).
 */
export function waterfall(request, { client = null } = {}) {
  const server = request.timeline ? stretches(request.timeline) : inOrder(request.phases_ms ?? {});
  const clients = client ? inOrder(client.phases, client.offset_ms ?? 0) : [];
  if (!server.length && !clients.length) {
    return h("p", { class: "waterfall-none" }, "This request ended before a phase of it was measured.");
  }
  const readout = h("p", { class: "waterfall-readout" });
  const rest = "Point at a phase, or focus it, for its numbers.";
  const figure = h("figure", { class: "waterfall" });
  const show = (stretch) => {
    replace(readout, stretch ? words(stretch, length(server, clients, stretch)) : rest);
    for (const each of figure.querySelectorAll("[data-phase]")) {
      each.classList.toggle("dimmed", stretch != null && each.dataset.phase !== stretch.phase);
    }
  };
  show(null);
  const rows = [{ name: "Server", stretches: server }];
  if (clients.length) rows.unshift({ name: "Client", stretches: clients });
  const notes = [client?.note, client && client.offset_ms == null ? APART : null].filter(Boolean);
  figure.append(
    drawing(rows.filter((row) => row.stretches.length), request.timeline, show),
    legend(rows.flatMap((row) => row.stretches), server, clients, show),
    readout,
    ...notes.map((note) => h("p", { class: "waterfall-note" }, note)),
    tables(rows.filter((row) => row.stretches.length)),
  );
  return figure;
}

const APART = "The two clocks can't be compared, so each row begins with its own start.";

/** The length of the row that a stretch is of. */
function length(server, clients, stretch) {
  return span(server.includes(stretch) || !clients.length ? server : clients);
}

function span(row) {
  return row.length ? row[row.length - 1].to - row[0].from : 0;
}

function words({ phase, from, to }, whole) {
  const share = whole > 0 ? `, ${percent((to - from) / whole)} of it all` : "";
  return `${phase}: ${exact(to - from)}, from ${exact(from)} to ${exact(to)}${share}. ${meaning(phase)}`;
}

/** What happens in a phase, as a sentence. */
export function meaning(phase) {
  const text = PHASES[phase];
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}

function exact(value) {
  return `${value.toFixed(3)} ms`;
}

// ---- the drawing ----------------------------------------------------------------------------------------------------

function drawing(rows, timeline, show) {
  const begin = Math.min(...rows.map((row) => row.stretches[0].from));
  const end = Math.max(...rows.map((row) => row.stretches[row.stretches.length - 1].to));
  const place = (at) => `${end > begin ? (((at - begin) / (end - begin)) * 100).toFixed(4) : 0}%`;
  const columns = timeline ? shared(steps(timeline)) : [];
  const named = rows.length > 1 ? STRIP.label : 0;
  const below = STRIP.axis + rows.length * (named + STRIP.row + STRIP.gap);
  const height = below + (columns.length ? STRIP.batch : 0);
  const label = "Where the request's time went; the table below has the same numbers";
  const whole = s("svg", { class: "waterfall-drawing", width: "100%", height, role: "group", "aria-label": label });
  whole.append(...axis(begin, end, place, height));
  rows.forEach((row, at) => {
    const top = STRIP.axis + at * (named + STRIP.row + STRIP.gap);
    if (named) whole.append(s("text", { x: 0, y: top + 11, class: "waterfall-name" }, row.name));
    whole.append(track(row, top + named, place, show));
  });
  if (columns.length) whole.append(batch(columns, below, place));
  if (timeline) whole.append(...moments(timeline, below - STRIP.gap, place));
  return whole;
}

/** Round numbers along the top. */
function axis(begin, end, place, height) {
  const step = round((end - begin) / 5);
  const found = [];
  for (let at = Math.ceil(begin / step) * step; step > 0 && at <= end; at += step) {
    const near = (at - begin) / (end - begin) > 0.94;
    const text = s("text", { x: place(at), y: 11, "text-anchor": near ? "end" : "start", dx: near ? -3 : 3 }, tick(at));
    found.push(s("line", { x1: place(at), x2: place(at), y1: 0, y2: height, class: "waterfall-grid" }), text);
  }
  return found;
}

function round(value) {
  if (!(value > 0)) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((each) => each * power >= value) * power;
}

function tick(at) {
  return Math.abs(at) >= 1000 ? `${Number((at / 1000).toFixed(2))} s` : `${Number(at.toFixed(2))} ms`;
}

function track(row, top, place, show) {
  const whole = span(row.stretches);
  const bars = row.stretches.map((stretch) => bar(stretch, row.name, top, place, whole, show));
  return s("g", { class: "waterfall-row" }, bars);
}

function bar(stretch, name, top, place, whole, show) {
  const share = parseFloat(place(stretch.to)) - parseFloat(place(stretch.from));
  return s(
    "svg",
    {
      class: `waterfall-bar ${stretch.phase}`,
      ...{ x: place(stretch.from), y: top, width: `${share}%`, height: STRIP.row },
      ...{ tabindex: 0, role: "img", "aria-label": `${name}: ${words(stretch, whole)}` },
      data: { phase: stretch.phase },
      on: showing(stretch, show),
    },
    s("rect", { width: "100%", height: "100%" }),
    share >= LABEL_SHARE * 100 && s("text", { x: 12, y: 17 }, stretch.phase),
  );
}

/** Handlers that show a stretch as long as it is pointed at or focused. */
function showing(stretch, show) {
  const [on, off] = [() => show(stretch), () => show(null)];
  return { pointerenter: on, focus: on, pointerleave: off, blur: off };
}

/** The moment between the phases that is worth a mark. */
function moments({ first_byte_ns: sent, received_ns: received }, bottom, place) {
  if (sent == null || received == null) return [];
  const x = place((sent - received) / 1e6);
  return [s("line", { x1: x, x2: x, y1: STRIP.axis, y2: bottom, class: "waterfall-moment" }, s("title", {}, "first byte sent"))];
}

// ---- how many shared its steps --------------------------------------------------------------------------------------

/** Its decode steps, `{from, to, size}`, as few as can be drawn; those that fall together keep the largest batch. */
function steps(timeline) {
  const { gaps_us: gaps = [], batch_sizes: sizes = [] } = timeline.decode ?? {};
  if (timeline.first_token_ns == null || timeline.received_ns == null || !gaps.length) return [];
  let at = (timeline.first_token_ns - timeline.received_ns) / 1e6;
  const each = gaps.map((gap, index) => ({ from: at, to: (at += gap / 1e3), size: sizes[index] ?? 0 }));
  const together = Math.ceil(each.length / MOST_COLUMNS);
  const found = [];
  for (let first = 0; first < each.length; first += together) {
    const some = each.slice(first, first + together);
    found.push({ from: some[0].from, to: some[some.length - 1].to, size: Math.max(...some.map((one) => one.size)) });
  }
  return found;
}

/** Of one that was alone in all of its steps nothing is drawn. */
function shared(columns) {
  return columns.some((column) => column.size > 1) ? columns : [];
}

function batch(columns, top, place) {
  const most = Math.max(1, ...columns.map((column) => column.size));
  const column = ({ from, to, size }) => {
    const height = Math.max(1, (size / most) * (STRIP.batch - 12));
    const width = `${parseFloat(place(to)) - parseFloat(place(from))}%`;
    return s("rect", { x: place(from), y: top + STRIP.batch - height, width, height });
  };
  return s(
    "g",
    { class: "waterfall-batch" },
    s("title", {}, `How many requests each decode step computed: up to ${most}`),
    columns.map(column),
    s("text", { x: 0, y: top + 9 }, `batch, up to ${most}`),
  );
}

// ---- legend and table -----------------------------------------------------------------------------------------------

function legend(all, server, clients, show) {
  const sums = new Map();
  for (const stretch of all) {
    const whole = length(server, clients, stretch);
    const sum = sums.get(stretch.phase) ?? { spent: 0, whole, stretch };
    sum.spent += stretch.to - stretch.from;
    sums.set(stretch.phase, sum);
  }
  const items = [...sums].map(([phase, { spent, whole, stretch }]) => {
    const share = percent(whole > 0 ? spent / whole : 0);
    return h(
      "li",
      { tabindex: 0, title: PHASES[phase] ?? phase, data: { phase }, on: showing(stretch, show) },
      h("span", { class: `swatch ${phase}` }),
      h("span", {}, phase),
      h("b", {}, ms(spent)),
      h("small", {}, share),
    );
  });
  return h("ul", { class: "waterfall-legend", "aria-label": "Phases" }, ...items);
}

function tables(rows) {
  const heads = ["Phase", "From (ms)", "To (ms)", "Spent (ms)", "Share"];
  const body = rows.flatMap((row) =>
    row.stretches.map(({ phase, from, to }) => {
      const named = rows.length > 1 ? `${row.name}: ${phase}` : phase;
      const numbers = [from.toFixed(3), to.toFixed(3), (to - from).toFixed(3), percent((to - from) / span(row.stretches))];
      return h("tr", {}, h("th", { scope: "row" }, named), numbers.map((text) => h("td", { class: "end" }, text)));
    }),
  );
  return h(
    "details",
    { class: "waterfall-table" },
    h("summary", {}, "As a table"),
    scrolling(
      "Phases as a table",
      h(
        "table",
        { class: "table" },
        h("thead", {}, h("tr", {}, ...heads.map((text, at) => h("th", { scope: "col", class: at ? "end" : null }, text)))),
        h("tbody", {}, ...body),
      ),
    ),
  );
}
