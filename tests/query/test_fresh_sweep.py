"""Every command answers while a sweep has no row yet, and beside parts that cannot be read."""

import pytest
from helpers.command import invoke
from helpers.factories import make_config, make_epoch, make_trial
from helpers.special_files import SPECIAL, in_time, replace

from flexres_tune.query.__main__ import app
from flexres_tune.report.__main__ import app as report_app
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.writer import SweepWriter

COMMANDS = [
    *(
        ["leaderboard"],
        ["trials"],
        ["curves"],
        ["published"],
        ["equal-cost"],
        ["pareto"],
        ["decisions"],
        ["stops"],
        ["status"],
    ),
    *(["compare", "lr"], ["compare", "lr", "--by", "optimizer"], ["diff", "fresh", "fresh"], ["importance"]),
    *(["SELECT * FROM trials"], ["SELECT count(*) FROM epochs JOIN trials USING (trial_id)"]),
]
NEEDS_TRIALS = ("compare", "importance")


def fresh_folders(paths):
    SweepWriter(paths)


def no_tables(paths):
    (paths.trials).mkdir(parents=True)


def only_epochs(paths):
    with SweepWriter(paths) as writer:
        writer.add_epoch(make_epoch("a-0", 1))


def _write_one(paths):
    config = make_config()
    with SweepWriter(paths) as writer:
        writer.add_epoch(make_epoch(config.trial_id, 1))
        writer.add_trial(make_trial(config), config)
    return paths.trials / "part-00000001-00000001.parquet"


def truncated_part(paths):
    part = _write_one(paths)
    part.write_bytes(part.read_bytes()[:200])


def special_part(special):
    def state(paths):
        replace(_write_one(paths), special)

    state.__name__ = f"part_is_{special.__name__}"
    return state


STATES = [fresh_folders, no_tables, only_epochs, truncated_part, *map(special_part, SPECIAL)]


def ask(root, arguments, format="table"):
    with in_time():
        result = invoke(app, *arguments, "--results", root, "--format", format)
    expected = 2 if arguments[0] in NEEDS_TRIALS else 0
    assert result.exit_code == expected, result.output
    return result.stdout if expected == 0 else result.stderr


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_answers_without_a_trial(tmp_path, state, arguments):
    state(SweepPaths(tmp_path, "fresh"))
    assert ask(tmp_path, arguments, "table").strip()


def test_board_of_a_fresh_sweep_says_that_no_trial_has_ended(tmp_path):
    fresh_folders(SweepPaths(tmp_path, "fresh"))
    assert "no trial has ended yet" in ask(tmp_path, ["leaderboard"])
    assert "no trial has ended yet" in ask(tmp_path, ["compare", "lr"])
    assert "no trial has run to the end yet" in ask(tmp_path, ["pareto"])


@pytest.mark.parametrize("state", STATES)
def test_a_finished_sweep_is_shown_beside_a_fresh_one(tmp_path, state):
    state(SweepPaths(tmp_path, "fresh"))
    config = make_config(lr=0.3)
    with SweepWriter(SweepPaths(tmp_path, "finished")) as writer:
        writer.add_trial(make_trial(config, best=0.87), config)
    text = ask(tmp_path, ["leaderboard"])
    assert "87.0" in text and "fresh" in text
    assert config.config_id in ask(tmp_path, ["leaderboard"], "csv")


@pytest.mark.parametrize("state", STATES)
def test_a_report_is_written_of_a_fresh_sweep(tmp_path, state):
    state(SweepPaths(tmp_path, "fresh"))
    with in_time():
        result = invoke(report_app, "--results", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "fresh" / "report.html").exists()


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("name", ["plan.json", "driver.lock"])
def test_special_files_in_place_of_plan_and_lock_stop_no_command(tmp_path, name, special):
    paths = SweepPaths(tmp_path, "fresh")
    _write_one(paths)
    replace(paths.folder / name, special)
    for arguments in (["status"], ["leaderboard"], ["published"]):
        ask(tmp_path, arguments)
    assert ("plan.json: cannot be read: must be" in ask(tmp_path, ["status"])) == (name == "plan.json")
    with in_time():
        assert invoke(report_app, "--results", tmp_path).exit_code == 0


def test_every_table_is_empty_and_has_its_columns(tmp_path):
    fresh_folders(SweepPaths(tmp_path, "fresh"))
    for name in TABLES:
        assert ask(tmp_path, [f"SELECT * FROM {name}"], "csv").startswith("sweep,")
