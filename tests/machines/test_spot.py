"""A spot worker whose cloud gives notice: its trials save, move to another machine, and lose no epoch."""

import sys
from pathlib import Path

import pytest
from helpers.factories import make_sweep_yaml

from flexres_tune.results import open_results
from flexres_tune.sweep.spot import SERVER_VARIABLE

pytestmark = pytest.mark.cluster

SERVER = Path(__file__).parents[1] / "helpers/metadata_server.py"
PORT = 8169
SWEEP = make_sweep_yaml(
    name="spot", base={"epochs": 80, "batch_size": 32}, seeds=list(range(6)), parameters={"lr": {"values": [0.05]}}
)


@pytest.fixture(scope="module")
def notice(machines):
    """A metadata server on n2, and the file that makes it give notice. It must be known before Ray starts there.

    Afterwards n2 is as before: the tests of other modules need it.
    """
    file = machines.lab / "n2/notice"
    texts = {path: path.read_text() for path in (machines.lab / "n2/home" / name for name in (".bashrc", ".profile"))}
    for path, text in texts.items():
        path.write_text(f"{text}export {SERVER_VARIABLE}='aws http://127.0.0.1:{PORT}'\n")
    process = machines.start("n2", f"exec {sys.executable} {SERVER} {PORT} {file}")
    yield file
    process.kill()
    process.wait()
    file.unlink(missing_ok=True)
    for path, text in texts.items():
        path.write_text(text)


def test_trials_save_and_move_when_the_cloud_gives_notice(notice, cluster):
    (cluster.shared / "spot.yaml").write_text(SWEEP)
    options = "--profile none --max-concurrent 3 --no-reuse"
    command = f"RAY_AUTH_MODE=token .venv/bin/python -m flexres_tune.run spot.yaml {options}"
    driver = cluster.start("n1", f"cd {cluster.shared} && {command}")
    n2, results = cluster.workers[0], cluster.shared / "results"

    def rows():
        try:
            epochs = open_results(results).epochs("spot").to_pylist()
            return [row for row in epochs if row["epoch"] >= 3]
        except Exception:  # there is no table yet
            return []

    cluster.wait_for(lambda: len({row["trial_id"] for row in rows()}) >= 3, "epochs of three trials")
    notice.touch()
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert "n2: AWS takes this machine away; its trials have saved and move" in output
    trials = open_results(results).trials("spot").to_pylist()
    assert [trial["status"] for trial in trials] == ["completed"] * 6, output
    assert {trial["node_ip"] for trial in trials}.isdisjoint({n2}), "nothing starts there any more"
    assert {trial["attempt"] for trial in trials} == {1, 2}
    epochs = open_results(results).epochs("spot").to_pylist()
    assert len(epochs) == 6 * 80
    moved = {trial["trial_id"] for trial in trials if trial["attempt"] == 2}
    assert {row["attempt"] for row in epochs if row["trial_id"] in moved} == {1, 2}, "it continued, not from the start"
