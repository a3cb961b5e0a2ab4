// Draws what figures.py made of a report: one script for the HTML file and for the pages. Labels were escaped where
// they were made, since plotly reads markup in them; nothing else here is read as markup.

const SERIES = ["#0b7a75", "#2f6fc4", "#c47a0c", "#7a4fc9", "#b84a78", "#5a8a1e", "#56616f", "#8a5a3a"];
const NARROW = 480;
const FIRST_TOKEN = [["ttft.p50", "solid"], ["ttft.p95", "dot"]];

/**
 * The figures of a report's data by name, each {traces, layout, text, rows}; those with nothing to show are left out.
 * `style` is a page's: {ink, line, quiet, paper, font, series: [colours], phases: {name: colour}}.
 */
export function figures(data, style = {}) {
  const made = { curve, where, spread, speed, slow };
  const found = {};
  for (const [name, make] of Object.entries(made)) {
    const figure = make(data, style);
    if (figure.traces.length) found[name] = { ...figure, text: data.texts?.[name] ?? "" };
  }
  return found;
}

/** Latency over throughput, of any curves as figures.py makes them. */
export function curve(data, style = {}) {
  const traces = data.curves.flatMap((one, place) => FIRST_TOKEN.map(([key, dash]) => ({
    mode: "lines+markers", name: one.name, legendgroup: String(place), showlegend: dash === "solid",
    x: one.output, y: one[key], text: one.level,
    line: { color: series(style, place), dash, width: 2 }, marker: { size: 7 },
    error_y: whiskers(one[key], one.intervals?.[key]),
    hovertemplate: `level %{text}: %{x:.4g} tokens/s, ${key} %{y:.4g} ms<extra>%{fullData.name}</extra>`,
  }))).filter((trace) => trace.y.some((value) => value !== null));
  return { traces, layout: { xaxis: { title: { text: "output tokens per second" }, rangemode: "tozero" },
    yaxis: { title: { text: "first token, ms (dotted: p95)" }, rangemode: "tozero" } } };
}

function series(style, place) {
  const colors = style.series ?? SERIES;
  return colors[place % colors.length];
}

function whiskers(values, intervals) {
  if (!intervals) return undefined;
  const reach = (place, sign) => values.map((value, index) => {
    const bound = intervals[index]?.[place];
    return value === null || bound === null || bound === undefined ? 0 : sign * (bound - value);
  });
  return { type: "data", symmetric: false, array: reach(1, 1), arrayminus: reach(0, -1), thickness: 1, width: 3 };
}

function where(data, style) {
  const traces = data.phases.map((phase) => ({
    type: "bar", orientation: "h", name: phase.name, y: data.labels, x: phase.ms,
    marker: { color: phaseColor(data, style, phase.name) },
    hovertemplate: `${phase.name}: %{x:.3g} ms<br>${phase.meaning}<extra></extra>`,
  }));
  return { traces, rows: data.labels.length, layout: { barmode: "relative", hovermode: "closest",
    xaxis: { title: { text: "mean ms of E2E" } }, yaxis: { autorange: "reversed" } } };
}

function phaseColor(data, style, name) {
  return style.phases?.[name] ?? data.colors[name];
}

function spread(data, style) {
  const traces = ["ttft", "tpot"].flatMap((name) => data.spread[name].map((points, row) => ({
    mode: "lines+markers", name: data.labels[row], legendgroup: String(row), showlegend: name === "ttft",
    line: { color: series(style, row), dash: name === "ttft" ? "solid" : "dot", width: 2 }, marker: { size: 6 },
    x: points.map((point) => point[0]), y: points.map((point) => point[1]),
    hovertemplate: `%{x} %: ${name} %{y:.4g} ms<extra>%{fullData.name}</extra>`,
  }))).filter((trace) => trace.x.length);
  return { traces, layout: { xaxis: { title: { text: "per cent of requests within" } },
    yaxis: { type: "log", ...ticks(traces.flatMap((trace) => trace.y)), title: { text: "ms (dotted: each token)" } } } };
}

/** Whole numbers along a logarithmic axis: plotly's own are a lone digit between its powers of ten. */
function ticks(values) {
  const known = values.filter((value) => value > 0);
  if (!known.length) return {};
  const [low, high] = [Math.floor(Math.log10(Math.min(...known))), Math.ceil(Math.log10(Math.max(...known)))];
  const steps = high - low > 3 ? [1] : high - low > 2 ? [1, 3] : [1, 2, 5];
  const tickvals = [];
  for (let power = low; power <= high; power += 1) tickvals.push(...steps.map((step) => step * 10 ** power));
  return { tickvals, ticktext: tickvals.map((value) => String(Number(value.toPrecision(2)))) };
}

function speed(data, style) {
  const known = data.labels.map((label, row) => [label, data.speed?.[row]]).filter(([, one]) => one);
  const ranges = [
    ["least to most", (one) => one.mean - one.least, (one) => one.most - one.mean, 1.5, series(style, 0)],
    ["± σ", (one) => one.deviation ?? 0, (one) => one.deviation ?? 0, 6, series(style, 1)],
  ];
  const traces = ranges.map(([name, below, above, thickness, color]) => ({
    mode: "markers", name, marker: { size: 9, color },
    y: known.map(([label]) => label), x: known.map(([, one]) => one.mean),
    error_x: {
      type: "data", symmetric: false, thickness, width: 4, color,
      array: known.map(([, one]) => above(one)), arrayminus: known.map(([, one]) => below(one)),
    },
    hovertemplate: `%{x:.4g} tokens/s<extra>mean, ${name}</extra>`,
  }));
  return { traces: known.length ? traces : [], rows: known.length, layout: { hovermode: "closest",
    xaxis: { title: { text: "tokens per second of one request" } }, yaxis: { autorange: "reversed" } } };
}

function slow(data, style) {
  const names = data.slow.map((one) => `${one.name} (${one.verdict})`);
  const phases = [...new Set(data.slow.flatMap((one) => Object.keys(one.phases)))];
  const traces = phases.map((phase) => ({
    type: "bar", orientation: "h", name: phase, y: names, x: data.slow.map((one) => one.phases[phase] ?? null),
    marker: { color: phaseColor(data, style, phase) }, hovertemplate: `${phase} %{x:.3g} ms<extra></extra>`,
  }));
  return { traces, rows: names.length, layout: { barmode: "relative", hovermode: "closest",
    xaxis: { title: { text: "ms" } }, yaxis: { autorange: "reversed" } } };
}

/** A figure's layout in a page's colours: {ink, line, quiet, paper}. */
export function themed(layout, style) {
  const axis = { gridcolor: style.line, zerolinecolor: style.line, linecolor: style.line, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: style.ink, size: 12, family: style.font },
    margin: { t: 16, r: 16, b: 48, l: 56 }, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: style.quiet, activecolor: style.ink },
    hoverlabel: { bgcolor: style.paper, bordercolor: style.line, font: { color: style.ink } },
    ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  };
}

/** Draws a figure into an element; again with other colours or data. Rows of bars and legends get the height they need. */
export function draw(plotly, place, figure, style, more = {}) {
  const removed = ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"]; // nothing leaves this machine
  const config = { responsive: true, displaylogo: false, plotlyServerURL: "", modeBarButtonsToRemove: removed, ...more };
  const height = (figure.rows ? Math.max(220, 130 + 34 * figure.rows) : 360) + legendHeight(figure, place.clientWidth);
  place.style.minHeight = `${height}px`;
  const layout = themed(figure.layout, style);
  if (place.clientWidth < NARROW) layout.legend = { ...layout.legend, font: { size: 10 } };
  return plotly.react(place, named(figure.traces, place.clientWidth), { ...layout, height }, config);
}

/** Traces with names that a legend of this width has room for: plotly would cut them at its edge. */
function named(traces, width) {
  const most = Math.max(16, Math.floor((width - 72) / (width < NARROW ? 5.5 : 7)));
  return traces.map((trace) => (trace.name?.length > most ? { ...trace, name: `${trace.name.slice(0, most - 1)}…` } : trace));
}

/** Of a legend's lines behind the first. */
function legendHeight(figure, width) {
  const names = figure.traces.filter((trace) => trace.showlegend !== false).map((trace) => trace.name ?? "");
  const longest = Math.max(0, ...names.map((name) => name.length));
  const columns = Math.max(1, Math.floor(width / (70 + 7 * longest)));
  return 20 * Math.max(0, Math.ceil(names.length / columns) - 1);
}
