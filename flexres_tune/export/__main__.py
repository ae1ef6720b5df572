"""Export a sweep's best model: `python -m flexres_tune.export best --sweep optim --out best_model`."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from flexres_tune import cli
from flexres_tune.errors import FlexResError

EPILOG = """
Example:

  python -m flexres_tune.export best --sweep optim --out best_model

writes model.safetensors, config.json, load_model.py and model.onnx, each checked on the validation images.
"""
PACKAGES = ("safetensors", "onnx", "onnxscript", "onnxruntime")  # of the extra `export`

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback()
def export() -> None:
    """Export a trained model from the results folder."""


@app.command(epilog=EPILOG)
def best(
    sweep: Annotated[str, typer.Option(help="The sweep's name.", show_default=False)],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write to.", show_default=False)],
    results: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Where the results are: a folder, s3://... or gs://...")
    ] = "results",
) -> None:
    """Write the best confirmed model; if the sweep has no confirm trials, the best completed one."""
    from flexres_tune.export.best import find_best
    from flexres_tune.results import open_results
    from flexres_tune.storage import is_remote, make_path

    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise FlexResError(
            f"export needs packages that are not installed: {', '.join(missing)}; pip install 'flexres_tune[export]'"
        )
    folder = make_path(out)
    if is_remote(folder):
        raise FlexResError(
            f"--out {out}: must be a local folder, because the files are checked there; copy them afterwards"
        )
    opened = open_results(results)
    opened.choose(sweep)
    found = find_best(opened, sweep)

    from flexres_tune.export.files import export_trial

    check = export_trial(found, sweep, folder)
    row = found.row
    print(
        f"trial {row['trial_id']} ({row['stage']}), its weights after the last epoch: validation accuracy "
        f"{check.val_accuracy:.2%} here, {row['last_val_accuracy']:.2%} in the tables\n"
        f"model.onnx: logits within {check.largest_difference:.1e} of torch's on {check.num_images:,} validation "
        f"images\nwritten to {out}: model.safetensors, config.json, load_model.py, model.onnx"
    )


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
