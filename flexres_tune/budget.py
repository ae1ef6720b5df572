"""A model's parameters, layer by layer, and the widest model under a budget: `python -m flexres_tune.budget resnet22_2`.

By arithmetic: no model is built, and torch is not imported.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from flexres_tune import cli
from flexres_tune.cli import Format
from flexres_tune.errors import FlexResError, Problem, SpecError
from flexres_tune.spec.architecture import Architecture, preset
from flexres_tune.spec.document.document import show
from flexres_tune.spec.document.yaml_reader import parse_yaml
from flexres_tune.spec.parameters import Layer, list_layers
from flexres_tune.spec.trial_values import parse_model
from flexres_tune.spec.width import FIT, Fit, widest, with_ratio
from flexres_tune.trial_options import read_options, refuse, with_options

DEFAULT_BUDGET = 5_000_000
_SUFFIXES = {"": 1, "k": 1_000, "m": 1_000_000}
_NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)([kKmM]?)")  # 5M, 800k, 5000000
EPILOG = """
Examples:

  python -m flexres_tune.budget resnet22_2

  python -m flexres_tune.budget --blocks 3,3,3,3 --max-parameters 5M

  python -m flexres_tune.budget --blocks 3,2,3,2 --channels 2,4,6,8 --max-parameters 2_000_000 --image-size 64

  python -m flexres_tune.budget --block bottleneck --blocks 3,3,3 --channels 64,128,256 --pool-size 8 --format csv

With --max-parameters the channels (the given ones, or the preset's; doubling if there are none) are only a ratio, and
the widest model of that ratio is found: first the largest scale for all layers that fits, then single channels, each
for the layer that is next in the ratio, until no layer can have one more.
"""


app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
@with_options({"Model": Architecture})
def budget(
    model: Annotated[
        str | None, typer.Argument(help="Name of a preset, such as resnet22_2; or use --blocks.", show_default=False)
    ] = None,
    max_parameters: Annotated[
        str | None,
        typer.Option(help="Find the widest channels with at most N parameters.", metavar="N", show_default=False),
    ] = None,
    image_size: Annotated[int, typer.Option(min=1, max=4096, help="Height and width of the images.")] = 32,
    num_classes: Annotated[int, typer.Option(min=1, max=100_000, help="Outputs of the classifier.")] = 10,
    format: Annotated[Format, typer.Option(help="How to print the layers.", metavar="[table|csv|json|markdown]")] = (
        Format.TABLE
    ),
    **fields: str | None,
) -> None:
    """List a model's layers with shape, parameters, share and FLOPs, or find the widest model under a budget."""
    if format is Format.PARQUET:
        raise FlexResError("--format must be table, csv, json or markdown, but got parquet, which is binary; use csv")
    if model is None and fields["blocks"] is None:
        message = "a preset's name or --blocks must be given; for example resnet22_2, or --blocks 3,3,3,3"
        raise SpecError([Problem("MODEL", message)])
    if model is not None and (number := _NUMBER.fullmatch(model.strip())):
        shown = f"{float(number[1]) * _SUFFIXES[number[2].lower()]:.0f}"
        message = f"must be a preset's name, but got {show(model)}; for a budget write --blocks 3,3,3,3 --max-parameters {shown}"
        raise SpecError([Problem("MODEL", message)])
    row = (preset(model) if model is not None else {}) | read_options(fields)
    row.pop("num_parameters", None)
    architecture, findings = parse_model({"model": with_ratio(row)})
    refuse(findings)
    fit = None
    if max_parameters is not None or "channels" not in row:
        budget = _read_budget(max_parameters)
        fit = widest(row, budget, num_classes, image_size)
        architecture = fit.architecture
    layers = list_layers(architecture, num_classes, image_size)
    if format is not Format.TABLE:
        sys.stdout.write(_text_of(layers, format))
        return
    _print_layers(layers, f"{architecture.name} for {image_size}x{image_size} images and {num_classes} classes")
    if fit:
        _print_fit(fit, row, budget)


def _read_budget(text: str | None) -> int:
    if text is None:
        return DEFAULT_BUDGET
    number = _NUMBER.fullmatch(text.strip())
    value = parse_yaml(text, "--max-parameters", line=0).data
    if number:
        value = float(number[1]) * _SUFFIXES[number[2].lower()]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != int(value) or value < 1:
        message = f"must be a whole number above 0, but got {show(value)}; for example 5e6, or 5M"
        raise SpecError([Problem("--max-parameters", message)])
    return int(value)


def _print_layers(layers: Sequence[Layer], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    total, flops = sum(layer.num_parameters for layer in layers), sum(layer.flops for layer in layers)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    grid.add_column("layer", "total", no_wrap=True)
    grid.add_column("shape", no_wrap=True)
    for name, footer in (("parameters", f"{total:,}"), ("share", "100.0 %"), ("FLOPs", f"{flops:,}")):
        grid.add_column(name, footer, justify="right", no_wrap=True)
    for layer in layers:
        shape = " x ".join(map(str, layer.shape))
        share = f"{100 * layer.num_parameters / total:.1f} %"
        grid.add_row(layer.name, shape, f"{layer.num_parameters:,}", share, f"{layer.flops:,}")
    console = Console(highlight=False)
    console.print(title, style="bold", soft_wrap=True)
    console.print(grid)
    console.print(
        "shape: channels x height x width; FLOPs: forward pass of one image, a multiply and an add count as two",
        soft_wrap=True,
    )


def _print_fit(fit: Fit, row: dict[str, Any], budget: int) -> None:
    ratio = "-".join(map(str, with_ratio(row)["channels"]))
    channels = list(fit.architecture.channels)
    refined = "" if fit.scaled == fit.architecture.channels else f"; with single channels added: {channels}"
    print(
        f"widest with the ratio {ratio} under {budget:,}: one scale for all layers: {list(fit.scaled)}{refined}\n"
        f"{fit.num_parameters:,} parameters, {budget - fit.num_parameters:,} remaining\n\n"
        f"model: {show(row | {'channels': channels}, 1000)}\n"
        f"# or, for the sweep's max_parameters and images: {show(row | {'width': FIT}, 1000)}"
    )


def _text_of(layers: Sequence[Layer], format: Format) -> str:
    import pyarrow as pa

    from flexres_tune.display import render

    total = sum(layer.num_parameters for layer in layers)
    rows = [
        {
            "layer": layer.name,
            "shape": list(layer.shape),
            "num_parameters": layer.num_parameters,
            "share": round(layer.num_parameters / total, 6),
            "flops": layer.flops,
        }
        for layer in layers
    ]
    write = {Format.CSV: render.to_csv, Format.JSON: render.to_json, Format.MARKDOWN: render.to_markdown}[format]
    return write(pa.Table.from_pylist(rows))


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
