"""`report --checklist`: what the tables know, honestly."""

import json

import pytest
from helpers.command import invoke
from helpers.factories import make_config, make_predictions, make_sweep, make_trial

from flexres_tune.report.__main__ import app
from flexres_tune.report.checklist import NOT_RECORDED, QUESTIONS, checklist
from flexres_tune.report.data import read_data
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter

SPEC = {
    "name": "demo",
    "metric": {"name": "val_accuracy", "at": "last"},
    "parameters": [{"lr": {"values": [0.1, 0.2]}}, {"lr": {"min": 0.3, "max": 0.5}}],
    "method": "random",
    "num_trials": 3,
    "early_terminate": {"type": "asha", "variant": "stopping"},
    "confirm": {"top": 1, "seeds": [10, 11, 12]},
}


@pytest.fixture
def answers(paths):
    """Write [(lr, seed, stage, status)] and a plan, if any; the answer of each question, by the question's text."""

    def make(*trials, spec=SPEC):
        with SweepWriter(paths) as writer:
            for lr, seed, stage, status in trials:
                split = {"val_split": "none"} if stage == "final" else {}
                config = make_config(lr=lr, seed=seed, **split)
                best = None if stage == "final" or status == "failed" else 0.9 + lr / 100 + seed / 1000
                record = {"test_accuracy": 0.95} if stage == "final" else {}
                writer.add_trial(make_trial(config, status, best, stage=stage, **record), config)
                row, labels = make_predictions([[0.9, 0.1]] * 7, [0] * 7, config.trial_id)
                writer.add_predictions([row], [labels])
        if spec:
            write_plan(paths, make_plan(make_sweep(**spec), [], "python -m flexres_tune.run x.yaml", {}))
        data = read_data(open_results(paths.root), "demo")
        return {question.text: question.answer(data) for question in QUESTIONS}, checklist(data)

    return make


SCREEN = [(lr, 0, "screen", "completed") for lr in (0.1, 0.2)]
CONFIRM = [(0.2, seed, "confirm", "completed") for seed in (10, 11, 12)]


def test_ranges_stages_and_selection_are_those_of_the_sweep(answers):
    found, text = answers(*SCREEN, (0.4, 0, "screen", "stopped"), *CONFIRM, (0.2, 0, "final", "completed"))
    ranges = found["Which ranges were searched, and how?"]
    assert (
        ranges == "random (random draws), early stopping by asha. Searched: lr: 0.1, 0.2; or lr: 0.3 to 0.5 (uniform)."
    )
    tried = found["How many configurations were tried, and what became of them?"]
    assert tried == (
        "3 configurations, 6 trials (3 in stage screen, 3 in stage confirm); 5 completed, 1 stopped. "
        "Besides them 1 final run on all training images, not ranked."
    )
    rule = found["By which rule was the winner chosen?"]
    assert "after the last epoch" in rule and "The best 1 of the screening ran again on fresh seeds" in rule
    assert "n = 3" in found["What is the validation result, over how many runs?"]
    assert "trained once more on all training images" in found["What is the test result?"]
    assert "and 10 s of the final run" in found["How much compute?"].replace("10.0 s", "10 s")
    assert found["How many images are in each split, and how were they split?"].startswith("7 validation images;")
    assert text.count("\n**") == len(QUESTIONS) and text.startswith("# Reproducibility checklist: demo")


def test_a_validation_split_of_the_data_is_not_called_held_out(paths):
    """The tables do not say whether files have a validation split of their own."""
    config = make_config(dataset="image_folder:photos")
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config), config)
    answer = checklist(read_data(open_results(paths.root), "demo"))
    assert "validation images are the data's own validation split, or without one held out of the training" in answer


def test_screening_is_not_called_a_confirmation_and_one_seed_has_no_error_bar(answers):
    """The plan has `confirm`, but it has not run yet."""
    found, _ = answers(*SCREEN)
    assert "same seeds by which the configuration was chosen" in found["By which rule was the winner chosen?"]
    assert found["Are there error bars, and of what?"].startswith("No")
    assert "one seed, so there is no interval" in found["What is the validation result, over how many runs?"]


FEW = [(lr, seed, stage, "completed") for lr in (0.1, 0.2) for seed, stage in ((0, "screen"), (10, "confirm"))]


@pytest.mark.parametrize("compare", [["lr"], []])
def test_one_fresh_seed_has_error_bars_that_rest_on_the_runs_of_the_screening(answers, compare):
    """Of the mean with `compare`, as in the table of the answer; without it of differences only."""
    levels = {"parameters": [{"lr": {"values": [0.1, 0.2]}}], "method": "grid", "num_trials": None, "compare": compare}
    found, _ = answers(*FEW, spec=SPEC | levels)
    bars, result = (
        found["Are there error bars, and of what?"],
        found["What is the validation result, over how many runs?"],
    )
    assert "n = 1" in result and ("95 % interval" in result) == bool(compare)
    if compare:
        assert bars.startswith("Yes. 95 % intervals have the standard deviation pooled over") and "±" not in bars
    else:
        assert bars.startswith("Of differences, and not of the mean") and "no interval" in result


def test_without_a_plan_or_a_completed_trial_nothing_is_made_up(answers):
    found, _ = answers((0.1, 0, "screen", "failed"), spec=None)
    assert found["Which ranges were searched, and how?"].startswith(NOT_RECORDED)
    assert found["Which command reproduces the result?"] == f"command: {NOT_RECORDED}."
    assert found["What is the test result?"].endswith(f"{NOT_RECORDED}.")
    assert found["Which values did it choose?"] == "No configuration has run to the end."
    assert found["Where is the code published?"].startswith(NOT_RECORDED)


def test_damaged_plan_is_not_believed(answers, paths):
    answers(*SCREEN)
    plan = json.loads(paths.plan.read_text())
    plan["spec"]["parameters"] = 3
    paths.plan.write_text(json.dumps(plan))
    data = read_data(open_results(paths.root), "demo")
    assert NOT_RECORDED in next(q for q in QUESTIONS if "ranges" in q.text).answer(data)


def test_command_prints_markdown_and_needs_one_sweep(answers, paths):
    answers(*SCREEN)
    done = invoke(app, "--checklist", "--results", str(paths.root))
    assert done.exit_code == 0 and done.output.startswith("# Reproducibility checklist: demo\n")
    done = invoke(app, "--checklist", "--index", "--results", str(paths.root))
    assert "--index and --checklist exclude each other" in done.output
