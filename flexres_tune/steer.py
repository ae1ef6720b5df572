"""Steer a running sweep from another terminal: `python -m flexres_tune.steer optim stop 8c4d11a5e36f-0`."""

from __future__ import annotations

from typing import Annotated

import typer

from flexres_tune import cli
from flexres_tune.errors import FlexResError
from flexres_tune.results import open_results
from flexres_tune.results.lock import find_holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.sweep.steering import Act, send_request, wait_for_answer
from flexres_tune.text import did_you_mean

ANSWER_WITHIN_S = 20.0  # the driver looks every second, on object storage every 5 s

EPILOG = """
Examples:

  python -m flexres_tune.steer optim stop 8c4d11a5e36f-0

  python -m flexres_tune.steer optim prioritise 8c4d11a5e36f-0

  python -m flexres_tune.steer optim reload

To extend a sweep, edit its file (more seeds or values, a larger budget, confirm.num_runs, keep at a rung) and reload.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def steer(
    sweep: Annotated[str, typer.Argument(help="The sweep's name.", show_default=False)],
    act: Annotated[
        Act,
        typer.Argument(
            help="stop: a running trial, after its current epoch. prioritise: a trial that waits starts next. "
            "reload: save all trials, read the sweep file again, and continue.",
            show_default=False,
        ),
    ],
    trial: Annotated[str | None, typer.Argument(help="Its trial_id, or how it begins.", show_default=False)] = None,
    results: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Folder of the tables, or s3://BUCKET/... or gs://BUCKET/...")
    ] = "results",
) -> None:
    """Ask the driver of a running sweep for something; each act becomes a row of `decisions`."""
    if (trial is None) != (act is Act.RELOAD):
        rule = "reload takes no trial" if trial else f"{act} needs a trial: steer {sweep} {act} TRIAL_ID"
        raise FlexResError(rule)
    opened = open_results(results)
    (name,) = opened.choose(sweep)
    paths = SweepPaths(opened.root, name)
    plan = plan_or_none(paths)
    trial_id = _find_trial(opened, name, plan, trial) if trial else ""
    holder = find_holder(paths)
    if holder is None:
        command = f"; to run it: {plan.command}" if plan else ""
        raise FlexResError(f"no driver runs sweep {name} now, so nothing can be steered{command}")
    request = send_request(paths, act, trial_id, holder)
    answer = wait_for_answer(paths, request, ANSWER_WITHIN_S)
    if answer is None:
        raise FlexResError(
            f"the driver ({holder}) has not answered within {ANSWER_WITHIN_S:g} s; it answers while trials run, and "
            "will still do what was asked when it reads the request"
        )
    if not answer.is_done:
        raise FlexResError(answer.text)
    typer.echo(answer.text)


def _find_trial(results: Results, sweep: str, plan: Plan | None, text: str) -> str:
    """The trial_id that `text` is, or that begins with it."""
    known = set(results.trials(sweep)["trial_id"].to_pylist())
    known |= {trial.trial_id for trial in plan.trials} if plan else set()
    found = [text] if text in known else sorted(each for each in known if each.startswith(text))
    if len(found) == 1:
        return found[0]
    if found:
        raise FlexResError(f"trial {text!r} could be {', '.join(found[:5])}; write more of it")
    raise FlexResError(f"sweep {sweep} has no trial {text[:100]!r}{did_you_mean(text, known)}")


def main() -> None:
    """Entry point."""
    cli.main(app)


if __name__ == "__main__":
    main()
