"use strict";
// Draws the plots one at a time, so that the page stays responsive; sorts tables; follows the light or dark theme.
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = !matchMedia("(hover: hover)").matches;
  const config = {
    responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: touch ? false : "hover",
    showSendToCloud: false, plotlyServerURL: "",  // the page sends no data to a server
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "png", scale: 3 },
  };
  let theme = dark.matches ? "dark" : "light";

  const draw = (plot) => {
    const layout = Object.assign({}, plot.figure.layout, { template: page.templates[theme], autosize: true });
    if (touch) layout.dragmode = false;  // dragging scrolls the page instead of zooming the plot
    if (innerWidth < 560) {  // the legend has one column: add its height, or it would shrink the plot
      layout.height += 18 * Math.max(0, plot.figure.data.filter((t) => t.name && t.showlegend !== false).length - 2);
    }
    document.getElementById("plot-" + plot.name).style.height = layout.height + "px";
    const name = Object.assign({}, config.toImageButtonOptions, { filename: plot.name });
    return Plotly.react("plot-" + plot.name, plot.figure.data, layout,
      Object.assign({}, config, { toImageButtonOptions: name }));
  };
  const drawAll = () => Promise.all(page.plots.map(draw));
  const drawRest = (index) => {
    if (index === page.plots.length) {
      document.documentElement.dataset.drawn = String(Math.round(performance.now()));
      return;
    }
    draw(page.plots[index]).then(() => {
      // ms since the page was opened: from now on it scrolls and sorts while the other plots are drawn
      if (index === 0) document.documentElement.dataset.usable = String(Math.round(performance.now()));
      setTimeout(drawRest, 0, index + 1);
    });
  };
  const show = (name) => { theme = name; return drawAll(); };
  dark.addEventListener("change", () => show(dark.matches ? "dark" : "light"));
  addEventListener("beforeprint", () => show("light"));
  addEventListener("afterprint", () => show(dark.matches ? "dark" : "light"));

  const isNumber = (text) => text !== "" && !Number.isNaN(Number(text));
  const compare = (a, b) => {
    if (a === "" || b === "") return 0;
    return isNumber(a) && isNumber(b) ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => [row.cells[column].dataset.v, row]);
      keyed.sort(([a], [b]) => (a === "") - (b === "") || (falling ? -compare(a, b) : compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    }));
  }
  for (const more of document.querySelectorAll("button.more")) {
    more.addEventListener("click", () => {
      document.getElementById("board").classList.remove("folded");
      more.remove();
    });
  }
  if (window.Plotly) drawRest(0);
})();
