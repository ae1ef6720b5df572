import dataclasses
import re
from datetime import UTC, datetime

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.records import LeftOut, Versions
from flexres_tune.results.plan import Plan, PlanRow, closed_plan, read_plan, write_plan

PLAN = Plan(
    sweep="demo",
    description="Größe <b>?",
    profile="laptop",
    command="python -m flexres_tune.run sweeps/demo.yaml",
    order_seed=7,
    trials=(PlanRow("a-0", "a", 0, "screen"),),
    num_trials=1,
    created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    versions=Versions(torch="2.11"),
    host="here",
    pid=1,
    spec={"name": "demo", "parameters": [{"lr": {"values": [0.1]}}]},
    left_out=LeftOut(configurations=2, runs=1),
)


def test_plan_is_read_back_as_written(paths):
    write_plan(paths, PLAN)
    assert read_plan(paths) == PLAN
    write_plan(paths, dataclasses.replace(PLAN, num_trials=2))
    assert read_plan(paths).num_trials == 2
    assert [path.name for path in paths.folder.iterdir()] == ["plan.json"]


def test_finished_sweep_has_no_missing_trials():
    rows = tuple(PlanRow(f"{config}-{seed}", config, seed, "screen") for config in "ab" for seed in (0, 1))
    plan = dataclasses.replace(PLAN, trials=rows, num_trials=4 + 3)
    closed = closed_plan(plan, {"a-0", "a-1", "b-0", "a-1000"}, LeftOut())
    assert [row.trial_id for row in closed.trials] == ["a-0", "a-1", "b-0"], "b was stopped, so b-1 never started"
    assert closed.num_trials == 4, "one run of the confirmation, not listed, was enough"
    assert closed.left_out == LeftOut(), "what an earlier, smaller budget left out is no longer left out"


def test_sweep_without_a_plan_has_none(paths):
    assert read_plan(paths) is None


@pytest.mark.parametrize("text", ["", "[]", '{"sweep": "demo"}', '{"sweep": '])
def test_damaged_plan_is_named(paths, text):
    paths.folder.mkdir(parents=True)
    paths.plan.write_text(text)
    with pytest.raises(ResultsError, match=r"plan\.json: not a plan: .*rewrite it"):
        read_plan(paths)


@pytest.mark.parametrize("field", ["num_trials", "order_seed", "pid", "seed"])
@pytest.mark.parametrize("number", [10**30, -1])
def test_number_that_fits_no_column_makes_a_plan_damaged(paths, field, number):
    write_plan(paths, PLAN)
    paths.plan.write_text(re.sub(rf'"{field}": \d+', f'"{field}": {number}', paths.plan.read_text()))
    with pytest.raises(ResultsError, match=rf"plan\.json: not a plan: (trials\.0\.)?{field}: .*rewrite it$"):
        read_plan(paths)
