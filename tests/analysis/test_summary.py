"""The answer in one sentence: sure, unsure, or honest about what is missing."""

import pytest

from flexres_tune.analysis.summary import answer_sentence
from flexres_tune.results import open_results
from flexres_tune.results.writer import SweepWriter

ADAMW, SGD, ADAM = (
    {"optimizer": "adamw", "lr": 0.003},
    {"optimizer": "sgd", "lr": 0.1},
    {"optimizer": "adam", "lr": 0.001},
)


@pytest.fixture
def answer(paths, make_config, make_trial):
    """Writes {(configuration, stage): values by seed}; the sentence."""

    def make(*groups):
        with SweepWriter(paths) as writer:
            for config, stage, values in groups:
                for seed, best in values.items():
                    trial = make_config(**config, seed=seed)
                    status = "completed" if best is not None else "stopped"
                    best = 0.5 if best is None else best
                    writer.add_trial(make_trial(trial, status, best, stage=stage), trial)
        return answer_sentence(open_results(paths.root), "demo")

    return make


def seeds(*values, first=10):
    return dict(enumerate(values, first))


def test_confirmed_and_separable(answer):
    sentence = answer(
        (ADAMW, "screen", {0: 0.97}),
        (SGD, "screen", {0: 0.98}),
        (ADAMW, "confirm", seeds(0.971, 0.975, 0.969, 0.978, 0.972)),
        (SGD, "confirm", seeds(0.963, 0.966, 0.962, 0.968, 0.963)),
    )
    assert sentence == (
        "adamw lr=0.003 is best: 97.3 % validation accuracy (95 % interval 96.9 to 97.7 %) over 5 fresh seeds in fp32; it is "
        "0.86 points above sgd lr=0.1 (95 % interval 0.72 to 1.00, adjusted p < 0.001)."
    )


def test_confirmed_and_not_separable(answer):
    sentence = answer(
        (ADAMW, "confirm", seeds(0.971, 0.975, 0.969)),
        (SGD, "confirm", seeds(0.973, 0.970, 0.968)),
        (ADAM, "confirm", seeds(0.80, 0.81, 0.79)),
    )
    assert sentence.startswith(
        "adamw lr=0.003 leads with 97.2 % validation accuracy (95 % interval 96.4 to 97.9 %) over 3 fresh seeds in fp32, but is not"
    )
    assert (
        "not separable from 1 of the 2 other confirmed configurations: it is 0.1 points above sgd lr=0.1 (95 % interval -1.1 to 1.4, adjusted p ="
        in sentence
    )


def test_one_seed_has_no_interval_and_says_what_to_add(answer):
    sentence = answer((ADAMW, "screen", {0: 0.973}), (SGD, "screen", {0: 0.97}), (ADAM, "screen", {0: None}))
    assert sentence == (
        "adamw lr=0.003 leads with 97.3 % validation accuracy in fp32, but with one seed there is no interval; "
        "add confirm: {top: 3, seeds: [10, 11, 12, 13, 14]} to the sweep file to find out how sure that is."
    )


def test_screening_seeds_chose_the_leader_and_the_sentence_says_so(answer):
    sentence = answer((ADAMW, "screen", seeds(0.97, 0.98, 0.96)), (SGD, "screen", seeds(0.90, 0.91, 0.89)))
    assert "over 3 seeds" in sentence and "it was chosen by these same seeds, so add confirm: " in sentence


def test_nothing_to_compare_or_nothing_at_all(answer):
    assert answer((SGD, "screen", {0: None})) == "No answer yet: no configuration has run to the end."
    assert answer((SGD, "screen", {0: None, 1: 0.9}), (ADAMW, "screen", {0: None})) == (
        "No answer yet: every configuration that ran to the end with one seed was stopped with another, so none can be "
        "compared; add confirm: {top: 3, seeds: [10, 11, 12, 13, 14]} to the sweep file to run the best ones in full."
    )
    sentence = answer((ADAMW, "screen", {0: 0.9}))
    assert sentence == "adamw lr=0.003 has 90.0 % validation accuracy in fp32; there is nothing to compare it with."


def test_equal_to_the_last_image_is_not_called_significant(answer):
    sentence = answer((ADAMW, "confirm", seeds(0.97, 0.98)), (SGD, "confirm", seeds(0.96, 0.97)))
    assert "but 2 seeds cannot show that it is better than the other confirmed configuration" in sentence
    assert "1.0 points above sgd lr=0.1 (95 % interval -2.0 to 4.0, adjusted p = 0.29)" in sentence


def test_seeds_without_spread_are_neither_called_equal_nor_separable(answer):
    sentence = answer((ADAMW, "confirm", seeds(0.70, 0.70, 0.70)), (SGD, "confirm", seeds(0.24, 0.24, 0.24)))
    assert "but 3 seeds cannot show that it is better than the other confirmed configuration" in sentence
    assert "46.0 points above sgd lr=0.1 (no spread over seeds, adjusted p = 0.10)" in sentence
    assert "not separable" not in sentence


def test_leader_by_its_run_of_the_screening_is_not_called_above(answer):
    sentence = answer(
        (ADAMW, "screen", {0: 0.990}),
        (SGD, "screen", {0: 0.950}),
        (ADAMW, "confirm", seeds(0.970, 0.972)),
        (SGD, "confirm", seeds(0.971, 0.973)),
    )
    assert "adamw lr=0.003 leads" in sentence and "it is 0.1" in sentence and "points below sgd lr=0.1" in sentence


def test_seeds_that_would_separate_are_said_if_nothing_is_separable(answer):
    sentence = answer((ADAMW, "confirm", seeds(0.971, 0.975, 0.969)), (SGD, "confirm", seeds(0.970, 0.971, 0.968)))
    assert (
        "If the difference is as it seems, about " in sentence
        and "more seeds each would separate these two" in sentence
    )
    apart = answer((ADAM, "confirm", seeds(0.80, 0.81, 0.79)), (ADAMW, "confirm", seeds(0.971, 0.975, 0.969)))
    assert "more seed" in apart or "is best" in apart


def test_seeds_are_asked_for_all_that_are_not_separable(answer):
    """More seeds of the first two alone would not separate them: p values account for the other two as well."""
    close = [(opt, "confirm", seeds(mean, mean + 0.004, mean - 0.003)) for opt, mean in
             ((ADAMW, 0.971), (SGD, 0.970), (ADAM, 0.9695), ({"optimizer": "nesterov"}, 0.969))]  # fmt: skip
    sentence = answer(*close)
    assert "more seeds for each of the 4 that are not separable would separate these two" in sentence


def test_separable_configurations_need_no_more_seeds(answer):
    far = ({"optimizer": "adagrad"}, "confirm", seeds(0.50, 0.504, 0.497))
    close = ((ADAMW, "confirm", seeds(0.971, 0.975, 0.969)), (SGD, "confirm", seeds(0.973, 0.970, 0.969)))
    assert "more seeds each would separate these two" in answer(*close, far)
