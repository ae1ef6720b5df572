import random
import statistics
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from helpers.factories import make_sweep

from flexres_tune.analysis import configurations, ranked_trials
from flexres_tune.analysis.configurations import OUTCOMES
from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.analysis.ranked_trials import varied_columns
from flexres_tune.analysis.rows import concatenate
from flexres_tune.analysis.summary import sentence_of
from flexres_tune.errors import ResultsError
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.sql import run_sql
from flexres_tune.results.writer import SweepWriter

SGD, ADAM = {"optimizer": "sgd"}, {"optimizer": "adam"}


def rows_of(boards):
    return concatenate([board.to_table() for board in boards]).to_pylist()


@pytest.fixture
def board(paths, make_config, make_trial):
    """Writes [(configuration, status, best, other values)] as trials of `demo`; the leaderboard's rows."""

    def make(rows, **options):
        with SweepWriter(paths) as writer:
            for values, status, best, more in rows:
                config = make_config(**values)
                writer.add_trial(make_trial(config, status, best, **more), config)
        return rows_of(leaderboards(open_results(paths.root), "demo", **options))

    return make


def test_configurations_are_ranked_by_their_mean_over_seeds(board):
    rows = board(
        [
            ({"lr": 0.1, "seed": 0}, "completed", 0.95, {}),
            ({"lr": 0.1, "seed": 1}, "completed", 0.75, {}),
            ({"lr": 0.2, "seed": 0}, "completed", 0.90, {}),
            ({"lr": 0.2, "seed": 1}, "completed", 0.92, {}),
        ]
    )
    assert [(row["rank"], row["lr"], row["num_seeds"]) for row in rows] == [(1, 0.2, 2), (2, 0.1, 2)]
    assert rows[0]["best_val_accuracy_mean"] == pytest.approx(0.91)
    assert rows[0]["best_val_accuracy_sd"] == pytest.approx(0.02 / 2**0.5)
    assert rows[0]["last_val_accuracy_mean"] == pytest.approx(0.90)
    assert rows[0]["device_seconds"] == 20.0 and rows[0]["best_epoch"] == 2


def test_test_accuracy_never_ranks(board):
    rows = board(
        [
            ({"lr": 0.1}, "completed", 0.8, {"test_accuracy": 0.99}),
            ({"lr": 0.2}, "completed", 0.9, {"test_accuracy": 0.10}),
        ]
    )
    assert [row["lr"] for row in rows] == [0.2, 0.1] and rows[0]["test_accuracy_mean"] == 0.10


def test_one_seed_has_no_deviation(board):
    [row] = board([({}, "completed", 0.9, {})])
    assert row["num_seeds"] == 1 and row["best_val_accuracy_sd"] is None and row["test_accuracy_sd"] is None


def test_only_whole_configurations_are_ranked_and_failures_come_last(board):
    rows = board(
        [
            ({"lr": 0.1}, "failed", None, {"error": "boom"}),
            ({"lr": 0.2}, "out_of_memory", 0.99, {}),
            ({"lr": 0.3}, "diverged", float("nan"), {}),
            ({"lr": 0.4}, "interrupted", 0.98, {}),
            ({"lr": 0.5, "seed": 0}, "completed", 0.97, {}),
            ({"lr": 0.5, "seed": 1}, "stopped", 0.20, {}),
            ({"lr": 0.6}, "stopped", 0.60, {}),
            ({"lr": 0.7}, "completed", 0.10, {}),
        ]
    )
    assert [(row["lr"], row["rank"], row["outcome"]) for row in rows] == [
        (0.7, 1, "completed"),
        (0.5, None, "stopped"),
        (0.6, None, "stopped"),
        (0.4, None, "interrupted"),
        (0.3, None, "diverged"),
        (0.2, None, "out_of_memory"),
        (0.1, None, "failed"),
    ]
    assert rows[1]["best_val_accuracy_mean"] == 0.97 and rows[1]["num_seeds"] == 1
    assert rows[1]["num_stopped"] == 1 and rows[1]["num_completed"] == 1


def test_confirmed_configuration_is_measured_by_its_fresh_seeds_alone(board):
    confirm = {"stage": "confirm"}
    rows = board(
        [
            ({"lr": 0.1, "seed": 0}, "completed", 0.99, {}),
            ({"lr": 0.2, "seed": 0}, "stopped", 0.95, {}),
            ({"lr": 0.2, "seed": 10}, "completed", 0.80, confirm),
            ({"lr": 0.2, "seed": 11}, "completed", 0.82, confirm),
        ]
    )
    assert [(row["rank"], row["lr"], row["stage"], row["num_seeds"]) for row in rows] == [
        (1, 0.2, "confirm", 2),
        (2, 0.1, "screen", 1),
    ]
    assert rows[0]["best_val_accuracy_mean"] == pytest.approx(0.81) and rows[0]["num_stopped"] == 1


def test_confirmed_configurations_are_ordered_by_all_their_completed_runs(board):
    confirm = {"stage": "confirm"}
    rows = board(
        [
            ({"lr": 0.1, "seed": 0}, "completed", 0.90, {}),
            ({"lr": 0.1, "seed": 10}, "completed", 0.84, confirm),
            ({"lr": 0.2, "seed": 0}, "completed", 0.82, {}),
            ({"lr": 0.2, "seed": 10}, "completed", 0.85, confirm),
        ]
    )
    assert [(row["lr"], row["best_val_accuracy_mean"], row["num_seeds"]) for row in rows] == [
        (0.1, 0.84, 1),
        (0.2, 0.85, 1),
    ]


def test_interrupted_trial_that_was_finished_later_counts_once(board):
    [row] = board([({}, "interrupted", 0.2, {}), ({}, "completed", 0.9, {"attempt": 2})])
    assert row["rank"] == 1 and row["num_completed"] == 1 and row["num_interrupted"] == 0


def test_other_data_is_another_ranking(board):
    rows = board(
        [
            ({"dataset": "cifar10", "model": "small", "lr": 0.1}, "completed", 0.7, {}),
            ({"dataset": "digits"}, "completed", 0.9, {}),
            ({"dataset": "digits", "lr": 0.3}, "completed", 0.8, {}),
        ]
    )
    assert [(row["dataset"], row["rank"]) for row in rows] == [("cifar10", 1), ("digits", 1), ("digits", 2)]


def test_each_sweep_is_another_ranking(board, paths, make_config, make_trial):
    board([({}, "completed", 0.9, {})])
    with SweepWriter(SweepPaths(paths.root, "other")) as writer:
        for lr in (0.1, 0.2):
            config = make_config(lr=lr, batch_size=64)
            writer.add_trial(make_trial(config, best=lr, sweep="other"), config)
    rows = rows_of(leaderboards(open_results(paths.root)))
    assert [(row["sweep"], row["rank"]) for row in rows] == [("demo", 1), ("other", 1), ("other", 2)]
    assert [len(board.rows) for board in leaderboards(open_results(paths.root), limit=1)] == [1, 1]


def test_first_rows_are_those_of_the_whole_board(paths, make_config, make_trial):
    """Comparisons are adjusted for all configurations, also for those that are not shown."""
    with SweepWriter(paths) as writer:
        for index in range(12):
            for seed in range(1 if index == 5 else 3):
                config = make_config(lr=0.01 * (index + 1), seed=seed)
                status = "stopped" if index in (2, 7) else "completed"
                writer.add_trial(
                    make_trial(config, status, best=0.5 + 0.01 * index + 0.003 * seed * (index % 3)), config
                )
    [whole] = leaderboards(open_results(paths.root))
    for limit in (0, 1, 5, 9, 12, 100):
        [first] = leaderboards(open_results(paths.root), limit=limit)
        assert first.rows == whole.rows[:limit]
        assert (first.num_rows, first.num_ranked) == (whole.num_rows, whole.num_ranked) == (12, 10)


def test_board_of_thousands_of_trials_is_what_plain_python_computes(paths, make_config, make_trial):
    """Of trials of all statuses and both stages: places, and what is counted."""
    chance, records = random.Random(0), []
    statuses = [status.value for status in OUTCOMES]
    with SweepWriter(paths) as writer:
        for index in range(600):
            stages = [("screen", 0), ("confirm", 100)][: chance.choice([1, 1, 2])]
            for stage, first_seed in stages:
                for seed in range(chance.choice([1, 2, 4])):
                    config = make_config(lr=0.001 * (index + 1), seed=first_seed + seed)
                    status = chance.choices(statuses, [40, 2, 2, 1, 1, 1, 1])[0]
                    best = None if chance.random() < 0.02 else chance.randrange(1000) / 1000
                    record = make_trial(config, status, best, stage=stage, device=chance.choice(["a", "b", None]))
                    writer.add_trial(record, config)
                    records.append(record)
    assert len(records) > 1500
    expected = sorted(map(_describe, _grouped(records)), key=lambda row: row["key"])
    for limit in (None, 25):
        [board] = leaderboards(open_results(paths.root), limit=limit)
        assert (board.num_rows, len(board.rows)) == (len(expected), limit or len(expected))
        for place, (row, values) in enumerate(zip(board.rows, expected, strict=False), start=1):
            assert row.rank == (place if values["outcome"] == "completed" else None)
            means = ("metric_mean", "metric_sd")
            exact = {name: value for name, value in values.items() if name not in (*means, "key")}
            assert {name: getattr(row, name) for name in exact} == exact
            for name in means:
                nearly = values[name] if values[name] is None else pytest.approx(values[name], rel=1e-9, abs=1e-12)
                assert getattr(row, name) == nearly


def _grouped(records):
    groups = {}
    for record in records:
        groups.setdefault(record.config_id, []).append(record)
    return groups.values()


def _describe(records):
    """Of the trials of one configuration: fields of its BoardRow, and the key by which boards are sorted."""
    completed = [each for each in records if each.status == "completed"]
    is_confirmed = any(each.stage == "confirm" for each in completed)
    of_stage = [each for each in records if each.stage == "confirm" or not is_confirmed]
    counted = [each for each in of_stage if each.status == "completed" or not completed]
    values = [each.best_val_accuracy for each in counted if each.best_val_accuracy is not None]
    of_all = [each.best_val_accuracy for each in completed if each.best_val_accuracy is not None] or values
    severity = max(OUTCOMES.index(each.status) for each in of_stage)
    score = statistics.fmean(of_all) if of_all else None
    return {
        "key": (severity, not is_confirmed, score is None, -(score or 0.0), records[0].config_id),
        "config_id": records[0].config_id,
        "outcome": OUTCOMES[severity],
        "stage": "confirm" if is_confirmed else "screen",
        "num_seeds": len(counted),
        "num_seeds_begun": len(of_stage),
        "num_completed": len(completed),
        "device": ", ".join(sorted({each.device for each in counted if each.device})) or None,
        "metric_mean": statistics.fmean(values) if values else None,
        "metric_sd": statistics.stdev(values) if len(values) > 1 else None,
        "scores": {each.seed: each.best_val_accuracy for each in counted if each.best_val_accuracy is not None},
    }


def test_boards_of_all_sweeps_are_those_of_each_in_two_queries(paths, make_config, make_trial, make_epoch, monkeypatch):
    """Another metric, parameters, data sets, a stranger's type of a column, and no rows at all."""
    metrics = ["val_accuracy", "val_loss", "val_accuracy", "val_accuracy", "val_accuracy"]
    for number, metric in enumerate(metrics):
        sweep = SweepPaths(paths.root, f"s{number}")
        with SweepWriter(sweep) as writer:
            for index in range(0 if number == 4 else 6):
                changes = {"batch_size": 32 + index // 2} if number % 2 else {"lr": 0.1 + index // 2}
                dataset = "cifar10" if number == 2 and index < 3 else "digits"
                config = make_config(seed=index % 2, dataset=dataset, **changes)
                writer.add_epoch(make_epoch(config.trial_id, 1, val_loss=1 + (index * 5) % 7))
                writer.add_trial(make_trial(config, best=0.5 + (index * 3) % 7 / 10, sweep=sweep.sweep), config)
        write_plan(sweep, make_plan(make_sweep(name=sweep.sweep, metric={"name": metric}), [], "command", {}))
    (part,) = SweepPaths(paths.root, "s3").trials.iterdir()
    table = pq.read_table(part)
    index = table.column_names.index("epochs")
    pq.write_table(table.set_column(index, "epochs", table["epochs"].cast("int64")), part)
    queries = []
    for module in (ranked_trials, configurations):
        monkeypatch.setattr(module, "run_sql", lambda *args: queries.append(args) or run_sql(*args))
    results = open_results(paths.root)
    boards = leaderboards(results)
    assert [board.sweep for board in boards] == ["s0", "s1", "s2", "s2", "s3", "s4"]
    assert len(queries) == 1 + 2, "the first finds the best losses"
    each = [board for name in results.sweeps() for board in leaderboards(results, name)]
    assert [board.to_table() for board in boards] == [board.to_table() for board in each]
    assert boards == each and boards[1].parameters == ("batch_size",)


def test_sweep_without_rows_has_an_empty_board(paths):
    SweepWriter(paths)
    [board] = leaderboards(open_results(paths.root))
    assert board.rows == () and "best_val_accuracy_mean" in board.to_table().column_names
    with pytest.raises(ResultsError, match="no sweep 'x'"):
        leaderboards(open_results(paths.root), "x")


def test_parameters_that_vary_are_columns(board):
    rows = board(
        [
            ({"optimizer": "adam", "epochs": 5}, "completed", 0.9, {}),
            ({"optimizer": "sgd", "epochs": 6, "augmentation": []}, "completed", 0.8, {}),
        ]
    )
    assert list(rows[0])[:7] == ["rank", "sweep", "dataset", "config_id", "optimizer", "epochs", "augmentation"]
    assert list(rows[0]).count("epochs") == 1 and "lr" not in rows[0]


def test_momentum_is_a_column_only_where_the_optimizer_does_not_tell_it(board):
    sgd, adam = {"optimizer": "sgd"}, {"optimizer": "adam"}
    assert "momentum" not in board([(sgd, "completed", 0.9, {}), (adam, "completed", 0.8, {})])[0]
    assert "momentum" in board([(sgd | {"momentum": 0.5}, "completed", 0.9, {})])[0]


def test_model_stands_for_its_shape_unless_it_does_not_tell_it(board, paths):
    named = [({"model": name}, "completed", 0.9, {}) for name in ("tiny", {"blocks": [2, 2], "channels": [8, 8]})]
    assert not {"blocks", "channels", "pool_size"} & set(board(named)[0])
    twin = {"blocks": [2, 2], "channels": [8, 8], "block": "preact"}  # same short name as the one above
    assert "block" in board([({"model": twin}, "completed", 0.9, {})])[0]
    varied = varied_columns(open_results(paths.root).trials())
    assert {"model", "blocks", "channels", "block"} <= set(varied) and "lr" not in varied


def test_leaderboard_says_who_is_separable(results):
    opened = results(
        *((SGD, seed, "completed", value) for seed, value in enumerate((0.971, 0.975, 0.969))),
        *((ADAM, seed, "completed", value) for seed, value in enumerate((0.801, 0.806, 0.798))),
        ({"optimizer": "adamw"}, 0, "completed", 0.97),
        ({"optimizer": "adagrad"}, 0, "stopped", 0.99),
    )
    [board] = leaderboards(opened)
    rows = {row.parameters["optimizer"]: row for row in board.rows}
    assert {name: row.separable_from_leader for name, row in rows.items()} == {
        "sgd": "leader", "adam": "yes", "adamw": "one seed: no interval", "adagrad": None,
    }  # fmt: skip
    assert rows["adam"].compared_by == "paired" and rows["adam"].p_value < 0.05
    assert rows["adam"].behind_leader_low < rows["adam"].behind_leader < rows["adam"].behind_leader_high
    assert rows["sgd"].metric_low < 0.9717 < rows["sgd"].metric_high


def test_screened_configurations_are_not_compared_with_confirmed_ones(results):
    confirm = {"stage": "confirm"}
    opened = results(
        *((SGD, seed, "completed", 0.9 + seed / 1000, confirm) for seed in (10, 11)),
        *((ADAM, seed, "completed", 0.99 + seed / 1000) for seed in (0, 1)),
    )
    assert [row.separable_from_leader for row in leaderboards(opened)[0].rows] == ["leader", None]


def write_swept(paths, rows, parameters, **spec):
    """Trials of `demo` whose sweep file has these `parameters`."""
    with SweepWriter(paths) as writer:
        for config, record in rows:
            writer.add_trial(record, config)
    plan = make_plan(make_sweep(), [], "the command", {})
    write_plan(paths, replace(plan, spec={"parameters": [parameters], **spec}))
    return leaderboards(open_results(paths.root), "demo")[0]


def fitted(block, channels):
    """A model of `width: fit`, whose channels follow from the block."""
    return {"blocks": [1, 1], "channels": channels, "block": block}


def test_what_the_sweep_varies_is_a_column_and_the_name_that_follows_from_it_is_not(paths, make_config, make_trial):
    models = [fitted("basic", [16, 32]), fitted("bottleneck", [12, 26]), fitted("preact", [15, 32])]
    configs = [make_config(model=model) for model in models]
    rows = [(config, make_trial(config)) for config in configs]
    board = write_swept(paths, rows, {"model.block": {"values": ["basic", "bottleneck", "preact"]}})
    assert board.parameters == ("block",)
    assert sorted(row.parameters["block"] for row in board.rows) == ["basic", "bottleneck", "preact"]


def test_a_width_that_does_not_follow_from_the_block_is_shown_beside_it(paths, make_config, make_trial):
    models = [fitted("basic", [16, 32]), fitted("basic", [8, 16]), fitted("preact", [15, 32])]
    configs = [make_config(model=model) for model in models]
    rows = [(config, make_trial(config)) for config in configs]
    board = write_swept(paths, rows, {"model.block": {"values": ["basic", "preact"]}})
    assert board.parameters[0] == "model" and "block" in board.parameters


def test_advice_on_seeds_depends_on_what_the_sweep_file_has(paths, make_config, make_trial):
    rows = [(config, make_trial(config)) for config in (make_config(lr=0.1), make_config(lr=0.2))]
    lr = {"lr": {"values": [0.1, 0.2]}}
    assert "run the sweep's command again" in sentence_of(
        write_swept(paths, rows, lr, confirm={"top": 2, "seeds": [8]})
    )
    assert "add confirm: " in sentence_of(write_swept(paths, rows, lr))
