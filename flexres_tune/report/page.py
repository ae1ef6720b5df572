"""Page: one HTML file that loads no other file and runs no code from the data of a sweep.

Text is escaped, and data is JSON with `<` written as \\u003c. The page's Content-Security-Policy runs only the scripts
whose hashes it contains and forbids access to the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from flexres_tune.report.plots.style import Plot, template
from flexres_tune.text import escape_html


@dataclass(frozen=True)
class Part:
    """A section of a page: a heading, plots, and HTML in which the caller has escaped all text."""

    name: str  # heading, and text of the link at the top of the page
    html: str = ""  # above the plots
    plots: Sequence[Plot] = ()
    html_after: str = ""  # below the plots


def page_html(
    title: str,
    head: str,
    parts: Sequence[Part],
    foot: str,
    version: str = "",
    curves: Mapping[str, Any] | None = None,
) -> str:
    """The page as one string.

    Args:
        title: title of the browser's tab, as plain text; escaped here.
        head: HTML above the first section.
        foot: HTML below the last section.
        version: version of the tables, which a live page compares with the server's; "" for a file.
        curves: of the trials of the table, which a click on a row draws; see report/trials.py.
    """
    parts = [part for part in parts if part.html or part.plots or part.html_after]  # an empty one is left out
    plots = [plot for part in parts for plot in part.plots]
    data = {
        # Plotly's own JSON writes numbers that are not finite as null, because JSON has no NaN
        "plots": [{"name": plot.name, "figure": json.loads(plot.figure.to_json(engine="json"))} for plot in plots],
        "curves": curves or {},
        "templates": {theme: template(theme) for theme in ("light", "dark")},
    }
    scripts = [*([plotly_js()] if plots else []), _asset("page.js")]
    if version:
        scripts.append(_asset("live.js"))
    links = "".join(f'<a href="#{_id(part.name)}">{escape_html(part.name)}</a>' for part in parts)
    return "".join(
        [
            f'<!doctype html><html lang="en" data-version="{escape_html(version)}"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts, bool(version))}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape_html(title)}</title><style>{_asset('page.css')}</style></head><body>",
            head,
            f"<nav>{links}</nav>" if len(parts) > 1 else "",
            *map(_section, parts),
            f"<footer>{foot}</footer>",
            f'<script type="application/json" id="page-data">{_json(data)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        ]
    )


def _section(part: Part) -> str:
    figures = "".join(
        f"<figure><h3>{_unbroken(plot.finding.removesuffix('.'))}.</h3>"
        f'<div class=plot id="plot-{plot.name}" style="height:{plot.figure.layout.height}px"></div>'
        f"<figcaption class=note>{escape_html(' '.join(plot.notes))}</figcaption></figure>"
        for plot in part.plots
    )
    if len(part.plots) > 1:
        figures = f"<div class=grid>{figures}</div>"
    heading = f"<h2>{escape_html(part.name)}</h2>"
    return f'<section id="{_id(part.name)}">{heading}{part.html}{figures}{part.html_after}</section>'


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")


def _json(data: Any) -> str:
    """JSON that is safe inside a <script> element."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _policy(scripts: Sequence[str], is_live: bool) -> str:
    allowed = "'self'" if is_live else "'none'"
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"connect-src {allowed}; base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return files("flexres_tune.report").joinpath(name).read_text(encoding="utf-8")


@cache
def plotly_js() -> str:
    """Plotly's script (4.8 MB), from its Python package."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    if "</script" in script.lower():  # it would end the <script> element
        raise AssertionError("plotly.js contains </script and cannot be put inline")
    return script.replace("\r\n", "\n").replace("\r", "\n")  # browsers do this before they compute the hash


def _unbroken(text: str) -> str:
    """Escaped text in which no line ends between a number and its %."""
    return escape_html(text).replace(" %", "&nbsp;%")
