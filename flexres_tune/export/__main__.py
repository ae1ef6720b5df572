"""Export a trained model: `python -m flexres_tune.export best --sweep optim --out best_model`."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from flexres_tune import cli
from flexres_tune.errors import FlexResError
from flexres_tune.sweep_option import CommandOfSweep

EPILOG = """
Examples:

  python -m flexres_tune.export best --sweep optim --out best_model

  python -m flexres_tune.export 0123456789ab-0 --out a_model

writes model.safetensors, config.json, network.py, load_model.py and model.onnx, checked on the validation images.
"""
PACKAGES = ("safetensors", "onnx", "onnxscript", "onnxruntime")  # of the extra `export`

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=CommandOfSweep, epilog=EPILOG)
def export(
    trial: Annotated[
        str, typer.Argument(metavar="best|TRIAL_ID", help="The sweep's best trial, or any trial.", show_default=False)
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write to.", show_default=False)],
    sweep: Annotated[str | None, typer.Option(help="The sweep's name, for best.", show_default=False)] = None,
    results: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Where the results are: a folder, s3://... or gs://...")
    ] = "results",
    code: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The sweep file's folder, if the trial has own code: export executes it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a trained model: the best confirmed one, the best completed one if none is confirmed, or a trial's."""
    from flexres_tune.export.trained import find_best, find_trial, read_code
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
    if (trial == "best") != (sweep is not None):
        raise FlexResError(
            "export needs `best --sweep NAME`, or a trial_id without --sweep, but got "
            f"{trial}{f' and --sweep {sweep}' if sweep else ' without --sweep'}"
        )
    opened = open_results(results)
    opened.choose(sweep)
    found = find_best(opened, sweep) if sweep else find_trial(opened, trial)
    sweep = found.row["sweep"]
    found = read_code(found, code, "export", "with --code FOLDER")

    from flexres_tune.export.files import export_trial

    check = export_trial(found, sweep, folder)
    row = found.row
    words = {"val": "validation", "test": "test"}[check.split]
    measured = row["last_val_accuracy" if check.split == "val" else "test_accuracy"]
    print(
        f"trial {row['trial_id']} ({row['stage']}), its weights after the last epoch: {words} accuracy "
        f"{check.accuracy:.2%} here, {measured:.2%} in the tables\n"
        f"model.onnx: logits within {check.largest_difference:.1e} of torch's on {check.num_images:,} {words} "
        f"images\nwritten to {out}: model.safetensors, config.json, network.py, load_model.py, model.onnx"
    )


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
