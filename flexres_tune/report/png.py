"""Plots as PNG files for papers, drawn by Kaleido in the browser that is installed; nothing is downloaded."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import textwrap
from pathlib import Path
from typing import Any

from flexres_tune.errors import ResultsError, describe_os_error
from flexres_tune.report.data import ReportData
from flexres_tune.report.plots.style import Plot, template
from flexres_tune.report.sections import all_plots
from flexres_tune.storage import AnyPath, atomic_write_bytes
from flexres_tune.text import escape_html

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_WIDTH = 720  # px at scale 1: a column and a half of a paper
_SCALE = 3  # 300 dots an inch at 7.2 inches
_LINE = 84  # characters of the title's lines


def write_png_files(data: ReportData, folder: AnyPath) -> list[AnyPath]:
    """Write one PNG file per plot, with a white background and the finding as its title.

    Raises:
        ResultsError: no Kaleido, no browser, no plots, or the folder cannot be written.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise ResultsError("--png needs kaleido, which is not installed; pip install 'flexres_tune[png]'")
    browser = find_browser()
    plots = all_plots(data)
    if not plots:
        raise ResultsError(f"sweep {data.sweep} has nothing to plot yet; run it until some trials have finished")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = asyncio.run(_draw(plots, browser))
    except OSError as error:
        raise ResultsError(f"{folder}: {describe_os_error(error)}") from error
    except Exception as error:  # Kaleido and the browser raise many types
        raise ResultsError(f"{browser} could not draw the plots: {type(error).__name__}: {error}") from error
    paths = []
    for plot, picture in zip(plots, pictures, strict=True):
        path = folder / f"{plot.name}.png"
        atomic_write_bytes(path, picture)
        paths.append(path)
    return paths


def find_browser() -> str:
    """Path of Chromium or Chrome.

    Raises:
        ResultsError: none is installed.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise ResultsError(
            "--png needs Chromium or Chrome, but none is on the PATH; install it (apt-get install chromium), or open "
            "report.html in a browser and use the camera button above each plot"
        )
    return found


async def _draw(plots: list[Plot], browser: str) -> list[bytes]:
    import kaleido
    import plotly

    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    page = kaleido.PageGenerator(plotly=str(script), mathjax=False)  # the defaults download both
    async with kaleido.Kaleido(n=1, page_generator=page, path=browser) as drawer:
        return [
            await drawer.calc_fig(figure, opts={"format": "png", "scale": _SCALE}) for figure in map(_titled, plots)
        ]


def _titled(plot: Plot) -> dict[str, Any]:
    """The figure as Plotly's JSON, on white: its finding above the plot, a legend that stood above it below."""
    figure = plot.figure.to_plotly_json()
    layout = dict(figure["layout"])
    lines = textwrap.wrap(plot.finding, _LINE)
    above, below = 34 + 19 * len(lines), 40
    if layout["xaxis"].get("side") == "top":
        above += 56  # three lines of names between the title and the plot
    height = layout["height"] + above + below
    legend = dict(layout["legend"])
    if legend["y"] > 1:
        legend |= {"y": -95 / (layout["height"] - 60), "yanchor": "top"}  # 95 px: three lines of ticks and a title
    layout |= {
        "template": template("light"),
        "width": _WIDTH,
        "height": height,
        "margin": dict(layout["margin"]) | {"t": above},
        "legend": legend,
        "title": {
            "text": "<br>".join(map(escape_html, lines)),
            "x": 0.01, "xanchor": "left", "yref": "container", "yanchor": "top",
            "y": 1 - (2 + 11 * len(lines)) / height,
            "font": {"size": 15},
        },
    }  # fmt: skip
    return figure | {"layout": layout}
