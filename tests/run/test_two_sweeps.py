"""Two real sweeps at once, on one machine and on one cluster: they divide its slots, and use no more than there are."""

import os
import statistics
from datetime import timedelta

import pytest
from helpers.driver_process import Driver
from helpers.factories import make_sweep_yaml
from helpers.ray_head import ray_head
from helpers.sabotage import ALL, faults

from flexres_tune.results import open_results


def most_at_once(rows):
    """The largest number of trials that ran at the same time."""
    events = [(row["started_at"], 1) for row in rows] + [(row["finished_at"], -1) for row in rows]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() < 2, reason="one CPU has nothing to share")
def test_second_sweep_takes_its_share_of_the_cpus_and_both_say_so(tmp_path):
    results, num_cpus, drivers = tmp_path / "results", os.cpu_count(), []

    def start(name, num_trials):
        file = tmp_path / f"{name}.yaml"
        rates = [round(0.01 * (1 + index), 2) for index in range(num_trials)]
        file.write_text(make_sweep_yaml(name=name, base={"epochs": 4}, parameters={"lr": {"values": rates}}))
        env = faults(tmp_path / "notes", slow=ALL)
        drivers.append(Driver(file, "--profile", "none", "--storage", results, "--no-reuse", env=env))
        return drivers[-1]

    try:
        first = start("first", 5 * num_cpus)
        first.wait_for(lambda: len(first.trials()) == num_cpus)
        second = start("second", num_cpus)
        assert second.wait(400) == 0, second.text()
        assert first.wait(400) == 0, first.text()
    finally:
        for driver in drivers:
            driver.text()
            driver.clean_up()
    said_first, said_second = (driver.output.decode() for driver in drivers)
    rows = [row for name in ("first", "second") for row in open_results(results).trials(name).to_pylist()]
    assert [row["status"] for row in rows] == ["completed"] * 6 * num_cpus
    assert most_at_once(rows) == num_cpus, said_first + said_second
    share = f"on this machine, too: {num_cpus // 2} at once here instead of {num_cpus}"
    assert f"sweep first (process {first.process.pid}) runs {share}" in said_second
    assert f"sweep second (process {second.process.pid}) runs on this machine, too: " in said_first
    assert f"no other sweep runs on this machine now: {num_cpus} at once" in said_first


NUM_SLOTS = 4
WARM_UP_S = 4.0  # the sweeps look at each other every 2 s, and a new process needs longer to start


def running_at(rows, moment):
    """How many of these trials ran at a time."""
    return sum(row["started_at"] <= moment < row["finished_at"] for row in rows)


def sample(rows, others):
    """Numbers of trials at once of two sweeps, every half second while both had trials to start."""
    begin = max(min(row["started_at"] for row in each) for each in (rows, others))
    end = min(max(row["started_at"] for row in each) for each in (rows, others))
    begin += timedelta(seconds=WARM_UP_S)
    moments = [begin + timedelta(seconds=0.5 * index) for index in range(int((end - begin).total_seconds() / 0.5))]
    return [(running_at(rows, moment), running_at(others, moment)) for moment in moments]


@pytest.mark.slow
def test_two_sweeps_on_a_cluster_have_equal_parts_of_it_until_one_of_them_needs_less(tmp_path):
    results, notes, drivers = tmp_path / "results", tmp_path / "notes", []
    environment = faults(notes, waits_for_start_signal=ALL, slow=ALL)

    def start(name, num_trials, address):
        file = tmp_path / f"{name}.yaml"
        rates = [round(0.01 * (1 + index), 2) for index in range(num_trials)]
        file.write_text(make_sweep_yaml(name=name, base={"epochs": 10}, parameters={"lr": {"values": rates}}))
        options = ("--profile", "none", "--storage", results, "--no-reuse", "--address", address)
        drivers.append(Driver(file, *options))
        return drivers[-1]

    with ray_head(num_cpus=NUM_SLOTS, env=environment) as address:
        try:
            first = start("first", 48, address)
            first.wait_for(lambda: len(list(notes.iterdir())) == NUM_SLOTS)
            second = start("second", 10, address)
            second.wait_for(lambda: "runs on this cluster, too" in second.text())
            (notes / "go").touch()  # now the first trials of the first sweep may end
            assert second.wait(400) == 0, second.text()
            assert first.wait(400) == 0, first.text()
        finally:
            for driver in drivers:
                driver.text()
                driver.clean_up()
    said_first, said_second = (driver.output.decode() for driver in drivers)
    rows = {name: open_results(results).trials(name).to_pylist() for name in ("first", "second")}
    assert [row["status"] for each in rows.values() for row in each] == ["completed"] * 58
    assert most_at_once([*rows["first"], *rows["second"]]) == NUM_SLOTS, said_first + said_second
    at_once = sample(rows["first"], rows["second"])
    assert len(at_once) >= 10, "both had trials to start for 5 s or more"
    for numbers in zip(*at_once, strict=True):
        assert 1.3 <= statistics.fmean(numbers) <= 2.7, at_once
    assert "sweep first runs on this cluster, too: 2 at once here instead of 4" in said_second
    assert "sweep second runs on this cluster, too: " in said_first
    assert "no other sweep runs on this cluster now: 4 at once" in said_first
    end_of_second = max(row["finished_at"] for row in rows["second"])
    alone = [row for row in rows["first"] if row["started_at"] > end_of_second]
    assert most_at_once(alone) > 2, "the first sweep has the whole cluster again"
