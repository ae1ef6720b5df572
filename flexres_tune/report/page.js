"use strict";
// Draws the plots one at a time, so that the page stays responsive; sorts and filters tables; draws the curves of trials
// that the reader chooses; follows the light or dark theme.
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

  // Trials whose rows were clicked, each with one of the colours in which their curves are drawn.
  const colors = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
  const chosen = new Map();
  const chosenTraces = () => [...chosen].map(([id, color]) => {
    const [name, x, y] = page.curves[id];
    return {
      type: "scatter", mode: "lines+markers", name: "chosen: " + name, x, y, legendrank: 1,
      line: { color, width: 4 }, marker: { size: 7 }, hovertemplate: "epoch %{x}: %{y:.4~g}<extra>" + name + "</extra>",
    };
  });

  const draw = (plot) => {
    const layout = Object.assign({}, plot.figure.layout, { template: page.templates[theme], autosize: true });
    if (touch) layout.dragmode = false;  // dragging scrolls the page instead of zooming the plot
    if (plot.name === "curves") layout.height += 30 * chosen.size;  // a line of the legend for each
    if (innerWidth < 560) {  // the legend has one column: add its height, or it would shrink the plot
      layout.height += 18 * Math.max(0, plot.figure.data.filter((t) => t.name && t.showlegend !== false).length - 2);
    }
    document.getElementById("plot-" + plot.name).style.height = layout.height + "px";
    const name = Object.assign({}, config.toImageButtonOptions, { filename: plot.name });
    const traces = plot.name === "curves" ? [...plot.figure.data, ...chosenTraces()] : plot.figure.data;
    return Plotly.react("plot-" + plot.name, traces, layout,
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

  const keyOf = (cell) => cell.dataset.v ?? cell.textContent;
  const isNumber = (text) => text !== "" && !Number.isNaN(Number(text));
  const compare = (a, b) => {
    if (a === "" || b === "") return 0;
    return isNumber(a) && isNumber(b) ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head) => head.querySelector("button")?.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.querySelector("button") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => [keyOf(row.cells[head.cellIndex]), row]);
      keyed.sort(([a], [b]) => (a === "") - (b === "") || (falling ? -compare(a, b) : compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    }));
  }
  for (const more of document.querySelectorAll("button.more:not(#unmark)")) {
    more.addEventListener("click", () => {
      document.getElementById("board").classList.remove("folded");
      more.remove();
    });
  }

  const trials = document.getElementById("trials");
  if (trials) linkTrials(trials);
  function linkTrials(table) {
    const filter = document.getElementById("filter"), matches = document.getElementById("matches");
    const unmark = document.getElementById("unmark"), rows = [...table.tBodies[0].rows];
    const columns = {};
    for (const head of table.tHead.rows[0].cells) if (head.dataset.name) columns[head.dataset.name] = head.cellIndex;
    const operators = {
      "=": (a, b) => a === b || (isNumber(a) && isNumber(b) && Number(a) === Number(b)),
      "!=": (a, b) => !operators["="](a, b),
      ">": (a, b) => a !== "" && compare(a, b) > 0, "<": (a, b) => a !== "" && compare(a, b) < 0,
      ">=": (a, b) => a !== "" && compare(a, b) >= 0, "<=": (a, b) => a !== "" && compare(a, b) <= 0,
    };
    const test = (term) => {  // `lr>=0.01` is a condition on a column; any other word must be in the row's text
      const parts = /^([\w.]+)(!=|>=|<=|=|>|<)(.+)$/.exec(term);
      if (parts && parts[1] in columns) {
        return (row) => operators[parts[2]](keyOf(row.cells[columns[parts[1]]]), parts[3]);
      }
      return (row) => row.textContent.toLowerCase().includes(term.toLowerCase());
    };
    const apply = () => {
      const tests = filter.value.split(/\s+/).filter(Boolean).map(test);
      let count = 0;
      for (const row of rows) {
        row.hidden = !tests.every((holds) => holds(row));
        count += !row.hidden;
      }
      matches.textContent = tests.length ? `${count} of ${rows.length}` : "";
    };
    const choose = (row) => {
      const id = row.dataset.trial;
      if (chosen.has(id)) chosen.delete(id);
      else chosen.set(id, colors.find((color) => ![...chosen.values()].includes(color)) ?? colors[0]);
      showChosen();
    };
    const showChosen = () => {
      for (const row of rows) {
        const color = chosen.get(row.dataset.trial);
        row.classList.toggle("chosen", color !== undefined);
        row.style.setProperty("--mark", color ?? "transparent");
        row.querySelector("button").setAttribute("aria-pressed", String(color !== undefined));
      }
      unmark.hidden = !chosen.size;
      const plot = page.plots.find((each) => each.name === "curves");
      if (plot) draw(plot);
    };
    filter.addEventListener("input", apply);
    table.tBodies[0].addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-trial]");
      if (row && !getSelection().toString()) choose(row);
    });
    unmark.addEventListener("click", () => { chosen.clear(); showChosen(); });
  }

  // A table that is wider than the window says so, until the reader has scrolled to its end.
  for (const box of document.querySelectorAll(".scroll")) {
    const hint = document.createElement("p");
    hint.className = "hint";
    hint.textContent = "more columns to the right →";
    box.before(hint);
    const look = () => {
      const isCut = box.scrollLeft + box.clientWidth < box.scrollWidth - 4;
      box.classList.toggle("cut", isCut);
      hint.hidden = !isCut;
    };
    box.addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    look();
  }
  if (window.Plotly) drawRest(0);
})();
