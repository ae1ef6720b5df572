"""Widest channels under a budget, alone and as `width: fit` of a sweep."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import ArchitectureError, SpecError
from flexres_tune.spec import count_parameters, expand_trials, load_sweep, trial_from_assignment
from flexres_tune.spec.width import widest

BUDGET = 5_000_000
KINDS = [
    {"blocks": [3, 3, 3, 3]},
    {"blocks": [3, 3, 3, 3], "channels": [64, 128, 192, 256]},
    {"blocks": [3, 2, 3, 2], "stem_channels": 64},
    {"blocks": [2, 2, 2], "block": "bottleneck", "pool_size": 8},
    {"blocks": [2, 2, 2], "block": "bottleneck", "stem_channels": 64},
    {"blocks": [4, 4, 4, 3], "block": "preact", "head": [128], "dropout": 0.1},
    {"blocks": [1, 3, 1], "kernel_size": 5, "shortcut_kernel_size": 3, "extra_conv": 128},
    {"blocks": [1] * 12, "pool_size": 1},
    {"blocks": [2]},
]


@pytest.mark.parametrize("model", KINDS, ids=str)
@pytest.mark.parametrize("budget", [30_000, 500_000, BUDGET])
def test_widest_fits_and_no_layer_can_have_one_channel_more(model, budget):
    try:
        fit = widest(model, budget)
    except ArchitectureError as error:
        assert "one channel per layer" in str(error)
        return
    assert count_parameters(fit.architecture) == fit.num_parameters <= budget
    assert all(few <= many for few, many in zip(fit.scaled, fit.architecture.channels, strict=True))
    for i in range(len(fit.architecture.channels)):
        channels = [c + (i == j) for j, c in enumerate(fit.architecture.channels)]
        assert count_parameters({**model, "channels": channels}) > budget


@settings(max_examples=40, deadline=None)
@given(
    blocks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    budget=st.integers(10_000, 20_000_000),
    block=st.sampled_from(["basic", "bottleneck", "preact"]),
    stem=st.none() | st.integers(1, 96),
    data=st.data(),
)
def test_largest_scale_fits_and_the_next_does_not(blocks, budget, block, stem, data):
    channels = data.draw(st.lists(st.integers(1, 9), min_size=len(blocks), max_size=len(blocks)))
    model = {"blocks": blocks, "channels": channels, "block": block, "stem_channels": stem}
    try:
        fit = widest(model, budget)
    except ArchitectureError:
        assert count_parameters({**model, "channels": [1] * len(blocks)}) > budget
        return
    assert count_parameters({**model, "channels": fit.scaled}) <= budget
    steps = sorted({(c + 1) / r for c, r in zip(fit.scaled, channels, strict=True)})
    wider = [max(1, int(steps[0] * r * (1 + 1e-9))) for r in channels]
    wider = [max(w, c) for w, c in zip(wider, fit.scaled, strict=True)]
    assert count_parameters({**model, "channels": wider}) > budget


@pytest.mark.parametrize("model", KINDS, ids=str)
def test_what_was_fitted_is_its_own_widest_form(model):
    """So that channels read back from a table, as TPE's memory does, lead to the same trial."""
    fitted = widest(model, BUDGET).architecture
    assert widest({**model, "channels": list(fitted.channels)}, BUDGET).architecture == fitted


def test_channels_double_where_no_ratio_is_given():
    fit = widest({"blocks": [3, 3, 3, 3]}, BUDGET)
    assert fit.architecture.channels == (34, 68, 137, 274)
    assert fit.num_parameters == 4_996_039


def test_what_is_left_over_is_spent_layer_by_layer():
    fit = widest({"blocks": [3, 2, 3, 2], "stem_channels": 64}, BUDGET)
    assert fit.scaled == (40, 81, 162, 324)
    assert fit.architecture.channels == (40, 82, 162, 324)


def test_stem_that_is_given_stays_and_one_that_is_not_follows():
    assert widest({"blocks": [2, 2], "stem_channels": 16}, BUDGET).architecture.stem_channels == 16
    fitted = widest({"blocks": [2, 2]}, BUDGET).architecture
    assert fitted.stem_channels == fitted.channels[0]


def test_first_layer_as_wide_as_its_stem_needs_no_shortcut_and_so_fits_more():
    model = {"blocks": [1], "stem_channels": 64, "pool_size": 8}
    exact = count_parameters({**model, "channels": [64]})
    assert count_parameters({**model, "channels": [63]}) > exact
    assert widest(model, exact).architecture.channels == (64,)


def test_budget_without_room_for_one_channel_is_refused():
    with pytest.raises(
        ArchitectureError, match=r"room for one channel per layer, but blocks=\[3, 3\].* is 100; use fewer"
    ):
        widest({"blocks": [3, 3]}, 100)


def test_fit_of_many_shapes_takes_no_time():
    started = time.process_time()
    for first in range(1, 11):
        widest({"blocks": [first, 3, 3, 3], "dropout": 0.123}, BUDGET)
    assert time.process_time() - started < 2


def test_it_imports_no_torch():
    code = "import sys, flexres_tune.spec.width; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def sweep(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_text(f"name: x\n{text}\n")
    return load_sweep(str(path))


def test_fitted_trial_has_the_id_of_its_channels_written_out(tmp_path):
    base = "base: {model: {blocks: [3, 3, 3, 3], width: fit}}"
    (fitted,) = expand_trials(sweep(tmp_path, base), describe_dataset)
    (written,) = expand_trials(
        sweep(tmp_path, base.replace("width: fit", "channels: [34, 68, 137, 274]")), describe_dataset
    )
    assert fitted.config == written.config
    assert fitted.config.trial_id == written.config.trial_id
    assert fitted.num_parameters == 4_996_039


def test_fit_follows_the_sweeps_own_budget_and_images(tmp_path):
    text = "max_parameters: 100_000\nbase: {dataset: digits, model: {blocks: [1, 1], pool_size: 4, width: fit}}"
    (trial,) = expand_trials(sweep(tmp_path, text), describe_dataset)
    assert trial.config.model == widest({"blocks": [1, 1], "pool_size": 4}, 100_000, 10, 8).architecture
    assert 99_000 < trial.num_parameters <= 100_000


def test_swept_blocks_are_each_fitted(tmp_path):
    text = """base: {model: {blocks: [1], width: fit}}
parameters: {model.blocks: {values: [[3, 3, 3, 3], [2, 4, 3], [1, 1]]}, lr: {values: [0.1, 0.01]}}"""
    trials = expand_trials(sweep(tmp_path, text), describe_dataset)
    shapes = {trial.config.model.blocks: trial.config.model.channels for trial in trials}
    assert len(trials) == 6 and len(shapes) == 3
    assert all(4_900_000 < trial.num_parameters <= BUDGET for trial in trials)
    assert shapes[3, 3, 3, 3] == (34, 68, 137, 274)


def test_swept_channels_are_the_ratio(tmp_path):
    text = """base: {model: {blocks: [2, 2], width: fit}}
parameters: {model.channels: {values: [[1, 2], [1, 1]]}}"""
    channels = sorted(trial.config.model.channels for trial in expand_trials(sweep(tmp_path, text), describe_dataset))
    assert channels[0][1] == pytest.approx(2 * channels[0][0], abs=2)
    assert channels[1][1] == pytest.approx(channels[1][0], abs=2)


def test_drawn_blocks_are_fitted_too(tmp_path):
    text = """method: tpe
num_trials: 2
base: {model: {blocks: [1, 1], width: fit}}
parameters: {model.blocks: {values: [[1, 1], [2, 2]]}}"""
    trial = trial_from_assignment(sweep(tmp_path, text), {"model.blocks": [2, 2]}, 3, describe_dataset)
    assert trial.config.model == widest({"blocks": [2, 2]}, BUDGET).architecture
    assert trial.config.seed == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{blocks: [3, 3], width: full}", "s.yaml:2: base.model.width: must be fit (the widest channels under"),
        ("{blocks: [3, 3], channels: [1, 2], widht: fit}", "no such key in a model; did you mean width?"),
        ("{width: fit}", "base.model.blocks: must be given"),
        ("{blocks: [0, 3], width: fit}", "base.model.blocks"),
        ("{blocks: [1, 1, 1], channels: [1, 2], width: fit}", "channels must have one entry for each of the 3 layers"),
        ("{blocks: [1, 1, 1, 1], pool_size: 8, width: fit}", "pool_size must fit the output"),
        (f"{{blocks: {[100_000] * 3}, width: fit}}", "base.model.width: max_parameters must leave room"),
    ],
)
def test_wrong_model_is_reported_once(tmp_path, monkeypatch, model, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        expand_trials(sweep(tmp_path, f"base: {{model: {model}}}"), describe_dataset)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("base", ["{model: tiny, model.width: fit}", "{model: tiny, width: fit}"])
def test_width_outside_the_model_is_refused_with_its_place(tmp_path, base):
    with pytest.raises(
        SpecError, match=r"write it inside the model, such as model: \{blocks: \[3, 3, 3, 3\], width: fit"
    ):
        sweep(tmp_path, f"base: {base}")
