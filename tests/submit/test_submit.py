"""`python -m flexres_tune.submit` as a person types it, to a head that is a folder of this machine."""

import ast
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from flexres_tune.submit import __main__ as submit
from flexres_tune.submit.run_folder import RunFolder

SWEEP = "name: x\nbase: {dataset: digits, model: tiny, epochs: 1}\nparameters: {lr: {values: [0.1]}}\n"


def test_run_is_followed_to_its_end_and_its_status_becomes_ones_own(lab):
    (lab.home / "go").touch()
    status, output = lab.submit("--profile", "none", "--set", "base.epochs=2")
    assert status == 3, output
    lines = output.splitlines()
    (arguments,) = [line.removeprefix("arguments: ") for line in lines if line.startswith("arguments: ")]
    assert ast.literal_eval(arguments) == [
        "sweeps/jeden Tag.yaml",
        *("--storage", str(lab.storage), "--address", "auto"),
        *("--profile", "none", "--set", "base.epochs=2"),
    ]
    assert "'RAY_AUTH_MODE': 'token', 'COLUMNS': '117'" in output
    assert lines[-2:] == ["trial 1 of 2, für Käthe", "trial 2 of 2"]
    assert "Fetched IP" not in output, "Ray's own lines are not the run's"
    tree = RunFolder(lab.home, "täglich").tree
    assert (tree / "sweeps/jeden Tag.yaml").read_text() == lab.sweep.read_text()
    assert not list(lab.home.glob(".*.zip")), "what was sent is unpacked and gone"
    calls = [json.loads(line) for line in (lab.folder / "calls").read_text().splitlines()]
    assert [call[:2] for call in calls] == [["rsync-up", str(lab.file)], ["exec", str(lab.file)]], "Ray's own commands"


def test_tree_on_the_head_is_exactly_the_last_one_sent(lab):
    (lab.home / "go").touch()
    extra = lab.tree / "flexres_tune/extra.py"
    extra.write_text('"""One."""')
    assert lab.submit()[0] == 3
    extra.unlink()
    assert lab.submit()[0] == 3
    assert not (RunFolder(lab.home, "täglich").tree / "flexres_tune/extra.py").exists()


def test_ctrl_c_detaches_and_attach_picks_the_run_up(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    process.send_signal(signal.SIGINT)
    output = lab.rest(process)
    assert process.returncode == 130
    assert "detached: the run goes on" in output
    assert "--attach" in output and "--stop" in output
    assert RunFolder(lab.home, "täglich").is_running()

    status, output = lab.submit()
    assert status == 2
    assert "täglich already runs on this cluster, since 20" in output
    assert "--attach" in output

    process, seen = lab.submit_until("trial 1 of 2", "--attach", "--last", "1")
    assert "arguments" not in seen
    lab.let_go()
    output = lab.rest(process)
    assert (process.returncode, output) == (3, "trial 2 of 2\n")

    status, output = lab.submit("--attach")
    assert status == 3, "also after its end"
    assert [line.split(":")[0] for line in output.splitlines()] == [
        "arguments",
        "told",
        "trial 1 of 2, für Käthe",
        "trial 2 of 2",
    ]


def test_killed_laptop_does_not_reach_the_run(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    process.kill()
    process.communicate()
    lab.let_go()
    assert RunFolder(lab.home, "täglich").read_status() == 3


def test_stop_is_ctrl_c_for_the_run(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    status, output = lab.submit("--stop")
    assert (status, output) == (0, "interrupted\n")
    assert process.wait(timeout=90) == 130, "whoever follows it sees how it ended"
    process.stdout.close()
    status, output = lab.submit("--stop")
    assert (status, output) == (2, "täglich does not run on this cluster\n")


def test_run_whose_processes_were_killed_says_so(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    run = RunFolder(lab.home, "täglich")
    pid = run.read_record()["pid"]
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    output = lab.rest(process)
    assert process.returncode == 1
    assert "nobody was left to say how it ended" in output


def test_sweep_file_from_elsewhere_takes_no_other_files_place(lab):
    (lab.home / "go").touch()
    elsewhere = lab.folder / "optim.yaml"
    elsewhere.write_text(lab.sweep.read_text())
    status, output = lab.submit(sweep=elsewhere)
    assert status == 3
    assert "['submitted/optim.yaml', " in output
    tree = RunFolder(lab.home, "täglich").tree
    assert (tree / "sweeps/optim.yaml").read_text() == (lab.tree / "sweeps/optim.yaml").read_text()


def test_tables_are_fetched(lab):
    trials = lab.storage / "täglich/trials"
    trials.mkdir(parents=True)
    (trials / "part-00000001-00000001.parquet").write_bytes(b"rows")
    (lab.storage / "täglich/checkpoints").mkdir()
    (lab.storage / "täglich/checkpoints/a.pt").write_bytes(b"weights")
    status, output = lab.submit("--fetch")
    assert status == 0, output
    assert "results/täglich: 1 files; next: python -m flexres_tune.query leaderboard --sweep 'täglich'" in output
    assert (lab.tree / "results/täglich/trials/part-00000001-00000001.parquet").read_bytes() == b"rows"
    status, output = lab.submit("--fetch", "--checkpoints", "--into", "my results")
    assert status == 0, output
    assert (lab.tree / "my results/täglich/checkpoints/a.pt").read_bytes() == b"weights"
    assert [path.name for path in lab.home.rglob("*") if path.is_file()] == [], "nothing is left on the head"


def test_run_that_never_was(lab):
    status, output = lab.submit("--attach")
    assert (status, output) == (2, "täglich was never submitted to cluster flexres-tune from this account\n")


def test_nothing_to_fetch(lab):
    status, output = lab.submit("--fetch")
    assert status == 2
    assert f"{lab.storage}/täglich: no tables of sweep täglich are there yet" in output


def test_cluster_that_is_not_up(lab):
    lab.home.rmdir()
    status, output = lab.submit()
    assert status == 2
    assert "cluster flexres-tune must be up, but is not; start it with: ray up -y " in output
    assert "Traceback" not in output


def test_python_that_is_not_there(lab):
    status, output = lab.submit("--python", "~/no such/python")
    assert status == 2
    assert "~/no such/python: must be a Python on the head" in output


@pytest.mark.parametrize(
    "options, message",
    [
        (["--profil", "none"], "No such option"),
        (["--max-concurrent", "0"], "--max-concurrent"),
        (["--profile", "gpux"], "gpux"),
        (["--dry-run"], "--dry-run lists trials without a cluster"),
        (["--local"], "--local would train on the head alone"),
        (["--address", "10.0.0.1:6379"], "--address is the head's own"),
        (["--storage", "results"], "--storage: must be a path that begins with / or ~/, but got 'results'"),
        (["--attach", "--fetch"], "--attach and --fetch: one at a time"),
        (["--attach", "--profile", "none"], "--attach takes none of run's options, but got --profile none"),
        (["--last", "3"], "--last needs --attach"),
        (["--into", "x"], "need --fetch"),
        (["--python", "python3"], "--python: must be a path that begins with / or ~/"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_named_before_anything_is_sent(refused, options, message):
    assert message in refused(SWEEP, *options)


def test_sweep_file_is_checked_before_anything_is_sent(refused):
    said = refused("name: x\nmetod: grid\nparameters: {lr: {values: []}}\n")
    assert "x.yaml:2: metod: " in said
    assert "x.yaml:3: parameters.lr" in said


def test_cluster_file_is_checked_before_anything_is_sent(refused):
    (Path.cwd() / "c.yaml").write_text("name: optim\n")
    assert "c.yaml: must be a file for `ray up`" in refused(SWEEP)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """What `submit` says of a sweep file and options, without calling Ray; in this process, which is faster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr("flexres_tune.submit.ray_exec.subprocess", None)
    block = "{python: /venv/bin/python, storage: /mnt/results}"
    Path("c.yaml").write_text(f"cluster_name: c\nprovider: {{type: aws, flexres_tune: {block}}}\n")

    def refused(sweep, *options):
        Path("x.yaml").write_text(sweep)
        monkeypatch.setattr(sys, "argv", ["submit", "c.yaml", "x.yaml", *options])
        with pytest.raises(SystemExit) as end:
            submit.main()
        assert end.value.code == 2
        return capsys.readouterr().err

    return refused
