"""Two real sweeps at once on one machine: together they run no more trials than it has CPUs."""

import os

import pytest
from helpers.driver_process import Driver
from helpers.factories import make_sweep_yaml
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
