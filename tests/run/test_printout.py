"""What `run` says about the trials and the images before a sweep, and about the answer after it."""

import io
import re

import pytest
from helpers.factories import make_config, make_predictions, make_sweep, make_trial
from rich.console import Console

from flexres_tune.analysis.answer import answer_of
from flexres_tune.datasets import describe_dataset
from flexres_tune.errors import DataError
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.run.printout import describe_images, describe_plan, print_ending, print_listing
from flexres_tune.search.base import Workload
from flexres_tune.spec import SweepSpec, expand_trials


def images_of_sweep(**values):
    spec = SweepSpec.model_validate({"name": "x", **values})
    return describe_images(spec, expand_trials(spec, describe_dataset))


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ({"dataset": "cifar10"}, "images: 45,000 training, 5,000 validation, 10,000 test images"),
        ({"dataset": "digits", "num_val_images": 497}, "images: 1,000 training, 497 validation, 300 test images"),
        ({"dataset": "digits", "num_train_images": 50}, "images: 50 training, 300 validation, 300 test images"),
        ({"dataset": "mnist", "test": "none"}, "images: 55,000 training, 5,000 validation, no test images"),
    ],
)
def test_the_split_is_told_with_what_the_sweep_changes_in_it(base, text):
    assert images_of_sweep(base={"model": "tiny", **base}) == text


def test_each_split_is_told_once():
    lr = {"values": [0.1, 0.2]}
    of_two = {"lr": lr, "dataset": {"values": ["digits", "mnist"]}, "resize": {"values": [16, 32]}}
    text = images_of_sweep(base={"model": "tiny"}, parameters=of_two)
    assert sorted(text.removeprefix("images: ").split("; ")) == [
        "1,197 training, 300 validation, 300 test images of digits",
        "55,000 training, 5,000 validation, 10,000 test images of mnist",
    ]
    many = images_of_sweep(
        base={"model": "tiny", "dataset": "digits"}, parameters={"num_train_images": {"values": [1, 2, 3, 4, 5, 6]}}
    )
    assert many.count("training") == 4 and many.endswith("and 2 other splits")


def test_a_search_that_draws_while_it_runs_tells_the_split_too():
    values = {"method": "tpe", "num_trials": 3, "parameters": {"lr": {"min": 0.1, "max": 0.2}}}
    assert "1,197 training" in images_of_sweep(base={"model": "tiny", "dataset": "digits"}, **values)


def test_a_search_that_draws_tells_how_many_each_level_gets_and_what_is_confirmed():
    spec = SweepSpec.model_validate(
        {
            "name": "x",
            "method": "tpe",
            "num_trials": 7,
            "base": {"model": "tiny", "dataset": "digits"},
            "parameters": {"optimizer": {"values": ["sgd", "adam"]}, "lr": {"min": 0.1, "max": 0.2}},
            "compare": "optimizer",
            "confirm": {"top": 1, "seeds": [5]},
        }
    )
    assert describe_plan(spec, ()).totals == (
        "7 trials: 7 configurations to be drawn while the sweep runs, 3 to 4 configurations of each level, x 1 seed; then "
        "the best 1 of each level again on 1 fresh seed"
    )


@pytest.mark.parametrize("key", ["num_val_images", "num_train_images"])
def test_more_images_than_there_are_are_refused_before_anything_starts(key):
    with pytest.raises(DataError, match=rf"{key} must .* but got 1,500"):
        images_of_sweep(base={"model": "tiny", "dataset": "digits", key: 1500})


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_listing_has_every_character_of_the_values(is_terminal, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    varied = {"lr": 0.003, "augmentation": ["crop", "flip", "cutout"], "model": "tiny", "lr_schedule": "onecycle"}
    parameters = {key: {"values": [value]} for key, value in varied.items()}
    spec = SweepSpec.model_validate({"name": "x", "base": {"dataset": "digits"}, "parameters": parameters})
    trials = expand_trials(spec, describe_dataset)
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=is_terminal, color_system=None, legacy_windows=False)
    print_listing(
        console, spec, trials, Workload(tuple(trials), tuple(trials), 1, 0, 20), SweepPaths(tmp_path, "x").folder, None
    )
    lines = out.getvalue().split("1 trial:")[0].splitlines()
    text = "".join(lines)
    assert "…" not in text and trials[0].config.trial_id in text and "0.003" in text and "19,994" in text
    assert all(len(line) <= 80 for line in lines) if is_terminal else len(lines) == 2 and "cutout" in lines[1]


@pytest.fixture
def ending(paths):
    """What the end of a run prints of four optimizers, each at two rates, and one that has not run: (lines, the answer)."""

    def make(width, screened=None, **changes):
        names = ("sgd", "nesterov", "adam", "adamw")
        runs = [(0.1, 0, "screen"), (0.03, 0, "screen"), *((0.1, seed, "confirm") for seed in (10, 11, 12))]
        with SweepWriter(paths) as writer:
            for place, optimizer in enumerate(names):
                for lr, seed, stage in runs:
                    config = make_config(optimizer=optimizer, lr=lr, seed=seed)
                    best = 0.95 - place / 50 - seed % 2 * place / 1000 - (lr == 0.03) / 100
                    best = (screened or {}).get(optimizer, best) if (lr, seed) == (0.1, 0) else best
                    writer.add_trial(make_trial(config, best=best, stage=stage), config)
                    row, labels = make_predictions([[best, 1 - best]] * 90, [0] * 90, config.trial_id, split="test")
                    writer.add_predictions([row], [labels])
        parameters = {"optimizer": {"values": [*names, "adagrad"]}, "lr": {"values": [0.1, 0.03]}}
        base = {"model": "tiny", "dataset": "digits"}  # of make_config()
        spec = {"name": "demo", "base": base, "parameters": parameters, "compare": ["optimizer"]} | changes
        write_plan(paths, make_plan(make_sweep(**spec), [], "the command", {}))
        out = io.StringIO()
        print_ending(Console(file=out, width=width, force_terminal=True, color_system=None), paths, has_new_rows=True)
        printed = re.sub(r"\x1b\[[0-9?]*[a-zA-Z]", "", out.getvalue())
        lines = [line.rstrip() for line in printed.splitlines() if "writing the report" not in line]
        return list(filter(None, lines)), answer_of(open_results(paths.root), "demo")

    return make


@pytest.mark.parametrize("width", [80, 200])
def test_end_of_a_run_is_a_table_the_answer_and_the_commands_that_show_the_rest(ending, width):
    lines, answer = ending(width)
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("sgd (lr=0.1)"))]
    assert [line.split()[0] for line in table[-5:]] == ["sgd", "nesterov", "adam", "adamw", "adagrad"]
    assert "separable" in " ".join(table)
    text = " ".join(map(str.strip, lines))
    assert answer.claim in text and "Not compared: adagrad (none of its trials has ended)." in text
    assert "trained again" not in text and "left out for width" not in text
    assert lines[-2].startswith("next:   python -m flexres_tune.query answer --sweep demo")
    assert lines[-1].strip().startswith("python -m flexres_tune.query leaderboard --sweep demo")
    assert max(map(len, lines[:-4])) <= width and len(lines) <= 24


def test_end_of_a_run_says_why_a_higher_mean_is_not_first(ending):
    reason = "in the order of the mean over all runs"
    assert reason not in " ".join(ending(200)[0])
    assert reason in " ".join(ending(200, screened={"sgd": 0.90, "nesterov": 0.99})[0])


def test_end_of_a_run_has_what_was_asked_for_and_a_limited_number_of_caveats(ending, monkeypatch):
    monkeypatch.setattr("flexres_tune.run.printout.MAX_CAVEATS", 0)
    lines, answer = ending(200, baseline={"optimizer": "adam", "lr": 0.1})
    text = " ".join(map(str.strip, lines))
    assert answer.findings[0].startswith("Over the baseline: sgd lr=0.1 is 4") and answer.findings[0] in text
    assert answer.caveats and not any(caveat in text for caveat in answer.caveats)


def test_end_of_a_run_without_levels_has_the_leaderboard(ending):
    lines, answer = ending(200, compare=[])
    assert any(line.split()[0] == "1" and " sgd " in line for line in lines[:9])
    assert answer.claim in " ".join(map(str.strip, lines))
