"""The answer to the question of a sweep: a row per level, and a sentence that claims no more than the tests."""

from dataclasses import replace

import pytest
from helpers.factories import make_sweep

from flexres_tune.analysis.answer import answer_of
from flexres_tune.analysis.summary import order_note
from flexres_tune.query.answers import answer_answer
from flexres_tune.records import LeftOut
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def ask(paths, make_config, make_trial):
    """Writes [(configuration, stage, values by seed)], None for a stopped trial; the answer."""

    def make(*groups, compare=("optimizer",), planned=("sgd", "adamw"), left_out=LeftOut(), **further):
        with SweepWriter(paths) as writer:
            for values, stage, scores in groups:
                for seed, best in scores.items():
                    config = make_config(**values, seed=seed)
                    status = "stopped" if best is None else "completed"
                    writer.add_trial(make_trial(config, status, best or 0.5, stage=stage), config)
        base = {"model": "tiny", "dataset": "digits", "lr": 0.1}
        spec = {"name": "demo", "compare": list(compare), "base": base}
        spec["parameters"] = [{"optimizer": {"values": list(planned)}}]
        spec |= further
        plan = make_plan(make_sweep(), [], "the command", {})
        write_plan(paths, replace(plan, spec=spec, left_out=left_out))
        return answer_of(open_results(paths.root), "demo")

    return make


def opt(name, lr=0.1):
    return {"optimizer": name, "lr": lr}


def seeds(*values, first=10):
    return dict(enumerate(values, first))


SGD = (opt("sgd"), "confirm", seeds(0.971, 0.975, 0.969, 0.974, 0.972))
NESTEROV = (opt("nesterov", 0.03), "confirm", seeds(0.972, 0.973, 0.970, 0.973, 0.971))
ADAMW = (opt("adamw", 0.003), "confirm", seeds(0.951, 0.954, 0.950, 0.955, 0.950))


def test_sentence_names_what_is_not_separable_and_what_is_beaten(ask):
    answer = ask(SGD, NESTEROV, ADAMW, (opt("sgd", 0.3), "screen", {0: 0.96}), planned=["sgd", "nesterov", "adamw"])
    assert [row.name for row in answer.rows] == ["sgd (lr=0.1)", "nesterov (lr=0.03)", "adamw (lr=0.003)"]
    assert answer.sentence.startswith(
        "sgd (lr=0.1) and nesterov (lr=0.03) are not separable; both beat adamw (lr=0.003) by at least 1."
    )
    assert "over 5 fresh seeds" in answer.sentence
    assert [row.num_configs for row in answer.rows] == [2, 1, 1]
    assert [row.separable_from_leader for row in answer.rows] == ["leader", "no", "yes"]


@pytest.mark.parametrize("compare", [("optimizer",), ()])  # () has no rows, and the sentence of the summary
def test_sentence_says_what_the_budget_left_out(ask, compare):
    sentence = ask(SGD, ADAMW, compare=compare, left_out=LeftOut(configurations=3, runs=1)).sentence
    assert sentence.endswith(
        " The budget left out 3 configurations of the screening, not begun, and 1 run of the confirmation; raise it to run "
        "the rest."
    )
    assert "budget" not in ask(SGD, ADAMW, compare=compare).sentence


def test_sentence_names_the_two_that_more_seeds_would_separate(ask):
    sentence = ask(SGD, NESTEROV, ADAMW, planned=["sgd", "nesterov", "adamw"]).sentence
    assert "each would separate sgd (lr=0.1) and nesterov (lr=0.03)" in sentence


def test_order_that_the_shown_means_do_not_have_is_explained(ask):
    """nesterov is ahead on fresh seeds, sgd if its run of the screening counts as well."""
    sgd = (opt("sgd"), "confirm", seeds(0.970, 0.971))
    nesterov = (opt("nesterov"), "confirm", seeds(0.972, 0.973))
    screen = [(opt("sgd"), "screen", {0: 0.999}), (opt("nesterov"), "screen", {0: 0.960})]
    answer = ask(*screen, sgd, nesterov, planned=["sgd", "nesterov"])
    assert answer.rows[0].level == "sgd" and answer.rows[0].metric_mean < answer.rows[1].metric_mean
    assert "the order of the mean over all runs, with that of the screening" in order_note(answer.board)


def test_order_of_the_shown_means_is_not_explained_away(ask):
    assert order_note(ask(SGD, ADAMW).board) == ""


def test_levels_without_a_result_say_why(ask):
    answer = ask(
        SGD,
        ADAMW,
        (opt("adam"), "screen", {0: None, 1: None}),
        (opt("adagrad"), "screen", {0: 0.95, 1: None, 2: 0.96}),
        (opt("nesterov"), "screen", {0: 0.99}),
        planned=["sgd", "adamw", "adam", "adagrad", "nesterov", "adadelta"],
    )
    problems = {row.parameters["optimizer"]: row.problem for row in answer.rows}
    assert problems == {
        "sgd": None,
        "adamw": None,
        "adam": "no trial ran to the end: 2 stopped early",
        "adagrad": "2 of 3 seeds ran to the end",
        "nesterov": "it was not confirmed",
        "adadelta": "none of its trials has ended",
    }
    assert answer.sentence.startswith("sgd (lr=0.1) is best: it beats adamw (lr=0.003) by at least")
    assert "Not compared: " in answer.sentence and "adagrad (2 of 3 seeds ran to the end)" in answer.sentence


def test_one_seed_and_two_seeds_claim_nothing(ask):
    sentence = ask((opt("sgd"), "screen", {0: 0.98}), (opt("adam"), "screen", {0: 0.70})).sentence
    assert "with one seed there is no interval" in sentence and "best" not in sentence and "beat" not in sentence


def test_two_seeds_say_that_they_cannot_show_it(ask):
    sentence = ask((opt("sgd"), "confirm", seeds(0.96, 0.98)), (opt("adam"), "confirm", seeds(0.95, 0.98))).sentence
    assert sentence.startswith("2 seeds cannot show which of sgd and adam is best.")
    assert "separable" not in sentence


def test_different_numbers_of_seeds_are_both_named(ask):
    values = {"sgd": (0.961, 0.960, 0.963), "adam": (0.958, 0.959), "adagrad": (0.957, 0.9585)}
    groups = [(opt(name), "screen", {0: screened}) for name, (screened, *_) in values.items()]
    groups += [(opt(name), "confirm", seeds(*fresh)) for name, (_, *fresh) in values.items()]
    sentence = ask(*groups, planned=values).sentence
    assert sentence.startswith("1 to 2 seeds cannot show which of sgd, adam and adagrad is best.")


def test_a_level_with_one_fresh_run_has_an_interval_and_is_compared_if_its_screening_is_complete(ask, paths):
    values = {
        "sgd": (0.961, 0.960, 0.963),
        "nesterov": (0.958, 0.962, 0.959),
        "adam": (0.942, 0.940),
        "adagrad": (0.901, 0.9),
    }
    groups = [(opt(name), "screen", {0: screened}) for name, (screened, *_) in values.items()]
    groups += [(opt(name), "confirm", seeds(*fresh)) for name, (_, *fresh) in values.items()]
    answer = ask(*groups, planned=values)
    assert [row.level for row in answer.rows] == list(values)
    assert [row.num_seeds for row in answer.rows] == [2, 2, 1, 1]
    assert [row.separable_from_leader for row in answer.rows[2:]] == ["yes", "yes"]
    assert all(row.metric_low < row.metric_mean < row.metric_high for row in answer.rows)
    widths = [row.metric_high - row.metric_low for row in answer.rows]
    assert widths[2] == pytest.approx(2**0.5 * widths[0]), "one deviation for all"
    assert {row.pooled_sd for row in answer.rows} == {answer.pooled.sd}
    assert (
        "2 seeds cannot show which of sgd and nesterov is best; both beat adam and adagrad by at least"
        in answer.sentence
    )
    [section] = answer_answer(open_results(paths.root), "demo", None).sections
    assert "intervals of means have the standard deviation of 0.16 points between seeds" in section.notes[-1]
    assert "(6 degrees of freedom)" in section.notes[-1]


def test_enough_fresh_seeds_have_intervals_of_their_own(ask):
    answer = ask((opt("sgd"), "screen", {0: 0.99}), SGD, (opt("adamw", 0.003), "screen", {0: 0.94}), ADAMW)
    assert answer.pooled is None and {row.pooled_sd for row in answer.rows} == {None}
    alone = ask(SGD, ADAMW)
    assert [row.metric_low for row in answer.rows] == [row.metric_low for row in alone.rows]


def test_levels_are_combinations_of_several_parameters(ask):
    groups = [
        ({"optimizer": name, "batch_size": size}, "confirm", seeds(*(0.9 + step + i / 1000 for i in (0, 2, 1))))
        for step, (name, size) in enumerate([("sgd", 32), ("sgd", 64), ("adam", 32)])
        for step in [step / 100]
    ]
    answer = ask(*groups, compare=("optimizer", "batch_size"))
    assert [tuple(row.parameters.values()) for row in answer.rows] == [("adam", 32), ("sgd", 64), ("sgd", 32)]


def test_level_that_exclude_leaves_out_is_none(ask):
    answer = ask(SGD, planned=["sgd", "adamw", "nesterov"], exclude=[{"optimizer": "adamw"}, {"lr": 0.1}])
    assert [row.level for row in answer.rows] == ["sgd", "nesterov"]


def test_without_compare_the_sentence_is_the_summary(ask, paths):
    answer = ask(SGD, ADAMW, compare=())
    assert answer.rows == () and answer.sentence.startswith("sgd lr=0.1 is best: ")
    [section] = answer_answer(open_results(paths.root), None, None).sections
    assert section.notes == (answer.sentence,)


def test_printed_table_has_a_row_per_level(ask, paths):
    ask(SGD, NESTEROV, ADAMW, (opt("adam"), "screen", {0: None}))
    printed = answer_answer(open_results(paths.root), "demo", None)
    [section] = printed.sections
    rows = section.table.to_pylist()
    assert [row["optimizer"] for row in rows] == ["sgd", "nesterov", "adamw", "adam"]
    assert rows[2]["separable"] == "yes" and rows[2]["p_adjusted"] == "< 0.001"
    assert rows[3]["problem"] == "no trial ran to the end: 1 stopped early"
    assert printed.table["p_value"].to_pylist()[0] is None and printed.table.num_rows == 4


def test_gain_over_the_baseline_has_an_interval(ask):
    sentence = ask(SGD, NESTEROV, ADAMW, compare=(), baseline={"optimizer": "adamw", "lr": 0.003}).sentence
    assert (
        "Over the baseline: sgd lr=0.1 is 2.0" in sentence and "points above adamw lr=0.003 (95 % interval" in sentence
    )
    assert "chance" not in sentence


def test_gain_that_seeds_could_explain_is_not_claimed(ask):
    sentence = ask(SGD, NESTEROV, baseline={"optimizer": "nesterov", "lr": 0.03}).sentence
    assert sentence.endswith("which may be chance.") and "Over the baseline: sgd lr=0.1 is" in sentence


def test_baseline_that_leads_or_has_no_result_says_so(ask):
    assert "The baseline, optimizer" not in ask(SGD, ADAMW).sentence
    assert "The baseline, sgd lr=0.1, leads itself" in ask(SGD, baseline={"optimizer": "sgd", "lr": 0.1}).sentence
    assert "The baseline, adam, has no result." in ask(SGD, baseline={"optimizer": "adam"}).sentence


def test_baseline_that_this_version_cannot_read_is_not_said_to_have_no_result(ask):
    sentence = ask(SGD, baseline={"optimizer": "sgd", "setting_of_a_later_version": 1}).sentence
    assert "is not compared: this version cannot read its settings" in sentence and "no result" not in sentence


def test_levels_of_a_part_of_the_model_are_named_as_in_the_sweep_file(paths, make_config, make_trial):
    with SweepWriter(paths) as writer:
        for block, best in (("basic", 0.9), ("preact", 0.8)):
            config = make_config(model={"blocks": [1, 1], "channels": [16, 32], "block": block})
            writer.add_trial(make_trial(config, best=best), config)
    parameters = [{"model.block": {"values": ["basic", "preact"]}}]
    spec = {"name": "demo", "compare": ["model.block"], "parameters": parameters}
    write_plan(paths, replace(make_plan(make_sweep(), [], "the command", {}), spec=spec))
    found = answer_of(open_results(paths.root), "demo")
    assert [row.level for row in found.rows] == ["block=basic", "block=preact"]


def one_run(name, mean):
    """A run of the screening, and one of the confirmation."""
    return (opt(name), "screen", {0: mean + 0.001}), (opt(name), "confirm", {10: mean})


def test_summary_compares_levels_of_one_fresh_run_as_the_answer_does(ask):
    """The runs of the screening tell what seeds differ by, so it must not say that nothing is known."""
    trials = [*one_run("sgd", 0.95), *one_run("adam", 0.90), *one_run("adamw", 0.85)]
    sentence = ask(*trials, compare=()).sentence
    assert sentence.startswith("sgd is best: 95.0 % validation accuracy over one fresh seed in fp32; it is 5.0")
    assert "(95 % interval" in sentence and "no interval" not in sentence
    close = ask(*trials[:2], *one_run("adam", 0.9499), compare=()).sentence
    assert (
        "is best" not in close and "but 1 seed cannot show that it is better than 1 of the 2 other confirmed" in close
    )


def test_loss_that_no_epoch_has_is_no_answer(ask, paths):
    """As if the part of the epochs was damaged: the trials ran to the end, and have no value."""
    ask(SGD, ADAMW)
    for compare in ("optimizer", None):
        spec = {"name": "demo", "metric": {"name": "val_loss"}} | ({"compare": [compare]} if compare else {})
        spec |= {"parameters": {"optimizer": {"values": ["sgd", "adamw"]}}}
        write_plan(paths, make_plan(make_sweep(**spec), [], "the command", {}))
        answer = answer_of(open_results(paths.root), "demo")
        assert order_note(answer.board) == ""
        assert answer.sentence.startswith(
            "No answer yet: no configuration that ran to the end has a finite validation loss."
        )
