"""bench search: its simulation costs what the slots allow, and judges answers against the truth."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flexres_tune.bench.search.benchmark import SearchBench, bench_search, judge, policies_of
from flexres_tune.bench.search.policies import LEVEL_POLICIES, POLICIES, SURFACE_LEVEL_POLICIES, SURFACE_POLICIES, Run
from flexres_tune.bench.search.simulation import Setup
from flexres_tune.bench.search.tables import MARKERS, to_json_lines, to_markdown
from flexres_tune.bench.search.worlds import WORLDS, Draw, RecordedWorld, SurfaceWorld, World
from flexres_tune.errors import FlexResError

ROOT = Path(__file__).parents[3]


def run_policy(policy, world, seed=0):
    rng = np.random.default_rng(seed)
    draw = world.draw(rng)
    setup = Setup.of(world.levels, world.num_fresh, world.epochs, world.slots)
    return policy.run(setup, draw, rng.permutation(world.num_listed)), draw


def test_full_grid_costs_all_epochs_and_its_slots_are_busy():
    run, draw = run_policy(POLICIES["full grid"], World(slots=9))
    assert run.epochs == 27 * 27 and run.wall_epochs == 3 * 27
    assert list(run.fresh) == [int(draw.curves[:, 0].max(axis=1).argmax())]


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_answers_in_worlds_with_diverging_and_late_curves(name):
    world = World(diverging=0.3, plateaus=0.3, crossing=0.1)
    run, draw = run_policy(POLICIES[name], world)
    verdict = judge(run, draw, world.levels)
    assert np.isfinite(verdict.points_lost) and 0 < run.epochs <= 27 * (27 + 15)


@pytest.mark.parametrize("name", ["TPE", "TPE, adaptive", "TPE, stopping ASHA", "full grid"])
def test_tpe_is_played_on_a_surface(name):
    run, draw = run_policy(SURFACE_POLICIES[name], SurfaceWorld())
    verdict = judge(run, draw, np.zeros(54, int))
    assert verdict.best is None and 0 <= verdict.points_lost < 5
    assert (draw.finals[27:] > 0).all() == name.startswith("TPE")


@pytest.mark.parametrize("name", SURFACE_LEVEL_POLICIES)
def test_levels_of_surfaces_are_judged_by_their_optima(name):
    world = SurfaceWorld(num_levels=3, num_configs=6)
    run, draw = run_policy(SURFACE_LEVEL_POLICIES[name], world)
    verdict = judge(run, draw, world.levels)
    assert verdict.best is None and 0 <= verdict.points_lost < 5 and 0 <= verdict.within <= 1
    drawn = np.isfinite(draw.finals[18:])
    assert drawn.all() == name.startswith("TPE")
    assert all(draw.finals[world.levels == level].max() <= optimum for level, optimum in enumerate(draw.optima))


@pytest.mark.parametrize("name", LEVEL_POLICIES)
def test_every_policy_for_levels_names_a_configuration_of_levels(name):
    world = WORLDS["6 levels x 5"]
    run, draw = run_policy(LEVEL_POLICIES[name], world)
    verdict = judge(run, draw, world.levels)
    assert verdict.level in (0.0, 1.0) and 0 <= verdict.within <= 1


def make_draw(*finals):
    return Draw(np.array(finals), np.zeros((len(finals), 1, 1)), lambda index: finals[index])


def test_answer_is_judged_by_the_truth():
    run = Run({0: [0.914, 0.916, 0.915], 1: [0.896, 0.895, 0.894]}, {}, 10, 5)
    right = judge(run, make_draw(0.915, 0.895, 0.85), np.zeros(3, int))
    assert (right.best, right.points_lost, right.called_different, right.wrongly_ordered) == (1, 0, 1, 0)
    assert right.covered == 1
    wrong = judge(run, make_draw(0.90, 0.9, 0.91), np.zeros(3, int))
    assert (wrong.best, round(wrong.points_lost, 6), wrong.wrongly_ordered) == (0, 1.0, 1)


def test_levels_are_judged_by_their_best_configurations():
    run = Run({0: [0.914, 0.916, 0.915], 3: [0.896, 0.895, 0.894]}, {}, 10, 5)
    verdict = judge(run, make_draw(0.9145, 0.915, 0.9, 0.95), np.array([0, 0, 1, 1]))
    assert (verdict.level, verdict.within, verdict.order, verdict.wrongly_ordered) == (0, 1, 0, 1)


def test_rows_depend_on_the_seed_and_not_on_the_number_of_processes():
    world = {"8": WORLDS["8 configurations"]}
    found = [bench_search(world, ["early rungs, adaptive"], 30, 3, processes) for processes in (1, 2)]
    assert found[0] == found[1]
    assert found[0] != bench_search(world, ["early rungs, adaptive"], 30, 4, 1)


def test_json_gives_the_block_of_the_docs():
    world = {"reference": WORLDS["8 configurations"]}
    bench = SearchBench("bench search", 25, 0, bench_search(world, ["full grid", "halving"], 25, 0, 1))
    text = to_json_lines(bench)
    assert text.count("\n") == 3, "a line per row"
    again = SearchBench.from_json(json.loads(text))
    assert again == bench
    assert "| full grid | " in to_markdown(again)


def test_unknown_world_is_named_with_the_known_ones():
    command = [sys.executable, "-m", "flexres_tune.bench", "search", "--world", "refrence"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("--world: must be one of 'reference'") and "did you mean reference" in done.stderr


def test_worlds_have_policies():
    assert all(policies_of(world) for world in WORLDS.values())


CURVES = ROOT / "tests/data/learning_curves.parquet"


@pytest.mark.parametrize("level", [None, "optimizer"])
def test_recorded_curves_are_replayed(level):
    world = RecordedWorld.load(CURVES, level)
    assert len(world.levels) >= 24 and world.epochs == 12
    assert world.num_levels == (6 if level else 1)
    rows = bench_search({"recorded": world}, ["full grid"], 25, 0, 1)
    assert rows[0].figures["epochs"].mean == 12 * len(world.levels)
    assert 0 < rows[0].figures["points_lost"].mean < 2


def test_every_draw_of_recorded_curves_has_all_seeds_of_each_configuration():
    world = RecordedWorld.load(CURVES)
    draw = world.draw(np.random.default_rng(0))
    assert (np.sort(draw.curves, axis=1) == np.sort(world.curves, axis=1)).all()
    assert (draw.curves != world.curves).any()


def test_file_without_curves_is_refused(tmp_path):
    for file, reason in ((tmp_path / "none.parquet", "none.parquet"), (Path(__file__), "Parquet")):
        with pytest.raises(FlexResError, match=f"--curves: .*{reason}"):
            RecordedWorld.load(file)
    with pytest.raises(FlexResError, match="momentum"):
        RecordedWorld.load(CURVES, "momentum")


def test_docs_have_the_table_of_the_recorded_run():
    bench = SearchBench.from_json(json.loads((ROOT / "tests/data/bench_search.json").read_text()))
    begin, end = MARKERS
    block = (ROOT / "docs/performance.md").read_text().partition(f"{begin}\n")[2].partition(end)[0]
    assert block == to_markdown(bench), "rewrite it with bench search --write docs/performance.md"
