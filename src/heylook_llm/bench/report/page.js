"use strict";
// Draws the report's data. Labels were escaped where they were made; nothing here is read as markup but by plotly.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false };

  function layout(more) {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
    const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink },
      margin: { t: 20, r: 20, b: 50, l: 60 }, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: style.getPropertyValue("--quiet").trim(), activecolor: ink }, ...more,
    };
    whole.xaxis = { ...axis, ...whole.xaxis };
    whole.yaxis = { ...axis, ...whole.yaxis };
    return whole;
  }

  function draw(id, traces, more) {
    const place = document.getElementById(id);
    if (place) Plotly.react(place, traces, layout(more), config);
  }

  function bars(phases, names, values) {
    return phases.map((phase) => ({
      type: "bar", orientation: "h", name: phase, y: names, x: values(phase), marker: { color: data.colors[phase] },
      hovertemplate: phase + " %{x:.3g} ms<extra></extra>",
    }));
  }

  function all() {
    draw("curve", data.curves.flatMap((curve) => ["ttft.p50", "ttft.p95"].map((key) => ({
      mode: "lines+markers", name: curve.name + " " + key, x: curve.output, y: curve[key], text: curve.level,
      hovertemplate: "level %{text}: %{x:.4g} tokens/s, %{y:.4g} ms<extra></extra>",
    }))), { xaxis: { title: { text: "output tokens per second" }, rangemode: "tozero" },
      yaxis: { title: { text: "first token, ms" }, rangemode: "tozero" } });
    draw("where", data.phases.map((phase) => ({
      type: "bar", orientation: "h", name: phase.name, y: data.labels, x: phase.ms, marker: { color: data.colors[phase.name] },
      hovertemplate: phase.name + ": %{x:.3g} ms<br>" + phase.meaning + "<extra></extra>",
    })), { barmode: "relative", xaxis: { title: { text: "mean ms of E2E" } }, yaxis: { autorange: "reversed" } });
    draw("spread", ["ttft", "tpot"].flatMap((name) => data.spread[name].map((points, row) => ({
      mode: "lines+markers", name: data.labels[row] + " " + name,
      x: points.map((point) => point[0]), y: points.map((point) => point[1]),
      hovertemplate: "%{x} %: %{y:.4g} ms<extra></extra>",
    }))), { xaxis: { title: { text: "per cent of requests within" } }, yaxis: { type: "log", title: { text: "ms" } } });
    const phases = [...new Set(data.slow.flatMap((one) => Object.keys(one.phases)))];
    const names = data.slow.map((one) => one.name + " (" + one.verdict + ")");
    draw("slow", bars(phases, names, (phase) => data.slow.map((one) => one.phases[phase] ?? null)),
      { barmode: "relative", xaxis: { title: { text: "ms" } }, yaxis: { autorange: "reversed" } });
  }

  all();
  dark.addEventListener("change", all);
})();
