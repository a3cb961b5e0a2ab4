// The HTML file's own start: what stands in figures.js before it draws the report's data.
{
  const data = JSON.parse(document.getElementById("data").textContent);

  const all = () => {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const theme = { ink: color("ink"), line: color("line"), quiet: color("quiet"), paper: color("paper") };
    theme.font = getComputedStyle(document.body).fontFamily;
    for (const [name, figure] of Object.entries(figures(data, theme))) {
      const place = document.getElementById(name);
      if (place) draw(Plotly, place, figure, theme);
    }
  };

  all();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
}
