"""bad_files.txt: sweep files that cannot be run, and the exact messages about each. `pytest --regen` rewrites them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from flexres_tune.datasets.sources import DataShape, describe_dataset
from flexres_tune.errors import SpecError
from flexres_tune.spec import expand_trials, load_sweep
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.messages import CHOICES, EXAMPLES, KEYS, LEVELS, TRIAL_KEYS, VALUES, findings
from flexres_tune.spec.trial import TrialConfig, rule_error

GOLDEN = Path(__file__).with_name("bad_files.txt")
CASES = [case.split("=== messages\n") for case in GOLDEN.read_text().split("=== file\n")[1:]]


@pytest.mark.parametrize("index", range(len(CASES)))
def test_bad_file_has_exactly_these_messages(index, tmp_path, monkeypatch, regen):
    text, messages = CASES[index]
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        expand_trials(load_sweep("s.yaml", describe=describe_dataset), describe_dataset)
    if regen:
        CASES[index][1] = f"{caught.value}\n"
        GOLDEN.write_text("".join(f"=== file\n{text}=== messages\n{messages}" for text, messages in CASES))
        return
    assert str(caught.value) == messages.rstrip("\n")


@pytest.mark.parametrize("index", range(len(CASES)))
def test_message_begins_with_its_place_and_is_short(index):
    for line in CASES[index][1].rstrip("\n").split("\n"):
        assert re.match(r"s\.yaml(:\d+)?: ", line), line
        assert len(line) < 900, line


class Reworded(BaseModel):
    """A rule between fields whose message does not begin with a field's name."""

    optimizer: str
    momentum: float

    @model_validator(mode="after")
    def _agree(self):
        raise rule_error("momentum", "Only {sgd} takes a momentum of 0.5%")


def test_key_of_an_error_does_not_depend_on_its_words():
    with pytest.raises(ValidationError) as caught:
        Reworded(optimizer="adam", momentum=0.5)
    assert findings(caught.value) == [(("momentum",), "Only {sgd} takes a momentum of 0.5%")]


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ("optimizer: adam, momentum: 0.5", "momentum"),
        ("optimizer: nesterov, momentum: 0", "momentum"),
        ("mixup_alpha: 1, cutmix_alpha: 1", "mixup_alpha"),
        ("epochs: 1, warmup_epochs: 1", "warmup_epochs"),
        ("lr_schedule: onecycle, warmup_epochs: 1", "warmup_epochs"),
    ],
)
def test_rule_between_fields_is_shown_on_the_line_of_one_of_them(written, field, tmp_path):
    path = tmp_path / "s.yaml"
    keys = ["model: tiny", "dataset: digits", *written.split(", ")]
    path.write_text("name: x\nbase:\n" + "".join(f"  {key}\n" for key in keys))
    with pytest.raises(SpecError) as caught:
        expand_trials(load_sweep(str(path)), describe_dataset)
    (problem,) = caught.value.problems
    line = next(i for i, key in enumerate(keys, 3) if key.startswith(f"{field}:"))
    assert (problem.path, problem.line) == (f"base.{field}", line)


@pytest.mark.parametrize("other", KEYS)
def test_other_tools_keys_lead_to_ours(other):
    ours = {name for names, _ in LEVELS.values() for name in names}
    assert other not in ours
    for word in re.findall(r"[a-z_]+(?:\.[a-z_]+)*(?=:|,|$)", KEYS[other].split(" for ")[0])[:1]:
        assert word.split(".")[-1] in ours | {"maximize"} or word in CHOICES["distribution"], KEYS[other]


@pytest.mark.parametrize("key", VALUES)
def test_other_tools_values_lead_to_ours(key):
    for other, ours in VALUES[key].items():
        assert other not in CHOICES[key]
        assert ours in CHOICES[key] or ours.endswith(" alone"), ours


@pytest.mark.parametrize("key", [key for key in TRIAL_KEYS if not key.startswith("model.")])
def test_every_trial_key_has_an_example_that_loads(key, tmp_path):
    path = tmp_path / "s.yaml"
    model = "" if key == "model" else "model: resnet22_2, "
    images = "dataset: 'parquet:images', " if key == "label_column" else ""
    path.write_text(f"name: x\nbase: {{{model}{images}{key}: {EXAMPLES[key]}}}\n")
    describe = (lambda dataset: DataShape(32, 10, 90, 10, 10)) if images else describe_dataset
    assert len(expand_trials(load_sweep(str(path)), describe)) == 1


def test_unknown_keys_and_wrong_trials_are_reported_together(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: x\nbase: {model: resnet22_2}\nmax_parameters: 1000\nmax_t: 3\nconfirm: {top: 3}\n")
    with pytest.raises(SpecError) as caught:
        load_sweep(str(path), describe=describe_dataset)
    assert [problem.path for problem in caught.value.problems] == ["base.model", "max_t", "confirm.seeds"]


@pytest.mark.parametrize("model", [Architecture, TrialConfig])
def test_every_key_that_takes_one_of_some_names_has_them_for_its_messages(model):
    """A block is added in one place: its name in the field's type."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal:
            assert tuple(CHOICES[name]) == get_args(field.annotation)
