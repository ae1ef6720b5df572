"""The hardest images as a strip of pictures, with their labels and what is predicted in place of them."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from flexres_tune.datasets.pictures import stored_images
from flexres_tune.errors import ResultsError
from flexres_tune.report.data import ReportData
from flexres_tune.text import escape_html, shorten

if TYPE_CHECKING:
    import numpy as np

_NUM_IMAGES = 24
_SIZE = 72  # CSS pixels


def hardest_html(data: ReportData) -> str:
    """Pictures of the images that the most trials get wrong; "" without predictions, or while the sweep runs.

    Without pictures, because this machine has not decoded the data set, the images are named by their numbers.
    """
    from flexres_tune.predictions.classes import hardest_images
    from flexres_tune.report.plots.predictions import SPLIT

    if data.is_running:
        return ""
    try:
        rows = hardest_images(data.results, data.sweep, SPLIT, _NUM_IMAGES)
    except ResultsError:
        return ""
    rows = [row for row in rows if row.dataset == data.board.dataset and row.num_wrong]
    if not rows:
        return ""
    pictures = stored_images(data.board.dataset, SPLIT, [row.image for row in rows])
    figures = []
    for row in rows:
        label, predicted = (escape_html(shorten(name, 16)) for name in (row.label_name, row.often_predicted_name))
        picture = _img(pictures[row.image], f"image {row.image}") if row.image in pictures else f"<i>{row.image}</i>"
        figures.append(
            f"<figure title='image {row.image}'>{picture}<figcaption><b>{label}</b><br>→ {predicted} "
            f"({100 * row.often_predicted_share:.0f}&nbsp;%)<br>{row.num_wrong} of {row.num_trials} wrong</figcaption></figure>"
        )
    missing = "" if pictures else " There are no pictures, because this machine has not decoded the data set."
    note = (
        "The validation images that the most trials get wrong: the label in bold, after the arrow the wrong class that is "
        f"predicted most often, and by what share of the trials. If all trials agree, the label may be wrong.{missing}"
    )
    return f"<p class=note>{escape_html(note)}</p><div class=strip>{''.join(figures)}</div>"


def _img(pixels: np.ndarray, text: str) -> str:
    """(3, H, W) uint8 -> an <img> that holds a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0).copy()).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{text}" width={_SIZE} height={_SIZE} src="data:image/png;base64,{data}">'
